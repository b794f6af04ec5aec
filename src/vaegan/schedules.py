"""Which networks step, and on which batch. A schedule chooses; it never weighs. No torch.

A step of the trainer walks through `phases(config)`: a generator that yields phases and is sent
the costs of each, so that a rule reads like the loop it comes from. It holds no state between
steps: the same costs give the same decisions, on every rank and after every resume.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from vaegan.config import NetworkName, ScheduleConfig

__all__ = ["DISCRIMINATOR", "EVERYONE", "GENERATOR", "Costs", "Phase", "phases"]

GENERATOR: frozenset[NetworkName] = frozenset({"encoder", "decoder"})
DISCRIMINATOR: frozenset[NetworkName] = frozenset({"discriminator"})
EVERYONE = GENERATOR | DISCRIMINATOR


@dataclass(frozen=True)
class Costs:
    """What a schedule may look at, averaged over all ranks.

    `gan` is L_GAN as the discriminator minimises it, on the objective's own scale; `real` and
    `fake` are the mean cross-entropies per image, nats: ln 2 = 0.69 when D cannot tell.
    """

    gan: float = 0.0
    real: float = 0.0
    fake: float = 0.0


@dataclass(frozen=True)
class Phase:
    """One forward pass and the updates that follow it.

    candidates   networks that may step: what the forward pass must be able to differentiate
    choose       the networks that do step, given the costs of this pass
    fresh        draw a new batch, or use the previous phase's again
    """

    candidates: frozenset[NetworkName]
    choose: Callable[[Costs], frozenset[NetworkName]] | None = None
    fresh: bool = True

    def active(self, costs: Costs) -> frozenset[NetworkName]:
        """The networks that step."""
        return self.candidates if self.choose is None else self.choose(costs)


Phases = Generator[Phase, Costs, None]


def phases(config: ScheduleConfig) -> Phases:
    """The phases of one step under a schedule."""
    match config.kind:
        case "together":
            yield Phase(EVERYONE)
        case "ratio":
            for _ in range(config.discriminator_steps):
                yield Phase(DISCRIMINATOR)
            for _ in range(config.generator_steps):
                yield Phase(GENERATOR)
        case "inner-loops":
            yield from inner_loops(config)
        case "equilibrium":
            yield Phase(EVERYONE, choose=lambda costs: equilibrium(config, costs))


def inner_loops(config: ScheduleConfig) -> Phases:
    """The tutorial's loops: D until it is good enough, then encoder and decoder likewise.

    The first encoder and decoder step sees the batch that the discriminator has just seen.
    """
    for _ in range(config.discriminator_steps):
        costs = yield Phase(DISCRIMINATOR)
        if costs.gan < config.discriminator_until:
            break
    for j in range(config.generator_steps):
        costs = yield Phase(GENERATOR, fresh=j > 0)
        if costs.gan > config.generator_until:
            break


def equilibrium(config: ScheduleConfig, costs: Costs) -> frozenset[NetworkName]:
    """Larsen's rule: hold back whoever is winning. The encoder always steps."""
    low, high = config.equilibrium - config.margin, config.equilibrium + config.margin
    train_discriminator = min(costs.real, costs.fake) >= low
    train_decoder = max(costs.real, costs.fake) <= high
    if not (train_discriminator or train_decoder):
        train_discriminator = train_decoder = True
    active: set[NetworkName] = {"encoder"}
    if train_decoder:
        active.add("decoder")
    if train_discriminator:
        active.add("discriminator")
    return frozenset(active)
