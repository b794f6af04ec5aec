"""One suite over all eight systems: every call works as documented, or says why it cannot."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import Tensor

from vaegan import Model, VaeganError, VaeganEstimator, load_dataset, to_images
from vaegan.config import SYSTEMS, family_of
from vaegan.data import Dataset
from vaegan.errors import ConfigError, DataError, RunError, Unsupported
from vaegan.estimator import as_labels
from vaegan.settings import resolve
from vaegan.training import trainer_for

STEPS, BATCH, LATENTS, COUNT = 3, 16, 4, 6
SHAPE = (1, 28, 28)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="module", params=SYSTEMS)
def model(request: pytest.FixtureRequest, digits: Dataset) -> Model:
    """A system after a few steps, as `vaegan train` keeps it: the averaged weights."""
    config = resolve(
        digits, system=request.param, recipe="dense", latent_dim=LATENTS, batch=BATCH, seed=1
    )
    trainer = trainer_for(config, digits)
    for _ in range(STEPS):
        trainer.step()
    return trainer.average.model


@pytest.fixture
def images(digits: Dataset) -> Tensor:
    return to_images(digits.test.pixels[:COUNT])


@pytest.fixture
def labels(digits: Dataset, model: Model) -> Tensor | None:
    """The images' labels, for the systems that take some."""
    return torch.from_numpy(digits.test.labels[:COUNT]) if model.config.num_classes else None


def refused(call: Callable[[], Any], *words: str, error: type[VaeganError] = Unsupported) -> None:
    """The call raises one line that names what is wrong and how to mend it."""
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert 10 < len(text) < 250 and len(text.splitlines()) == 1, text
    assert all(word in text for word in words), text


def is_images(images: Tensor, count: int) -> None:
    """Images are float32 (count, C, H, W) in [0, 1], and not all the same shade."""
    assert images.shape == (count, *SHAPE) and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 1
    assert not images.requires_grad


def has(model: Model, *families: str) -> bool:
    return model.config.family in families


# ── what a model can do ──────────────────────────────────────────────────────────────────────


def test_networks_are_those_of_the_family(model: Model) -> None:
    assert not model.training
    assert (model.encoder is not None) == has(model, "ae", "vae", "vae-gan")
    assert (model.discriminator is not None) == has(model, "gan", "vae-gan")
    for name in ("encoder", "decoder", "discriminator"):
        if name in model.config.networks:
            count = sum(p.numel() for p in model.network(name).parameters())
            assert count == model.config.parameters(name)
        else:
            refused(lambda name=name: model.network(name), repr(model.config.system), name)


