"""One optimiser a network, a learning rate that falls over the budget, and averaged weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop

from vaegan.config import NetworkName, OptimiserConfig
from vaegan.errors import RunError
from vaegan.model import Model

__all__ = [
    "Average",
    "Optimiser",
    "learning_rate_share",
    "load_optimisers",
    "muon",
    "optimiser_tensors",
    "optimisers",
    "orthogonal",
    "tensorflow_rmsprop",
]


SMALLEST = 8
"""Rows and columns that make a parameter a matrix to Muon."""

SLOTS = {
    "adam": ("exp_avg", "exp_avg_sq", "step"),
    "muon": ("momentum",),
    "rmsprop": ("square_avg", "step"),
    "rmsprop-tensorflow": ("square_avg",),
}
"""What each rule remembers of a parameter."""


class Optimiser:
    """What updates the parameters of one network, and what it remembers of each of them.

    adam                 Loshchilov & Hutter 2019 (AdamW), in one fused call
    rmsprop              Tieleman & Hinton 2012, as PyTorch computes it
    rmsprop-tensorflow   the same as TensorFlow 1 computes it (`tensorflow_rmsprop`)
    muon                 Jordan et al. 2024 (`muon`): the matrices of the networks that
                         `OptimiserConfig.muon` names; all else goes by its `kind`

    The rules are torch's functions or ours, not torch's optimiser classes: those import the
    compiler, which takes as long as all the rest of torch.
    """

    def __init__(self, network: nn.Module, name: NetworkName, config: OptimiserConfig):
        self.name = name
        self.config = config
        self.parameters = dict(network.named_parameters())
        self.rules = {name: self._rule(p) for name, p in self.parameters.items()}
        """Which rule moves each parameter: names of `SLOTS`."""
        self.memory: dict[str, dict[str, Tensor]] = {}
        """By name of the parameter and of the slot; empty for one that never had a gradient."""

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self, share: float = 1.0) -> None:
        """Update every parameter that has a gradient, at this share of its learning rate."""
        moving: dict[str, list[tuple[Tensor, Tensor, dict[str, Tensor]]]] = {}
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            if name not in self.memory:
                self.memory[name] = self.fresh(name)
            entry = (parameter, parameter.grad, self.memory[name])
            moving.setdefault(self.rules[name], []).append(entry)
        for rule, entries in moving.items():
            params, grads, memories = map(list, zip(*entries))
            self._apply(rule, params, grads, memories, share)

    def fresh(self, name: str) -> dict[str, Tensor]:
        """What is remembered of a parameter before its first step."""
        parameter, rule = self.parameters[name], self.rules[name]
        fill = 1.0 if rule == "rmsprop-tensorflow" else 0.0
        return {
            # The fused rule counts on the parameter's device.
            slot: torch.zeros((), device=parameter.device)
            if slot == "step"
            else torch.full_like(parameter, fill)
            for slot in SLOTS[rule]
        }

    def _rule(self, parameter: Tensor) -> str:
        """Muon for a matrix of a network that has it, else the network's kind."""
        shape = parameter.shape
        matrix = len(shape) > 1 and min(shape[0], math.prod(shape[1:])) >= SMALLEST
        return "muon" if matrix and self.name in self.config.muon else self.config.kind

    def _apply(
        self,
        rule: str,
        params: list[Tensor],
        grads: list[Tensor],
        memories: list[dict[str, Tensor]],
        share: float,
    ) -> None:
        """Move `params` by their gradients, and what is remembered of them."""
        config, lr = self.config, self.config.lr(self.name) * share
        slots = {slot: [memory[slot] for memory in memories] for slot in SLOTS[rule]}
        match rule:
            case "adam":
                adam(
                    *(params, grads, slots["exp_avg"], slots["exp_avg_sq"], [], slots["step"]),
                    fused=True,
                    decoupled_weight_decay=True,
                    amsgrad=False,
                    beta1=config.betas[0],
                    beta2=config.betas[1],
                    lr=lr,
                    weight_decay=config.weight_decay,
                    eps=1e-8,
                    maximize=False,
                )
            case "rmsprop":
                rmsprop(
                    *(params, grads, slots["square_avg"], [], [], slots["step"]),
                    lr=lr,
                    alpha=config.betas[1],
                    eps=1e-8,
                    weight_decay=config.weight_decay,
                    momentum=0.0,
                    centered=False,
                )
            case "rmsprop-tensorflow":
                tensorflow_rmsprop(params, grads, slots["square_avg"], lr, config.betas[1])
            case "muon":
                rate = config.muon_lr * share
                muon(params, grads, slots["momentum"], rate, config.weight_decay * rate)


