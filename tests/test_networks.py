import pytest
import torch

from vaegan.config import SYSTEMS
from vaegan.model import Model
from vaegan.networks import Judgement


def test_a_deterministic_encoder_has_no_variance_head(configure):
    encoder = Model(configure("ae").model).encoder
    assert encoder.logvar is None
    mean, logvar = encoder(torch.rand(2, 1, 8, 8), None)
    assert mean.shape == (2, 4)
    assert logvar is None


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("recipe", ["dense", "default", "tutorial", "larsen-small"])
def test_each_example_is_computed_on_its_own(configure, system, recipe):
    model = Model(configure(system, recipe).model)  # eval mode: no batch statistics
    size = model.config.image_size[0]
    images, latents = torch.rand(5, 1, size, size), torch.randn(5, 4)
    labels = torch.tensor([0, 1, 2, 0, 1]) if model.config.num_classes else None
    one = None if labels is None else labels[3:4]
    close = {"rtol": 1e-5, "atol": 1e-6}
    with torch.no_grad():
        whole, alone = model.decode(latents, labels), model.decode(latents[3:4], one)
        torch.testing.assert_close(whole[3:4], alone, **close)
        assert whole.shape == images.shape
        assert whole.min() >= 0 and whole.max() <= 1
        if model.encoder:
            whole, alone = model.encode(images, labels).mean, model.encode(images[3:4], one).mean
            torch.testing.assert_close(whole[3:4], alone, **close)
        if model.discriminator:
            judged, alone = (
                model.discriminator(images, labels),
                model.discriminator(images[3:4], one),
            )
            torch.testing.assert_close(judged.logits[3:4], alone.logits, **close)
            assert judged.logits.shape == (5,)


@pytest.mark.parametrize("recipe", ["dense", "default", "tutorial", "larsen-small"])
def test_every_network_is_told_the_label(configure, recipe):
    torch.manual_seed(0)
    model = Model(configure("cvae-gan", recipe).model)
    for parameter in model.parameters():  # film tables begin at zero, Larsen's weights near it
        torch.nn.init.normal_(parameter, 0, 0.3)
    size = model.config.image_size[0]
    images, latents = torch.rand(2, 1, size, size), torch.randn(2, 4)
    a, b = torch.tensor([0, 1]), torch.tensor([1, 2])
    with torch.no_grad():
        assert (model.encode(images, a).mean - model.encode(images, b).mean).abs().min() > 1e-7
        assert (model.decode(latents, a) - model.decode(latents, b)).abs().max() > 1e-5
        ours, other = model.discriminator(images, a).logits, model.discriminator(images, b).logits
        assert (ours - other).abs().min() > 1e-7


def test_centred_networks_see_minus_one_to_one(configure):
    model = Model(configure("vae-gan", "dense", model__architecture__centred=True).model)
    plain = Model(configure("vae-gan", "dense").model)
    plain.load_state_dict(model.state_dict())
    images, latents = torch.rand(3, 1, 8, 8), torch.randn(3, 4)
    with torch.no_grad():
        assert torch.equal(model.encoder(images, None)[0], plain.encoder(2 * images - 1, None)[0])
        ours, theirs = model.discriminator(images, None), plain.discriminator(2 * images - 1, None)
        assert torch.equal(ours.logits, theirs.logits)
        # tanh(a) in [-1, 1] is 2 sigmoid(2 a) - 1.
        expected = (plain.decoder(latents, None).tanh() + 1) / 2
        torch.testing.assert_close(model.decode(latents), expected, rtol=1e-5, atol=1e-6)


def test_judgements_are_cut_along_the_batch():
    features = [torch.arange(12.0).view(6, 2), torch.arange(6.0)[:, None]]
    parts = Judgement(torch.arange(6.0), features).cut({"prior": 4, "transfer": 2})
    assert list(parts) == ["prior", "transfer"]
    assert parts["prior"].logits.tolist() == [0, 1, 2, 3]
    assert parts["transfer"].logits.tolist() == [4, 5]
    assert parts["prior"].features[0].shape == (4, 2)
    assert parts["transfer"].features[0].tolist() == [[8, 9], [10, 11]]
    assert parts["transfer"].features[1].flatten().tolist() == [4, 5]
    assert parts["prior"].classes is None
    bare = Judgement(torch.zeros(3), [], torch.arange(6.0).view(3, 2)).cut({"prior": 2, "more": 1})
    assert bare["prior"].features == []
    assert bare["prior"].classes.tolist() == [[0, 1], [2, 3]]
    assert bare["more"].classes.tolist() == [[4, 5]]


def test_gradients_of_a_cut_lie_as_the_whole_does():
    whole = torch.randn(5, 3, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    parts = Judgement(torch.zeros(5), [whole]).cut({"prior": 2, "transfer": 3})
    (gradient,) = torch.autograd.grad(parts["transfer"].features[0].square().sum(), whole)
    assert gradient.is_contiguous(memory_format=torch.channels_last)
    assert not gradient[:2].any()
    assert torch.equal(gradient[2:], 2 * whole[2:])


def test_initial_weights_depend_on_the_seed_alone(configure):
    config = configure().model
    torch.manual_seed(1)
    first = Model(config, seed=5).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again, other = Model(config, seed=5).state_dict(), Model(config, seed=6).state_dict()
    assert torch.equal(before, torch.get_rng_state())  # the caller's randomness is left alone
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
