"""The watch over a training run: takes the measures of `vaegan.looks` every so often, writes them
to RUN/looks.jsonl, and speaks up where they call for one of `vaegan.alarms`.

It looks at the averaged model on a fixed set of training images and draws, changes nothing and
draws no random number that training would have drawn. It times itself and waits until its next
look costs less than 3 % of the training time so far.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vaegan.alarms import Alarm, raised
from vaegan.looks import Sight, look

if TYPE_CHECKING:
    from vaegan.metrics.judge import Judge
    from vaegan.rundir import RunDirectory
    from vaegan.trainer import Trainer

__all__ = ["Watch"]

SHARE = 0.025  # of the training time: below the promised 3 %, for looks that take longer than usual
LAST = 1.15  # of that share, so that there is often room for a look at the last step
FIRST_STEP, PATIENCE, HEALING = 100, 2, 0.97
BEYOND_DOUBT = 10.0  # times the limit
FIRST_COST, FIRST_COST_AGAINST = 9, 3  # steps that a first look costs: measured; with a rival
IMAGES, ROWS = 1024, 20


@dataclass
class Failure:
    """Since which step a check fails, how badly it did then, and at how many looks."""

    step: int
    severity: float
    looks: int = 0


class Watch:
    """A `training.Watcher`. An alarm is given once, when its check keeps failing.

    That is at two looks in a row or more, for half as many steps as the run had before the first
    of them (50 at least, 500 at most), and without getting better by 3 %: much is wrong with every
    run at its beginning that mends itself. What is ten times beyond its limit is given at once;
    what fails while the learning rates still warm up does not count. The last step of a budget is
    looked at if there is time.

    judge: of the run's data set; with one, looks measure labels and distances of samples too.
    `alarms` lists those given, in order; each is one line on stderr and one in RUN/alarms.jsonl.
    `looks` and `spent` are how many looks there were since the start, and their seconds.
    """

    def __init__(
        self,
        run: RunDirectory,
        judge: Judge | None = None,
        *,
        share: float = SHARE,
        first_step: int = FIRST_STEP,
        patience: int = PATIENCE,
    ) -> None:
        self.run = run
        self.judge = judge
        self.share, self.first_step, self.patience = share, first_step, patience
        self.alarms: list[Alarm] = []
        self.rows: deque[dict[str, float]] = deque(maxlen=ROWS)
        self.failures: dict[str, Failure] = {}
        self.kept: set[str] = set()
        self.looks, self.spent, self.longest = 0, 0.0, 0.0
        self.sight: Sight | None = None
        self.began = 0.0

    def started(self, trainer: Trainer, share: float) -> None:
        """Remember the alarms that were given before this start."""
        self.began = trainer.progress.seconds
        self.kept = {row["name"] for row in self.run.alarm_rows()}

    def framed(self, trainer: Trainer) -> None:
        """Nothing to do."""

    def stepped(self, trainer: Trainer, share: float, row: dict[str, float] | None) -> None:
        """Look, if it is time."""
        if row:
            self.rows.append(row)
        progress = trainer.progress
        steps = FIRST_COST if trainer.average.model.discriminator is None else FIRST_COST_AGAINST
        likely = self.longest or steps * progress.seconds / progress.step
        last = self.looks and share >= 1
        allowed = (LAST if last else 1) * self.share * (progress.seconds - self.began)
        if progress.step < self.first_step or self.spent + likely > allowed:
            return
        began = time.perf_counter()
        self.look(trainer)
        seconds = time.perf_counter() - began
        self.looks += 1
        self.spent += seconds
        self.longest = max(seconds, 0.5 * self.longest)

    def look(self, trainer: Trainer) -> None:
        """Measure once; give the alarms that are due."""
        progress, config = trainer.progress, trainer.config
        sight, rows, began = self._sight(trainer), list(self.rows), time.perf_counter()
        values = look(trainer.average.model, sight, rows, config.objective)
        times = {"seconds": progress.seconds, "look_seconds": time.perf_counter() - began}
        times = {name: round(seconds, 3) for name, seconds in times.items()}
        self._write(self.run.looks, {"step": progress.step, **times, **values})
        found = {alarm.name: alarm for alarm in raised(values, config.model.class_names)}
        self.failures = {name: self.failures[name] for name in self.failures if name in found}
        if progress.step <= config.optimiser.warmup:
            return
        given = {alarm.name for alarm in self.alarms}
        for name, alarm in found.items():
            step, failure = progress.step, self.failures.get(name)
            if failure is None or alarm.severity < HEALING * failure.severity:
                failure = self.failures[name] = Failure(step, alarm.severity)
            failure.looks += 1
            lasting = step - failure.step >= min(max(failure.step // 2, 50), 500)
            certain = alarm.severity >= BEYOND_DOUBT
            if (certain or (failure.looks >= self.patience and lasting)) and name not in given:
                self.give(trainer, alarm)

    def give(self, trainer: Trainer, alarm: Alarm) -> None:
        """Print an alarm, and keep it unless an earlier start of this run did."""
        self.alarms.append(alarm)
        step = trainer.progress.step
        print(f"alarm at step {step}: {alarm.text}", file=sys.stderr)
        if alarm.name not in self.kept:
            self._write(self.run.alarms, {"step": step, **asdict(alarm)})

    def _write(self, path: Path, row: dict[str, Any]) -> None:
        """Add a line to a file; a full disk is not worth a run."""
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            print(f"cannot write {path}: {error.strerror}", file=sys.stderr)

    def _sight(self, trainer: Trainer) -> Sight:
        """The first images of the run's own order that this rank sees; the same at every look."""
        if self.sight is None:
            size = trainer.config.batch // trainer.ranks.world
            batches = [trainer.batches(index) for index in range(max(1, IMAGES // size))]
            images = torch.cat([batch.images for batch in batches])[:IMAGES]
            labels = [batch.labels for batch in batches if batch.labels is not None]
            self.sight = Sight(images, torch.cat(labels)[:IMAGES] if labels else None, self.judge)
        return self.sight
