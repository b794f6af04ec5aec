"""Data sets: uint8 pixels and int64 labels in three fixed splits, by name or from a folder."""

from vaegan.data.catalogue import dataset_names, load_dataset
from vaegan.data.dataset import Dataset, Split

__all__ = ["Dataset", "Split", "dataset_names", "load_dataset"]
