"""ImageNet Inception features, for one purpose: numbers that can be held against those of papers.

Szegedy et al. 2016 (arXiv:1512.00567), in the version that the Frechet inception distance is
defined by (Heusel et al. 2017): TensorFlow's weights of 2015-12-05 as pytorch-fid published them.
It differs from torchvision's network of the same name:

    classes          1008 in place of 1000
    average pooling  padding does not count
    Mixed_7c         pools the maximum, where the others pool the mean
    images           scaled to 299 x 299 (bilinear, no antialiasing) and to [-1, 1]

The network was made for photographs: on digits a distance in its features means little, and the
judge's are the ones to trust.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaegan.errors import DataError
from vaegan.images import to_images
from vaegan.metrics.judge import judge_folder

__all__ = ["Inception", "network"]

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
FILE, SIZE = f"pt_inception-2015-12-05-{SHA256[:8]}.pth", 95_628_359
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}"
REMEDY = f"give a copy of pytorch-fid's {FILE}, or the word download"
SIDE, BATCH = 299, 50


@dataclass(frozen=True, eq=False)
class Inception:
    """A loaded network; make one with `Inception.load`.

    sha256: of the file that the weights came from.
    """

    net: nn.Module
    sha256: str
    device: str = "cpu"

    @property
    def name(self) -> str:
        """What metrics.json calls the features: the file is named by its digest."""
        return f"inception-2015-12-05 sha256 {self.sha256[:8]}"

    @staticmethod
    def load(
        source: str | os.PathLike[str],
        cache: str | os.PathLike[str] | None = None,
        device: str = "cpu",
    ) -> Inception:
        """The network with the weights of a file, in eval mode.

        source: the published file or a copy of its tensors that ends in .safetensors; or the word
        `download`, which fetches it once (96 MB), beside the judges: see `judge_folder`. No code in
        a file is run. Raises DataError when the file is not to be had, or not this network's.
        """
        path = _downloaded(cache) if source == "download" else Path(source).expanduser()
        with torch.device("meta"):  # only names and shapes, until the file is known to fit
            net = network()
        try:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            found = _read(path)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}: {REMEDY}") from None
        net.load_state_dict(_checked(found, net.state_dict(), path), assign=True)
        features = net[:-1].eval().requires_grad_(False).to(device)
        return Inception(features, sha256, device)

    def features(self, pixels: np.ndarray, batch: int = BATCH) -> np.ndarray:
        """Averages of the last maps, uint8 (N, H, W, C) -> float32 (N, 2048), each >= 0.

        Grey images are repeated in all three channels. The result depends on `batch` by rounding
        alone. Raises DataError for no pixels, or pixels that are not uint8 or have neither 1 nor 3
        channels.
        """
        shape = pixels.shape
        if pixels.dtype != np.uint8 or len(shape) != 4 or not shape[0] or shape[3] not in (1, 3):
            raise DataError(
                f"Inception reads uint8 pixels (N > 0, H, W, 1 or 3), got {pixels.dtype} {shape}"
            )
        found = []
        with torch.inference_mode():
            for i in range(0, len(pixels), batch):
                coloured = np.repeat(pixels[i : i + batch], 3 // shape[3], axis=3)
                images = _enlarged(to_images(coloured, self.device))
                found.append(self.net(images).cpu().numpy())
        return np.concatenate(found)


def _enlarged(images: Tensor) -> Tensor:
    """Images (B, C, H, W) in [0, 1] -> (B, C, 299, 299) in [-1, 1]."""
    size = (SIDE, SIDE)
    return 2 * F.interpolate(images, size=size, mode="bilinear", align_corners=False) - 1


# The network, with torchvision's names


def network() -> nn.Sequential:
    """Images (B, 3, 299, 299) in [-1, 1] -> logits (B, 1008); all but the last layer: features.

    The logits are not used, but their layer tells these weights from torchvision's.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        Conv2d_1a_3x3=Convolution(3, 32, (3, 3), stride=2),
        Conv2d_2a_3x3=Convolution(32, 32, (3, 3)),
        Conv2d_2b_3x3=Convolution(32, 64, (3, 3), padding=(1, 1)),
        maxpool1=nn.MaxPool2d(3, 2),
        Conv2d_3b_1x1=Convolution(64, 80, (1, 1)),
        Conv2d_4a_3x3=Convolution(80, 192, (3, 3)),
        maxpool2=nn.MaxPool2d(3, 2),
    )
    below = 192
    for name, branches in {
        "Mixed_5b": _a(32),
        "Mixed_5c": _a(64),
        "Mixed_5d": _a(64),
        "Mixed_6a": _b(),
        "Mixed_6b": _c(128),
        "Mixed_6c": _c(160),
        "Mixed_6d": _c(160),
        "Mixed_6e": _c(192),
        "Mixed_7a": _d(),
        "Mixed_7b": _e("mean"),
        "Mixed_7c": _e("max"),
    }.items():
        block = Mixed(below, branches)
        layers[name], below = block, block.channels
    layers |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    layers["fc"] = nn.Linear(below, 1008)
    return nn.Sequential(layers)


def _a(pooled: int) -> list[str]:
    return [
        "branch1x1 64",
        "branch5x5_1 48, branch5x5_2 64 5x5",
        "branch3x3dbl_1 64, branch3x3dbl_2 96 3x3, branch3x3dbl_3 96 3x3",
        f"mean, branch_pool {pooled}",
    ]


def _b() -> list[str]:
    return [
        "branch3x3 384 3x3 /2",
        "branch3x3dbl_1 64, branch3x3dbl_2 96 3x3, branch3x3dbl_3 96 3x3 /2",
        "max /2",
    ]


