"""How a benchmark is run: what the command line says, the same for every measure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Setting"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Options of a run of the benchmarks.

    quick       few laps on small data: to see that everything works, not to be quoted
    pythae      a Python that has pythae, or None
    tensorflow  a Python that has TensorFlow, or None
    """

    threads: int = 2
    data: str = "digits"
    quick: bool = False
    pythae: str | None = None
    tensorflow: str | None = None

    @property
    def rounds(self) -> int:
        """Laps of every contender that count."""
        return 3 if self.quick else 15

    @property
    def warmup(self) -> int:
        """Laps before those."""
        return 1 if self.quick else 3

    def steps(self, usual: int) -> int:
        """Steps that make a lap."""
        return 1 if self.quick else usual
