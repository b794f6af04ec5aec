"""What an evaluation found: one flat dictionary of numbers, and what it takes to read them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vaegan.errors import RunError
from vaegan.files import write_json
from vaegan.metrics.bootstrap import (
    Interval,
    mean_interval,
    normal_interval,
    ratio_interval,
    seed_interval,
)

__all__ = ["FORMAT_VERSION", "Scores", "averaged", "means"]

FORMAT_VERSION = 1
NESTED = ("about", "intervals", "tables", "skipped", "seconds")


@dataclass
class Scores:
    """The measures of one run.

    about      extractor and its accuracy, split, numbers of images, seeds, settings: read it first
    values     every measure by name, `prior_frechet_distance`; NaN where it is undefined. Of
               several seeds: the means over their draws
    intervals  95 % intervals, (low, high), of some of the values: over images; of several seeds,
               over their draws
    tables     by class or cell: `prior_frechet_distance_by_class` (K,), `prior_confusion` (K, K)
    skipped    one line for each measure that could not be computed, with the reason
    seconds    what each part took
    by_seed    of several seeds: the values and intervals of each
    """

    about: dict[str, Any] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    tables: dict[str, list[Any]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    by_seed: dict[int, Scores] = field(default_factory=dict)

    def of_seed(self, seed: int) -> Scores | None:
        """The same as if only the draws of `seed` had been measured; None when they were not.

        The tables stay the means over all seeds.
        """
        if self.about["seeds"] == [seed]:
            return self
        if seed not in self.by_seed:
            return None
        one = self.by_seed[seed]
        about = self.about | {"seeds": [seed]}
        return replace(self, about=about, values=one.values, intervals=one.intervals, by_seed={})

    def add(self, prefix: str, values: Mapping[str, float]) -> None:
        """Take in values, their names beginning with `prefix` and an underscore."""
        self.values |= {f"{prefix}_{name}": float(value) for name, value in values.items()}

    def add_intervals(self, prefix: str, intervals: Mapping[str, Interval]) -> None:
        """Take in values with their intervals."""
        for name, interval in intervals.items():
            self.values[f"{prefix}_{name}"] = interval.value
            self.intervals[f"{prefix}_{name}"] = (interval.low, interval.high)

    def add_errors(self, prefix: str, errors: Mapping[str, float]) -> None:
        """Take in standard errors of values that are there already: 1.96 of them either way."""
        found = {
            name: normal_interval(self.values[f"{prefix}_{name}"], error, 0)
            for name, error in errors.items()
        }
        self.add_intervals(prefix, found)

    def add_means(
        self,
        prefix: str,
        values: Mapping[str, np.ndarray],
        seed: int = 0,
        groups: np.ndarray | None = None,
    ) -> None:
        """Take in the means of one value an image (N,), and their bootstrap intervals.

        groups (N,): images with the same number are drawn together, as those of one source are.
        """
        found = {
            name: mean_interval(np.asarray(each, dtype=float), groups, seed=seed)
            for name, each in values.items()
        }
        self.add_intervals(prefix, found)

    def add_ratios(
        self,
        prefix: str,
        values: Mapping[str, np.ndarray],
        real: Mapping[str, np.ndarray],
        paired: bool = False,
        seed: int = 0,
    ) -> None:
        """Take in the means of values (N,) over those of the real images, as NAME_ratio, and their
        bootstrap intervals; NaN over 0. paired: image i was made of real image i.
        """
        for name, each in values.items():
            if real[name].any():
                interval = ratio_interval(each, real[name], paired, seed=seed)
                self.add_intervals(prefix, {f"{name}_ratio": interval})
            else:
                self.values[f"{prefix}_{name}_ratio"] = math.nan

    def table(self, name: str, values: np.ndarray) -> None:
        """Take in a table of floats of any shape; NaN becomes null."""
        self.tables[name] = _plain(np.asarray(values, dtype=float).tolist())

    def skip(self, line: str) -> None:
        """Note what could not be computed, once."""
        if line not in self.skipped:
            self.skipped.append(line)

    def as_json(self) -> dict[str, Any]:
        """The tree of metrics.json: the values on top, everything else in groups."""
        by_seed = {str(seed): one._numbers() for seed, one in self.by_seed.items()}
        return {
            "format_version": FORMAT_VERSION,
            "about": self.about,
            **self._numbers(),
            "tables": self.tables,
            "skipped": self.skipped,
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
            **({"by_seed": by_seed} if by_seed else {}),
        }

    def _numbers(self) -> dict[str, Any]:
        """Values by name, and `intervals`."""
        values = {name: _plain(value) for name, value in self.values.items()}
        intervals = {name: _plain(list(pair)) for name, pair in self.intervals.items()}
        return values | {"intervals": intervals}

    def write(self, path: Path) -> None:
        """Write metrics.json, whole or not at all."""
        write_json(path, self.as_json())

    @classmethod
    def read(cls, path: Path) -> Scores:
        """Read what `write` wrote; RunError for a file that is missing or not one of ours."""
        try:
            tree = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise RunError(f"cannot read {path}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path} is not JSON: {error}; evaluate the run again") from None
        version = tree.get("format_version") if isinstance(tree, dict) else None
        if version != FORMAT_VERSION or any(
            not isinstance(tree.get(name), list if name == "skipped" else dict) for name in NESTED
        ):
            raise RunError(
                f"{path} is not a metrics.json of version {FORMAT_VERSION}: evaluate the run again"
            )
        del tree["format_version"]
        by_seed = tree.pop("by_seed", {})
        nested = {name: tree.pop(name) for name in NESTED if name != "intervals"}
        try:
            values, intervals = _parsed(tree)
            each = {int(seed): Scores({}, *_parsed(one)) for seed, one in by_seed.items()}
        except (TypeError, ValueError, AttributeError, KeyError):
            raise RunError(
                f"{path} holds what is neither a number nor null: evaluate the run again"
            ) from None
        return cls(values=values, intervals=intervals, by_seed=each, **nested)


def means(values: Sequence[Mapping[str, float]]) -> dict[str, Interval]:
    """Means of every value over runs, or over draws, with their t intervals.

    A value that is undefined in some of them is the mean of the others.
    """
    found = {}
    for name in dict.fromkeys(name for one in values for name in one):
        known = [one[name] for one in values if math.isfinite(one.get(name, math.nan))]
        nothing = Interval(math.nan, math.nan, math.nan, 0.95, 0)
        found[name] = seed_interval(known) if known else nothing
    return found


def averaged(draws: Sequence[Scores]) -> Scores:
    """The scores of one run from those of each of its seeds of draws.

    Values and tables are means; the intervals are over the draws, and undefined where all of these
    give the same: the value does not depend on them.
    """
    if len(draws) == 1:
        return draws[0]
    found = means([one.values for one in draws])
    tables = dict.fromkeys(name for one in draws for name in one.tables)
    mean = Scores(
        about=draws[0].about | {"seeds": [seed for one in draws for seed in one.about["seeds"]]},
        values={name: interval.value for name, interval in found.items()},
        intervals={
            name: (each.low, each.high)
            for name, each in found.items()
            if len({one.values.get(name) for one in draws}) > 1
        },
        by_seed={one.about["seeds"][0]: one for one in draws},
    )
    for name in tables:
        rows = np.array([one.tables[name] for one in draws if name in one.tables], dtype=float)
        known = np.isfinite(rows)
        sums, counts = np.where(known, rows, 0).sum(0), known.sum(0)
        mean.table(name, np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))
    for one in draws:
        for line in one.skipped:
            mean.skip(line)
        for part, seconds in one.seconds.items():
            mean.seconds[part] = mean.seconds.get(part, 0.0) + seconds
    return mean


def _parsed(tree: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Values and intervals of a tree that holds nothing else."""
    values = {name: _number(value) for name, value in tree.items() if name != "intervals"}
    pairs = {name: (_number(low), _number(high)) for name, (low, high) in tree["intervals"].items()}
    return values, pairs


def _plain(value: Any) -> Any:
    """Floats as JSON has them: what is not finite is null."""
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