def _c(n: int) -> list[str]:
    return [
        "branch1x1 192",
        f"branch7x7_1 {n}, branch7x7_2 {n} 1x7, branch7x7_3 192 7x1",
        f"branch7x7dbl_1 {n}, branch7x7dbl_2 {n} 7x1, branch7x7dbl_3 {n} 1x7, "
        f"branch7x7dbl_4 {n} 7x1, branch7x7dbl_5 192 1x7",
        "mean, branch_pool 192",
    ]


def _d() -> list[str]:
    return [
        "branch3x3_1 192, branch3x3_2 320 3x3 /2",
        "branch7x7x3_1 192, branch7x7x3_2 192 1x7, branch7x7x3_3 192 7x1, branch7x7x3_4 192 3x3 /2",
        "max /2",
    ]


def _e(pooling: str) -> list[str]:
    return [
        "branch1x1 320",
        "branch3x3_1 384, branch3x3_2a 384 1x3 + branch3x3_2b 384 3x1",
        "branch3x3dbl_1 448, branch3x3dbl_2 384 3x3, "
        "branch3x3dbl_3a 384 1x3 + branch3x3dbl_3b 384 3x1",
        f"{pooling}, branch_pool 192",
    ]


class Mixed(nn.Module):
    """Branches on the same input, joined by channels: (B, below, H, W) -> (B, channels, H', W').

    A branch is text: steps between commas. A step is `mean`, `max` or `max /2`, over 3 x 3; or
    convolutions side by side, between `+`, each with its name, its channels, its size (1x1 when
    left out) and `/2` where it halves the image.
    """

    def __init__(self, below: int, branches: Sequence[str]) -> None:
        super().__init__()
        self.channels = 0
        self.branches: list[list[list[nn.Module]]] = []
        for branch in branches:
            steps: list[list[nn.Module]] = []
            width = below
            for text in branch.split(", "):
                if text.startswith(("mean", "max")):
                    steps.append([_pooling(text)])
                    continue
                named = dict(_convolution(width, one) for one in text.split(" + "))
                for name, convolution in named.items():
                    self.add_module(name, convolution)
                width = sum(convolution.channels for convolution in named.values())
                steps.append([*named.values()])
            self.branches.append(steps)
            self.channels += width

    def forward(self, x: Tensor) -> Tensor:
        """All branches, joined."""
        found = []
        for steps in self.branches:
            y = x
            for step in steps:
                y = torch.cat([module(y) for module in step], dim=1)
            found.append(y)
        return torch.cat(found, dim=1)


class Convolution(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self,
        below: int,
        channels: int,
        size: tuple[int, int],
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        self.channels = channels
        self.conv = nn.Conv2d(below, channels, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """(B, below, H, W) -> (B, channels, H', W')."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


def _convolution(below: int, text: str) -> tuple[str, Convolution]:
    """`NAME 96 3x3`, which keeps the size of the image, or `NAME 96 3x3 /2`, without padding."""
    name, channels, *words = text.split()
    halved = "/2" in words
    height, width = map(int, words[0].split("x")) if words else (1, 1)
    padding = (0, 0) if halved else (height // 2, width // 2)
    return name, Convolution(below, int(channels), (height, width), 1 + halved, padding)


def _pooling(text: str) -> nn.Module:
    """`mean` or `max`, which keep the size of the image, or `max /2`."""
    if text == "mean":
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    return nn.MaxPool2d(3, 1, 1) if text == "max" else nn.MaxPool2d(3, 2)


# Files


def _downloaded(cache: str | os.PathLike[str] | None) -> Path:
    """The published file, fetched unless it is there and whole."""
    from vaegan.data.download import download_file

    folder = judge_folder(cache).with_name("inception")
    remedy = "give a copy of the file in place of the word download"
    return download_file(URL, SIZE, SHA256, folder, remedy)


def _read(path: Path) -> object:
    """What a file holds; DataError unless it can be read without running anything."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():  # TorchScript is warned about, then refused
            warnings.simplefilter("ignore")
            # The published file is a pickle: torch reads tensors out of it, and runs nothing.
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever a reader raises on a file of another kind
        reason = " ".join(str(error).split())[:80]
        raise DataError(f"{path} is no file of tensors ({reason}): {REMEDY}") from None


def _checked(found: object, expected: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors, if they have just the names, types and shapes of `expected` and are finite.

    The counters of batch norm, which serve training alone, may be missing and are then zero.
    """
    counters = [name for name in expected if name.endswith("num_batches_tracked")]
    tensors: dict[str, Tensor] = {name: torch.zeros((), dtype=torch.int64) for name in counters}
    if isinstance(found, dict):
        tensors |= found
    if problem := next(_problems(tensors, expected), None):
        raise DataError(f"{path} does not hold the FID's Inception ({problem}): {REMEDY}")
    return tensors


def _problems(tensors: Mapping[str, object], expected: Mapping[str, Tensor]) -> Iterator[str]:
    """What is wrong with each tensor, in a few words."""
    for name, like in expected.items():
        tensor = tensors.get(name)
        if not isinstance(tensor, Tensor):
            yield f"{name!r} is missing"
        elif tensor.shape != like.shape or tensor.dtype != like.dtype:
            was = f"{tensor.dtype} {list(tensor.shape)}"
            yield f"{name!r} is {was}, not {like.dtype} {list(like.shape)}"
        elif not tensor.isfinite().all():
            yield f"{name!r} holds values that are not finite"
    yield from (f"{name!r} is unknown" for name in tensors if name not in expected)
