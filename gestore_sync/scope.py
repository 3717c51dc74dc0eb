"""What a walk takes: the policy over links (own, refer, ignore), from flags and settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from django.apps import apps
from django.db import models
from django.db.models import Model

from gestore_sync.conf import get_option
from gestore_sync.exceptions import UnknownLink
from gestore_sync.links import TREE, Link, LinkGraph, Membership, Relation, get_concrete

AnyLink = Link | Relation | Membership
SURVIVES = "survives"


class Role(IntEnum):
    """Why an object is in a subgraph; of two roles the greater wins.

    ``OWN``: the root and what belongs to it, brought up to date. ``REFER``: must exist on the target. ``REQUIRE``: the
    same, and nothing is followed from it but what it requires. ``LOOK_UP``: only looked for, never written.
    """

    LOOK_UP = 0
    REQUIRE = 1
    REFER = 2
    OWN = 3


@dataclass(frozen=True, slots=True)
class Scope:
    """The policy of one walk. Names are those of links and models as a person writes them; see INTERFACE of the flags.

    ``own``, ``refer`` and ``ignore`` hold names of links; ``excluded`` and ``stop`` concrete models. ``closed``: owned
    objects stand for themselves, with their multi-table parents and children; what belongs to them is not followed.
    """

    own: frozenset[str] = frozenset()
    refer: frozenset[str] = frozenset()
    ignore: frozenset[str] = frozenset()
    excluded: frozenset[type[Model]] = frozenset()
    stop: frozenset[type[Model]] = frozenset()
    named: frozenset[type[Model]] = field(default=frozenset())
    connected: bool = False
    closed: bool = False

    def get_named(self, *names: str) -> Role | None:
        """The role that flags or settings give the first of these links that they name; LOOK_UP means ignored."""
        for name in names:
            if name in self.ignore:
                return Role.LOOK_UP
            if name in self.refer:
                return Role.REFER
            if name in self.own:
                return Role.OWN
        return None

    def leaves_out(self, model: type[Model]) -> bool:
        """Whether objects of ``model`` are not taken at all."""
        return model in self.excluded or not (model._meta.managed or model in self.named)

    def limit(self, model: type[Model], role: Role) -> Role:
        """``role``, or REQUIRE where objects of ``model`` are to be stopped at."""
        return min(role, Role.REQUIRE) if model in self.stop else role

    def get_forward_role(self, link: Link, target: type[Model], role: Role, names: Sequence[str] = ()) -> Role:
        """The role of what ``link`` points to, from an object with ``role``. ``names``: what else the link is called
        (the many-to-many field whose member it leads to)."""
        if self.leaves_out(target):
            return Role.LOOK_UP
        if link.parent_link:
            return self.limit(target, role)
        named = self.get_named(link.name, *names)
        if named is Role.OWN and role is not Role.OWN:
            named = None
        if named is not None:
            return self.limit(target, named)
        if role is Role.REQUIRE and not link.required:
            return Role.LOOK_UP
        return self.limit(target, Role.REFER)

    def get_reverse_role(self, link: Link, role: Role, names: Sequence[str] = (), *, belongs: bool) -> Role | None:
        """The role of rows that point by ``link`` at an object with ``role``; None: a mention or not followed;
        LOOK_UP: left out by name. ``belongs``: the rows belong to what they point to."""
        if self.leaves_out(link.model):
            return Role.LOOK_UP
        if role < Role.REFER:
            return role if link.parent_link else None
        if self.closed and role is Role.OWN:
            return self.limit(link.model, role) if link.parent_link else None
        named = self.get_named(link.name, *names)
        if named is Role.LOOK_UP:
            return named
        if link.parent_link:
            return self.limit(link.model, role)
        if role is Role.OWN and named is not None:
            return self.limit(link.model, named)
        if self.connected or (role is Role.OWN and belongs):
            return self.limit(link.model, Role.OWN)
        if role is Role.REFER and link.extension and link.cascades:
            return self.limit(link.model, Role.REFER)
        return None


def make_scope(
    graph: LinkGraph,
    *,
    own: Iterable[str] = (),
    refer: Iterable[str] = (),
    ignore: Iterable[str] = (),
    stop: Iterable[str] = (),
    reach: str | None = None,
    roots: Iterable[type[Model]] = (),
) -> Scope:
    """The scope that flags and settings describe together; a flag wins over a setting for the same link.

    Raises :class:`UnknownLink` for a name that is no link or model, or a link with two roles.
    """
    flags, models = resolve_names(graph, {Role.OWN: own, Role.REFER: refer, Role.LOOK_UP: ignore})
    defaults, default_models = resolve_names(
        graph,
        {Role.OWN: get_option("OWN"), Role.REFER: get_option("REFER"), Role.LOOK_UP: get_option("IGNORE")},
    )
    roles = {**defaults, **flags}
    named = {link.link.model if isinstance(link, (Relation, Membership)) else link.model for link in roles}
    named |= {link.target for link in roles if isinstance(link, Link) and link.target and roles[link] > Role.LOOK_UP}
    return Scope(
        own=frozenset(link.name for link, role in roles.items() if role is Role.OWN),
        refer=frozenset(link.name for link, role in roles.items() if role is Role.REFER),
        ignore=frozenset(link.name for link, role in roles.items() if role is Role.LOOK_UP)
        | get_skipped_members(graph),
        excluded=frozenset(models | default_models) - frozenset(roots),
        stop=frozenset(get_scope_model(name) for name in (*get_option("STOP"), *stop)),
        named=frozenset(named | set(roots)),
        connected=(reach or get_option("REACH")) == "connected",
    )


def get_skipped_members(graph: LinkGraph) -> frozenset[str]:
    """The many-to-many fields that ``SYNCHRO_SKIP`` of their model names, where the graph leaves such links out."""
    if not graph.skipping:
        return frozenset()
    return frozenset(
        membership.name
        for model, of_model in graph.memberships.items()
        for membership in of_model
        if membership.name.rpartition(".")[2] in getattr(model, "SYNCHRO_SKIP", ())
    )


def resolve_names(graph: LinkGraph, names: dict[Role, Iterable[str]]) -> tuple[dict[AnyLink, Role], set[type[Model]]]:
    """The links that are named, with their role, and the models that are left out."""
    roles: dict[AnyLink, Role] = {}
    models: set[type[Model]] = set()
    for role, given in names.items():
        for name in given:
            link = graph.find_link(name)
            if link is None and role is Role.LOOK_UP and name.count(".") == 1:
                models.add(get_scope_model(name))
                continue
            if link is None:
                raise UnknownLink(
                    f"There is no link {name!r}. Write app.Model.field, where the field is a foreign key, one-to-one, "
                    f"many-to-many or generic field that the model declares.{suggest_links(graph, name)}"
                )
            if roles.setdefault(link, role) is not role:
                raise UnknownLink(f"The link {name} is given two roles, {roles[link].name} and {role.name}.")
    return roles, models


def suggest_links(graph: LinkGraph, name: str) -> str:
    """A sentence with the links of the model that ``name`` begins with, or nothing."""
    label = name.rpartition(".")[0].lower()
    known = [link.name for links in graph.forward.values() for link in links if link.kind != TREE]
    known += [membership.name for of_model in graph.memberships.values() for membership in of_model]
    of_model = sorted(link for link in known if link.rpartition(".")[0].lower() == label)
    return f" The links of that model are: {', '.join(of_model)}." if of_model else ""


def get_scope_model(name: str) -> type[Model]:
    """The concrete model called ``app.Model``. Raises :class:`UnknownLink`."""
    try:
        return get_concrete(apps.get_model(name))
    except (LookupError, ValueError):
        raise UnknownLink(f"There is no model {name!r}. Write app.Model.") from None


def find_reverse_role(graph: LinkGraph, scope: Scope, link: Link, role: Role) -> Role | None:
    """The role of rows that point by ``link`` at an object with ``role``; None where they are not followed.

    The automatic many-to-many members of a referred object are part of it, unless they are objects of its own kind.
    """
    owners = graph.owners.get(link, [])
    found = scope.get_reverse_role(link, role, [membership.name for membership in owners], belongs=link.belongs)
    if found is not None or role is not Role.REFER:
        return found or None
    for membership in owners:
        named = scope.get_named(membership.name)
        if named or (named is None and membership.automatic and not membership.self_referring):
            return scope.limit(link.model, Role.REFER)
    return None


def get_surviving_value(link: Link) -> Any:
    """What the link is set to when its target is deleted; SURVIVES where ``on_delete`` names no plain value.

    What ``SET(function)`` gives is not known: the function may write, and in another database.
    """
    on_delete: Callable[..., Any] | None = getattr(getattr(link.field, "remote_field", None), "on_delete", None)
    if on_delete in (models.SET_NULL, getattr(models, "DB_SET_NULL", models.SET_NULL)):
        return None
    if on_delete in (models.SET_DEFAULT, getattr(models, "DB_SET_DEFAULT", models.SET_DEFAULT)):
        value = get_default(link)
        return SURVIVES if hasattr(value, "resolve_expression") else value
    if on_delete is not None and hasattr(on_delete, "deconstruct"):
        (value,) = on_delete.deconstruct()[1]
        return SURVIVES if callable(value) or isinstance(value, Model) else value
    return SURVIVES


def get_default(link: Link) -> Any:
    """What ``link`` is by default: a plain value, or an expression of the database. ``DB_SET_DEFAULT`` means the
    database's default, whatever Python's is."""
    field = link.field
    if not field.has_db_default() or (field.has_default() and field.remote_field.on_delete is models.SET_DEFAULT):
        return field.get_default()
    return field.db_default.value if isinstance(field.db_default, models.Value) else field.db_default
