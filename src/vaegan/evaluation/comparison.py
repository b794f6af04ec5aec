"""Runs side by side: one table with means over seeds, one picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vaegan.config import RunConfig
from vaegan.data import Split
from vaegan.errors import DataError
from vaegan.evaluation.grouping import headings, settings_of, swept
from vaegan.evaluation.measures import COMPARED, SWEPT, cell, number
from vaegan.evaluation.scores import Scores, means
from vaegan.figures.sheet import sheet
from vaegan.figures.sweep import Panel, sweep
from vaegan.images import to_images, to_pixels
from vaegan.metrics.bootstrap import Interval
from vaegan.model import Model
from vaegan.randomness import latents_of_seeds

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "Entry",
    "Run",
    "curve",
    "entries",
    "markdown",
    "picture",
    "spread",
    "summarised",
    "table_rows",
]

COLUMNS = 10


@dataclass(frozen=True)
class Run:
    """A measured run: where it is, its settings, its scores, its model."""

    path: Path
    config: RunConfig
    scores: Scores
    model: Model


@dataclass(frozen=True)
class Entry:
    """Runs that differ in their seed alone, and the means of their values."""

    name: str
    runs: tuple[Run, ...]
    values: dict[str, Interval]

    @property
    def parameters(self) -> int:
        """Number of trainable parameters of all networks."""
        model = self.runs[0].config.model
        return sum(model.parameters(network) for network in model.networks)

    def trained(self, what: str) -> list[float]:
        """`step`, `images_seen` or `seconds` of each run whose log tells it."""
        return [
            run.scores.about["trained"][what] for run in self.runs if "trained" in run.scores.about
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything but the models."""
        about = [run.scores.about for run in self.runs]
        values = {}
        for name, interval in self.values.items():
            numbers = (interval.value, interval.low, interval.high)
            values[name] = [number if np.isfinite(number) else None for number in numbers]
        return {
            "name": self.name,
            "settings": settings_of(self.runs[0].config),
            "parameters": self.parameters,
            "runs": [str(run.path) for run in self.runs],
            "seeds": [run.config.seed for run in self.runs],
            "trained": [one.get("trained") for one in about],
            "interval": spread([run.scores for run in self.runs]),
            "values": values,
            "skipped": list(
                dict.fromkeys(line for run in self.runs for line in run.scores.skipped)
            ),
        }


def summarised(scores: Sequence[Scores]) -> dict[str, Interval]:
    """One run: its values and their intervals. Several: means over runs and their t intervals.

    `spread` says what the intervals are. A value that is undefined in some of the runs is the mean
    of the others.
    """
    if len(scores) > 1:
        return means([one.values for one in scores])
    (one,) = scores
    unknown = (float("nan"), float("nan"))
    draws = len(one.about["seeds"])
    count = draws if draws > 1 else one.about["real_images"]
    return {
        name: Interval(value, *one.intervals.get(name, unknown), 0.95, count)
        for name, value in one.values.items()
    }


def spread(scores: Sequence[Scores]) -> str:
    """What the values of `summarised` are, and what their intervals are over."""
    runs, draws = len(scores), len(scores[0].about["seeds"])
    if runs > 1:
        each = f" of {draws} draws each" if draws > 1 else ""
        return f"mean of {runs} runs{each} ± half the 95 % t interval over runs"
    if draws > 1:
        return (
            f"mean of {draws} draws of 1 run ± half the 95 % t interval over draws; without ±: "
            "the same in every draw"
        )
    return "1 run ± half the 95 % bootstrap interval over images"


def entries(runs: Sequence[Run]) -> list[Entry]:
    """Runs that differ in their seed alone are one entry, in the order they first come.

    Raises DataError when they were measured on different data, counts or judges: their numbers
    are on different scales; RunError for a run that comes twice.
    """
    for key in ("data_fingerprint", "extractor_digest", "real_images"):
        found = {run.scores.about[key]: run.path for run in runs}
        if len(found) > 1:
            (one, other), (path, another), *_ = zip(*found.items())
            raise DataError(
                f"{path} and {another} cannot be compared: {key} is {one!r} and {other!r}"
            )
    names = headings([run.path for run in runs], [run.config for run in runs])
    groups: dict[str, list[Run]] = {}
    for name, run in zip(names, runs):
        groups.setdefault(name, []).append(run)
    return [
        Entry(name, tuple(group), summarised([run.scores for run in group]))
        for name, group in groups.items()
    ]


def markdown(found: Sequence[Entry], lines: Sequence[str]) -> str:
    """The table, a column for each entry, below `lines` of explanation."""
    head = ["", "", *(entry.name for entry in found), "real"]
    table = [head, ["---", "---", *["---:"] * (len(head) - 2)], *table_rows(found)]
    return "\n".join([*lines, "", *("| " + " | ".join(row) + " |" for row in table), ""])


