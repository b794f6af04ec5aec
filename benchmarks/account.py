"""Where the time of a step goes, by group of operators, to the last per cent."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from vaegan.layers import Dropout
from vaegan.trainer import Trainer

__all__ = ["GROUPS", "account", "group_of"]

# The first group whose words begin an operator's name has it; a scope has all that runs inside.
SCOPES = {
    "benchmark.optimiser": "optimiser",
    "benchmark.average": "averaging",
    "benchmark.batch": "data",
    "Normalised": "normalisation",
    "benchmark.dropout": "dropout",
}
GROUPS = {
    "convolutions": ("mkldnn_convolution", "convolution", "_convolution", "conv", "cudnn_conv"),
    "products": ("mm", "addmm", "bmm", "baddbmm", "linear", "mkldnn_linear"),
    "normalisation": ("native_group_norm", "native_batch_norm", "cudnn_batch_norm"),
    "activations": ("leaky_relu", "relu", "sigmoid", "silu", "threshold", "softplus"),
    "pooling, shuffles, padding": (
        *("avg_pool", "max_pool", "pixel_", "constant_pad", "upsample", "flip", "cat"),
        *("split", "stack"),
    ),
    "copies, casts, layouts": ("copy_", "_to_copy", "to", "clone", "contiguous", "zeros", "fill_"),
    "sums and norms": ("sum", "mean", "linalg_vector_norm", "norm", "logsumexp"),
    "losses": ("_log_softmax", "log_softmax", "nll_loss", "binary_cross", "log_sigmoid"),
    "elementwise": (
        *("mul", "add", "sub", "div", "pow", "square", "exp", "clamp", "neg", "sqrt", "lerp"),
        *("rsub", "minimum", "maximum", "where", "abs", "_foreach", "ge", "le", "eq", "bitwise"),
    ),
    "draws": ("randn", "normal_", "rand", "randint", "random_", "uniform_", "one_hot", "scatter_"),
    "waiting": ("item", "_local_scalar_dense"),
    "views, allocation": (
        *("empty", "as_strided", "view", "reshape", "flatten", "unflatten", "expand", "permute"),
        *("transpose", "t", "detach", "slice", "select", "squeeze", "unsqueeze", "resize_"),
        *("unbind", "narrow", "alias", "zeros_like", "empty_like", "empty_strided", "result_type"),
    ),
}


def account(trainer: Trainer, steps: int) -> dict[str, Any]:
    """Share of the wall time of `steps` steps in every group; what is left is Python and autograd.

    The operators' own times, without what they call. The trainer's batches, averages, optimisers
    and dropouts (forward) are marked for the time of the measurement.
    """
    with marked(trainer), profile(activities=[ProfilerActivity.CPU]) as seen:
        trainer.step()  # the profiler's own start
        began = time.perf_counter()
        for _ in range(steps):
            with record_function("benchmark.step"):
                trainer.step()
        seconds = time.perf_counter() - began
    spent: Counter[str] = Counter()
    for event in seen.events():
        if any(above.name == "benchmark.step" for above in _above(event)):
            spent[group_of(event)] += event.self_cpu_time_total * 1e-6
    spent["Python, autograd, idle"] += seconds - sum(spent.values())
    return {
        "seconds_per_step": seconds / steps,
        "shares": {name: value / seconds for name, value in spent.most_common()},
    }


@contextmanager
def marked(trainer: Trainer) -> Iterator[None]:
    """Run with what belongs to no operator, but to a part of the step, under a scope's name."""
    parts = [(trainer, "batches", "batch"), (trainer.average, "update", "average")]
    parts += [(optimiser, "step", "optimiser") for optimiser in trainer.optimisers.values()]
    dropouts = [part for part in trainer.model.modules() if isinstance(part, Dropout)]
    parts += [(part, "forward", "dropout") for part in dropouts]
    plain = [(owner, name, getattr(owner, name)) for owner, name, _ in parts]

    def under(scope: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            with record_function(f"benchmark.{scope}"):
                return call(*arguments)

        return run

    for (owner, name, call), (_, _, scope) in zip(plain, parts):
        setattr(owner, name, under(scope, call))
    try:
        yield
    finally:
        for owner, name, call in plain:
            setattr(owner, name, call)


def _above(event: FunctionEvent) -> list[FunctionEvent]:
    """The events around one, from the inside out."""
    found = []
    while (event := event.cpu_parent) is not None:
        found.append(event)
    return found


def group_of(event: FunctionEvent) -> str:
    """The group that an event's own time belongs to."""
    for above in (event, *_above(event)):
        for scope, group in SCOPES.items():
            if above.name.startswith(scope):
                return group
    if not event.name.startswith("aten::"):
        return "Python, autograd, idle"
    word = event.name.removeprefix("aten::")
    for group, beginnings in GROUPS.items():
        if any(word == b or word.startswith((b + "_", b + "2")) for b in beginnings) or (
            any(word.startswith(b) for b in beginnings if b[-1] == "_")
        ):
            return group
    return "other operators"
