"""A progress bar for work in named stages, with the time it took so far and the time to go."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn, TimeRemainingColumn

from vaegan.cli.progress import columns, left

__all__ = ["Stages"]


class Stages:
    """Called with the name of a stage and the share of the work done: a bar on stderr.

    Without a terminal, one plain line for each new stage.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self.progress = Progress(
            *columns(TimeElapsedColumn, TimeRemainingColumn),
            console=console,
            expand=True,
            disable=not console.is_terminal,
            transient=True,
        )
        self.task = self.progress.add_task("", total=1.0)
        self.told = ""
        self.began = time.monotonic()

    def __enter__(self) -> Stages:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def __call__(self, stage: str, share: float) -> None:
        """Show that `stage` begins, or goes on, when `share` of the work is done."""
        self.progress.update(self.task, completed=share, description=stage)
        if self.progress.disable and stage != self.told:
            rest = left(time.monotonic() - self.began, share, 1 - share)
            print(f"{share:4.0%}  {stage}" + f" ({rest} left)" * (0 < share < 1), file=sys.stderr)
        self.told = stage

    def piece(self, place: int, count: int, title: str) -> Callable[[str, float], None]:
        """The same to call for piece `place` of `count` of the work, its stages after a title."""
        return lambda stage, share: self(title + stage, (place + share) / count)
