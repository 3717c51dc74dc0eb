"""How models point at each other: every foreign key, generic key and tree parent as a :class:`Link`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.db import connections, models, router
from django.db.models import Field, ForeignKey, ForeignObject, Model

from gestore_sync.adapters import Adapter, find_adapter
from gestore_sync.refs import get_key_columns, get_table

CASCADES = tuple(getattr(models, name) for name in ("CASCADE", "DB_CASCADE") if hasattr(models, name))
DELETED_WITH_TARGET = (*CASCADES, models.PROTECT, models.RESTRICT)
"""The ``on_delete`` of links whose rows belong to what they point to (CASCADE) or hold it fast (PROTECT, RESTRICT)."""

OURS = __name__.partition(".")[0]
"""The label of our own app, whose tables no push takes."""

Models = Sequence[type[Model]]
FOREIGN, GENERIC, TREE = "foreign", "generic", "tree"


@dataclass(frozen=True, slots=True)
class Link:
    """One model's relation to another, as its forward side declares it.

    ``name`` is ``app.Model.field`` of the declaring model; ``model`` the concrete model whose table has the
    column(s) ``attnames``; ``target`` the concrete model pointed to (None for a generic key, which may point
    anywhere). ``required``: a row cannot exist without it. ``belongs``: rows belong to what they point to (for a
    generic key: see ``relations``). ``extension``: one-to-one. ``parent_link``: to a multi-table parent.
    """

    name: str
    model: type[Model]
    target: type[Model] | None
    kind: str
    field: Any
    attnames: tuple[str, ...]
    required: bool
    belongs: bool
    extension: bool = False
    parent_link: bool = False
    cascades: bool = False
    constrained: bool = True

    def __str__(self) -> str:
        return self.name

    @property
    def to_field(self) -> str | None:
        """The name of the unique field that is pointed to where it is not the primary key."""
        if self.kind != FOREIGN or len(self.attnames) > 1 or self.field.target_field.primary_key:
            return None
        return str(self.field.target_field.name)

    @property
    def key_paths(self) -> tuple[str, ...]:
        """The look-up path(s), from ``model``, of the primary key that is pointed to, component by component; for a
        generic key those of content type and object id; none for a tree."""
        if self.to_field:
            return (f"{self.field.name}__pk",)
        if self.kind == FOREIGN and len(self.attnames) > 1:
            by_target = {remote.attname: local.attname for local, remote in self.field.related_fields}
            return tuple(by_target[name] for name in get_key_columns(self.field.remote_field.model))
        return self.attnames


@dataclass(frozen=True, slots=True)
class Membership:
    """A many-to-many field: ``through`` rows belong to the owner that ``link`` points to."""

    name: str
    link: Link
    other: Link
    automatic: bool
    self_referring: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A generic relation: rows of ``link.model`` belong to objects of ``model``; ``name`` is ``app.Model.field``."""

    name: str
    model: type[Model]
    link: Link
    content_type_model: type[Model]


def get_concrete(model: type[Model]) -> type[Model]:
    """``model``, or what it is a proxy of."""
    concrete = model._meta.concrete_model
    assert concrete is not None, f"{model} is abstract"
    return concrete


