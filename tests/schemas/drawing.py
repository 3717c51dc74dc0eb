"""What random models look like, as values that Hypothesis draws, shows and makes smaller."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

AUTO, UUID, TEXT, SHARED = "automatic", "uuid", "text", "shared"
LINKED, PAIR = "linked", "pair"
COMPOSITE = (LINKED, PAIR)
UNIQUE, NATURAL, NESTED, TOGETHER, CONSTRAINT = "unique", "natural", "nested", "together", "constraint"
HOMED = (NESTED, TOGETHER, CONSTRAINT)
CASCADE, PROTECT, RESTRICT, DO_NOTHING = "CASCADE", "PROTECT", "RESTRICT", "DO_NOTHING"
SET_NULL, SET_DEFAULT, SET = "SET_NULL", "SET_DEFAULT", "SET"
NEEDS_NULL = (SET_NULL, SET_DEFAULT, SET)
PLAIN = "plain"
MOST_MODELS = 6


@dataclass(frozen=True)
class Link:
    """A foreign key, or one-to-one field, to the model with this number."""

    to: int
    null: bool = False
    on_delete: str = CASCADE
    one: bool = False
    by_code: bool = False
    hidden: bool = False


@dataclass(frozen=True)
class Members:
    """A many-to-many field; ``through``: AUTO, or a model with a field more: PLAIN, or UNIQUE for each pair."""

    to: int
    through: str = AUTO


@dataclass(frozen=True)
class Generic:
    """A generic foreign key; its object id is a TEXT, or a number (AUTO)."""

    key: str = TEXT
    null: bool = False


@dataclass(frozen=True)
class Drawn:
    """A model. ``parent``: the number of its multi-table parent. ``key``: SHARED is the last of the ``links``, LINKED a
    composite one of that and a number, PAIR one of a date and a number. ``identity``: what its code is good for; with a
    HOMED one the first of the ``links`` is a part of it. ``related``: the numbers of the models of which it has a
    generic relation."""

    parent: int | None = None
    key: str = AUTO
    identity: str | None = None
    links: tuple[Link, ...] = ()
    members: tuple[Members, ...] = ()
    generic: Generic | None = None
    related: tuple[int, ...] = ()


Schema = tuple[Drawn, ...]


@st.composite
def draw_link(draw: st.DrawFn, targets: list[int], coded: list[int]) -> Link:
    """Draw a link to one of these models, the one that declares it too."""
    to = draw(st.sampled_from(targets))
    on_delete = draw(st.sampled_from([CASCADE, PROTECT, RESTRICT, SET_NULL, SET_DEFAULT, SET, DO_NOTHING]))
    return Link(
        to,
        on_delete in NEEDS_NULL or draw(st.booleans()),
        on_delete,
        draw(st.integers(0, 4)) == 4,
        to in coded and draw(st.booleans()),
        draw(st.integers(0, 3)) == 3,
    )


@st.composite
def draw_model(draw: st.DrawFn, number: int, count: int, targets: list[int], coded: list[int]) -> Drawn:
    """Draw the model with this number of so many.

    ``targets``: the numbers of those that others can point at; the others have composite keys. ``coded``: the numbers
    of those whose code is unique.
    """
    earlier = [to for to in targets if to < number]
    is_composite = number not in targets
    parent = draw(st.none() | st.none() | st.sampled_from(earlier)) if earlier and not is_composite else None
    links = draw(st.lists(draw_link(targets, coded), max_size=3))
    key, identity = AUTO, None
    if is_composite:
        key = draw(st.sampled_from(COMPOSITE))
    elif parent is None:
        key = draw(st.sampled_from([AUTO, AUTO, UUID, TEXT, *([SHARED] if earlier else [])]))
    if number in coded:
        identity = draw(st.sampled_from([UNIQUE, *([NATURAL] if parent is None else [])]))
    elif parent is None and draw(st.booleans()):
        identity = draw(st.sampled_from([TOGETHER, CONSTRAINT, *([NESTED] if earlier else [])]))
        at = draw(st.sampled_from(earlier if identity == NESTED else targets))
        links = [Link(at, draw(st.booleans()), draw(st.sampled_from([CASCADE, PROTECT]))), *links]
    if key == SHARED:
        links = [*links, Link(draw(st.sampled_from(earlier)), one=True)]
    if key == LINKED:
        links = [*links, Link(draw(st.sampled_from(targets)), on_delete=draw(st.sampled_from([CASCADE, PROTECT])))]
    generic = draw(st.none() | st.none() | st.builds(Generic, st.sampled_from([TEXT, AUTO]), st.booleans()))
    if is_composite:
        return Drawn(parent, key, identity, tuple(links), generic=generic)
    through = st.sampled_from([AUTO, AUTO, PLAIN, UNIQUE])
    members = draw(st.lists(st.builds(Members, st.sampled_from(targets), through), max_size=2))
    related = draw(st.lists(st.integers(0, count - 1), unique=True, max_size=2))
    return Drawn(parent, key, identity, tuple(links), tuple(members), generic, tuple(related))


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    """Draw two to six models, and how they point at each other."""
    count = draw(st.integers(2, MOST_MODELS))
    coded = [number for number in range(count) if draw(st.integers(0, 2)) == 2]
    targets = [number for number in range(count) if number == 0 or draw(st.integers(0, 4)) < 4]
    return tuple(draw(draw_model(number, count, targets, coded)) for number in range(count))
