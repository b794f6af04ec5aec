from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.metrics import confusion_matrix

from vaegan.errors import DataError
from vaegan.metrics import diversity
from vaegan.metrics.classifier import TrainingSettings
from vaegan.metrics.diversity import (
    cas_settings,
    classification_scores,
    diversity_within,
    label_agreement,
    mean_pairwise_distance,
)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_label_agreement_equals_scikit_learn(random: np.random.Generator) -> None:
    asked = random.integers(3, size=200)  # of four classes the last is never asked for
    logits = random.normal(size=(200, 4)) + 2 * np.eye(4)[asked]
    found = label_agreement(logits, asked)
    read = logits.argmax(axis=1)
    assert found.accuracy == (read == asked).mean()
    counts = confusion_matrix(asked, read, labels=range(4))[:3]
    assert found.confusion[:3] == pytest.approx(counts / counts.sum(axis=1, keepdims=True))
    assert np.isnan(found.confusion[3]).all() and np.isnan(found.by_class[3])
    with pytest.raises(DataError, match="200 images need as many labels"):
        label_agreement(logits, asked[:3])


def test_pairwise_distance_equals_scipy(
    random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = random.normal(size=(83, 7)).astype(np.float32) + 100
    expected = pdist(features.astype(float)).mean()
    assert mean_pairwise_distance(features) == pytest.approx(expected)
    monkeypatch.setattr(diversity, "BLOCK", 9)
    assert mean_pairwise_distance(features) == pytest.approx(expected)
    assert mean_pairwise_distance(np.ones((5, 3))) == 0
    assert np.isnan(mean_pairwise_distance(features[:1]))


def test_diversity_is_a_ratio_to_real_within_each_class(random: np.random.Generator) -> None:
    labels = np.arange(300) % 3
    real = random.normal(size=(300, 4)) + 50 * labels[:, None]
    generated = real.copy()
    generated[labels == 1] = 50 + 0.5 * (real[labels == 1] - 50)
    generated[labels == 2] = 7
    assert diversity_within(generated, labels, real, labels, 4)[:3] == pytest.approx([1, 0.5, 0])
    found = diversity_within(generated[:1], labels[:1], real, labels, 4)
    assert np.isnan(found).all()


def test_few_images_take_few_steps() -> None:
    steps = {count: cas_settings(count).steps for count in (10, 500, 1000, 2560, 10_000)}
    assert steps == {10: 100, 500: 117, 1000: 234, 2560: 600, 10_000: 600}
    assert replace(cas_settings(10), steps=600) == cas_settings(10_000) == diversity.CAS_SETTINGS


def bars(n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Upright and lying bars on noise, 10 x 10."""
    labels = np.arange(n) % 2
    pixels = random.integers(0, 80, size=(n, 10, 10, 1), dtype=np.uint8)
    place = random.integers(2, 7, size=n)
    for image, label, at in zip(pixels, labels, place):
        (image if label else image.swapaxes(0, 1))[at : at + 2] = 240
    return pixels, labels


def test_classification_scores_tell_good_from_useless_images(random: np.random.Generator) -> None:
    settings = TrainingSettings(steps=60, batch=32, width=8, num_features=16, learning_rate=0.01)
    real, test = bars(200, random), bars(100, random)
    steps: list[tuple[int, int]] = []
    good = classification_scores(
        bars(150, random), real, test, 2, settings, lambda step, of: steps.append((step, of))
    )
    assert min(good.generated_to_real, good.real_to_real, good.real_to_generated) > 0.95
    assert steps == [(i + 1, 120) for i in range(120)]
    pixels, labels = bars(150, random)
    swapped = classification_scores((pixels, 1 - labels), real, test, 2, settings)
    assert swapped.generated_to_real < 0.05 and swapped.real_to_generated < 0.05
    assert swapped.real_to_real == good.real_to_real
    with pytest.raises(DataError, match="got 0 generated, 200 real, 100 test images"):
        classification_scores((pixels[:0], labels[:0]), real, test, 2, settings)
