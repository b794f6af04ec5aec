"""Every error a user can cause, each one line that says what is wrong and how to mend it.

VaeganError                  the command line prints it as one line and exits with 2
├── ConfigError              a setting is unknown, out of range or contradicts another
├── DataError                a data set or an image is missing, damaged or of the wrong shape
├── RunError                 a run directory is missing, of another system, damaged or in use
├── Unsupported              the system cannot do what was asked (a GAN has no encoder)
└── TrainingDiverged         a loss or a gradient stopped being a finite number
"""

__all__ = [
    "ConfigError",
    "DataError",
    "RunError",
    "TrainingDiverged",
    "Unsupported",
    "VaeganError",
]


class VaeganError(Exception):
    """Base of all errors that a user can cause and mend."""


class ConfigError(VaeganError):
    """A setting is unknown, out of range or contradicts another."""


class DataError(VaeganError):
    """A data set or an image is missing, damaged or of the wrong shape."""


class RunError(VaeganError):
    """A run directory is missing, belongs to another system, is damaged or in use."""


class Unsupported(VaeganError):
    """The system cannot do what was asked: a GAN cannot encode, an autoencoder cannot sample."""


class TrainingDiverged(VaeganError):
    """A loss or a gradient stopped being a finite number."""
