import numpy as np
import pytest
import torch

from vaegan.batching import BATCH
from vaegan.errors import DataError, Unsupported
from vaegan.images import to_images, to_pixels
from vaegan.inference import decode_pixels, encode_pixels
from vaegan.model import Model
from vaegan.randomness import latents_of_seeds

COUNT = 2 * BATCH + 3


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 1), np.uint8)


@pytest.mark.parametrize("system", ["cvae-gan", "vae", "cae"])
def test_pixels_in_and_pixels_out_are_the_models(configure, pixels, system):
    """In batches of pixels as in batches of tensors; labels reach only a model that is told any."""
    model = Model(configure(system, "default").model)
    labels = np.arange(COUNT) % 3
    told = torch.from_numpy(labels) if model.config.num_classes else None
    with torch.no_grad():
        expected = model.encode(to_images(pixels), told)
        posterior = encode_pixels(model, pixels, labels)
        assert torch.equal(posterior.mean, expected.mean)
        if system == "cae":
            assert posterior.logvar is None
        else:
            assert torch.equal(posterior.logvar, expected.logvar)
            assert torch.equal(posterior.kl(), expected.kl())
        codes = latents_of_seeds(range(COUNT), 4)
        made = decode_pixels(model, codes, labels)
        assert made.dtype == np.uint8
        assert np.array_equal(made, to_pixels(model.decode(codes, told)))
    other = decode_pixels(model, codes, labels, batch=50)
    assert np.abs(other.astype(int) - made).max() <= 1  # another batch rounds otherwise
    assert not posterior.mean.requires_grad


def test_what_cannot_be_is_said_by_the_model(configure, pixels):
    with pytest.raises(Unsupported, match="has no encoder"):
        encode_pixels(Model(configure("gan").model), pixels, None)
    with pytest.raises(DataError, match="needs labels"):
        encode_pixels(Model(configure("cvae").model), pixels, None)
    with pytest.raises(DataError, match="this model takes"):
        encode_pixels(Model(configure("vae").model), pixels[:, 1:], None)
    model, told = Model(configure("cvae").model), np.zeros(COUNT, np.int64)
    with pytest.raises(DataError, match="there are 259 labels for 256 images: give one each"):
        encode_pixels(model, pixels[: 2 * BATCH], told)
    with pytest.raises(DataError, match="there are 259 labels for 128 images: give one each"):
        decode_pixels(model, torch.zeros(BATCH, 4), told)
    with pytest.raises(DataError, match="label 3 is out of range"):
        decode_pixels(model, torch.zeros(COUNT, 4), told + 3)