class LinkGraph:
    """All models that have a table in one database, or the given ``models``, and all links between them.

    ``skipping``: without those that ``SYNCHRO_SKIP`` of their model names, as they do not travel.
    """

    def __init__(
        self, using: str, adapters: Sequence[Adapter] = (), models: Models | None = None, *, skipping: bool = True
    ) -> None:
        self.using = using
        self.adapters = adapters
        self.skipping = skipping
        self._adapters: dict[type[Model], Adapter | None] = {}
        self.models = find_models(using) if models is None else list(models)
        self.forward: dict[type[Model], list[Link]] = {model: [] for model in self.models}
        self.reverse: dict[type[Model], list[Link]] = {model: [] for model in self.models}
        self.generic: list[Link] = []
        for model in self.models:
            for link in self._iter_links(model):
                self.forward[model].append(link)
                if link.target is None:
                    self.generic.append(link)
                elif link.target in self.reverse:
                    self.reverse[link.target].append(link)

    def __contains__(self, model: type[Model]) -> bool:
        return model in self.forward

    def find_adapter(self, model: type[Model]) -> Adapter | None:
        """The adapter for ``model``, or None where its rows need none."""
        if model not in self._adapters:
            self._adapters[model] = find_adapter(self.adapters, model)
        return self._adapters[model]

    def _iter_links(self, model: type[Model]) -> Iterator[Link]:
        skipped = set(getattr(model, "SYNCHRO_SKIP", ())) if self.skipping else set()
        for field in model._meta.local_fields:
            if {field.name, field.attname} & skipped:
                continue
            if isinstance(field, ForeignObject) and isinstance(field.remote_field.model, type):
                yield make_foreign_link(model, field)
        for private in model._meta.private_fields:
            if isinstance(private, GenericForeignKey) and is_declared_by(model, private):
                yield make_generic_link(model, private)
        adapter = self.find_adapter(model)
        if adapter is not None and adapter.parent_field(model) is None:
            yield Link(f"{model._meta.label}.parent", model, model, TREE, None, (), required=True, belongs=True)

    @cached_property
    def relations(self) -> dict[type[Model], list[Relation]]:
        """The generic relations by the concrete model whose objects they belong to."""
        by_field = {(link.model, link.field.fk_field, link.field.ct_field): link for link in self.generic}
        found: dict[type[Model], list[Relation]] = {}
        for model in apps.get_models():
            for field in model._meta.private_fields:
                if not isinstance(field, GenericRelation) or get_concrete(model) not in self:
                    continue
                holder = get_concrete(field.remote_field.model)
                link = next(
                    (
                        by_field[base, field.object_id_field_name, field.content_type_field_name]
                        for base in (holder, *holder._meta.all_parents)
                        if (base, field.object_id_field_name, field.content_type_field_name) in by_field
                    ),
                    None,
                )
                if link is not None:
                    target = get_concrete(model) if field.for_concrete_model else model
                    relation = Relation(f"{model._meta.label}.{field.name}", get_concrete(model), link, target)
                    of_model = found.setdefault(relation.model, [])
                    if all((known.link, known.content_type_model) != (link, target) for known in of_model):
                        of_model.append(relation)
        return found

    def get_unrelated(self, model: type[Model]) -> list[Link]:
        """The generic keys that may point at objects of ``model`` without a generic relation that says so."""
        related = [relation.link for relation in self.relations.get(model, ())]
        return [link for link in self.generic if link not in related]

    @cached_property
    def owners(self) -> dict[Link, list[Membership]]:
        """The many-to-many fields by the link that leads from their through rows to the owner."""
        return self._index_memberships(lambda membership: membership.link)

    @cached_property
    def others(self) -> dict[Link, list[Membership]]:
        """The many-to-many fields by the link that leads from their through rows to the member."""
        return self._index_memberships(lambda membership: membership.other)

    def _index_memberships(self, get_link: Callable[[Membership], Link]) -> dict[Link, list[Membership]]:
        found: dict[Link, list[Membership]] = {}
        for of_model in self.memberships.values():
            for membership in of_model:
                found.setdefault(get_link(membership), []).append(membership)
        return found

    @cached_property
    def memberships(self) -> dict[type[Model], list[Membership]]:
        """The many-to-many fields by the concrete model that declares them."""
        found: dict[type[Model], list[Membership]] = {model: [] for model in self.models}
        for model in self.models:
            for field in model._meta.local_many_to_many:
                membership = self._make_membership(model, field)
                if membership is not None:
                    found[model].append(membership)
        return found

    def _make_membership(self, model: type[Model], field: Any) -> Membership | None:
        through = get_concrete(field.remote_field.through)
        if through not in self:
            return None
        by_field = {link.field.name: link for link in self.forward[through] if link.kind == FOREIGN}
        own, other = by_field.get(field.m2m_field_name()), by_field.get(field.m2m_reverse_field_name())
        if own is None or other is None:
            return None
        return Membership(
            name=f"{model._meta.label}.{field.name}",
            link=own,
            other=other,
            automatic=bool(field.remote_field.through._meta.auto_created),
            self_referring=own.target is other.target,
        )

    def find_link(self, name: str) -> Link | Relation | Membership | None:
        """The link, generic relation or many-to-many field called ``app.Model.field``, in any letter case.

        The model may be the declaring one, a proxy of it or a multi-table child.
        """
        label, _, field_name = name.rpartition(".")
        try:
            model = get_concrete(apps.get_model(label))
        except (LookupError, ValueError):
            return None
        wanted = {f"{base._meta.label}.{field_name}".lower() for base in (model, *model._meta.all_parents)}
        every: Iterable[Link | Relation | Membership] = (
            *(link for links in self.forward.values() for link in links),
            *(relation for relations in self.relations.values() for relation in relations),
            *(membership for memberships in self.memberships.values() for membership in memberships),
        )
        return next((link for link in every if link.name.lower() in wanted), None)


def find_models(using: str) -> list[type[Model]]:
    """The models, without proxies and our own, that have a table in a database and belong there."""
    with connections[using].cursor() as cursor:
        tables = {info.name for info in connections[using].introspection.get_table_list(cursor)}
    return [
        model
        for model in apps.get_models(include_auto_created=True)
        if not model._meta.proxy
        and not model._meta.swapped
        and model._meta.app_label != OURS
        and get_table(model) in tables
        and router.allow_migrate_model(using, model)
    ]


def is_declared_by(model: type[Model], field: Any) -> bool:
    """Whether the columns of a generic key are in the table of ``model`` itself, not in a multi-table parent's."""
    return model._meta.get_field(field.fk_field) in model._meta.local_fields


def make_foreign_link(model: type[Model], field: Any) -> Link:
    """The link of a foreign key, one-to-one field or multi-column ForeignObject."""
    columns: tuple[Field[Any, Any], ...] = tuple(field.local_related_fields)
    on_delete = getattr(field.remote_field, "on_delete", None)
    return Link(
        name=f"{model._meta.label}.{field.name}",
        model=model,
        target=get_concrete(field.remote_field.model),
        kind=FOREIGN,
        field=field,
        attnames=tuple(column.attname for column in columns),
        required=not any(column.null for column in columns),
        belongs=on_delete in DELETED_WITH_TARGET,
        extension=bool(field.one_to_one),
        parent_link=bool(getattr(field.remote_field, "parent_link", False)),
        cascades=on_delete in CASCADES,
        constrained=isinstance(field, ForeignKey) and bool(getattr(field, "db_constraint", True)),
    )


def make_generic_link(model: type[Model], field: GenericForeignKey) -> Link:
    """The link of a generic foreign key; its content type is an ordinary link beside it."""
    type_field: Any = model._meta.get_field(field.ct_field)
    id_field: Any = model._meta.get_field(field.fk_field)
    return Link(
        name=f"{model._meta.label}.{field.name}",
        model=model,
        target=None,
        kind=GENERIC,
        field=field,
        attnames=(type_field.attname, id_field.attname),
        required=not (type_field.null or id_field.null),
        belongs=False,
        constrained=False,
    )