def muon(
    params: list[Tensor],
    grads: list[Tensor],
    momenta: list[Tensor],
    lr: float,
    shrinkage: float = 0.0,
    momentum: float = 0.95,
) -> None:
    """Step by the nearest orthogonal matrix to the momentum (Jordan et al. 2024), in place.

        m <- momentum m + (1 - momentum) g,   u = momentum m + (1 - momentum) g
        w <- (1 - shrinkage) w - lr sqrt(max(1, rows / columns)) orthogonal(u)

    All directions of a matrix move alike, however small their gradients are. A kernel
    (O, I, k, k) counts as a matrix of O rows.
    """
    torch._foreach_lerp_(momenta, grads, 1 - momentum)
    alike: dict[torch.Size, list[int]] = {}
    for place, param in enumerate(params):
        alike.setdefault(param.shape, []).append(place)
    for shape, places in alike.items():
        wanted = [grads[place].lerp(momenta[place], momentum).flatten(1) for place in places]
        updates = orthogonal(torch.stack(wanted))
        scale = max(1.0, updates.shape[1] / updates.shape[2]) ** 0.5
        for place, update in zip(places, updates):
            params[place].mul_(1 - shrinkage).add_(update.view(shape), alpha=-lr * scale)


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """U V' of every matrix U S V', roughly: singular values of 0.7 to 1.2 for all but tiny ones.

    Newton-Schulz steps X <- (a + b XX' + c (XX')^2) X with coefficients that rise steeply at 0
    rather than converge (Jordan et al. 2024): five bring what is 1/1000 of the norm to 0.47.
    A step multiplies X by a polynomial of XX', so that all of them are taken on that smaller square
    matrix, and X is read twice only.

    matrices: (N, rows, columns), as is the result.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    # `bmm` rather than `@`, which takes eight operators where this takes one.
    square = torch.bmm(x, x.mT)
    factor = None
    for step in range(steps):
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        factor = polynomial if factor is None else torch.bmm(polynomial, factor)
        if step < steps - 1:
            square = torch.bmm(torch.bmm(polynomial, square), polynomial)
    x = x if factor is None else torch.bmm(factor, x)
    return x.mT if tall else x


def tensorflow_rmsprop(
    params: list[Tensor],
    grads: list[Tensor],
    squares: list[Tensor],
    lr: float,
    decay: float,
    epsilon: float = 1e-10,
) -> None:
    """RMSProp as TensorFlow 1 computes it, in place.

        v <- decay v + (1 - decay) g^2,   w <- w - lr g / sqrt(v + epsilon)

    It differs from PyTorch's in two ways that show in the first hundreds of steps: v starts at 1,
    not 0, and epsilon stands inside the root.
    """
    torch._foreach_mul_(squares, decay)
    torch._foreach_addcmul_(squares, grads, grads, 1 - decay)
    roots = torch._foreach_add(squares, epsilon)
    torch._foreach_sqrt_(roots)
    torch._foreach_addcdiv_(params, grads, roots, -lr)


def optimisers(model: Model, config: OptimiserConfig) -> dict[NetworkName, Optimiser]:
    """A fresh optimiser for every network of the model."""
    return {name: Optimiser(model.network(name), name, config) for name in model.config.networks}


def learning_rate_share(config: OptimiserConfig, progress: float, step: int) -> float:
    """Share of the learning rates in force after `step` steps, at `progress` (0 to 1) through the
    budget: it rises over the warm-up, and falls over the budget.
    """
    risen = min((step + 1) / (config.warmup + 1), 1.0)
    if config.decay == "constant":
        return risen
    fallen = 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    return risen * (config.final_lr + (1 - config.final_lr) * fallen)


def optimiser_tensors(made: dict[NetworkName, Optimiser]) -> dict[str, Tensor]:
    """Every tensor the optimisers remember, by network, parameter and slot."""
    return {
        f"{network}/{name}/{slot}": value
        for network, optimiser in made.items()
        for name, memory in optimiser.memory.items()
        for slot, value in memory.items()
    }


def load_optimisers(made: dict[NetworkName, Optimiser], tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave; RunError when it is not all of these optimisers'."""
    known: set[str] = set()
    for network, optimiser in made.items():
        optimiser.memory.clear()
        for name in optimiser.parameters:
            memory = optimiser.fresh(name)
            given = {slot: f"{network}/{name}/{slot}" for slot in memory}
            if set(given.values()).isdisjoint(tensors):
                continue
            for slot, key in given.items():
                if key not in tensors:
                    raise RunError(f"optimiser state {key!r} is missing")
                if tensors[key].shape != memory[slot].shape:
                    raise RunError(f"optimiser state {key!r} has shape {tuple(tensors[key].shape)}")
                memory[slot].copy_(tensors[key])
            optimiser.memory[name] = memory
            known |= set(given.values())
    if unknown := set(tensors) - known:
        raise RunError(f"optimiser state {min(unknown)!r} belongs to no parameter")


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
