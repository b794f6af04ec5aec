"""The operators of a step: which convolutions and products it runs, how often it waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

__all__ = ["Call", "Work", "launches", "synchronisations", "work_of"]

aten = torch.ops.aten
HEAVY = {
    aten.convolution,
    aten.convolution_backward,
    aten.mm,
    aten.addmm,
    aten.bmm,
    aten.baddbmm,
}
WAITING = {aten._local_scalar_dense, aten.nonzero, aten.equal, aten.masked_select}


@dataclass(frozen=True)
class Operand:
    """A tensor that an operator is given, by shape and type."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Call:
    """An operator with the shapes of its tensors and the values of all else."""

    operator: Any
    arguments: tuple[Any, ...]


@dataclass
class Work:
    """The convolutions and products of a step: calls with their number, and their FLOP in all."""

    calls: Counter[Call] = field(default_factory=Counter)
    flop: int = 0


class Recorder(TorchDispatchMode):
    """Write down every heavy operator that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in HEAVY:
            self.work.calls[Call(func, tuple(_frozen(a) for a in args))] += 1
            count = flop_registry[func.overloadpacket]
            self.work.flop += count(*args, **(kwargs or {}), out_val=out)
        return out


class Waits(TorchDispatchMode):
    """Count the operators that make Python wait for a value of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.operators = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.operators += 1
        self.count += func.overloadpacket in WAITING
        return func(*args, **(kwargs or {}))


class Lists(TorchFunctionMode):
    """Count what is read as a list, which is no operator."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.count += func is torch.Tensor.tolist
        return func(*args, **(kwargs or {}))


def _frozen(value: Any) -> Any:
    """A tensor's shape and type; a list as a tuple; any other value itself."""
    if isinstance(value, torch.Tensor):
        return Operand(tuple(value.shape), value.dtype)
    return tuple(value) if isinstance(value, list) else value


def work_of(step: Callable[[], object]) -> Work:
    """Run a step and return its convolutions and products, forward and backward."""
    with Recorder() as recorder:
        step()
    return recorder.work


def synchronisations(step: Callable[[], object]) -> dict[str, int]:
    """Times a step waits for a tensor's value (`item`, `tolist`, `if`), and its operators."""
    with Waits() as waits, Lists() as lists:
        step()
    return {"waits": waits.count + lists.count, "operators": waits.operators}


def launches(step: Callable[[], object]) -> dict[str, int]:
    """Kernels that a step launches on the GPU, and graphs of kernels."""
    from torch.profiler import ProfilerActivity, profile

    step()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        step()
        torch.cuda.synchronize()
    counts: Counter[str] = Counter()
    for event in seen.key_averages():
        if "LaunchKernel" in event.key:
            counts["kernels"] += event.count
        elif "GraphLaunch" in event.key:
            counts["graphs"] += event.count
    return {"kernels": counts["kernels"], "graphs": counts["graphs"]}