def table_rows(found: Sequence[Entry]) -> Iterator[list[str]]:
    """Words, an arrow, a cell for each entry and one for real images.

    First what each entry cost, then the `COMPARED` measures that there are.
    """
    if any(len(entry.runs) > 1 for entry in found):
        yield ["runs", "", *(str(len(entry.runs)) for entry in found), ""]
    for words, what, unit, digits in (
        ("steps", "step", 1, 0),
        ("images seen", "images_seen", 1, 0),
        ("minutes trained", "seconds", 60, 1),
    ):
        numbers = [[value / unit for value in entry.trained(what)] for entry in found]
        yield [words, "", *(_range(each, digits) for each in numbers), ""]
    yield ["parameters", "", *(f"{entry.parameters:,}" for entry in found), ""]
    for row, floor in COMPARED:
        cells = [cell(entry.values.get(row.name), row.digits) for entry in found]
        if any(cells):
            real = [entry.values[floor].value for entry in found if floor in entry.values][:1]
            yield [row.words, row.aim, *cells, number(real[0], row.digits) if real else ""]


def _range(values: Sequence[float], digits: int) -> str:
    """The value of all, or the smallest and the largest; empty without any."""
    if not values:
        return ""
    ends = dict.fromkeys(f"{value:,.{digits}f}" for value in (min(values), max(values)))
    return " to ".join(ends)


def curve(found: Sequence[Entry]) -> Image.Image | None:
    """The measures over the values of the one number in which three entries or more differ.

    None where they differ in anything else.
    """

    def ends(interval: Interval) -> tuple[float, float, float]:
        return interval.value, interval.low, interval.high

    setting = swept([entry.runs[0].config for entry in found]) if len(found) > 2 else None
    if setting is None:
        return None
    panels = []
    for title, lines, floor in SWEPT:
        measured = {
            name: [ends(entry.values[key]) if key in entry.values else None for entry in found]
            for name, key in lines.items()
            if any(key in entry.values for entry in found)
        }
        if measured:
            real = [entry.values[floor].value for entry in found if floor in entry.values]
            panels.append(Panel(title, measured, real[0] if real else None))
    name, values = setting
    system = found[0].runs[0].config.model.system
    return sweep(name, values, panels, f"What {name.rpartition('.')[2]} does ({system})")


@torch.no_grad()
def picture(found: Sequence[Entry], split: Split, seed: int = 0) -> Image.Image:
    """Originals and each entry's reconstructions; samples by label; the style of one image.

    The first run of each entry draws. Shown are the first ten classes that occur in the split. The
    image whose style is transferred is of the class called 7, or of the last that is shown.
    """
    names = next(
        (e.runs[0].model.config.class_names for e in found if e.runs[0].model.config.class_names),
        (),
    )
    rng = np.random.default_rng(seed)
    if split.labels is not None and names:
        occurring = np.unique(split.labels)[:COLUMNS].tolist()
        chosen = np.array([rng.choice(np.flatnonzero(split.labels == one)) for one in occurring])
    else:
        chosen = rng.permutation(len(split))[:COLUMNS]
        occurring = list(range(len(chosen)))
    originals = split.pixels[chosen]
    blank = np.zeros_like(originals) if originals.shape[3] == 1 else np.full_like(originals, 255)
    under = torch.tensor(occurring)
    shown = [names[label] for label in occurring] if names else []
    seven = shown.index("7") if "7" in shown else len(chosen) - 1

    def drawn(what: str) -> Iterator[tuple[str, np.ndarray]]:
        for entry in found:
            model = entry.runs[0].model
            config = model.config
            labels = under.to(model.device) if config.num_classes else None
            images = to_images(originals, model.device)
            if what == "reconstructions" and model.encoder is not None:
                made = model.reconstruct(images, labels)
            elif what == "samples" and config.family != "ae":
                normal = latents_of_seeds(range(seed, seed + len(under)), config.latent_dim)
                made = model.decode(model.prior_latents(normal.to(model.device), labels), labels)
            elif what == "transfer" and model.encoder is not None and labels is not None:
                source = images[seven].expand_as(images)
                made = model.transfer(source, labels[seven].expand_as(labels), labels)
            else:
                continue
            yield entry.name, to_pixels(made)

    lines: list[tuple[str, np.ndarray]] = [("originals", originals)]
    groups: list[int] = []
    for what in ("reconstructions", "samples", "transfer"):
        block = list(drawn(what))
        if what == "transfer" and block:
            source = blank.copy()
            source[seven] = originals[seven]
            block.insert(0, ("its style", source))
        if not block:
            continue
        if len(lines) > 1:
            groups.append(len(lines) - 1)
        lines += block
    return sheet(
        np.stack([row for _, row in lines]),
        title="Side by side",
        subtitle="from above: reconstructions of test images; draws from the prior"
        + (" under each label; the style of one image in every class" if names else ""),
        row_labels=[name for name, _ in lines],
        groups=groups,
        invert=originals.shape[3] == 1,
    )
