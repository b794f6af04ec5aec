"""The watch over a training run: makes the checks of `vaegan.alarms` every so often, and speaks up.

It looks at the averaged model on a fixed set of training images and draws, changes nothing and
draws no random number that training would have drawn. It times itself and waits until its next
look costs less than 3 % of the training time so far.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vaegan import alarms
from vaegan.alarms import Alarm
from vaegan.images import to_pixels
from vaegan.randomness import generator

if TYPE_CHECKING:
    from vaegan.metrics.judge import Judge
    from vaegan.model import Model
    from vaegan.rundir import RunDirectory
    from vaegan.trainer import Trainer

__all__ = ["Watch"]

SHARE = 0.025  # of the training time: below the promised 3 %, for looks that take longer than usual
FIRST_STEP, PATIENCE, HEALING = 100, 2, 0.97
IMAGES, DRAWS, LABELS, ROWS = 1024, 16, 10, 20


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
    run at its beginning that mends itself. The last step of a budget is always looked at.

    judge: reads the labels of samples too, when there is one. `alarms` lists those given, in
    order; each is one line on stderr and one in RUN/alarms.jsonl.
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
        self.path = run.alarms
        self.judge = judge
        self.share, self.first_step, self.patience = share, first_step, patience
        self.alarms: list[Alarm] = []
        self.rows: deque[dict[str, float]] = deque(maxlen=ROWS)
        self.failures: dict[str, Failure] = {}
        self.kept: set[str] = set()
        self.looks, self.spent, self.longest = 0, 0.0, 0.0
        self.images: Tensor | None = None
        self.labels: Tensor | None = None
        self.began = 0.0

    def started(self, trainer: Trainer, share: float) -> None:
        """Forget the alarms of a run that was here before, remember those of this one."""
        self.began = trainer.progress.seconds
        if not trainer.progress.step:
            self.path.unlink(missing_ok=True)
        elif self.path.is_file():
            lines = self.path.read_text("utf-8").splitlines()
            self.kept = {name for line in lines if (name := _name(line))}

    def framed(self, trainer: Trainer) -> None:
        """Nothing to do."""

    def stepped(self, trainer: Trainer, share: float, row: dict[str, float] | None) -> None:
        """Look, if it is time."""
        if row:
            self.rows.append(row)
        progress = trainer.progress
        elapsed = progress.seconds - self.began
        likely = self.longest or 4 * progress.seconds / progress.step
        due = progress.step >= self.first_step and self.spent + likely <= self.share * elapsed
        if not due and not (self.looks and share >= 1):
            return
        began = time.perf_counter()
        self.look(trainer)
        seconds = time.perf_counter() - began
        self.looks += 1
        self.spent += seconds
        self.longest = max(seconds, 0.5 * self.longest)

    def look(self, trainer: Trainer) -> None:
        """Make every check once; give the alarms that are due."""
        step = trainer.progress.step
        found = {alarm.name: alarm for alarm in self.checks(trainer)}
        self.failures = {name: self.failures[name] for name in self.failures if name in found}
        given = {alarm.name for alarm in self.alarms}
        for name, alarm in found.items():
            failure = self.failures.setdefault(name, Failure(step, alarm.severity))
            if alarm.severity < HEALING * failure.severity:
                failure = self.failures[name] = Failure(step, alarm.severity)
            failure.looks += 1
            lasting = step - failure.step >= min(max(failure.step // 2, 50), 500)
            if failure.looks >= self.patience and lasting and name not in given:
                self.give(trainer, alarm)

    def give(self, trainer: Trainer, alarm: Alarm) -> None:
        """Print an alarm, and keep it unless an earlier start of this run did."""
        self.alarms.append(alarm)
        step = trainer.progress.step
        print(f"alarm at step {step}: {alarm.text}", file=sys.stderr)
        if alarm.name in self.kept:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **asdict(alarm)}) + "\n")
        except OSError as error:  # an alarm is not worth a run
            print(f"cannot write {self.path}: {error.strerror}", file=sys.stderr)

    # ── one look ─────────────────────────────────────────────────────────────────────────────

    @torch.no_grad()
    def checks(self, trainer: Trainer) -> Iterator[Alarm]:
        """Every alarm that the averaged model and the last rows of stats call for."""
        model, rows, objective = trainer.average.model, list(self.rows), trainer.config.objective
        found: list[Alarm | None] = []
        if model.discriminator is not None:
            found += [
                alarms.discriminator_wins(rows, objective),
                alarms.discriminator_loses(rows, objective),
            ]
        images, labels = self._training_images(trainer)
        classes = model.config.num_classes
        codes: Tensor | None = None
        if model.encoder is not None:
            posterior = model.encode(images, labels)
            codes = posterior.sample(generator(0, "alarms", "codes")).float()
            if model.config.family != "ae":
                found.append(alarms.posterior_collapse(posterior.kl_per_dimension()))
            if labels is not None:
                found.append(alarms.label_leaks(codes.cpu(), labels.cpu(), classes))
        found += self._draws(model, images, labels, codes)
        yield from (alarm for alarm in found if alarm is not None)

    def _draws(
        self, model: Model, images: Tensor, labels: Tensor | None, codes: Tensor | None
    ) -> list[Alarm | None]:
        """The checks of what is drawn: from the prior, from codes where there is no prior."""
        classes = model.config.num_classes
        asked = torch.arange(min(classes, LABELS), device=model.device)
        count = DRAWS if classes else 4 * DRAWS
        if model.config.family == "ae":
            assert codes is not None
            latents = codes[:count]
        else:
            own = generator(0, "alarms")
            latents = torch.randn(count, model.config.latent_dim, generator=own).to(model.device)
        if not classes:
            if model.config.family == "ae":
                return []
            return [alarms.samples_collapsed(model.decode(latents)[None], [images])]

        # Decode every latent under every label: (M, K, C, H, W).
        under = asked.repeat(len(latents))
        drawn = model.decode(latents.repeat_interleave(len(asked), 0), under)
        grid = drawn.unflatten(0, (len(latents), len(asked)))
        found = [alarms.label_ignored(grid) if len(asked) > 1 else None]
        if model.config.family == "ae":
            return found
        assert labels is not None
        real = [images[labels == label] for label in asked]
        found.append(alarms.samples_collapsed(grid.transpose(0, 1), real))
        if self.judge is not None and self.judge.num_classes == classes:
            read = torch.from_numpy(self.judge.predict(to_pixels(drawn)))
            found.append(alarms.label_disobeyed(read, under.cpu(), classes))
        return found

    def _training_images(self, trainer: Trainer) -> tuple[Tensor, Tensor | None]:
        """The first images of the run's own order; the same at every look."""
        if self.images is None:
            size = trainer.config.batch
            batches = [trainer.batches(index) for index in range(max(1, IMAGES // size))]
            self.images = torch.cat([batch.images for batch in batches])[:IMAGES]
            labels = [batch.labels for batch in batches if batch.labels is not None]
            self.labels = torch.cat(labels)[:IMAGES] if labels else None
        return self.images, self.labels


def _name(line: str) -> str | None:
    """The name in a line of alarms.jsonl; None when it was cut short."""
    try:
        return str(json.loads(line)["name"])
    except (ValueError, KeyError, TypeError):
        return None
