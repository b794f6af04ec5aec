"""Systems side by side: one table with means over seeds, one picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vaegan.data import Split
from vaegan.errors import DataError
from vaegan.evaluation.measures import COMPARED, Measure, cell, number
from vaegan.evaluation.scores import Scores
from vaegan.figures.sheet import sheet
from vaegan.images import to_images, to_pixels
from vaegan.metrics.bootstrap import Interval, seed_interval
from vaegan.model import Model

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Entry", "Run", "compared", "entries", "markdown", "picture", "summarised"]

COLUMNS = 10


@dataclass(frozen=True)
class Run:
    """A measured run: where it is, its scores (recipe and seed are in `about`), its model."""

    path: Path
    scores: Scores
    model: Model

    @property
    def name(self) -> str:
        """System and latents: what runs of several seeds share."""
        about = self.scores.about
        return f"{about['system']} {about['latent_dim']}"


@dataclass(frozen=True)
class Entry:
    """Runs that differ in their seed alone, and the means of their values."""

    name: str
    runs: tuple[Run, ...]
    values: dict[str, Interval]

    def as_json(self) -> dict[str, Any]:
        """Everything but the models."""
        about = [run.scores.about for run in self.runs]
        values = {}
        for name, interval in self.values.items():
            numbers = (interval.value, interval.low, interval.high)
            values[name] = [number if np.isfinite(number) else None for number in numbers]
        return {
            "name": self.name,
            "system": about[0]["system"],
            "latent_dim": about[0]["latent_dim"],
            "recipe": about[0].get("recipe"),
            "runs": [str(run.path) for run in self.runs],
            "seeds": [one.get("run_seed") for one in about],
            "trained": [one.get("trained") for one in about],
            "values": values,
            "skipped": list(
                dict.fromkeys(line for run in self.runs for line in run.scores.skipped)
            ),
        }


def summarised(scores: Sequence[Scores]) -> dict[str, Interval]:
    """One run: its values and their intervals over images. Several: means and intervals over runs.

    A value that is undefined in some of the runs is the mean of the others.
    """
    unknown = float("nan")
    if len(scores) == 1:
        (one,) = scores
        return {
            name: Interval(value, *one.intervals.get(name, (unknown, unknown)), 0.95, 1)
            for name, value in one.values.items()
        }
    found: dict[str, Interval] = {}
    for name in dict.fromkeys(name for one in scores for name in one.values):
        values = [one.values[name] for one in scores if np.isfinite(one.values.get(name, np.nan))]
        nothing = Interval(unknown, unknown, unknown, 0.95, 0)
        found[name] = seed_interval(values) if values else nothing
    return found


def entries(runs: Sequence[Run]) -> list[Entry]:
    """Runs of one system, latent size and recipe are one entry, in the order they first come.

    Raises DataError when they were measured on different data, counts or judges: their numbers
    are on different scales.
    """
    for key in ("data_fingerprint", "extractor_about", "real_images"):
        found = {run.scores.about[key]: run.path for run in runs}
        if len(found) > 1:
            (one, other), (path, another), *_ = zip(*found.items())
            raise DataError(
                f"{path} and {another} cannot be compared: {key} is {one!r} and {other!r}"
            )
    recipes = {run.scores.about.get("recipe") for run in runs}
    groups: dict[str, list[Run]] = {}
    for run in runs:
        recipe = run.scores.about.get("recipe")
        name = run.name if len(recipes) == 1 else f"{run.name} {recipe}"
        groups.setdefault(name, []).append(run)
    return [
        Entry(name, tuple(group), summarised([run.scores for run in group]))
        for name, group in groups.items()
    ]


def markdown(found: Sequence[Entry], lines: Sequence[str]) -> str:
    """The table of `COMPARED` measures, a column for each entry, below `lines` of explanation."""
    head = ["", "", *(entry.name for entry in found), "real"]
    rows = [[row.words, row.aim, *cells] for row, cells in compared(found)]
    table = [head, ["---", "---", *["---:"] * (len(head) - 2)], *rows]
    return "\n".join([*lines, "", *("| " + " | ".join(row) + " |" for row in table), ""])


def compared(found: Sequence[Entry]) -> Iterator[tuple[Measure, list[str]]]:
    """A measure and its cells: one for each entry, and one for real images."""
    for row, floor in COMPARED:
        cells = [cell(entry.values.get(row.name), row.digits) for entry in found]
        if any(cells):
            real = [entry.values[floor].value for entry in found if floor in entry.values][:1]
            yield row, [*cells, number(real[0], row.digits) if real else ""]


def picture(found: Sequence[Entry], split: Split, seed: int = 0) -> Image.Image:
    """Originals and each entry's reconstructions; samples by label; the style of one image.

    The first run of each entry draws. The image whose style is transferred is of the class called
    7, or of the last of the ten that are shown.
    """
    names = next(
        (e.runs[0].model.config.class_names for e in found if e.runs[0].model.config.class_names),
        (),
    )
    rng = np.random.default_rng(seed)
    shown = list(range(min(len(names) or COLUMNS, COLUMNS)))
    if split.labels is not None and names:
        chosen = np.array([rng.choice(np.flatnonzero(split.labels == label)) for label in shown])
    else:
        chosen = rng.permutation(len(split))[: len(shown)]
    originals = split.pixels[chosen]
    blank = np.zeros_like(originals) if originals.shape[3] == 1 else np.full_like(originals, 255)
    under = torch.tensor(shown)
    seven = names.index("7") if "7" in names[:COLUMNS] else len(shown) - 1

    def rows(what: str) -> Iterator[tuple[str, np.ndarray]]:
        for entry in found:
            model = entry.runs[0].model
            config = model.config
            labels = under.to(model.device) if config.num_classes else None
            images = to_images(originals, model.device)
            if what == "reconstructions" and model.encoder is not None:
                made = model.reconstruct(images, labels)
            elif what == "samples" and config.family != "ae":
                made = model.sample(len(shown), seed=seed)
            elif what == "transfer" and model.encoder is not None and labels is not None:
                source = images[seven].expand_as(images)
                made = model.transfer(source, torch.full_like(labels, seven), labels)
            else:
                continue
            yield entry.name, to_pixels(made)

    lines: list[tuple[str, np.ndarray]] = [("originals", originals)]
    groups: list[int] = []
    for what in ("reconstructions", "samples", "transfer"):
        block = list(rows(what))
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
        title="One budget, side by side",
        subtitle="from above: reconstructions of test images; draws from the prior"
        + (" under each label; the style of one image in every class" if names else ""),
        row_labels=[name for name, _ in lines],
        groups=groups,
        invert=originals.shape[3] == 1,
    )
