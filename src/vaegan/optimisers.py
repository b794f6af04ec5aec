"""One optimiser a network, a learning rate that falls over the budget, and averaged weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.optim import Optimizer

from vaegan.config import NetworkName, OptimiserConfig
from vaegan.errors import RunError
from vaegan.model import Model

__all__ = ["Average", "TensorFlowRMSProp", "learning_rate_share", "load_optimisers", "optimisers"]


class TensorFlowRMSProp(Optimizer):
    """RMSProp as TensorFlow 1 computes it (Tieleman & Hinton 2012).

        v <- decay v + (1 - decay) g^2,   w <- w - lr g / sqrt(v + epsilon)

    It differs from PyTorch's in two ways that show in the first hundreds of steps: v starts at 1,
    not 0, and epsilon stands inside the root.
    """

    def __init__(self, params: object, lr: float, decay: float = 0.9, epsilon: float = 1e-10):
        super().__init__(params, {"lr": lr, "decay": decay, "epsilon": epsilon})  # type: ignore[arg-type]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            for p in params:
                if not self.state[p]:
                    self.state[p]["square_avg"] = torch.ones_like(p)
            squares = [self.state[p]["square_avg"] for p in params]
            torch._foreach_mul_(squares, group["decay"])
            torch._foreach_addcmul_(squares, grads, grads, 1 - group["decay"])
            roots = torch._foreach_add(squares, group["epsilon"])
            torch._foreach_sqrt_(roots)
            torch._foreach_addcdiv_(params, grads, roots, -group["lr"])


def optimisers(model: Model, config: OptimiserConfig) -> dict[NetworkName, Optimizer]:
    """A fresh optimiser for every network of the model."""
    made: dict[NetworkName, Optimizer] = {}
    for name in model.config.networks:
        params, lr = list(model.network(name).parameters()), config.lr(name)
        if config.kind == "rmsprop-tensorflow":
            made[name] = TensorFlowRMSProp(params, lr, decay=config.betas[1])
        elif config.kind == "rmsprop":
            made[name] = torch.optim.RMSprop(
                params, lr, alpha=config.betas[1], weight_decay=config.weight_decay
            )
        else:
            made[name] = torch.optim.AdamW(
                params, lr, betas=config.betas, weight_decay=config.weight_decay, fused=True
            )
    return made


def learning_rate_share(config: OptimiserConfig, progress: float, step: int) -> float:
    """Share of the learning rates in force after `step` steps, at `progress` (0 to 1) through the
    budget: it rises over the warm-up, and falls over the budget.
    """
    risen = min((step + 1) / (config.warmup + 1), 1.0)
    if config.decay == "constant":
        return risen
    fallen = 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    return risen * (config.final_lr + (1 - config.final_lr) * fallen)


def optimiser_tensors(model: Model, made: dict[NetworkName, Optimizer]) -> dict[str, Tensor]:
    """Every tensor the optimisers remember, by network, parameter and name."""
    return {
        f"{network}/{name}/{slot}": value
        for network, name, state in _states(model, made)
        for slot, value in state.items()
    }


def load_optimisers(
    model: Model, made: dict[NetworkName, Optimizer], tensors: dict[str, Tensor]
) -> None:
    """Put back what `optimiser_tensors` gave; RunError if a tensor belongs to no parameter."""
    known: set[str] = set()
    for network, name, state in _states(model, made):
        prefix = f"{network}/{name}/"
        slots = {key for key in tensors if key.startswith(prefix)}
        known |= slots
        parameter = model.network(network).get_parameter(name)
        for slot in slots:
            value = tensors[slot]
            short = slot.removeprefix(prefix)
            if short == "step":  # fused optimisers count on the parameter's device
                state[short] = value.to(parameter.device)
                continue
            if value.shape != parameter.shape:
                raise RunError(f"optimiser state {slot!r} has shape {tuple(value.shape)}")
            state[short] = torch.empty_like(parameter.detach()).copy_(value)
    if unknown := set(tensors) - known:
        raise RunError(f"optimiser state {min(unknown)!r} belongs to no parameter")


def _states(
    model: Model, made: dict[NetworkName, Optimizer]
) -> Iterator[tuple[NetworkName, str, dict[str, Tensor]]]:
    for network, optimiser in made.items():
        for name, parameter in model.network(network).named_parameters():
            yield network, name, optimiser.state[parameter]


class Average:
    """Exponential moving average of a model's weights: the model that is used and saved.

    The decay ramps up, min(decay, (1 + n) / (10 + n)), so that early steps are not dragged behind
    the initial weights. Buffers (running statistics) are copied. With decay 0 it is the model.
    """

    def __init__(self, model: Model, decay: float):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self._pairs = list(zip(self.model.parameters(), model.parameters()))
        self._buffers = list(zip(self.model.buffers(), model.buffers()))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step number `step` (1, 2, ...)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        mine, theirs = map(list, zip(*self._pairs))
        torch._foreach_lerp_(mine, [p.detach() for p in theirs], 1 - decay)
        for own, other in self._buffers:
            own.copy_(other)
