"""Conditional autoencoders with a learned metric: AE, VAE, CVAE, GAN, CGAN, VAE/GAN, CVAE/GAN.

    from vaegan import Model, load_dataset
    model = Model.from_pretrained("runs/first")
    images = model.sample(16, label=3)

Names are loaded when first used: importing `vaegan` imports neither torch nor NumPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaegan.data import Dataset, Split, load_dataset
    from vaegan.errors import VaeganError
    from vaegan.estimator import VaeganEstimator
    from vaegan.images import to_images, to_pixels
    from vaegan.model import Model
    from vaegan.posterior import Posterior

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "Model",
    "Posterior",
    "Split",
    "VaeganError",
    "VaeganEstimator",
    "__version__",
    "load_dataset",
    "to_images",
    "to_pixels",
]

HOMES = {
    "Dataset": "data",
    "Model": "model",
    "Posterior": "posterior",
    "Split": "data",
    "VaeganError": "errors",
    "VaeganEstimator": "estimator",
    "load_dataset": "data",
    "to_images": "images",
    "to_pixels": "images",
}


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return getattr(import_module(f"vaegan.{HOMES[name]}"), name)
    raise AttributeError(f"module 'vaegan' has no attribute {name!r}")
