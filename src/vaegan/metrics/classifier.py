"""A small convolutional classifier and its trainer: the judge's network, and that of the CAS.

    stages  3 x 3 convolution, 2 x 2 max pooling, batch norm, ReLU, until the smaller side is below
            8 pixels: `width` channels, then twice as many each time, at most 4 width;
            one more without pooling
    head    mean over each cell of a 3 x 3 grid, linear to the features, ReLU; linear to the logits

The grid lets any size of at least 8 pixels in, and there is no label smoothing: it would pull all
images of a class to one point of the features, and hide what they are measured for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaegan.errors import DataError
from vaegan.images import to_images
from vaegan.randomness import generator, seeded

__all__ = [
    "DEFAULT_SETTINGS",
    "STYLE_SETTINGS",
    "Classifier",
    "Progress",
    "TrainingSettings",
    "disturb",
    "known_again",
    "train_classifier",
    "train_encoder",
]

Progress = Callable[[int, int], None]
MIN_SIDE = 8
GRID = 3
UNIT_IMAGES = 2000
DIRECTIONS, TEMPERATURE = 32, 0.2


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a classifier is trained; everything that its weights depend on besides the data.

    steps and batch: 0 chooses them by the data, see `plan`. rotation (degrees), scaling and shift
    (shares of the image) are the half-widths of the random changes that each image undergoes.
    """

    width: int = 32
    num_features: int = 64
    batch: int = 0
    steps: int = 0
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    rotation: float = 12.0
    scaling: float = 0.1
    shift: float = 0.07
    seed: int = 0

    def plan(self, pixels: np.ndarray) -> tuple[int, int]:
        """Steps and batch size: twenty times through the data in batches of 128 (64 below 10,000
        images), but 600 to 4,500 steps, and fewer for images above 32 x 32.
        """
        n, height, width, _ = pixels.shape
        batch = min(self.batch or (128 if n >= 10_000 else 64), n)
        steps = min(max(20 * n // batch, 600), 4500) / max(1.0, math.sqrt(height * width) / 32)
        return self.steps or math.ceil(steps), batch


DEFAULT_SETTINGS = TrainingSettings()
STYLE_SETTINGS = TrainingSettings(steps=800, rotation=0.0, scaling=0.0)
"""Of an encoder of style: turns and sizes are style, the place of a glyph in its image is not."""


class Classifier(nn.Module):
    """Images (B, C, H, W) in [0, 1] -> features (B, F) and logits (B, K).

    The features come in units of their deviation over the training images (the root mean square of
    those of the F features), so that distances of different data sets are on one scale.
    """

    mean: Tensor
    std: Tensor
    unit: Tensor

    def __init__(
        self,
        channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        settings: TrainingSettings = DEFAULT_SETTINGS,
    ) -> None:
        super().__init__()
        if min(image_size) < MIN_SIDE:
            raise DataError(
                f"images of {image_size[0]} x {image_size[1]} are too small to classify: "
                f"enlarge them to at least {MIN_SIDE} pixels a side"
            )
        width, side = settings.width, min(image_size)
        stages, below = [], channels
        while side >= MIN_SIDE:
            stages.append(_stage(below, width, pool=True))
            below, width, side = width, min(2 * width, 4 * settings.width), side // 2
        stages.append(_stage(below, width, pool=False))
        self.stages = nn.ModuleList(stages)
        self.head = nn.Linear(width * GRID**2, settings.num_features)
        self.out = nn.Linear(settings.num_features, num_classes)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.register_buffer("unit", torch.ones(()))

    def depths(self, images: Tensor) -> list[Tensor]:
        """The activations after every stage (B, C_l, H_l, W_l), the features, and the logits."""
        x = (images - self.mean[:, None, None]) / self.std[:, None, None]
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        features = F.relu(self.head(F.adaptive_avg_pool2d(x, GRID).flatten(1)))
        return [*found, features / self.unit, self.out(features)]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits."""
        *_, features, logits = self.depths(images)
        return features, logits


def _stage(channels: int, width: int, pool: bool) -> nn.Sequential:
    """Pool before the batch norm: a quarter of its work."""
    convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    pooling = [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(convolution, *pooling, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def train_classifier(
    pixels: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    settings: TrainingSettings = DEFAULT_SETTINGS,
    progress: Progress | None = None,
    device: str = "cpu",
) -> Classifier:
    """Train a classifier by cross-entropy; eval mode.

    pixels uint8 (N, H, W, C), N >= 2; labels int64 (N,). progress(step, steps) is called after
    every step. The same settings, data and thread count give the same weights. Raises DataError
    for fewer than two images or images below 8 pixels a side.
    """
    if len(labels) != len(pixels):
        raise DataError(f"{len(pixels)} images need as many labels, got {len(labels)}")

    def loss(net: Classifier, rows: np.ndarray, random: torch.Generator) -> Tensor:
        images = disturb(to_images(pixels[rows]), settings, random)
        target = torch.from_numpy(labels[rows]).to(device)
        return F.cross_entropy(net(_placed(images, device))[1], target)

    return _train(pixels, num_classes, settings, loss, progress, device)


def train_encoder(
    pixels: np.ndarray,
    settings: TrainingSettings = DEFAULT_SETTINGS,
    progress: Progress | None = None,
    device: str = "cpu",
    labels: np.ndarray | None = None,
) -> Classifier:
    """Train the same network to know an image again; eval mode.

    Two differently disturbed copies of each image of a batch go in; from the 32 logits as a
    direction, each copy has to find the other among all others: the normalised temperature-scaled
    cross-entropy of SimCLR (Chen, Kornblith, Norouzi and Hinton 2020, eq. 1), one way, temperature
    0.2. At most 2,250 steps, as each takes two copies. labels: find it among the images of its own
    label alone, so that the label is no help and style is all there is to go by. The other
    arguments as in `train_classifier`.
    """
    settings = replace(settings, steps=min(settings.plan(pixels)[0], 2250))

    def loss(net: Classifier, rows: np.ndarray, random: torch.Generator) -> Tensor:
        images = to_images(pixels[rows])
        copies = [disturb(images, settings, random) for _ in range(2)]
        one, other = known_again(net, _placed(torch.cat(copies), device)).chunk(2)
        same = torch.eye(len(one), device=device)
        likeness = torch.cat([one @ other.T, one @ one.T - 100 * same], dim=1)
        if labels is not None:
            own = torch.from_numpy(labels[rows]).to(device)
            likeness = likeness - 100.0 * (own[:, None] != own).repeat(1, 2)
        return F.cross_entropy(likeness / TEMPERATURE, torch.arange(len(one), device=device))

    return _train(pixels, DIRECTIONS, settings, loss, progress, device)


def known_again(net: Classifier, images: Tensor) -> Tensor:
    """The direction (B, 32) in which an encoder sees each image."""
    return F.normalize(net(images)[1], dim=1)


def _train(
    pixels: np.ndarray,
    num_logits: int,
    settings: TrainingSettings,
    loss_of: Callable[[Classifier, np.ndarray, torch.Generator], Tensor],
    progress: Progress | None,
    device: str,
) -> Classifier:
    """Minimise a loss over batches by AdamW, through the data in ever new order."""
    if len(pixels) < 2:
        raise DataError(f"cannot train a classifier on {len(pixels)} image(s): give two or more")
    steps, batch = settings.plan(pixels)
    with seeded(settings.seed, "classifier"):
        net = Classifier(pixels.shape[3], num_logits, pixels.shape[1:3], settings)
    spread = pixels.reshape(-1, pixels.shape[3])
    net.mean.copy_(torch.as_tensor(spread.mean(axis=0) / 255))
    net.std.copy_(torch.as_tensor(np.maximum(spread.std(axis=0), 1) / 255))
    net.to(device=device)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=settings.weight_decay)
    random = generator(settings.seed, "classifier", "batches")
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        if len(order) < batch:
            order = torch.cat([order, torch.randperm(len(pixels), generator=random)])
        rows, order = order[:batch].numpy(), order[batch:]
        optimiser.zero_grad(set_to_none=True)
        loss_of(net, rows, random).backward()
        optimiser.param_groups[0]["lr"] = settings.learning_rate * _one_cycle(step / steps)
        optimiser.step()
        if progress is not None:
            progress(step + 1, steps)

    net.eval().requires_grad_(False)
    some = pixels[torch.randperm(len(pixels), generator=random)[:UNIT_IMAGES].numpy()]
    parts = [some[i : i + batch] for i in range(0, len(some), batch)]
    features = torch.cat([net(to_images(part, device))[0] for part in parts])
    net.unit.copy_(features.var(dim=0).mean().sqrt().clamp(min=1e-6))
    return net


def _placed(images: Tensor, device: str) -> Tensor:
    """Images on the device, channels last."""
    return images.to(device, memory_format=torch.channels_last)


def _one_cycle(done: float) -> float:
    """Share of the learning rate when a share of the training is done: up for a fifth, then down
    along a cosine.
    """
    return done / 0.2 if done < 0.2 else 0.5 + 0.5 * math.cos(math.pi * (done - 0.2) / 0.8)


def disturb(images: Tensor, settings: TrainingSettings, random: torch.Generator) -> Tensor:
    """Turn, scale and shift each image a little; what comes in from outside repeats the border."""
    n, _, height, width = images.shape
    angle, size, dx, dy = torch.rand(4, n, generator=random) * 2 - 1
    angle = torch.deg2rad(angle * settings.rotation)
    size = 1 + size * settings.scaling
    across, down = torch.cos(angle) * size, torch.sin(angle) * size
    aspect = height / width
    rows = [
        torch.stack([across, -down * aspect, 2 * settings.shift * dx], dim=1),
        torch.stack([down / aspect, across, 2 * settings.shift * dy], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
