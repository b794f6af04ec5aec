"""What a training run shows while it goes: a bar with ETA and losses, and TensorBoard."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

if TYPE_CHECKING:
    from vaegan.rundir import RunDirectory
    from vaegan.trainer import Trainer
    from vaegan.training import Watcher

__all__ = ["Bar", "boards", "columns", "left", "tracked"]

Item = TypeVar("Item")
SHOWN = ("pixel", "similarity", "kl", "gan", "fooling")


class Bar:
    """A progress bar on stderr; plain lines, now and then, when stderr is no terminal."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.console = Console(stderr=True)
        self.progress = Progress(
            *columns(TimeRemainingColumn),
            console=self.console,
            expand=True,
            disable=not self.console.is_terminal,
        )
        self.task: TaskID | None = None
        self.told = 0.0
        self.began, self.before = 0.0, 0.0

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def started(self, trainer: Trainer, share: float) -> None:
        """Show the bar, and where a resumed run goes on."""
        print(self.title, file=sys.stderr)
        if trainer.progress.step:
            print(f"resuming at step {trainer.progress.step}", file=sys.stderr)
        self.task = self.progress.add_task("starting", total=1.0)
        self.progress.update(self.task, completed=min(share, 1.0))
        self.told = self.before = share
        self.began = time.monotonic()

    def stepped(self, trainer: Trainer, share: float, row: dict[str, float] | None) -> None:
        """Move the bar; write the losses when there are new ones."""
        assert self.task is not None
        self.progress.update(self.task, completed=min(share, 1.0))
        if row:
            losses = "  ".join(f"{name} {row[name]:.4g}" for name in SHOWN if name in row)
            text = f"step {trainer.progress.step}  {losses}  {row['images_per_second']:.0f} img/s"
            self.progress.update(self.task, description=text)
            if self.progress.disable and share - self.told >= 0.1:
                self.told = share
                print(f"{share:4.0%}  {self._left(share)} left  {text}", file=sys.stderr)

    def _left(self, share: float) -> str:
        """Time to go, if the rest goes as what was done since the start."""
        return left(time.monotonic() - self.began, share - self.before, 1 - share)

    def framed(self, trainer: Trainer) -> None:
        """Nothing to show."""


def columns(*times: type[ProgressColumn]) -> list[ProgressColumn]:
    """A bar, the share done, times, and words that give way where the line is too short."""
    words = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return [
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:3.0f}%"),
        *(time() for time in times),
        TextColumn("{task.description}", table_column=words),
    ]


def left(seconds: float, done: float, to_go: float) -> str:
    """`0:01:30`: the time that what is to do takes, when `done` of it took so many seconds."""
    return str(timedelta(seconds=round(seconds * max(to_go, 0.0) / max(done, 1e-9))))


class Board:
    """Scalars and pictures for TensorBoard, under RUN/tensorboard.

    A log is not worth a run: when it cannot be written, it ends with a line and training goes on.
    """

    def __init__(self, run: RunDirectory):
        self.run = run
        self.writer: Any = None

    def started(self, trainer: Trainer, share: float) -> None:
        """Open the event file."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.run.events), purge_step=trainer.progress.step + 1)

    def stepped(self, trainer: Trainer, share: float, row: dict[str, float] | None) -> None:
        """Write every value of a row."""
        if self.writer is None:
            return
        with self._surviving():
            for name, value in (row or {}).items():
                self.writer.add_scalar(name, value, trainer.progress.step)

    def framed(self, trainer: Trainer) -> None:
        """Write a picture of samples."""
        import numpy as np

        from vaegan.gallery import samples

        if self.writer is None:
            return
        with self._surviving():
            if trainer.average.model.config.family != "ae":
                picture = np.asarray(samples(trainer.average.model, n=10))
                self.writer.add_image("samples", picture, trainer.progress.step, dataformats="HWC")
            self.writer.flush()

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        """Go on without the log once it cannot be written."""
        try:
            yield
        except OSError as error:
            print(f"TensorBoard's log ends here: {error.strerror or error}", file=sys.stderr)
            self.writer = None


def boards(run: RunDirectory) -> list[Watcher]:
    """TensorBoard when the extra is installed, else nothing."""
    return [Board(run)] if find_spec("tensorboard") else []


def tracked(what: str, items: Iterable[Item], total: int | None = None) -> Iterable[Item]:
    """Iterate with a progress bar on stderr, quiet when stderr is no terminal."""
    from rich.progress import track

    console = Console(stderr=True)
    return track(
        items, what, total, console=console, disable=not console.is_terminal, transient=True
    )
