"""Scores as tables: on the terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vaegan.evaluation.comparison import spread, summarised, table_rows
from vaegan.evaluation.measures import cell, filled

if TYPE_CHECKING:
    from rich.table import Table

    from vaegan.evaluation.comparison import Entry
    from vaegan.evaluation.scores import Scores

__all__ = ["described", "explained", "grids", "show", "show_compared"]


def show(name: str, scores: Sequence[Scores]) -> None:
    """Print the tables of one run, or of the mean over several, to stdout, below their name."""
    skipped = dict.fromkeys(line for one in scores for line in one.skipped)
    lines = [name, *described(scores[0]), spread(scores)]
    _print(lines, list(tables(scores)), list(skipped))


def show_compared(found: Sequence[Entry], lines: Sequence[str]) -> None:
    """Print the table of a comparison to stdout: a column for each entry, below `lines`."""
    table = _table("Side by side", [*(entry.name for entry in found), "real"])
    for row in table_rows(found):
        table.add_row(*row)
    _print(lines, [table], missing(found))


def missing(found: Sequence[Entry]) -> list[str]:
    """What was not measured, a line for all the entries that lack it for the same reason."""
    reasons: dict[str, list[str]] = {}
    for entry in found:
        for line in dict.fromkeys(line for run in entry.runs for line in run.scores.skipped):
            system = entry.runs[0].config.model.system
            reasons.setdefault(line.replace(f"system {system!r}", "it"), []).append(entry.name)
    return [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]


def _print(lines: Sequence[str], shown: Sequence[Table], skipped: Sequence[str]) -> None:
    """Lines, tables, and what was not measured; where there is no terminal, as wide as it takes."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=240)
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
    for table in shown:
        console.print()
        console.print(table)
    if skipped:
        console.print("\nNot measured", style="bold")
        for line in skipped:
            console.print(f"  {line}", soft_wrap=True, markup=False)


def _table(title: str, headings: Sequence[str]) -> Table:
    """An empty table: words, an arrow, and right-aligned columns."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("", min_width=26)
    table.add_column("")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def described(scores: Scores) -> Iterator[str]:
    """What was measured on what: the lines that every table needs beside it."""
    about = scores.about
    yield about["extractor_about"]
    if "style_encoder" in about:
        yield about["style_encoder"]
    yield (
        f"{about['generated_images']:,} images of each kind against {about['real_images']:,} "
        f"{about['split']} images of {about['data']}; floor: {about['floor']}"
    )
    if "inception" in about:
        yield f"ImageNet Inception features: {about['inception']}"


def explained(found: Sequence[Entry]) -> Iterator[str]:
    """The lines beside the table of a comparison: those of one entry hold for all, but for what
    their intervals are over.
    """
    yield from described(found[0].runs[0].scores)
    kinds: dict[str, list[str]] = {}
    for entry in found:
        kinds.setdefault(spread([run.scores for run in entry.runs]), []).append(entry.name)
    for kind, names in kinds.items():
        yield kind if len(kinds) == 1 else f"{', '.join(names)}: {kind}"


def tables(scores: Sequence[Scores]) -> Iterator[Table]:
    """One rich table a group."""
    for title, headings, rows in grids(scores):
        table = _table(title, headings)
        for row in rows:
            table.add_row(*row)
        yield table


def grids(scores: Sequence[Scores]) -> Iterator[tuple[str, list[str], list[tuple[str, ...]]]]:
    """Title, headings and rows (words, aim, a cell for each heading) of each group; what no system
    here has is left out.
    """
    values = summarised(scores)
    depths = scores[0].about.get("metric_depths", ())
    for group, columns, rows in filled(values, depths):
        body = []
        for row in rows:
            cells = [cell(values.get(group.key(column, row)), row.digits) for column in columns]
            body.append((row.words, row.aim, *cells))
        yield group.title, list(columns.values()), body
