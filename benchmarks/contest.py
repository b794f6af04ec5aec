"""Contenders that take turns, and what may be said of them: medians, spreads, ratios."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

__all__ = ["Contest", "Ratio", "Spread", "alternate", "ratio", "spread"]

RESAMPLES = 2000


@dataclass(frozen=True)
class Spread:
    """Median of laps and the quartiles around it."""

    median: float
    low: float
    high: float
    laps: int


@dataclass(frozen=True)
class Ratio:
    """How many times faster than the base; `low` to `high` holds it at 95 %."""

    value: float
    low: float
    high: float


def spread(laps: Sequence[float]) -> Spread:
    """Median and quartiles of at least one lap."""
    low, high = np.quantile(laps, (0.25, 0.75))
    return Spread(statistics.median(laps), float(low), float(high), len(laps))


def ratio(base: Sequence[float], laps: Sequence[float], seed: int = 0) -> Ratio:
    """Median over rounds of base / laps, both in seconds, with its percentile bootstrap.

    A round's two laps stand next to each other in time: a machine that slows down slows both.
    """
    paired = np.asarray(base, float) / np.asarray(laps, float)
    rows = np.random.default_rng(seed).integers(len(paired), size=(RESAMPLES, len(paired)))
    low, high = np.quantile(np.median(paired[rows], axis=1), (0.025, 0.975))
    return Ratio(float(np.median(paired)), float(low), float(high))


def alternate(
    contenders: Mapping[str, Callable[[], float]], rounds: int, warmup: int
) -> dict[str, list[float]]:
    """Seconds of every contender's laps: each runs one lap a round, A B A B, `warmup` unseen."""
    laps: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(warmup + rounds):
        for name, run in contenders.items():
            seconds = run()
            if round_ >= warmup:
                laps[name].append(seconds)
    return laps


@dataclass(frozen=True)
class Contest:
    """Laps of contenders in seconds a step, or whatever was `timed`; ratios are to the first, the
    base.

    `images` a step turns seconds into images a second, where that is what people ask.
    """

    title: str
    laps: dict[str, list[float]]
    images: int = 0
    notes: list[str] = field(default_factory=list)
    timed: str = "step"

    @property
    def base(self) -> str:
        """The contender that the others are compared with."""
        return next(iter(self.laps))

    def ratio(self, name: str, base: str | None = None) -> Ratio:
        """How many times faster than the base, or than another contender."""
        return ratio(self.laps[base or self.base], self.laps[name])

    def tree(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        contenders = {}
        for name, laps in self.laps.items():
            contenders[name] = asdict(spread(laps)) | {"times_base": asdict(self.ratio(name))}
            if self.images:
                contenders[name]["images_per_second"] = self.images / statistics.median(laps)
        return {
            "title": self.title,
            "timed": self.timed,
            "base": self.base,
            "contenders": contenders,
            "laps": self.laps,
            "notes": self.notes,
        }
