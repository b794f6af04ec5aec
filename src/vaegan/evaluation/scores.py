"""What an evaluation found: one flat dictionary of numbers, and what it takes to read them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vaegan.errors import RunError
from vaegan.files import write_json
from vaegan.metrics.bootstrap import mean_interval

__all__ = ["FORMAT_VERSION", "Scores"]

FORMAT_VERSION = 1
NESTED = ("about", "intervals", "tables", "skipped", "seconds")


@dataclass
class Scores:
    """The measures of one run.

    about      extractor and its accuracy, split, numbers of images, seeds, settings: read it first
    values     every measure by name, `prior_frechet_distance`; NaN where it is undefined
    intervals  95 % intervals over images, (low, high), of some of the values
    tables     by class or cell: `prior_frechet_distance_by_class` (K,), `prior_confusion` (K, K)
    skipped    one line for each measure that could not be computed, with the reason
    seconds    what each part took
    """

    about: dict[str, Any] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    tables: dict[str, list[Any]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, prefix: str, values: Mapping[str, float]) -> None:
        """Take in values, their names beginning with `prefix` and an underscore."""
        self.values |= {f"{prefix}_{name}": float(value) for name, value in values.items()}

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
        for name, each in values.items():
            interval = mean_interval(np.asarray(each, dtype=float), groups, seed=seed)
            self.values[f"{prefix}_{name}"] = interval.value
            self.intervals[f"{prefix}_{name}"] = (interval.low, interval.high)

    def table(self, name: str, values: np.ndarray) -> None:
        """Take in a table of floats of any shape; NaN becomes null."""
        self.tables[name] = _plain(np.asarray(values, dtype=float).tolist())

    def skip(self, line: str) -> None:
        """Note what could not be computed, once."""
        if line not in self.skipped:
            self.skipped.append(line)

    def as_json(self) -> dict[str, Any]:
        """The tree of metrics.json: the values on top, everything else in five groups."""
        values = {name: _plain(value) for name, value in self.values.items()}
        tree = {"format_version": FORMAT_VERSION, "about": self.about, **values}
        intervals = {name: _plain(list(pair)) for name, pair in self.intervals.items()}
        return tree | {
            "intervals": intervals,
            "tables": self.tables,
            "skipped": self.skipped,
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
        }

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
        nested = {name: tree.pop(name) for name in NESTED}
        del tree["format_version"]
        nested["intervals"] = {
            name: (_number(low), _number(high)) for name, (low, high) in nested["intervals"].items()
        }
        return cls(values={name: _number(value) for name, value in tree.items()}, **nested)


def _plain(value: Any) -> Any:
    """Floats as JSON has them: what is not finite is null."""
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
