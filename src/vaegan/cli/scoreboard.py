"""Scores as tables: on the terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vaegan.evaluation.measures import cell, filled
from vaegan.metrics.bootstrap import Interval, seed_interval

if TYPE_CHECKING:
    from rich.table import Table

    from vaegan.evaluation.scores import Scores

__all__ = ["described", "show", "summarised"]


def summarised(scores: Sequence[Scores]) -> dict[str, Interval]:
    """One run: its values and their intervals over images. Several: means and intervals over runs.

    A value that is undefined in some of the runs is the mean of the others.
    """
    if len(scores) == 1:
        (one,) = scores
        blank = (float("nan"), float("nan"))
        return {
            name: Interval(value, *one.intervals.get(name, blank), 0.95, 1)
            for name, value in one.values.items()
        }
    found: dict[str, Interval] = {}
    for name in dict.fromkeys(name for one in scores for name in one.values):
        values = [one.values[name] for one in scores if np.isfinite(one.values.get(name, np.nan))]
        unknown = Interval(float("nan"), float("nan"), float("nan"), 0.95, 0)
        found[name] = seed_interval(values) if values else unknown
    return found


def show(scores: Sequence[Scores]) -> None:
    """Print the tables of one run, or of the mean over several, to stdout."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=110)
    for line in described(scores):
        console.print(line, soft_wrap=True, markup=False)
    for table in tables(scores):
        console.print()
        console.print(table)
    skipped = dict.fromkeys(line for one in scores for line in one.skipped)
    if skipped:
        console.print("\nNot measured", style="bold")
        for line in skipped:
            console.print(f"  {line}", soft_wrap=True, markup=False)


def described(scores: Sequence[Scores]) -> Iterator[str]:
    """What was measured on what: the lines that every table needs beside it."""
    about = scores[0].about
    yield about["extractor_about"]
    yield (
        f"{about['generated_images']:,} images of each kind against {about['real_images']:,} "
        f"{about['split']} images of {about['data']}; floor: {about['floor']}"
    )
    if len(scores) > 1:
        yield f"mean of {len(scores)} runs ± half the 95 % t interval over runs"
    else:
        yield "± half the 95 % bootstrap interval over images"


def tables(scores: Sequence[Scores]) -> Iterator[Table]:
    """One rich table a group; what no system here has is left out."""
    from rich import box
    from rich.table import Table

    values = summarised(scores)
    for group, columns, rows in filled(values):
        table = Table(
            title=group.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
        )
        table.add_column("", min_width=26)
        table.add_column("")
        for heading in columns.values():
            table.add_column(heading, justify="right")
        for row in rows:
            cells = [cell(values.get(f"{prefix}_{row.name}"), row.digits) for prefix in columns]
            table.add_row(row.words, row.aim, *cells)
        yield table
