"""Do the images of a class show that class, and as variously as real ones?

label_agreement        what the judge reads against what was asked for, with the confusion
diversity_within       mean distance of two images of a class in features, over that of real ones
classification_scores  accuracy of a classifier trained on generated images and tested on real
                       ones (CAS, Ravuri and Vinyals 2019), and the reverse
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from vaegan.errors import DataError
from vaegan.images import to_images
from vaegan.metrics.classifier import (
    Classifier,
    Progress,
    TrainingSettings,
    train_classifier,
)

__all__ = [
    "CAS_SETTINGS",
    "ClassificationScores",
    "LabelAgreement",
    "cas_settings",
    "classification_scores",
    "diversity_within",
    "label_agreement",
    "mean_pairwise_distance",
]

BLOCK = 1000
CAS_SETTINGS = TrainingSettings(steps=600, batch=128, seed=1)
CAS_EPOCHS, CAS_LEAST = 30, 100


@dataclass(frozen=True)
class LabelAgreement:
    """accuracy: share read as asked. confusion: share of the images asked for as row that are read
    as column, float64 (K, K), rows sum to 1 or are NaN without images. by_class: its diagonal.
    """

    accuracy: float
    confusion: np.ndarray

    @property
    def by_class(self) -> np.ndarray:
        """Share read as asked, for each label asked for (K,)."""
        return np.diag(self.confusion)


def label_agreement(logits: np.ndarray, asked: np.ndarray) -> LabelAgreement:
    """Compare what the judge reads, logits (N, K), with the labels asked for (N,)."""
    n, k = logits.shape
    if len(asked) != n or not n:
        raise DataError(f"{n} images need as many labels, at least one; got {len(asked)}")
    read = logits.argmax(axis=1)
    counts = np.bincount(asked * k + read, minlength=k * k).reshape(k, k)
    with np.errstate(invalid="ignore"):
        confusion = counts / counts.sum(axis=1, keepdims=True)
    return LabelAgreement(float((read == asked).mean()), confusion)


def mean_pairwise_distance(features: np.ndarray) -> float:
    """Mean Euclidean distance over all pairs of rows (N, F); NaN for fewer than two."""
    n = len(features)
    if n < 2:
        return float("nan")
    x = features.astype(np.float64)
    x -= x.mean(axis=0)
    squares = np.einsum("nf,nf->n", x, x)
    total = 0.0
    for i in range(0, n, BLOCK):
        rows = slice(i, i + BLOCK)
        squared = squares[rows, None] + squares - 2 * x[rows] @ x.T
        squared[np.arange(len(squared)), i + np.arange(len(squared))] = 0
        total += float(np.sqrt(squared.clip(min=0)).sum())
    return total / (n * (n - 1))


def diversity_within(
    features: np.ndarray,
    labels: np.ndarray,
    real_features: np.ndarray,
    real_labels: np.ndarray,
    num_classes: int,
) -> np.ndarray:
    """Diversity of each class over that of the real images of the class, (K,).

    1 as various as real, 0 one picture for the class, NaN with fewer than two images on either
    side or real images all alike.
    """
    found = np.full(num_classes, np.nan)
    for label in range(num_classes):
        real = mean_pairwise_distance(real_features[real_labels == label])
        if real > 0:
            found[label] = mean_pairwise_distance(features[labels == label]) / real
    return found


@dataclass(frozen=True)
class ClassificationScores:
    """Accuracies of two equal classifiers, one trained on generated, one on as many real images.

    generated_to_real is the CAS; real_to_real what it can reach at this budget; real_to_generated
    how well the images show their labels to a classifier that knows only real ones.
    """

    generated_to_real: float
    real_to_real: float
    real_to_generated: float


def cas_settings(count: int) -> TrainingSettings:
    """How the classifiers of the CAS are trained on `count` images: 600 steps, below 2,560 images
    thirty times through them, but 100 steps at least.
    """
    steps = max(CAS_LEAST, CAS_EPOCHS * count // CAS_SETTINGS.batch)
    return replace(CAS_SETTINGS, steps=min(CAS_SETTINGS.steps, steps))


def classification_scores(
    generated: tuple[np.ndarray, np.ndarray],
    real: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    num_classes: int,
    settings: TrainingSettings = CAS_SETTINGS,
    progress: Progress | None = None,
) -> ClassificationScores:
    """The classification accuracy score both ways, with its control.

    generated, real, test: pixels uint8 (N, H, W, C) and labels (N,), of generated images, of the
    training split and of the test split. As many real images are used as there are generated ones
    (the first of them, at most all). progress(step, steps) counts through both trainings.
    """
    count = len(generated[0])
    if count < 2 or len(real[0]) < 2 or not len(test[0]):
        raise DataError(
            f"the classification accuracy score needs images to train and to test on, got {count} "
            f"generated, {len(real[0])} real, {len(test[0])} test images"
        )
    done = 0

    def tell(step: int, steps: int) -> None:
        if progress is not None:
            progress(done + step, 2 * steps)

    net = train_classifier(*generated, num_classes, settings, tell)
    generated_to_real = _accuracy(net, *test)
    done = settings.plan(generated[0])[0]
    net = train_classifier(real[0][:count], real[1][:count], num_classes, settings, tell)
    return ClassificationScores(
        generated_to_real, _accuracy(net, *test), _accuracy(net, *generated)
    )


def _accuracy(net: Classifier, pixels: np.ndarray, labels: np.ndarray) -> float:
    """Share of labels read right."""
    hits = 0
    with torch.inference_mode():
        for i in range(0, len(pixels), BLOCK):
            read = (
                net(to_images(np.ascontiguousarray(pixels[i : i + BLOCK])))[1].argmax(dim=1).numpy()
            )
            hits += int((read == labels[i : i + BLOCK]).sum())
    return hits / len(pixels)
