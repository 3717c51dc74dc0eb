"""The queries of the triggers that write the change log: rows that changed, as entries of the log.

They name a column only where a null stands in for it: what a migration renames or takes away makes no statement fail
before the triggers are installed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from django.conf import settings
from django.db.models import Model

from gestore_sync.captures import DELETE, INSERT, UPDATE, Capture, get_ends, get_key_fields
from gestore_sync.links import get_concrete
from gestore_sync.models import ADDITION, CHANGE, DELETION, M2M_CHANGE
from gestore_sync.recording import get_deletion_fields

OLD, NEW = "old_rows", "new_rows"
NO_DATA = "'{}'::jsonb"


@dataclass(frozen=True)
class Table:
    """A table as the database knows it: its quoted name with the schema, and its columns with their quoted types."""

    name: str
    columns: Mapping[str, str]


Tables = Mapping[type[Model], Table]


@dataclass(frozen=True)
class Rows:
    """An item of FROM: some columns of a table, or of a transition table of it, and its rows as a whole (``image``)."""

    table: Table
    source: str
    alias: str
    columns: tuple[str, ...]

    def __str__(self) -> str:
        # A name that the inner query does not know is looked for in the query around it, and there it is null.
        absent = ", ".join(f"NULL::{self.table.columns[name]} AS {quote(name)}" for name in self.columns)
        found = ", ".join(f"{quote(name)} AS c{number}" for number, name in enumerate(self.columns))
        return (
            f"(SELECT found.* FROM (SELECT {absent}) AS absent CROSS JOIN LATERAL (SELECT {found}, "
            f"ROW(gestore_sync_row.*) AS image FROM {self.source} AS gestore_sync_row) AS found) AS {self.alias}"
        )

    def refer(self, field: Any) -> str:
        """How the value of a field is written."""
        return f"{self.alias}.c{self.columns.index(field.column)}"

    def tell(self, field: Any, *, is_key: bool) -> str:
        """The value of a field as text, as Python has it."""
        return render_text(self.refer(field), self.table.columns[field.column], is_key=is_key or field.is_relation)


def read_rows(tables: Tables, model: type[Model], source: str | None, alias: str, fields: Sequence[Any]) -> Rows:
    """These fields of a model's rows, in its table where no ``source`` is given."""
    columns = tuple(dict.fromkeys(field.column for field in fields))
    return Rows(tables[model], source or tables[model].name, alias, columns)


