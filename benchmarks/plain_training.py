"""Plain PyTorch, as a contender: eager, single precision, three passes; no trick of ours.

`python -m benchmarks.plain_training SPEC`. Its batches lie ready in memory: it is not charged for
loading, ours is.
"""

from __future__ import annotations

import copy
import itertools
import tempfile
from pathlib import Path

import torch

from benchmarks.operators import launches, synchronisations
from benchmarks.plain import Plain, plainly
from benchmarks.subject import Subject
from benchmarks.worker import serve
from vaegan.augmentation import TEARS
from vaegan.config import NetworkName, OptimiserConfig, RunConfig
from vaegan.data.batches import Batch
from vaegan.draws import Draws
from vaegan.model import Model
from vaegan.ranks import Ranks
from vaegan.schedules import Costs, phases
from vaegan.training import trainer_for

__all__ = ["PlainTraining"]

READY = 16
ORDER: tuple[NetworkName, ...] = ("discriminator", "encoder", "decoder")


class PlainTraining:
    """Three networks, three optimisers, `zero_grad`, `backward`, `step`."""

    def __init__(self, config: RunConfig, batches: list[Batch], device: str = "cpu"):
        self.config, self.device = config, device
        self.model = plainly(Model(config.model, config.seed)).to(device).train()
        self.average = copy.deepcopy(self.model)
        self.batches = itertools.cycle(batches)
        self.optimisers = {
            name: _optimiser(self.model.network(name), config.optimiser, name)
            for name in config.model.networks
        }

    def step(self) -> None:
        """Walk once through the schedule; nobody is held back."""
        walk = phases(self.config.schedule)
        phase = next(walk)
        while True:
            batch = next(self.batches)
            for name in ORDER:
                if name in phase.candidates:
                    self.update(name, batch)
            try:
                phase = walk.send(Costs(gan=0.0, real=0.69, fake=0.69))
            except StopIteration:
                break
        decay = self.config.optimiser.ema_decay
        if decay:
            with torch.no_grad():
                pairs = zip(self.average.parameters(), self.model.parameters())
                for own, other in pairs:
                    own.mul_(decay).add_(other, alpha=1 - decay)

    def update(self, name: NetworkName, batch: Batch) -> None:
        """One network's loss, in a pass of its own, and one step of its optimiser."""
        size = (len(batch.images), self.config.model.latent_dim)
        classes = max(self.config.model.num_classes, 2)
        draws = Draws(
            torch.randn(size, device=self.device),
            torch.randn(size, device=self.device),
            torch.randint(1, classes, size[:1], device=self.device),
            torch.zeros(size[0], 2, device=self.device),
            torch.rand(size[0], TEARS, device=self.device),
            None,
        )
        loss = Plain(self.model, self.config.objective, batch, draws).loss(name)
        self.optimisers[name].zero_grad()
        loss.backward()
        self.optimisers[name].step()


def _optimiser(
    network: torch.nn.Module, config: OptimiserConfig, name: NetworkName
) -> torch.optim.Optimizer:
    """PyTorch's optimiser of the recipe's kind; where there is a warm-up, at its first rate."""
    rate = config.lr(name) / (config.warmup + 1)
    if config.kind == "adam":
        return torch.optim.Adam(network.parameters(), rate, betas=config.betas)
    return torch.optim.RMSprop(network.parameters(), rate, alpha=config.betas[1])


def main() -> None:
    subject = Subject.given()
    with tempfile.TemporaryDirectory() as folder:
        dataset = subject.dataset(Path(folder))
        config = subject.config(dataset)
        ready = trainer_for(config, dataset, Ranks(device=subject.device)).batches
        batches = [ready(index) for index in range(READY)]
        training = PlainTraining(config, batches, subject.device)
        serve(
            training.step,
            subject.steps,
            settled=subject.settle,
            questions={
                "launches": lambda: launches(training.step),
                "synchronisations": lambda: synchronisations(training.step),
            },
        )


if __name__ == "__main__":
    main()
