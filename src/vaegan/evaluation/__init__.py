"""How good a trained model is, in numbers: a Model, a Dataset and a Judge in, `Scores` out."""

from vaegan.evaluation.scores import Scores
from vaegan.evaluation.suite import evaluate

__all__ = ["Scores", "evaluate"]
