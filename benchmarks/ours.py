"""The package's own trainer, as a contender: `python -m benchmarks.ours SPEC`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.account import account
from benchmarks.machine import resident
from benchmarks.operators import launches, synchronisations, work_of
from benchmarks.subject import Subject
from benchmarks.worker import serve
from vaegan.allocator import keep_memory
from vaegan.ranks import Ranks
from vaegan.trainer import Trainer
from vaegan.training import trainer_for

__all__ = ["trainer_of"]


def trainer_of(subject: Subject, folder: Path) -> Trainer:
    """A trainer at step 0."""
    dataset = subject.dataset(folder)
    return trainer_for(subject.config(dataset), dataset, Ranks(device=subject.device))


def main() -> None:
    subject = Subject.given()
    keep_memory()  # as `vaegan train` does
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(subject, Path(folder))
        serve(
            trainer.step,
            subject.steps,
            settled=subject.settle,
            about={"parameters": sum(p.numel() for p in trainer.model.parameters())},
            questions={
                "arithmetic": lambda: {"flop": work_of(trainer.step).flop},
                "account": lambda: account(trainer, 8),
                "launches": lambda: launches(trainer.step),
                "memory": resident,
                "synchronisations": lambda: synchronisations(trainer.step),
            },
        )


if __name__ == "__main__":
    main()
