"""What the ranks of a training step send each other, and how long a sum over them takes.

`torchrun -m benchmarks.messages SPEC FILE`, SPEC a subject and FILE where the first rank writes
JSON: the numbers in each collective call of a step, and seconds of all-reduces by size.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.subject import Subject
from vaegan.ranks import Ranks, joined
from vaegan.settings import Budget
from vaegan.training import interruptible, steps, trainer_for

TRIES = 41
SIZES = (1, 1_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)
"""Numbers in single precision: from a flag to the gradients of large networks."""


def sent(step: Callable[[], object]) -> list[int]:
    """Numbers in each all-reduce of a step, in order."""
    plain, sizes = dist.all_reduce, []

    def counted(tensor: torch.Tensor, *arguments: Any) -> Any:
        sizes.append(tensor.numel())
        return plain(tensor, *arguments)

    dist.all_reduce = counted
    try:
        step()
    finally:
        dist.all_reduce = plain
    return sizes


def timed(ranks: Ranks, numbers: int) -> float:
    """Median seconds of a sum over the ranks, all of them having arrived."""
    values, seconds = torch.ones(numbers), []
    for _ in range(TRIES):
        ranks.largest(0.0)
        began = time.perf_counter()
        dist.all_reduce(values)
        seconds.append(time.perf_counter() - began)
        values.fill_(1)
    return statistics.median(seconds)


def main() -> None:
    subject, out = Subject.given(), Path(sys.argv[2])
    with joined("cpu") as ranks, tempfile.TemporaryDirectory() as folder:
        dataset = subject.dataset(Path(folder))
        trainer = trainer_for(subject.config(dataset), dataset, ranks)
        with interruptible() as signals:
            walk = steps(trainer, Budget(steps=3), signals)
            next(walk)
            sizes = sent(lambda: next(walk))
        seconds = [(size, timed(ranks, size)) for size in SIZES]
        if ranks.leads:
            out.write_text(json.dumps({"sent": sizes, "seconds": seconds}))


if __name__ == "__main__":
    main()
