"""What a measure found: contests, targets and tables, as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.contest import Contest

__all__ = ["Finding", "Target", "markdown"]


@dataclass(frozen=True)
class Target:
    """A number that was aimed at, and the one that was found; `at_most` where less is better."""

    what: str
    aim: float
    found: float
    unit: str = ""
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the aim is reached."""
        return self.found <= self.aim if self.at_most else self.found >= self.aim


@dataclass(frozen=True)
class Grid:
    """A table of its own: headings and rows of words and numbers."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass
class Finding:
    """All that a measure found; `not_run` says in a line each what is missing and why."""

    name: str
    question: str
    contests: list[Contest] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)

    def grid(self, title: str, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Add a table."""
        self.grids.append(Grid(title, headings, rows))

    def tree(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        return {
            "name": self.name,
            "question": self.question,
            "contests": [contest.tree() for contest in self.contests],
            "targets": [asdict(target) | {"met": target.met} for target in self.targets],
            "grids": [asdict(grid) for grid in self.grids],
            "not_run": self.not_run,
        }


def markdown(tree: dict[str, Any]) -> str:
    """A finding's tree as a section of Markdown, tables and all."""
    lines = [f"## {tree['question']}", ""]
    for contest in tree["contests"]:
        lines += _contest(contest)
    for grid in tree["grids"]:
        lines += [f"{grid['title']}:", "", *_table(grid["headings"], grid["rows"]), ""]
    if tree["targets"]:
        rows = [
            (
                target["what"],
                f"{'at most' if target['at_most'] else 'at least'} {_number(target['aim'])}"
                f"{target['unit']}",
                f"{_number(target['found'])}{target['unit']}",
                "met" if target["met"] else "missed",
            )
            for target in tree["targets"]
        ]
        lines += [*_table(("aim", "", "found", ""), rows), ""]
    lines += [f"Not run: {line}" for line in tree["not_run"]]
    return "\n".join(lines).rstrip() + "\n"


def _contest(contest: dict[str, Any]) -> list[str]:
    """A contest's table: median and quartiles of what was timed, ratio with its interval."""
    rates = any("images_per_second" in one for one in contest["contenders"].values())
    headings = ["", f"seconds a {contest['timed']} (quartiles)", f"times {contest['base']} (95 %)"]
    rows = []
    for name, one in contest["contenders"].items():
        times = one["times_base"]
        row = [
            name,
            f"{_number(one['median'])} ({_number(one['low'])} to {_number(one['high'])})",
            f"{times['value']:.2f} ({times['low']:.2f} to {times['high']:.2f})",
        ]
        rows.append([*row, f"{one['images_per_second']:.0f}"] if rates else row)
    headings += ["images a second"] if rates else []
    lines = [f"{contest['title']}:", "", *_table(headings, rows), ""]
    return [*lines, *contest["notes"], ""] if contest["notes"] else lines


def _table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a Markdown table; numbers to the right."""
    body = [[_number(cell) for cell in row] for row in rows]
    numeric = [all(not isinstance(row[i], str) for row in rows) for i in range(len(headings))]
    rule = ["--:" if right else "---" for right in numeric]
    return [f"| {' | '.join(cells)} |" for cells in (list(headings), rule, *body)]


def _number(value: Any) -> str:
    """Three digits of a number; words as they are."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
