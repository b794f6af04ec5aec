"""Doersch's figure with numbers: an image, its shifted copy and its cut copy, and who is nearer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from vaegan.config import ObjectiveConfig
from vaegan.data import Split
from vaegan.errors import DataError, Unsupported
from vaegan.evaluation.learned import CUTS, discriminator_metric
from vaegan.figures.sheet import sheet
from vaegan.metrics import ranking
from vaegan.model import Model
from vaegan.randomness import generator

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["learned_metric"]

TRIED = 400


def learned_metric(
    model: Model, split: Split, objective: ObjectiveConfig, rows: int = 8, seed: int = 0
) -> Image.Image:
    """The first pairs, in random order, in which pixels find the cut copy nearer.

    The numbers are the distance of the copy shifted by a pixel over that of the cut one: people,
    and a good metric, say less than 1. Unsupported without a discriminator, DataError without such
    a pair.
    """
    if model.discriminator is None:
        raise Unsupported(f"system {model.config.system!r} has no discriminator to learn a metric")
    order = torch.randperm(len(split), generator=generator(seed, "choice")).numpy()[:TRIED]
    pixels = split.pixels[order]
    told = split.labels is not None and model.config.num_classes > 0
    labels = split.labels[order] if told and split.labels is not None else None
    moved, damaged = ranking.shifted(pixels), ranking.cut(pixels, CUTS[-1], seed)

    names = {"pixels": None, "untrained": Model(model.config), "D": model}
    ratios = {}
    for name, owner in names.items():
        if owner is None:
            far, near = (ranking.squared_error(copy, pixels) for copy in (moved, damaged))
        else:
            features = discriminator_metric(owner, labels, objective).features
            reference = features(pixels)[-1]
            far, near = (
                np.square(features(copy)[-1].astype(float) - reference).sum(1)
                for copy in (moved, damaged)
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios[name] = np.sqrt(far / near)
    chosen = np.flatnonzero(np.isfinite(ratios["pixels"]) & (ratios["pixels"] > 1))
    if not len(chosen):
        raise DataError("in no pair of images do pixels find the cut copy nearer")
    right = "  ·  ".join(
        f"{name} {np.mean(ratio[chosen] < 1):.0%}" for name, ratio in ratios.items()
    )
    shown = chosen[:rows]
    return sheet(
        np.stack([pixels[shown], moved[shown], damaged[shown]], 1),
        title="Which copy is nearer?",
        subtitle="distance of the copy shifted by a pixel over that of the cut one, in pixels, in "
        "an untrained discriminator and in the trained one (D); people say less than 1. Of "
        f"{len(chosen)} pairs that pixels rank wrong, right are: {right}",
        row_labels=[f"pixels {ratios['pixels'][i]:.2f} · D {ratios['D'][i]:.2f}" for i in shown],
        column_labels=["original", "shifted", f"cut {CUTS[-1]} x {CUTS[-1]}"],
        invert=pixels.shape[3] == 1,
    )