def quote(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"


# Values


def render_text(value: str, column_type: str, *, is_key: bool) -> str:
    """``value`` as text: ``str()`` of a key in Python, and what a field's ``value_to_string()`` gives otherwise."""
    separator = '" "' if is_key else '"T"'
    moment = f"replace(to_char({{}}, 'YYYY-MM-DD{separator}HH24:MI:SS.US'), '.000000', '')"
    local = f"{value} AT TIME ZONE {literal('UTC' if settings.USE_TZ else settings.TIME_ZONE)}"
    number = f"CASE WHEN {value}::text ~ '^-?[0-9]+$' THEN {value}::text || '.0' ELSE {{}} END"
    forms = {
        "bool": f"CASE WHEN {value} THEN 'True' WHEN NOT {value} THEN 'False' END",
        "bytea": f"replace(encode({value}, 'base64'), chr(10), '')",
        "date": f"to_char({value}, 'YYYY-MM-DD')",
        "float4": number.format(f"replace(lower({value}::text), 'infinity', 'inf')"),
        "float8": number.format(f"replace(lower({value}::text), 'infinity', 'inf')"),
        "inet": f"abbrev({value})",
        "time": f"replace(to_char({value}, 'HH24:MI:SS.US'), '.000000', '')",
        "timestamp": moment.format(value),
        "timestamptz": moment.format(local) + (" || '+00:00'" if settings.USE_TZ else ""),
    }
    form = forms.get(column_type.removeprefix('"pg_catalog".').strip('"'))
    return f"{value}::text" if form is None else f"coalesce({form}, {value}::text)"


def render_key(model: type[Model], rows: Rows) -> str:
    """The primary key as text; null where a part of it is."""
    fields = get_key_fields(model)
    parts = [rows.tell(field, is_key=True) for field in fields]
    if len(parts) == 1:
        return parts[0]
    nulls = " OR ".join(f"{rows.refer(field)} IS NULL" for field in fields)
    return f"CASE WHEN {nulls} THEN NULL ELSE jsonb_build_array({', '.join(parts)})::text END"


def render_object(values: Mapping[str, str]) -> str:
    """An object of JSON, from texts by name."""
    names = ", ".join(map(literal, values))
    return f"jsonb_object(ARRAY[{names}]::text[], ARRAY[{', '.join(values.values())}]::text[])"


# Multi-table inheritance


def get_chain(model: type[Model], parent: type[Model]) -> list[tuple[type[Model], Any]]:
    """The models from ``model`` up to below ``parent``, each with its link to the next one."""
    chain = [model, *model._meta.get_base_chain(parent)]
    return [(child, child._meta.get_ancestor_link(above)) for child, above in pairwise(chain)]


def split_deletion_fields(model: type[Model], tables: Tables) -> dict[type[Model], list[Any]]:
    """The fields that are kept of a deleted object, by the model in whose table they are, its own first."""
    found: dict[type[Model], list[Any]] = {model: []}
    for field in get_deletion_fields(model):
        holder = get_concrete(field.model)
        if holder in tables and field.column in tables[holder].columns:
            found.setdefault(holder, []).append(field)
    return found


def read_deleted(capture: Capture, tables: Tables, source: str | None) -> Rows:
    """The rows of ``source`` with all that :func:`render_deleted` needs."""
    model = capture.model
    holders = split_deletion_fields(model, tables)
    links = [get_chain(model, holder)[0][1] for holder in holders if holder is not model]
    return read_rows(tables, model, source, "line", [*get_key_fields(model), *holders[model], *links])


def render_deleted(model: type[Model], rows: Rows, tables: Tables) -> str:
    """The data of a deletion: what may be needed to find the object later."""
    holders = split_deletion_fields(model, tables)
    parts = [render_object({field.attname: rows.tell(field, is_key=False) for field in holders.pop(model)})]
    for holder, fields in holders.items():
        parts.append(f"coalesce(({render_inherited(model, holder, fields, rows, tables)}), {NO_DATA})")
    return f"jsonb_build_object('fields', {' || '.join(parts)})"


def render_inherited(model: type[Model], holder: type[Model], fields: list[Any], rows: Rows, tables: Tables) -> str:
    """A query for fields that are in the row of a multi-table parent, which is still there."""
    (_, pointing), *others = get_chain(model, holder)
    key = rows.refer(pointing)
    for number, (child, link) in enumerate(others):
        above = read_rows(tables, child, None, f"parent{number}", [pointing.target_field, link])
        key = f"(SELECT {above.refer(link)} FROM {above} WHERE {above.refer(pointing.target_field)} = {key})"
        pointing = link
    last = read_rows(tables, holder, None, "parent", [pointing.target_field, *fields])
    values = render_object({field.attname: last.tell(field, is_key=False) for field in fields})
    return f"SELECT {values} FROM {last} WHERE {last.refer(pointing.target_field)} = {key}"


# Entries


def render_entries(capture: Capture, tables: Tables) -> str:
    """A query for ``object_id``, ``action`` and ``data`` of the entries that one statement makes."""
    if capture.members is not None:
        return render_member_changes(capture, tables)
    if capture.table is not capture.model:
        return render_inherited_changes(capture, tables)
    if capture.operation == UPDATE:
        return render_changes(capture, tables)
    model = capture.model
    if capture.operation == INSERT:
        rows = read_rows(tables, model, NEW, "line", get_key_fields(model))
        action, data = ADDITION, NO_DATA
    else:
        rows = read_deleted(capture, tables, OLD if capture.operation == DELETE else None)
        action, data = DELETION, render_deleted(model, rows, tables)
    return f"SELECT {render_key(model, rows)} AS object_id, {action} AS action, {data} AS data FROM {rows}"


def render_changes(capture: Capture, tables: Tables) -> str:
    """Rows before and after are matched by their keys: a key that was changed makes a deletion and an addition."""
    model = capture.model
    old = read_deleted(capture, tables, OLD)
    new = read_rows(tables, model, NEW, "line", get_key_fields(model))
    deleted = render_deleted(model, replace(old, alias="before"), tables)
    return f"""
        SELECT coalesce(after.object_id, before.object_id) AS object_id,
            CASE WHEN before.object_id IS NULL THEN {ADDITION} WHEN after.object_id IS NULL THEN {DELETION}
                ELSE {CHANGE} END AS action,
            CASE WHEN after.object_id IS NULL THEN {deleted} ELSE {NO_DATA} END AS data
        FROM (SELECT {render_key(model, old)} AS object_id, line.* FROM {old}) AS before
        FULL JOIN (SELECT {render_key(model, new)} AS object_id, line.* FROM {new}) AS after
            ON after.object_id = before.object_id
        WHERE before.object_id IS NULL OR after.object_id IS NULL OR before.image *<> after.image
    """


def render_inherited_changes(capture: Capture, tables: Tables) -> str:
    """Rows of a multi-table parent were changed: so were the children that are logged."""
    chain = get_chain(capture.model, capture.table)
    keys = [chain[-1][1].target_field]
    before, after = (
        read_rows(tables, capture.table, source, alias, keys) for source, alias in ((OLD, "before"), (NEW, "after"))
    )
    same = f"{after.refer(keys[0])} = {before.refer(keys[0])}"
    changed = f"SELECT {after.refer(keys[0])} FROM {before} JOIN {after} ON {same} WHERE before.image *<> after.image"
    for number in range(len(chain) - 1, 0, -1):
        child, link = chain[number]
        target = chain[number - 1][1].target_field
        rows = read_rows(tables, child, None, f"child{number}", [link, target])
        changed = f"SELECT {rows.refer(target)} FROM {rows} WHERE {rows.refer(link)} IN ({changed})"
    model, link = chain[0]
    rows = read_rows(tables, model, None, "child", [link, *get_key_fields(model)])
    entry = f"{render_key(model, rows)} AS object_id, {CHANGE} AS action, {NO_DATA} AS data"
    return f"SELECT {entry} FROM {rows} WHERE {rows.refer(link)} IN ({changed})"


def render_member_changes(capture: Capture, tables: Tables) -> str:
    """Rows of an automatic many-to-many table: one entry for each owner, with the members it got and lost."""
    ends = get_ends(capture.members)

    def read_pairs(source: str | None) -> str:
        rows = read_rows(tables, capture.model, source, "line", ends)
        owner, member = (rows.tell(end, is_key=True) for end in ends)
        return f"SELECT {owner} AS owner, {member} AS member FROM {rows}"

    old = read_pairs(OLD if capture.operation in (UPDATE, DELETE) else None)
    new = read_pairs(NEW)
    pairs = {INSERT: [(new, True)], UPDATE: [(f"{old} EXCEPT {new}", False), (f"{new} EXCEPT {old}", True)]}
    selected = " UNION ALL ".join(
        f"SELECT owner, member, {added} AS added FROM ({some}) AS pairs"
        for some, added in pairs.get(capture.operation, [(old, False)])
    )
    members = "coalesce(jsonb_agg(member ORDER BY member COLLATE \"C\") FILTER (WHERE {}), '[]'::jsonb)"
    data = f"'added', {members.format('added')}, 'removed', {members.format('NOT added')}"
    return f"""
        SELECT owner AS object_id, {M2M_CHANGE} AS action,
            jsonb_build_object('field', {literal(capture.members.name)}, {data}) AS data
        FROM ({selected}) AS changes WHERE owner IS NOT NULL AND member IS NOT NULL GROUP BY owner
    """
