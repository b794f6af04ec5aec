"""What the verbs open: data sets by flag, and the run, model and data behind a directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vaegan.errors import DataError

if TYPE_CHECKING:
    from vaegan.data import Dataset
    from vaegan.model import Model
    from vaegan.rundir import RunDirectory

__all__ = ["Opened", "load_resized", "open_run"]


@dataclass(frozen=True)
class Opened:
    """A run with its averaged model; the data set is loaded when first asked for."""

    run: RunDirectory
    model: Model
    data: str | None = None

    def dataset(self) -> Dataset:
        """The run's data set, or the one given by `--data`; DataError when it does not fit."""
        size = self.model.config.image_size
        square = size[0] if size[0] == size[1] else None
        dataset, _ = load_resized(self.data or self.run.config().data, square)
        config = self.model.config
        if (dataset.image_size, dataset.channels) != (size, config.channels):
            raise DataError(
                f"data set {dataset.name!r} has images of {dataset.image_size} with "
                f"{dataset.channels} channels; this run was trained on {size} with "
                f"{config.channels}"
            )
        if config.num_classes and dataset.num_classes != config.num_classes:
            raise DataError(
                f"data set {dataset.name!r} has {dataset.num_classes} classes; "
                f"this run was trained with {config.num_classes}"
            )
        return dataset


def open_run(path: Path, data: str | None = None, device: str = "cpu") -> Opened:
    """Open a run directory; RunError says what is missing."""
    from vaegan.model import Model
    from vaegan.rundir import RunDirectory

    run = RunDirectory.open(path)
    return Opened(run, Model.from_pretrained(path, device), data)


def load_resized(data: str, image_size: int | None) -> tuple[Dataset, str]:
    """A data set, its images resized if asked, and how to find it again from anywhere."""
    from vaegan.data import dataset_names, load_dataset

    dataset = load_dataset(data)
    if image_size and dataset.image_size != (image_size, image_size):
        dataset = dataset.resized(image_size)
    known = data in dataset_names()
    return dataset, data if known else str(Path(data).expanduser().resolve())
