"""Randomness as a function of (seed, step, purpose): nothing to store, nothing to lose.

Every draw of a run comes from a generator that is seeded for that one draw. Resuming at step 10
therefore needs no generator state, and sample 7 is the same picture in any batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["generator", "key", "latents_of_seeds", "seeded"]


def key(seed: int, *purpose: int | str) -> int:
    """A 63-bit number that depends on the seed and every word and number of the purpose."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *purpose: int | str) -> torch.Generator:
    """A CPU generator for one purpose; CPU, so that every device sees the same draws."""
    return torch.Generator().manual_seed(key(seed, *purpose))


@contextmanager
def seeded(seed: int, *purpose: int | str) -> Iterator[None]:
    """Seed the global CPU generator for one purpose, and put it back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key(seed, *purpose))
        yield


def latents_of_seeds(seeds: Iterable[int], latent_dim: int) -> Tensor:
    """One draw of N(0, I) per seed, (len(seeds), latent_dim): row i depends on seed i alone."""
    seeds, own = list(seeds), torch.Generator()  # seeding afresh forgets all that was drawn
    latents = torch.empty(len(seeds), latent_dim)
    for row, seed in zip(latents, seeds):
        row.normal_(generator=own.manual_seed(key(seed, "latents")))
    return latents
