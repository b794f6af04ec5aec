"""Reconstructions of the real images, from the mean of the posterior."""

from __future__ import annotations

import numpy as np

from vaegan.evaluation.bench import Bench
from vaegan.evaluation.samples import score_images
from vaegan.evaluation.scores import Scores
from vaegan.metrics.fidelity import mse, psnr, ssim

__all__ = ["measure_reconstructions"]

ROUNDING = 20 * np.log10(255 * np.sqrt(12))
"""PSNR of the rounding to 8 bits, 58.9 dB: what images count for that are equal to the byte."""


def measure_reconstructions(bench: Bench, scores: Scores) -> None:
    """`reconstruction_...`: errors of each pair, distances of the sets, label kept, sharpness."""
    made, real = bench.reconstructions, bench.real.pixels
    errors = {
        "mse": mse(real, made),
        "psnr": np.minimum(psnr(real, made), ROUNDING),
        "ssim": ssim(real, made),
    }
    scores.add_means("reconstruction", errors, bench.seed)
    score_images(bench, scores, "reconstruction", made, bench.real.labels, paired=True)
