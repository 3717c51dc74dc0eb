"""A parcel that both sides have, and that either of them changes."""

from __future__ import annotations

from typing import Any

from tests.kinds.making import make
from tests.policies.models import Depot, Parcel
from tests.policies.watching import Watch


def push_parcel(watch: Watch) -> Depot:
    """Push a depot with one parcel to a target where other numbers are taken; return the depot."""
    make(Parcel, watch.target)
    depot = make(Depot, watch.source, name="ours")
    make(Parcel, watch.source, depot=depot, number="one", text="first", weight=1)
    watch.push(depot)
    return depot


def change_source(watch: Watch, **values: Any) -> None:
    """Change the parcel at the source."""
    assert watch.on_source(Parcel).filter(number="one").update(**values) == 1


def change_target(watch: Watch, **values: Any) -> None:
    """Change the parcel on the target."""
    assert watch.on_target(Parcel).filter(number="one").update(**values) == 1


def arrived(watch: Watch) -> tuple[str, int]:
    """Return the text and the weight that the parcel has on the target."""
    return watch.on_target(Parcel).values_list("text", "weight").get(number="one")
