"""A run from its first step to its last, however often it is stopped in between."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from vaegan import checkpoint
from vaegan.augmentation import TORN_IN
from vaegan.config import RunConfig, validated
from vaegan.data import Dataset, Split
from vaegan.data.batches import Ahead
from vaegan.errors import ConfigError, DataError, RunError
from vaegan.files import write_tensors
from vaegan.films import is_frame, record
from vaegan.ranks import ALONE, Ranks
from vaegan.rundir import RunDirectory
from vaegan.settings import Budget
from vaegan.trainer import Trainer

__all__ = [
    "Outcome",
    "Watcher",
    "follow",
    "is_logged",
    "train",
    "trainer_for",
]

SAVE_EVERY_SECONDS = 60.0


class Watcher(Protocol):
    """Sees a run go by: a progress bar, TensorBoard, a test."""

    def started(self, trainer: Trainer, share: float) -> None:
        """Before the first step of this start; `share` of the budget was used before."""

    def stepped(self, trainer: Trainer, share: float, row: dict[str, float] | None) -> None:
        """After every step; `row` when one was written to stats.jsonl."""

    def framed(self, trainer: Trainer) -> None:
        """After film weights were written: a good moment for a picture."""


@dataclass
class Outcome:
    """How a call of `train` ended."""

    step: int
    steps_here: int
    seconds_per_step: float
    images_per_second: float
    interrupted_by: int = 0
    """Number of the signal that stopped it, 0 when the budget was used up."""


def is_logged(step: int) -> bool:
    """Steps that get a row of stats: the first ten, then every tenth. A function of the step."""
    return step <= 10 or step % 10 == 0


def trainer_for(config: RunConfig, dataset: Dataset, ranks: Ranks = ALONE) -> Trainer:
    """A trainer at step 0 on the data set's training images, on the device of the ranks.

    Raises ConfigError when the batch cannot be divided among the ranks.
    """
    halves = config.objective.transfer_weight and config.model.num_classes
    torn = config.objective.torn_weight and "discriminator" in config.model.networks
    unit = ranks.world * (TORN_IN if torn else 2 if halves else 1)
    if ranks.world > 1 and config.batch % unit:
        raise ConfigError(
            f"batch (={config.batch}) cannot be divided among {ranks.world} processes: choose a "
            f"multiple of {unit} for --batch"
        )
    split = dataset.train if config.model.num_classes else Split(dataset.train.pixels, None)
    batches = Ahead(split, config.batch, config.seed, ranks.device, ranks.rows)
    return Trainer(config, batches, ranks)


def train(
    run: RunDirectory,
    config: RunConfig,
    dataset: Dataset,
    budget: Budget,
    *,
    new: bool = False,
    watchers: list[Watcher] | None = None,
    ranks: Ranks = ALONE,
) -> Outcome:
    """Start a run, or go on with the one in the directory, until the budget is used up.

    A signal (Ctrl-C, SIGTERM) saves and returns; a second one leaves at once. Raises RunError when
    the directory holds another run or is in use, TrainingDiverged when a loss is not finite: the
    last checkpoint stays as it is.

    With several `ranks` the first one reads and writes; the others (`follow`) need no directory.
    """
    watchers = watchers or []
    with run.locked(), interruptible() as signals:
        run.sweep()
        trainer = trainer_for(config, dataset, ranks)  # before anything of an old run is removed
        run.start(config, new=new)
        found = checkpoint.latest(run.checkpoints)
        if found:
            trainer.load(*checkpoint.load(found))
            checkpoint.discard_newer(found)
        ranks.told({"config": config.model_dump(mode="json"), "budget": asdict(budget)})
        _agree(trainer)
        run.forget_after(trainer.progress.step)
        progress = trainer.progress
        if not found:
            record(run, progress.step, trainer.average.model)
        share = budget.share(progress.step, progress.images_seen, progress.seconds)
        for watcher in watchers:
            watcher.started(trainer, share)

        first_step, first_seconds = progress.step, progress.seconds
        saved_step, saved_time = (progress.step if found else -1), time.monotonic()
        logged_step, logged_seconds = progress.step, progress.seconds
        with run.stats.open("a", encoding="utf-8") as stats:
            for share, values in steps(trainer, budget, signals):
                row = None
                if is_logged(progress.step):
                    speed = (progress.seconds - logged_seconds) / (progress.step - logged_step)
                    logged_step, logged_seconds = progress.step, progress.seconds
                    row = stats_row(trainer, values, speed)
                    stats.write(json.dumps(row) + "\n")
                    stats.flush()
                if is_frame(progress.step):
                    record(run, progress.step, trainer.average.model)
                    for watcher in watchers:
                        watcher.framed(trainer)
                for watcher in watchers:
                    watcher.stepped(trainer, share, row)
                if time.monotonic() - saved_time > SAVE_EVERY_SECONDS:
                    save(run, trainer)
                    saved_step, saved_time = progress.step, time.monotonic()
        if saved_step != progress.step or not run.weights.exists():
            save(run, trainer)

    here = progress.step - first_step
    spent = max(progress.seconds - first_seconds, 1e-9)
    images = trainer.progress.images_seen / max(progress.step, 1)
    return Outcome(progress.step, here, spent / max(here, 1), here * images / spent, signals.number)


def follow(dataset: Dataset, ranks: Ranks) -> None:
    """Train beside the rank that leads, with its settings and from its state; write nothing.

    Raises DataError when the data are not the leader's, RunError when it stops before it begins.
    """
    with interruptible() as signals:
        try:
            told = ranks.told(None)
        except RunError:
            raise RunError("the first process stopped before training began") from None
        config = validated(RunConfig, told["config"], "the first rank's settings")
        if dataset.fingerprint != config.data_fingerprint:
            raise DataError(
                f"data set {dataset.name!r} is not that of the first rank: give every machine the "
                "same images"
            )
        trainer = trainer_for(config, dataset, ranks)
        _agree(trainer)
        for _ in steps(trainer, Budget(**told["budget"]), signals):
            pass


def steps(
    trainer: Trainer, budget: Budget, signals: Signals
) -> Iterator[tuple[float, dict[str, float]]]:
    """Step until the budget is used up or a signal has come: (share of the budget, values).

    Every rank makes the same steps: time is that of the rank that leads, which waits for the
    slowest in its own steps, and a signal to one is a signal to all.
    """
    progress, ranks = trainer.progress, trainer.ranks
    share = budget.share(progress.step, progress.images_seen, progress.seconds)
    while share < 1:
        number = ranks.largest(signals.number)
        if number:  # what all agree on: the flag itself may be raised at any moment
            signals.number = int(number)
            return
        began = time.perf_counter()
        values = trainer.step(share)
        spent = time.perf_counter() - began
        progress.seconds += ranks.largest(spent if ranks.leads else 0.0)
        share = budget.share(progress.step, progress.images_seen, progress.seconds)
        yield share, values


def _agree(trainer: Trainer) -> None:
    """Give every rank the state of the one that leads."""
    ranks = trainer.ranks
    if ranks.world > 1:
        tensors, numbers = ranks.given(trainer.tensors()), ranks.told(trainer.numbers())
        if not ranks.leads:
            trainer.load(tensors, numbers)


def stats_row(trainer: Trainer, values: dict[str, float], seconds: float) -> dict[str, float]:
    """One row of stats.jsonl: where we are, how fast, and every value of the step by name."""
    progress = trainer.progress
    images = progress.images_seen / progress.step
    row: dict[str, Any] = {
        "step": progress.step,
        "images_seen": progress.images_seen,
        "seconds": round(progress.seconds, 3),
        "seconds_per_step": seconds,
        "images_per_second": images / max(seconds, 1e-9),
    }
    return row | values | trainer.gradient_norms


def save(run: RunDirectory, trainer: Trainer) -> None:
    """Write the averaged model, then a checkpoint.

    In this order a crash in between leaves a run that goes on from the older checkpoint and writes
    the model again; in the other, a finished run with a stale model.
    """
    write_tensors(run.weights, trainer.average.model.state_dict())
    checkpoint.save(run.checkpoints, trainer.tensors(), trainer.numbers())


@dataclass
class Signals:
    """The signal that asked us to stop, 0 while none did."""

    number: int = 0
    before: dict[signal.Signals, Any] = field(default_factory=dict)


@contextmanager
def interruptible() -> Iterator[Signals]:
    """Turn the first SIGINT or SIGTERM into a flag; the second acts as it always did."""
    signals = Signals()

    def note(received: int, _: object) -> None:
        signals.number = received
        signal.signal(received, signals.before[signal.Signals(received)])

    try:
        for watched in (signal.SIGINT, signal.SIGTERM):
            signals.before[watched] = signal.signal(watched, note)
    except ValueError:  # not the main thread: the caller's business
        signals.before.clear()
    try:
        yield signals
    finally:
        for watched, handler in signals.before.items():
            signal.signal(watched, handler)
