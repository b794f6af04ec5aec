"""What is trained in a benchmark: data, system, recipe, sizes. A worker's spec, as plain JSON."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaegan.config import RunConfig
from vaegan.data import Dataset, Split, load_dataset
from vaegan.presets import recipe_named
from vaegan.settings import resolve

__all__ = ["Subject"]

SCALED = re.compile(r"^(conv|deconv|dense|grid|residual) (\d+)")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A training run that is never finished: `steps` of it make a lap.

    data        name or folder; or with `images`, that many of its images in a file that is mapped
    image_size  resize to so many pixels a side; 0 leaves them as they are
    width       factor on the channels and units of every hidden layer
    """

    data: str = "digits"
    system: str = "cvae-gan"
    recipe: str = "default"
    precision: str = "fp32"
    batch: int = 64
    image_size: int = 0
    width: float = 1
    images: int = 0
    device: str = "cpu"
    steps: int = 1
    overrides: dict[str, str] = field(default_factory=dict)

    def spec(self) -> dict[str, Any]:
        """The worker's argument; `Subject(**spec)` is this again."""
        return asdict(self)

    @classmethod
    def given(cls) -> Subject:
        """A worker's own subject, from its command line, which also sets its threads."""
        spec = json.loads(sys.argv[1])
        torch.set_num_threads(spec.pop("threads"))
        return cls(**spec)

    def settle(self) -> None:
        """Wait until the device is done."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def dataset(self, folder: Path) -> Dataset:
        """The data set; its mapped file, if there is to be one, goes into `folder`."""
        dataset = load_dataset(self.data)
        if self.image_size:
            few = dataset.train.take(np.arange(min(512, len(dataset.train))))
            dataset = Dataset(dataset.name, few, few, few, dataset.class_names)
            dataset = dataset.resized(self.image_size)
        return self._mapped(dataset, folder) if self.images else dataset

    def _mapped(self, dataset: Dataset, folder: Path) -> Dataset:
        """`images` training images, the data set's over and over, in a memory-mapped file."""
        split, path = dataset.train, folder / "pixels"
        assert split.labels is not None
        shape = (self.images, *split.pixels.shape[1:])
        with path.open("wb") as file:  # written, not mapped: what is mapped counts as resident
            for begin in range(0, self.images, len(split)):
                file.write(split.pixels[: self.images - begin].tobytes())
        labels = np.resize(split.labels, self.images)
        mapped = Split(np.memmap(path, np.uint8, "r", shape=shape), labels)
        name = f"{dataset.name} x {self.images}"
        return Dataset(name, mapped, split, split, dataset.class_names, fingerprint=name)

    def config(self, dataset: Dataset) -> RunConfig:
        """Every setting of the run."""
        overrides = dict(self.overrides)
        if self.width != 1:
            arch = recipe_named(self.recipe).architecture
            for network in ("encoder", "decoder", "discriminator"):
                lines = [SCALED.sub(self._wider, line) for line in getattr(arch, network)]
                overrides[f"model.architecture.{network}"] = json.dumps(lines)
        return resolve(
            dataset,
            system=self.system,
            recipe=self.recipe,
            batch=self.batch,
            precision=self.precision,
            overrides=overrides,
        )

    def _wider(self, found: re.Match[str]) -> str:
        # In eights, so that groups still divide them.
        return f"{found[1]} {max(8, 8 * round(int(found[2]) * self.width / 8))}"
