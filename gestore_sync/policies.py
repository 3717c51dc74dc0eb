"""Which policy decides a conflict: the one of the field, else of the model, else of the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.fields import GenericForeignKey
from django.db.models import Model

from gestore_sync.conf import NEWER, get_option
from gestore_sync.exceptions import WrongSetting

EVERY = "*"
NAME_HINT = 'Write "app.Model", or "app.Model.field" of the model that has the field in its own table.'


class Policies:
    """``default``: where no rule says otherwise. ``rules``: by "app.model" and "app.model.field", in small letters but
    for the field."""

    def __init__(self, default: str = NEWER, rules: Mapping[str, str] | None = None) -> None:
        self.default = default
        self.rules = rules or {}

    def get(self, model: type[Model]) -> str:
        """What decides about whole rows of ``model``, and about fields that no rule names."""
        return self.rules.get(model._meta.label_lower, self.default)

    def names(self, model: type[Model]) -> bool:
        """Whether a rule is about ``model`` as a whole."""
        return model._meta.label_lower in self.rules

    def as_child(self, child: type[Model]) -> Policies:
        """The same where the rule of ``child`` is that of its multi-table parents, too."""
        rule = self.get(child)
        return Policies(
            self.default, {**self.rules, **{parent._meta.label_lower: rule for parent in child._meta.all_parents}}
        )

    def get_all(self, model: type[Model], names: Sequence[str]) -> list[str]:
        """What decides about each of these fields of ``model``."""
        policy = self.get(model)
        if not self.rules:
            return [policy] * len(names)
        label = model._meta.label_lower
        return [self.rules.get(f"{label}.{name}", policy) for name in names]


def get_policies(on_conflict: str | None = None) -> Policies:
    """The rules of ``GESTORE_SYNC["CONFLICTS"]``; ``on_conflict`` is for what they do not name.

    Raises :class:`WrongSetting` for a rule about what does not exist, and for two that contradict each other.
    """
    given = get_rules()
    for problem, hint in iter_contradictions(given, given):
        raise WrongSetting(f"{problem} {hint}")
    rules: dict[str, str] = {}
    for name, policy in sorted(given.items(), key=lambda rule: rule[0].count(".")):
        if name != EVERY:
            rules.update(dict.fromkeys(find_names(name), policy))
    return Policies(on_conflict or given.get(EVERY, NEWER), rules)


def get_rules() -> dict[str, str]:
    """The setting as a dictionary."""
    given = get_option("CONFLICTS")
    return {EVERY: given} if isinstance(given, str) else dict(given)


def iter_wrong_rules() -> Iterator[tuple[str, str]]:
    """``(what is wrong, hint)`` for the names in the setting."""
    given = get_rules()
    known: list[str] = []
    for name in given:
        try:
            find_names(name)
            known.append(name)
        except WrongSetting as error:
            yield str(error), NAME_HINT
    yield from iter_contradictions(given, known)


def iter_contradictions(given: Mapping[str, str], names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """``(what is wrong, hint)`` for rules about one thing in two spellings, such as both columns of a generic key."""
    first: dict[str, str] = {}
    for name in names:
        others = {other for found in find_names(name) if (other := first.setdefault(found, name)) != name}
        for other in sorted(others):
            if given[other] != given[name]:
                said = f"{other!r} says {given[other]!r}, and {name!r} says {given[name]!r}"
                problem = f'GESTORE_SYNC["CONFLICTS"] has two rules for one thing: {said}.'
                yield problem, f"Keep one of {other!r} and {name!r}."


def find_names(name: str) -> list[str]:
    """The model, or the columns, that "app.Model" or "app.Model.field" stands for. Raises :class:`WrongSetting`."""
    if name == EVERY:
        return []
    app_label, _, rest = name.partition(".")
    model_name, dot, field_name = rest.partition(".")
    try:
        model = apps.get_model(app_label, model_name)
    except (LookupError, ValueError):
        raise WrongSetting(
            f'GESTORE_SYNC["CONFLICTS"] names the model {f"{app_label}.{model_name}"!r}, which does not exist.'
        ) from None
    concrete: Any = model._meta.concrete_model
    label = concrete._meta.label_lower
    return [f"{label}.{column}" for column in find_columns(concrete, field_name, name)] if dot else [label]


def find_columns(model: type[Model], field_name: str, name: str) -> list[str]:
    """The fields that one decision is about: a generic key is two columns, which go together."""
    pairs: list[Any] = [field for field in model._meta.private_fields if isinstance(field, GenericForeignKey)]
    for pair in pairs:
        if field_name in (pair.name, pair.ct_field, pair.fk_field):
            return [pair.ct_field, pair.fk_field]
    if field_name in {field.name for field in model._meta.local_concrete_fields}:
        return [field_name]
    known = {field.name: field.model._meta.label for field in model._meta.concrete_fields}
    where = f" It is a field of {known[field_name]}." if field_name in known else ""
    raise WrongSetting(
        f'GESTORE_SYNC["CONFLICTS"] names {name!r}, which is no column in the table of {model._meta.label}.{where}'
    )
