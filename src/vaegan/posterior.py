"""q(z|x): a diagonal Gaussian, or a point when the encoder is deterministic."""

from __future__ import annotations

import torch
from torch import Tensor

from vaegan.errors import Unsupported

__all__ = ["Posterior"]


class Posterior:
    """Diagonal Gaussian N(mean, exp(logvar)) over latents, both (B, latent_dim).

    The log-variance is clamped to [-limit, limit] here and nowhere else. `kl_limit`, when given,
    is a tighter clamp used by the KL alone: the tutorial's disagreement (KL clips to [-2, 2],
    sampling clips half of it to [-2, 2], that is to [-4, 4]).
    A deterministic encoder gives ``logvar=None``: the posterior is the point `mean`.
    """

    def __init__(
        self,
        mean: Tensor,
        logvar: Tensor | None,
        limit: float = 10.0,
        kl_limit: float | None = None,
    ):
        self.mean = mean
        self._raw = logvar
        self._kl_limit = limit if kl_limit is None else kl_limit
        self.logvar = None if logvar is None else logvar.clamp(-limit, limit)

    @property
    def std(self) -> Tensor:
        """Standard deviation (B, latent_dim); zero for a deterministic encoder."""
        if self.logvar is None:
            return torch.zeros_like(self.mean)
        return (0.5 * self.logvar).exp()

    def sample(
        self, generator: torch.Generator | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """Mean + std * noise (Kingma & Welling 2014, eq. 10); `noise` (B, latent_dim) is drawn
        from `generator` unless given.
        """
        if self.logvar is None:
            return self.mean
        if noise is None:
            noise = torch.randn(
                self.mean.shape,
                generator=generator,
                device=self.mean.device if generator is None else generator.device,
            )
        return self.mean + self.std * noise.to(self.mean)

    def mode(self) -> Tensor:
        """The most probable latents, which are the mean."""
        return self.mean

    def kl_per_dimension(self) -> Tensor:
        """KL(q || N(0, 1)) of every dimension, nats, (B, latent_dim).

        (mean^2 + var - 1 - log var) / 2: Kingma & Welling 2014, appendix B.
        """
        if self._raw is None:
            raise Unsupported("a deterministic autoencoder has no KL: train `vae` or `vae-gan`")
        logvar = self._raw.clamp(-self._kl_limit, self._kl_limit)
        return 0.5 * (self.mean.square() + logvar.exp() - 1 - logvar)

    def kl(self) -> Tensor:
        """KL(q || N(0, I)), nats, summed over the latents, (B,)."""
        return self.kl_per_dimension().sum(1)
