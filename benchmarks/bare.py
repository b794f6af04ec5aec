"""The bare convolutions and products of a step, back to back: what a step could attain at best.

`python -m benchmarks.bare SPEC` runs the step once to learn its operators with their exact shapes,
then tries each in every layout (and, where the step computes in bfloat16, in both precisions) and
keeps the fastest. A lap runs them all, nothing else.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.operators import Call, Operand, work_of
from benchmarks.ours import trainer_of
from benchmarks.subject import Subject
from benchmarks.worker import serve
from vaegan.allocator import keep_memory

__all__ = ["fastest", "main"]

TRIES = 7
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def variants(call: Call) -> Iterator[tuple[str, Callable[[], object]]]:
    """The call in every layout and precision, by name."""
    types = {a.dtype for a in call.arguments if isinstance(a, Operand)}
    both = (torch.bfloat16, torch.float32)
    grids = any(isinstance(a, Operand) and len(a.shape) == 4 for a in call.arguments)
    for dtype in both if torch.bfloat16 in types else sorted(types, key=str):
        for layout in LAYOUTS if grids else ("contiguous",):
            arguments = [_made(a, dtype, LAYOUTS[layout]) for a in call.arguments]
            name = f"{str(dtype).removeprefix('torch.')}, {layout}"
            yield name, lambda given=arguments: call.operator(*given)


def _made(value: Any, dtype: torch.dtype, layout: torch.memory_format) -> Any:
    """A tensor of an operand's shape; a list for a tuple; any other value itself."""
    if not isinstance(value, Operand):
        return list(value) if isinstance(value, tuple) else value
    tensor = torch.randn(value.shape).to(dtype)
    return tensor.to(memory_format=layout) if tensor.ndim == 4 else tensor


def fastest(call: Call) -> tuple[str, float, Callable[[], object]]:
    """The best variant of a call: its name, its seconds, and a function that runs it."""
    found = []
    for name, run in variants(call):
        seconds = []
        for _ in range(TRIES):
            began = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - began)
        found.append((min(seconds), name, run))
    seconds_, name, run = min(found, key=lambda entry: entry[0])
    return name, seconds_, run


def square(dtype: torch.dtype, size: int = 1024) -> float:
    """FLOP a second of the product of two large square matrices."""
    a, b = torch.randn(2, size, size).to(dtype)
    seconds = []
    for _ in range(5 * TRIES):
        began = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


def main() -> None:
    subject = Subject.given()
    keep_memory()  # the limit is not to be lowered by pages handed back and forth
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(subject, Path(folder))
        trainer.step()
        work = work_of(trainer.step)
    best = {call: fastest(call) for call in work.calls}
    runs = [best[call][2] for call, count in work.calls.items() for _ in range(count)]
    table = [
        {
            "operator": call.operator.overloadpacket.__name__,
            "shapes": [list(a.shape) for a in call.arguments if isinstance(a, Operand)],
            "calls": count,
            "best": best[call][0],
            "seconds": count * best[call][1],
        }
        for call, count in work.calls.items()
    ]
    table.sort(key=lambda row: -row["seconds"])

    @torch.no_grad()
    def every() -> None:
        for run in runs:
            run()

    about = {"flop": work.flop, "calls": len(runs), "operators": table}
    dtype = torch.bfloat16 if subject.precision == "bf16" else torch.float32
    serve(every, subject.steps, about=about | {"square": square(dtype)})


if __name__ == "__main__":
    main()