def test_encode(model: Model, images: Tensor, labels: Tensor | None) -> None:
    if has(model, "gan"):
        for call in (model.encode, model.embed, model.reconstruct):
            refused(lambda call=call: call(images, labels), repr(model.config.system), "vae-gan")
        return
    with torch.no_grad():
        posterior = model.encode(images, labels)
    assert posterior.mean.shape == posterior.std.shape == (COUNT, LATENTS)
    assert torch.equal(posterior.mode(), posterior.mean)
    assert torch.equal(model.embed(images, labels), posterior.mean)
    draws = [posterior.sample(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    if has(model, "ae"):
        assert posterior.logvar is None and not posterior.std.any()
        assert torch.equal(draws[2], posterior.mean)
        refused(posterior.kl, "no KL", "vae")
    else:
        assert posterior.logvar is not None and posterior.logvar.abs().max() <= 10
        assert not torch.equal(draws[0], draws[2])
        assert posterior.kl().shape == (COUNT,) and (posterior.kl() > 0).all()
        torch.testing.assert_close(posterior.kl(), posterior.kl_per_dimension().sum(1))


def test_decode(model: Model, labels: Tensor | None) -> None:
    latents = torch.randn(COUNT, LATENTS, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        decoded = model.decode(latents, labels)
        is_images(decoded, COUNT)
        assert torch.equal(decoded, model.decode(latents, labels))
        assert not torch.equal(decoded[0], model.decode(latents + 1, labels)[0])
        assert model.decode(latents[:0], labels if labels is None else labels[:0]).shape[0] == 0


def test_reconstruct_is_decode_of_the_mode(
    model: Model, images: Tensor, labels: Tensor | None
) -> None:
    if has(model, "gan"):
        return
    rebuilt = model.reconstruct(images, labels)
    is_images(rebuilt, COUNT)
    assert torch.equal(rebuilt, model.reconstruct(images, labels))
    with torch.no_grad():
        assert torch.equal(rebuilt, model.decode(model.encode(images, labels).mode(), labels))
    # No image depends on its neighbours.
    alone = model.reconstruct(images[2:3], None if labels is None else labels[2:3])
    torch.testing.assert_close(alone[0], rebuilt[2], rtol=0, atol=1e-5)


def test_sample(model: Model) -> None:
    if has(model, "ae"):
        refused(lambda: model.sample(3), repr(model.config.system), "no prior", "vae")
        return
    drawn = model.sample(12)
    is_images(drawn, 12)
    assert torch.equal(drawn, model.sample(12))
    assert not torch.equal(drawn, model.sample(12, seed=1))
    assert model.sample(0).shape == (0, *SHAPE)
    given = [model.sample(5, generator=torch.Generator().manual_seed(9)) for _ in range(2)]
    assert torch.equal(*given)


def test_seed_is_the_same_picture_in_any_batch(model: Model) -> None:
    if has(model, "ae"):
        return
    label = 3 if model.config.num_classes else None
    many, few = model.sample(8, label, seed=5), model.sample(2, label, seed=9)
    torch.testing.assert_close(many[4:6], few, rtol=0, atol=1e-5)


def test_sample_by_label(model: Model) -> None:
    if has(model, "ae"):
        return
    if not model.config.num_classes:
        refused(lambda: model.sample(3, 1), "no labels", "leave `label` out")
        return
    mixed, threes = model.sample(12), model.sample(12, 3)
    # Without a label, the classes take turns: 0, 1, ... 9, 0, 1.
    torch.testing.assert_close(mixed[3], threes[3], rtol=0, atol=1e-5)
    assert (mixed - threes).abs().amax((1, 2, 3))[[0, 1, 2, 4]].min() > 1e-4
    refused(lambda: model.sample(3, 10), "label 10", "0 to 9", error=DataError)


def test_transfer(model: Model, images: Tensor, labels: Tensor | None, digits: Dataset) -> None:
    own = torch.from_numpy(digits.test.labels[:COUNT])
    if not model.config.num_classes:
        refused(lambda: model.transfer(images, own, own * 0), "no labels", "cvae-gan")
        return
    if has(model, "gan"):
        refused(lambda: model.transfer(images, own, own * 0), "no encoder", "cvae-gan")
        return
    is_images(model.transfer(images, own, own * 0), COUNT)
    assert torch.equal(model.transfer(images, own, own), model.reconstruct(images, own))
    others = [model.transfer(images, own, own * 0 + to) for to in range(10)]
    apart = torch.cdist(torch.stack(others)[:, 0].flatten(1), torch.stack(others)[:, 0].flatten(1))
    assert apart[~torch.eye(10, dtype=torch.bool)].min() > 1e-3, "the label is not ignored"
    refused(lambda: model.transfer(images, own, own + 10), "out of range", error=DataError)


def test_interpolate(model: Model) -> None:
    label = 2 if model.config.num_classes else None
    start, end = torch.randn(2, LATENTS, generator=torch.Generator().manual_seed(4))
    between = model.interpolate(start, end, 5, label)
    is_images(between, 5)
    labels = None if label is None else torch.full((3,), label)
    with torch.no_grad():
        nodes = model.decode(torch.stack([start, (start + end) / 2, end]), labels)
    torch.testing.assert_close(between[::2], nodes, rtol=0, atol=1e-5)
    if label is not None:
        refused(lambda: model.interpolate(start, end, 5), "needs labels", error=DataError)


def test_manifold(model: Model) -> None:
    label = 2 if model.config.num_classes else None
    grid = model.manifold(label, n=5)
    is_images(grid, 25)
    labels = None if label is None else torch.full((3,), label)
    # Row 2 is the middle; 1.6449 is the standard normal's 0.95 quantile.
    latents = torch.zeros(3, LATENTS)
    latents[1, 0] = latents[2, 1] = 1.6448536
    with torch.no_grad():
        centre, right, bottom = model.decode(model.prior_latents(latents, labels), labels)
    for place, expected in ((12, centre), (14, right), (22, bottom)):
        torch.testing.assert_close(grid[place], expected, rtol=0, atol=1e-4)
    turned = model.manifold(label, n=5, dims=(1, 0)).unflatten(0, (5, 5)).transpose(0, 1)
    torch.testing.assert_close(turned.flatten(0, 1), grid, rtol=0, atol=1e-4)
    for dims in ((0, 4), (-1, 0), (1, 1)):
        refused(lambda dims=dims: model.manifold(label, dims=dims), str(dims), "latent_dim is 4")


def test_nothing_touches_the_global_generator(
    model: Model, images: Tensor, labels: Tensor | None
) -> None:
    before = torch.random.get_rng_state()
    model.manifold(n=3)
    if not has(model, "ae"):
        model.sample(4)
    if not has(model, "gan"):
        model.reconstruct(images, labels)
    Model(model.config, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())


def test_wrong_shapes_and_labels_are_named(
    model: Model, images: Tensor, labels: Tensor | None
) -> None:
    latents = torch.zeros(COUNT, LATENTS)
    for call in (model.decode, model.prior_latents):
        refused(lambda c=call: c(latents[:, :3], labels), "(6, 3)", "(B, 4)", error=DataError)
        refused(lambda c=call: c(latents[0], labels), "(4,)", error=DataError)
    if not has(model, "gan"):
        for wrong in (images[:, :, :20], images.expand(-1, 3, -1, -1), images[0]):
            call = lambda wrong=wrong: model.encode(wrong, labels)
            refused(call, str(tuple(wrong.shape)), "(B, 1, 28, 28)", error=DataError)
        for wrong in (images.numpy(), (255 * images).byte(), 255 * images, images * math.nan):
            refused(lambda x=wrong: model.encode(x, labels), "see to_images", error=DataError)
    if labels is None:
        told = torch.zeros(COUNT, dtype=torch.int64)
        needless = ["takes no labels", "leave them out"]
        refused(lambda: model.decode(latents, told), *needless, error=DataError)
        refused(lambda: model.interpolate(latents[0], latents[0], 3, 0), *needless, error=DataError)
        refused(lambda: model.manifold(0, n=2), *needless, error=DataError)
        if not has(model, "gan"):
            refused(lambda: model.encode(images, told), *needless, error=DataError)
            refused(lambda: model.reconstruct(images, told), *needless, error=DataError)
        return
    refused(lambda: model.decode(latents), "needs labels", error=DataError)
    refused(lambda: model.decode(latents, labels[:2]), "(2,)", "int64 (6,)", error=DataError)
    refused(lambda: model.decode(latents, labels.int()), "int32", "int64", error=DataError)
    refused(lambda: model.decode(latents, labels * 0 - 1), "label -1", error=DataError)
    refused(lambda: model.decode(latents, labels * 0 + 10), "label 10", "0 to 9", error=DataError)


# ── files ────────────────────────────────────────────────────────────────────────────────────


def test_save_and_load_keep_every_bit(
    model: Model, images: Tensor, labels: Tensor | None, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "one")
    loaded = Model.from_pretrained(tmp_path / "one")
    assert loaded.config == model.config and not loaded.training
    state, again = model.state_dict(), loaded.state_dict()
    assert state.keys() == again.keys()
    assert all(torch.equal(state[name], again[name]) for name in state)
    # The same bits in, the same bits out.
    latents = torch.ones(COUNT, LATENTS)
    with torch.no_grad():
        assert torch.equal(model.decode(latents, labels), loaded.decode(latents, labels))
    if not has(model, "gan"):
        assert torch.equal(model.reconstruct(images, labels), loaded.reconstruct(images, labels))
    loaded.save_pretrained(str(tmp_path / "two"))
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        *("config.json", "model.safetensors")
    ]


def test_weights_of_another_system_are_refused(model: Model, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    tree = json.loads(path.read_text())
    tree["model"]["latent_dim"] += 1
    path.write_text(json.dumps(tree))
    load = lambda: Model.from_pretrained(tmp_path)
    refused(load, "model.safetensors", "has shape", error=RunError)
    tree["model"]["wings"] = 2
    path.write_text(json.dumps(tree))
    refused(load, "config.json", "wings", "unknown key", error=ConfigError)
    (tmp_path / "config.json").unlink()
    refused(load, "config.json is missing", error=RunError)
    nowhere = lambda: Model.from_pretrained("mnits")
    refused(nowhere, "no such folder", "mnist comes with the package", error=RunError)


# ── the estimator ────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module", params=SYSTEMS)
def estimator(request: pytest.FixtureRequest, digits: Dataset) -> VaeganEstimator:
    made = VaeganEstimator(request.param, "dense", latent_dim=LATENTS, batch=BATCH, steps=STEPS)
    return made.fit(digits.train.pixels[:64], digits.train.labels[:64])


def test_estimator_transforms_and_back(estimator: VaeganEstimator, digits: Dataset) -> None:
    X, y = digits.test.pixels[:COUNT], digits.test.labels[:COUNT]
    if family_of(estimator.system) == "gan":
        refused(lambda: estimator.transform(X, y), "no encoder", "vae-gan")
        refused(lambda: clone(estimator).fit_transform(X.repeat(4, 0), y.repeat(4)), "no encoder")
        Z = np.zeros((COUNT, LATENTS), np.float32)
    else:
        Z = estimator.transform(X, y)
        assert Z.shape == (COUNT, LATENTS) and Z.dtype == np.float32
        told = torch.from_numpy(y) if estimator.model_.config.num_classes else None
        assert np.array_equal(Z, estimator.model_.embed(to_images(X), told).numpy())
        # Floats in [0, 1] and images without a channel are the same images.
        assert np.array_equal(Z, estimator.transform(X[..., 0] / 255.0, y))
    back = estimator.inverse_transform(Z, y)
    assert back.shape == X.shape and back.dtype == np.uint8
    assert np.array_equal(back, estimator.inverse_transform(Z.tolist(), y.tolist()))


def test_estimator_samples(estimator: VaeganEstimator) -> None:
    if family_of(estimator.system) == "ae":
        refused(lambda: estimator.sample(2), "no prior")
        return
    label = 3 if estimator.system.startswith("c") else None
    drawn = estimator.sample(5, label, seed=2)
    assert drawn.shape == (5, 28, 28, 1) and drawn.dtype == np.uint8
    assert np.array_equal(drawn, estimator.sample(5, label, seed=2))


def test_estimator_is_a_function_of_its_parameters(
    estimator: VaeganEstimator, digits: Dataset
) -> None:
    X, y = digits.train.pixels[:64], digits.train.labels[:64]
    copy = clone(estimator)
    parameters = {"recipe": "dense", "latent_dim": 4, "batch": 16, "steps": 3, "seed": 0}
    assert copy.get_params() == parameters | {"system": estimator.system}
    assert not hasattr(copy, "model_")
    state = estimator.model_.state_dict()
    if family_of(estimator.system) == "gan":
        copy.fit(X, y)
    else:
        assert np.array_equal(copy.fit_transform(X, y), estimator.transform(X, y))
    again = copy.model_.state_dict()
    assert all(torch.equal(state[name], again[name]) for name in state)
    other = clone(estimator).set_params(seed=1).fit(X, y).model_.state_dict()
    assert not all(torch.equal(state[name], other[name]) for name in state)


def test_estimator_wants_to_be_fitted(estimator: VaeganEstimator, digits: Dataset) -> None:
    fresh = clone(estimator)
    X, y = digits.test.pixels[:COUNT], digits.test.labels[:COUNT]
    for call in (
        lambda: fresh.transform(X, y),
        lambda: fresh.inverse_transform(np.zeros((2, LATENTS)), y[:2]),
        lambda: fresh.sample(1),
    ):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            call()


def test_estimator_names_what_is_wrong_with_the_data(
    estimator: VaeganEstimator, digits: Dataset
) -> None:
    X, y = digits.train.pixels[:32], digits.train.labels[:32]
    fresh = clone(estimator)
    refused(lambda: fresh.fit(X[:0], y[:0]), "X holds no image", error=DataError)
    refused(lambda: fresh.fit(X, y[:5]), "32 images", "5 labels", error=DataError)
    refused(lambda: fresh.fit(X.reshape(32, -1), y), "(32, 784)", error=DataError)
    refused(lambda: fresh.fit(X.astype(float), y), "outside [0, 1]", error=DataError)
    refused(lambda: fresh.fit(X, y - 10), "negative", error=DataError)
    refused(lambda: fresh.fit(X, y + 0.5), "float64", "0 .. K-1", error=DataError)
    refused(lambda: fresh.fit(X, y.astype(str)), "<U", "LabelEncoder", error=DataError)
    refused(lambda: fresh.fit(X, y[:, None]), "(32, 1)", error=DataError)
    refused(lambda: fresh.fit(X, y + math.inf), "float64", error=DataError)
    for same in (y.astype(float), y.astype(object), y.tolist()):
        assert np.array_equal(as_labels(same), y)
    assert as_labels(y > 4).tolist() == (y > 4).astype(int).tolist()
    refused(lambda: fresh.fit(X[:4], y[:4]), "batch (=16)", error=ConfigError)
    if estimator.system.startswith("c"):
        refused(lambda: fresh.fit(X), "no labels", error=DataError)
    else:
        assert fresh.fit(X).config_.model.num_classes == 0
    wrong = clone(estimator).set_params(system="vae-can")
    refused(lambda: wrong.fit(X, y), "'vae-can'", "cvae-gan", error=ConfigError)
