"""How long work tells how far it is."""

from __future__ import annotations


class Progress:
    """Is told how far a run is; this one keeps quiet. Subclasses show it."""

    def start(self, phase: str, total: int | None = None) -> None:
        """A phase begins; ``total`` is the number of its steps where that is known."""

    def advance(self, number: int = 1) -> None:
        """So many more steps are done."""

    def close(self) -> None:
        """The run has ended, well or not."""
