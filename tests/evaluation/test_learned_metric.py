"""The features of a discriminator at every depth, and the metric that the system trains with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from vaegan.config import ObjectiveConfig
from vaegan.errors import Unsupported
from vaegan.evaluation.learned import discriminator_metric
from vaegan.evaluation.picture import learned_metric
from vaegan.images import to_images
from vaegan.losses import learned_similarity
from vaegan.model import Model
from vaegan.settings import resolve


def model_of(data, recipe: str = "default", system: str = "cvae-gan") -> Model:
    return Model(resolve(data, system=system, recipe=recipe, latent_dim=3).model)


@pytest.mark.parametrize(
    ("recipe", "depths"),
    [
        ("default", ["conv 32 k5 s2", "conv 64 k3 s2", "conv 128 k3"]),
        ("dense", ["dense 256", "dense 128"]),
        ("tutorial", ["conv 128 k7 s2", "conv 64 k3"]),
    ],
)
def test_a_depth_for_every_layer_with_weights(letters, recipe, depths) -> None:
    model = model_of(letters, recipe)
    metric = discriminator_metric(model, letters.test.labels[:20], ObjectiveConfig())
    expected = [f"{number}: {line}" for number, line in enumerate(depths, 1)]
    assert list(metric.names) == [*expected, "similarity"]
    features = metric.features(letters.test.pixels[:20])
    assert len(features) == len(metric.names)
    assert all(layer.shape[0] == 20 and layer.ndim == 2 for layer in features)
    # Deterministic, dropout off, hooks gone, whatever the batch size.
    again = discriminator_metric(model, letters.test.labels[:20], ObjectiveConfig(), batch=7)
    for one, other in zip(features, again.features(letters.test.pixels[:20])):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)
    assert not [m for m in model.discriminator.modules() if m._forward_pre_hooks]


def test_the_last_depth_gives_the_logit(letters) -> None:
    model = model_of(letters, "dense")
    labels = letters.test.labels[:8]
    features = discriminator_metric(model, labels, ObjectiveConfig()).features(
        letters.test.pixels[:8]
    )
    with torch.no_grad():
        own = torch.from_numpy(labels)
        logit = model.discriminator.body.stages[-1](torch.from_numpy(features[-2]), own)
        expected, _ = model.discriminator(to_images(letters.test.pixels[:8]), own)
    assert torch.allclose(logit, expected, atol=1e-5)


@pytest.mark.parametrize("normalised", [False, True])
def test_the_similarity_is_the_training_loss(letters, normalised) -> None:
    model = model_of(letters)
    labels = torch.from_numpy(letters.test.labels[:32])
    pixels, copy = letters.test.pixels[:32], letters.test.pixels[:32][:, ::-1].copy()
    objective = ObjectiveConfig(similarity_normalised=normalised)
    metric = discriminator_metric(model, labels.numpy(), objective)
    reference, moved = metric.features(pixels)[-1], metric.features(copy)[-1]
    found = np.square(reference.astype(float) - moved).sum(1)
    with torch.no_grad():
        _, real = model.discriminator(to_images(pixels), labels)
        _, fake = model.discriminator(to_images(copy), labels)
        loss = learned_similarity(real, fake, "mse", 784 if normalised else 0).numpy()
    assert found * (784 if normalised else 1) / 2 == pytest.approx(loss, rel=1e-3)


def test_the_picture_shows_pairs_that_pixels_rank_wrong(letters) -> None:
    picture = learned_metric(model_of(letters), letters.test, ObjectiveConfig(), rows=4)
    assert isinstance(picture, Image.Image) and min(picture.size) > 200
    again = learned_metric(model_of(letters), letters.test, ObjectiveConfig(), rows=4)
    assert picture.tobytes() == again.tobytes()
    with pytest.raises(Unsupported, match="'cvae' has no discriminator"):
        learned_metric(model_of(letters, system="cvae"), letters.test, ObjectiveConfig())
