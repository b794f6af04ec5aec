"""p(z | y): N(0, I), or a density that is fitted to the codes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Prior"]


class Coupling(nn.Module):
    """Two affine couplings of vectors (B, N), an invertible map (Dinh et al. 2017, eq. 7 and 8).

    Half of the numbers, drawn once, is shifted and scaled by what a small network makes of the
    other half and of what it is `told`, (B, K); then the other half by what a second network makes
    of the first. It begins as the identity.
    """

    halves: Tensor

    def __init__(self, numbers: int, units: int, told: int):
        super().__init__()
        kept = torch.zeros(2, numbers)
        kept[0, torch.randperm(numbers)[: numbers // 2]] = 1
        kept[1] = 1 - kept[0]
        self.register_buffer("halves", kept)
        self.networks = nn.ModuleList(
            nn.Sequential(
                *(nn.Linear(numbers + told, units), nn.SiLU()),
                *(nn.Linear(units, units), nn.SiLU()),
                nn.Linear(units, 2 * numbers),
            )
            for _ in range(2)
        )
        self.gains = nn.Parameter(torch.zeros(2, 2 * numbers))

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """(B, N) -> (B, N)."""
        for turn in (0, 1):
            log_scale, shift = self._moves(turn, x, told)
            x = x * log_scale.exp() + shift
        return x

    def inverse(self, x: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) -> what `forward` maps there, (B, N), and log |det dx/dy| of this way, (B,)."""
        log_determinant = x.new_zeros(len(x))
        for turn in (1, 0):
            log_scale, shift = self._moves(turn, x, told)
            x = (x - shift) * (-log_scale).exp()
            log_determinant = log_determinant - log_scale.sum(1)
        return x, log_determinant

    def _moves(self, turn: int, x: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithm of the scales, in (-2, 2), and shifts; 0 for the half that is kept."""
        kept = self.halves[turn]
        moved = 1 - kept
        raw, shift = (self.networks[turn](torch.cat([x * kept, told], 1)) * self.gains[turn]).chunk(
            2, 1
        )
        return 2 * torch.tanh(raw / 2) * moved, shift * moved


class Prior(nn.Module):
    """p(z | y): N(0, I), or what couplings make of it, fitted to the codes.

    A VAE's codes never quite fill the N(0, I) that their KL draws them to; where they leave holes
    the decoder has learned nothing. A density that is trained on the codes, and leaves them alone,
    knows the holes (Ghosh et al. 2020; the map is that of Dinh et al. 2017). `units` are those of
    each coupling's hidden layers; none leaves N(0, I). Everything is in single precision, whatever
    the networks are computed in.
    """

    def __init__(self, latent_dim: int, units: Sequence[int] = (), num_classes: int = 0):
        super().__init__()
        self.num_classes = num_classes
        self.couplings = nn.ModuleList(Coupling(latent_dim, n, num_classes) for n in units)

    @property
    def learned(self) -> bool:
        """Whether it is anything but N(0, I)."""
        return len(self.couplings) > 0

    def forward(self, normal: Tensor, labels: Tensor | None) -> Tensor:
        """Draws (B, latent_dim) from N(0, I), labels (B,) -> draws from the prior."""
        with torch.autocast(normal.device.type, enabled=False):
            told = self._told(normal, labels)
            for coupling in self.couplings:
                normal = coupling(normal, told)
        return normal

    def negative_log_density(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """-log p(z | y) of latents (B, latent_dim), nats, (B,): the change of variables."""
        log_determinant = latents.new_zeros(len(latents))
        with torch.autocast(latents.device.type, enabled=False):
            told = self._told(latents, labels)
            for coupling in reversed(self.couplings):
                assert isinstance(coupling, Coupling)
                latents, change = coupling.inverse(latents, told)
                log_determinant = log_determinant + change
        squares = latents.square() + math.log(2 * math.pi)
        return 0.5 * squares.sum(1) - log_determinant

    def _told(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Labels as one-hot rows (B, K), once for all couplings; K = 0 where there are none."""
        if labels is None or not self.learned:
            return latents.new_zeros(len(latents), 0)
        return F.one_hot(labels, self.num_classes).to(latents)
