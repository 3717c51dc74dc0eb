"""Which foreign keys the target checks at once, so that links in cycles must be written after both rows exist."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.db import connections
from django.db.models import Model

from gestore_sync.exceptions import LinkCycle
from gestore_sync.links import FOREIGN, Link, LinkGraph
from gestore_sync.ordering import find_cycle
from gestore_sync.refs import get_table

IMMEDIATE_SQL = """
    SELECT con.conrelid::regclass::text, att.attname
    FROM pg_constraint con
    JOIN pg_attribute att ON att.attrelid = con.conrelid AND att.attnum = ANY(con.conkey)
    WHERE con.contype = 'f' AND NOT con.condeferrable
"""

CHECKABLE_SQL = """
    SELECT tables.number, att.attname, quote_ident(space.nspname) || '.' || quote_ident(con.conname)
    FROM unnest(%s::text[]) WITH ORDINALITY tables (name, number)
    JOIN pg_constraint con ON con.conrelid = to_regclass(tables.name)
    JOIN pg_namespace space ON space.oid = con.connamespace
    JOIN pg_attribute att ON att.attrelid = con.conrelid AND att.attnum = con.conkey[1]
    WHERE con.contype = 'f' AND con.condeferred AND con.conparentid = 0 AND cardinality(con.conkey) = 1
"""


def defer_constraints(using: str) -> None:
    """Have foreign keys checked at the end, where the database can be told so for all of them."""
    if connections[using].vendor == "sqlite":
        with connections[using].cursor() as cursor:
            cursor.execute("PRAGMA defer_foreign_keys = ON")


def find_checkable(using: str, order: Sequence[type[Model]], graph: LinkGraph) -> dict[type[Model], list[str]]:
    """By model, the names of the foreign keys of PostgreSQL that are checked at the commit, and may be checked as soon
    as rows are written, when models are written in ``order``: what they point to is there by then."""
    if connections[using].vendor != "postgresql":
        return {}
    quote = connections[using].ops.quote_name
    with connections[using].cursor() as cursor:
        cursor.execute(CHECKABLE_SQL, [[quote(model._meta.db_table) for model in order]])
        names = {(number, column): name for number, column, name in cursor.fetchall()}
    place: dict[type[Model] | None, int] = {model: number for number, model in enumerate(order)}
    return {
        model: [
            names[at]
            for link in graph.forward[model]
            if link.kind == FOREIGN and link.constrained and place.get(link.target, -1) < number
            if (at := (number + 1, link.field.column)) in names
        ]
        for number, model in enumerate(order)
    }


def find_immediate(using: str, links: Iterable[Link]) -> set[Link]:
    """Those of the links whose constraint is checked with each statement."""
    connection = connections[using]
    links = [link for link in links if link.constrained]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(IMMEDIATE_SQL)
            columns = {(table.split(".")[-1].strip('"'), column) for table, column in cursor.fetchall()}
        return {link for link in links if (get_table(link.model), link.field.column) in columns}
    return set() if connection.features.can_defer_constraint_checks else set(links)


def find_deferred(using: str, order: Sequence[type[Model]], graph: LinkGraph) -> frozenset[str]:
    """The names of the optional links that must be written after both rows exist, when models are written in ``order``.

    Raises :class:`LinkCycle` where a required link would have to be.
    """
    place = {model: number for number, model in enumerate(order)}
    against = [
        link
        for model in order
        for link in graph.forward[model]
        if link.kind == FOREIGN and link.target in place and place[link.target] >= place[model]
    ]
    immediate = find_immediate(using, against) if against else set()
    required = [link for link in immediate if link.required]
    if required:
        every = [link for model in order for link in graph.forward[model] if link.required and link.target in place]
        cycle = find_cycle([required[0]]) or find_cycle(every)
        path = " → ".join([*(link.name for link in cycle), cycle[0].model._meta.label if cycle else ""])
        raise LinkCycle(
            f"Required links form a cycle, and the database {using!r} checks them with each statement: {path}. "
            "Make one of these constraints deferrable, or one of these fields nullable."
        )
    return frozenset(link.name for link in immediate)
