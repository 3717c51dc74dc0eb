"""Objects as records of a bundle, in the shape of fixtures: ``{"fields": {…}, "model": "app.model", "pk": …}``."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from json.encoder import encode_basestring
from string import Formatter
from typing import Any, NamedTuple

from django.db.models import F, Field, JSONField, Model, QuerySet, TextField
from django.db.models.expressions import RawSQL
from django.db.models.fields.generated import GeneratedField
from django.db.models.functions import Cast

from gestore_sync.background import read_batches
from gestore_sync.codecs import make_encoder, make_key_encoder
from gestore_sync.links import LinkGraph, Membership
from gestore_sync.reading import get_queryset, iter_rows, match
from gestore_sync.refs import Key, iter_chunks
from gestore_sync.rendering import find_rendered
from gestore_sync.subgraph import Subgraph

BATCH_SIZE = 5_000


class Record(NamedTuple):
    """One object of a bundle: the label of its model, and parsed JSON."""

    model: str
    pk: Any
    fields: Mapping[str, Any]


def get_fields(model: type[Model]) -> list[Field[Any, Any]]:
    """The fields of the table of ``model`` whose values are in a record, the primary key not among them."""
    return [
        field
        for field in model._meta.local_concrete_fields
        if not field.primary_key and not isinstance(field, GeneratedField)
    ]


def get_path(field: Field[Any, Any]) -> str:
    """What is read for a field: JSON comes as its text."""
    return f"gestore_sync_{field.attname}" if isinstance(field, JSONField) else field.attname


def annotate(model: type[Model], rows: QuerySet[Any]) -> QuerySet[Any]:
    """The rows with the texts that :func:`get_path` names."""
    fields = [field for field in get_fields(model) if isinstance(field, JSONField)]
    texts = {get_path(field): Cast(F(field.attname), TextField()) for field in fields}
    return rows.annotate(**texts) if texts else rows


def get_memberships(graph: LinkGraph, model: type[Model]) -> list[Membership]:
    """The many-to-many fields of ``model`` without a through model of their own: lists in its records."""
    return [membership for membership in graph.memberships[model] if membership.automatic]


class RecordWriter:
    """Makes the texts of records of one model. ``indented``: for people; else a line each.

    ``with_members``: many-to-many members are lists in the records of their owners.
    """

    def __init__(self, subgraph: Subgraph, model: type[Model], *, indented: bool, with_members: bool) -> None:
        self.subgraph = subgraph
        self.model = model
        self.fields = get_fields(model)
        self.memberships = get_memberships(subgraph.graph, model) if with_members else []
        self._encoders = [make_encoder(field) for field in self.fields]
        self._encode_key = make_key_encoder(model)
        self._encode_members = {
            membership.name: make_key_encoder(membership.other.target or model) for membership in self.memberships
        }
        names = [field.name for field in self.fields]
        names += [membership.name.rpartition(".")[2] for membership in self.memberships]
        self._template = make_template(names, model._meta.label_lower, indented=indented)

    def iter_texts(self, keys: Sequence[Key]) -> Generator[str]:
        """The records of the objects with these keys, in this order; those without a row are left out.

        ``keys`` are sorted.
        """
        rendered = None if self.memberships else self._find_rendered()
        return self._iter_made(keys) if rendered is None else self._iter_rendered(keys, rendered)

    def _find_rendered(self) -> RawSQL | None:
        """What lets the database make the records, where it can."""

        def make_parts() -> Iterator[str | int | None]:
            for text, name, _, _ in Formatter().parse(self._template):
                if text:
                    yield text
                if name is not None:
                    yield None if name == "pk" else int(name)

        return find_rendered(self.model, self.subgraph.source, self.fields, lambda: list(make_parts()))

    def _iter_rendered(self, keys: Sequence[Key], rendered: RawSQL) -> Generator[str]:
        def render(rows: QuerySet[Any]) -> QuerySet[Any]:
            made: QuerySet[Any] = rows.annotate(gestore_sync_record=rendered).order_by("pk")
            return made

        batches = iter_chunks(keys, BATCH_SIZE)
        with read_batches(self.model, self.subgraph.source, batches, ["gestore_sync_record"], render) as stream:
            for _, rows in stream:
                yield from (text for _, text in rows)

    def _iter_made(self, keys: Sequence[Key]) -> Generator[str]:
        paths = [get_path(field) for field in self.fields]
        using = self.subgraph.source
        for chunk in iter_chunks(keys, BATCH_SIZE):
            found = iter_rows(self.model, using, chunk, paths, lambda rows: annotate(self.model, rows))
            rows = {row[0]: row for row in found}
            members = [self._read_members(membership, chunk) for membership in self.memberships]
            for key in chunk:
                if key in rows:
                    yield self._make_text(rows[key], [of_field.get(key, "[]") for of_field in members])

    def _make_text(self, row: tuple[Any, ...], members: list[str]) -> str:
        texts = [
            "null" if value is None else encode(value) for encode, value in zip(self._encoders, row[1:], strict=True)
        ]
        return self._template.format(*texts, *members, pk=self._encode_key(row[0]))

    def _read_members(self, membership: Membership, keys: list[Key]) -> dict[Key, str]:
        """By owner the list of its members that travel, as JSON."""
        through = membership.link.model
        encode = self._encode_members[membership.name]
        taken = [members.seen for (model, _), members in self.subgraph.members.items() if model is through and members]
        own, other = membership.link.key_paths[0], membership.other.key_paths[0]
        rows = get_queryset(through, self.subgraph.source).filter(match(own, keys)) if taken else []
        found: dict[Key, list[tuple[Key, Key]]] = {}
        for pk, owner, member in rows.values_list("pk", own, other) if taken else ():  # type: ignore[attr-defined]
            if any(pk in seen for seen in taken):
                found.setdefault(owner, []).append((pk, member))
        return {
            owner: f"[{', '.join(encode(member) for _, member in sorted(pairs, key=lambda pair: pair[0]))}]"
            for owner, pairs in found.items()
        }


def make_template(names: Sequence[str], label: str, *, indented: bool) -> str:
    """The format string of a record: a numbered place for each name, and ``pk``. Fields stand in the order of names."""
    order = sorted(range(len(names)), key=lambda number: names[number])
    fields = [f"{encode_basestring(names[number])}: {{{number}}}" for number in order]
    if not indented:
        return f'{{{{"fields": {{{{{", ".join(fields)}}}}}, "model": "{label}", "pk": {{pk}}}}}}'
    inner = ",\n".join(f"        {field}" for field in fields)
    shown = f"{{{{\n{inner}\n      }}}}" if fields else "{{}}"
    return f'    {{{{\n      "fields": {shown},\n      "model": "{label}",\n      "pk": {{pk}}\n    }}}}'
