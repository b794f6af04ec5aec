"""One training step: phases of a schedule, losses of an objective, an update per network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from vaegan import layers
from vaegan.config import NetworkName, RunConfig
from vaegan.data.batches import Batch
from vaegan.draws import Draws
from vaegan.errors import RunError, TrainingDiverged
from vaegan.model import Model
from vaegan.objectives import Evaluation, Objective
from vaegan.optimisers import (
    Average,
    learning_rate_share,
    load_optimisers,
    optimiser_tensors,
    optimisers,
)
from vaegan.randomness import key
from vaegan.ranks import ALONE, Ranks
from vaegan.schedules import phases

__all__ = ["Progress", "Trainer"]


@dataclass
class Progress:
    """How far a run is. With the tensors, this is all there is to remember.

    step          walks through the schedule: what `--steps` counts
    passes        forward passes so far; dropout is a function of it
    batches       batches drawn so far; data and latents are functions of it
    images_seen   images in those batches
    seconds       time spent in steps
    """

    step: int = 0
    passes: int = 0
    batches: int = 0
    images_seen: int = 0
    seconds: float = 0.0


class Trainer:
    """Model, averaged model, optimisers and progress; knows nothing of files or faces.

    `batches` maps an index to a `Batch`. A step is a function of the state and (seed, index):
    whoever loads `state()` and goes on gets the same bits as whoever never stopped.

    With several `ranks`, `batches` gives this rank's rows of each global batch of `config.batch`
    images; every rank takes the same decisions and the same steps as one process would with all
    of them, to rounding, and weights are equal on all ranks.
    """

    def __init__(
        self,
        config: RunConfig,
        batches: Callable[[int], Batch],
        ranks: Ranks = ALONE,
    ):
        self.config = config
        self.batches = batches
        self.device = torch.device(ranks.device)
        self.ranks = ranks
        self.model = Model(config.model, config.seed).to(self.device).train()
        layers.look_across(self.model, ranks)
        self.average = Average(self.model, config.optimiser.ema_decay)
        self.optimisers = optimisers(self.model, config.optimiser)
        self.objective = Objective(self.model, config.objective, ranks)
        self.progress = Progress()
        self.gradient_norms: dict[str, float] = {}
        """Norm of the last gradient of every network that stepped, by `NETWORK_gradient`."""

    def step(self, share_done: float = 0.0) -> dict[str, float]:
        """Walk once through the schedule; return the values of its passes, by name.

        `share_done` (0 to 1) of the budget sets the learning rates. Raises TrainingDiverged, with
        the weights untouched by the update that diverged, when a loss or gradient is not finite.
        """
        rates = learning_rate_share(self.config.optimiser, share_done, self.progress.step)
        self.gradient_norms.clear()
        values = {f"{name}_steps": 0.0 for name in self.optimisers}
        networks = frozenset(self.config.model.networks)
        walk, batch = phases(self.config.schedule), None
        phase = next(walk)
        while True:
            if batch is None or phase.fresh:
                batch = self.batches(self.progress.batches)
                index = self.progress.batches
                self.progress.batches += 1
                self.progress.images_seen += self.config.batch
            evaluation = self._evaluate(batch, index, phase.candidates & networks)
            active = phase.active(evaluation.costs) & networks
            self._update(evaluation, active, rates)
            values |= evaluation.values
            for name in sorted(active):
                values[f"{name}_steps"] += 1
            self.progress.passes += 1
            try:
                phase = walk.send(evaluation.costs)
            except StopIteration:
                break
        self.progress.step += 1
        if self.model.discriminator is not None:
            self.model.discriminator.refresh()
        self.average.update(self.progress.step)
        return values

    def _evaluate(self, batch: Batch, index: int, candidates: frozenset[NetworkName]) -> Evaluation:
        """One forward pass, its dropout seeded by the pass's number."""
        config, rows = self.config, self.ranks.rows
        torch.manual_seed(key(config.seed, "dropout", self.progress.passes))
        draws = Draws.of(config.seed, index, self.model, config.objective, config.batch, rows)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            evaluation = self.objective(batch, draws, candidates)
        for name in ("encoder_loss", "decoder_loss", "discriminator_loss"):
            value = evaluation.values.get(name)
            if value is not None and not math.isfinite(value):
                raise self._diverged(f"{name} is {value}", name.removesuffix("_loss"))
        return evaluation

    def _update(self, evaluation: Evaluation, active: frozenset[NetworkName], rates: float) -> None:
        """Backward passes, then one optimiser step for each active network.

        `rates` is the share of their learning rates that is in force.
        """
        if not active:
            return
        for name in sorted(active):
            self.optimisers[name].zero_grad()
        evaluation.backward(self.model, active)
        gradients = {
            name: [p.grad for p in self.model.network(name).parameters() if p.grad is not None]
            for name in sorted(active)
        }
        self.ranks.average([gradient for mine in gradients.values() for gradient in mine])
        norms = torch.stack([torch.nn.utils.get_total_norm(mine) for mine in gradients.values()])
        for name, norm in zip(gradients, norms.tolist()):
            if not math.isfinite(norm):
                raise self._diverged(f"the {name}'s gradient is {norm}", name)
            self.gradient_norms[f"{name}_gradient"] = norm
        for name in sorted(active):
            self.optimisers[name].step(rates)

    def _diverged(self, what: str, network: str) -> TrainingDiverged:
        """The error that says `what` is not finite, and what to do about the network."""
        keys = [f"{network}_lr"] + ["muon_lr"] * (network in self.config.optimiser.muon)
        rates = " ".join(f"--set optimiser.{key}=..." for key in keys)
        return TrainingDiverged(
            f"{what} at step {self.progress.step + 1}; lower the learning rate ({rates}) and start "
            "over with --new"
        )

    # ── state ────────────────────────────────────────────────────────────────────────────────

    def tensors(self) -> dict[str, Tensor]:
        """Everything with a shape: weights, averaged weights, optimiser states."""
        parts = {
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "optimiser": optimiser_tensors(self.optimisers),
        }
        return {f"{part}/{name}": t for part, tree in parts.items() for name, t in tree.items()}

    def numbers(self) -> dict[str, Any]:
        """Everything without: the progress, as plain JSON."""
        return asdict(self.progress)

    def load(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Go on from `tensors()` and `numbers()` of a trainer with the same config."""
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimiser": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition("/")
            if part not in parts:
                raise RunError(f"checkpoint tensor {name!r} is unknown")
            parts[part][rest] = tensor
        try:
            self.model.load_state_dict(parts["model"])
            self.average.model.load_state_dict(parts["average"])
            self.progress = Progress(**numbers)
        except (RuntimeError, TypeError) as error:
            first = str(error).splitlines()[0]
            raise RunError(f"the checkpoint is not this run's: {first} start over: --new") from None
        load_optimisers(self.optimisers, parts["optimiser"])
