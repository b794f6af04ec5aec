import math

import pytest
import torch

from vaegan import losses

KINDS = ("saturating", "non-saturating", "hinge")


def randn(*size, seed=0):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


# ── pixels ───────────────────────────────────────────────────────────────────────────────────────


def test_cross_entropy_of_pixels_by_its_definition():
    logits, images = randn(3, 2, 4, 5).double(), torch.rand(3, 2, 4, 5).double()
    p = logits.sigmoid()
    expected = -(images * p.log() + (1 - images) * (1 - p).log()).sum((1, 2, 3))
    torch.testing.assert_close(
        losses.pixel(logits, images, "bce").double(), expected, rtol=1e-5, atol=1e-5
    )
    one = losses.pixel(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.25), "bce")
    assert one.item() == pytest.approx(4 * math.log(2))


def test_squared_error_of_pixels_by_hand():
    logits = torch.tensor([[[[0.0, math.log(3)]]]])  # probabilities 1/2 and 3/4
    images = torch.tensor([[[[1.0, 0.25]]]])
    assert losses.pixel(logits, images, "mse").item() == pytest.approx(0.5 * (0.25 + 0.25))


def test_pixel_gradient_is_the_difference():
    logits, images = randn(2, 1, 3, 3).requires_grad_(), torch.rand(2, 1, 3, 3)
    losses.pixel(logits, images, "bce").sum().backward()
    torch.testing.assert_close(logits.grad, logits.detach().sigmoid() - images)


@pytest.mark.parametrize("kind", ["bce", "mse"])
def test_pixel_losses_are_finite_at_extreme_logits(kind):
    logits = torch.tensor([-1e4, 1e4]).repeat(8).view(1, 1, 4, 4).requires_grad_()
    images = torch.tensor([1.0, 0.0]).repeat(8).view(1, 1, 4, 4)
    loss = losses.pixel(logits, images, kind)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()
    if kind == "bce":
        assert loss.item() == pytest.approx(16 * 1e4)


# ── the game ─────────────────────────────────────────────────────────────────────────────────────


def test_adversarial_losses_by_their_definitions():
    logits = randn(9).double() * 3
    d = logits.sigmoid()

    def same(ours, theirs):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6)

    for kind in ("saturating", "non-saturating"):
        same(losses.adversarial_discriminator(logits, True, kind), -d.log())
        same(losses.adversarial_discriminator(logits, False, kind), -(1 - d).log())
    same(losses.adversarial_decoder(logits, "saturating"), (1 - d).log())
    same(losses.adversarial_decoder(logits, "non-saturating"), -d.log())
    same(losses.adversarial_decoder(logits, "hinge"), -logits)


def test_hinge_by_hand():
    logits = torch.tensor([-2.0, -1.0, 0.5, 1.0, 3.0])
    assert losses.adversarial_discriminator(logits, True, "hinge").tolist() == [3, 2, 0.5, 0, 0]
    assert losses.adversarial_discriminator(logits, False, "hinge").tolist() == [0, 0, 1.5, 2, 4]


def test_the_saturating_game_is_zero_sum():
    logits = randn(5)
    ours = losses.adversarial_discriminator(logits, False, "saturating")
    assert torch.equal(losses.adversarial_decoder(logits, "saturating"), -ours)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_the_game_is_finite_at_extreme_logits(kind, logit):
    logits = torch.full((3,), logit, requires_grad=True)
    terms = [
        losses.adversarial_discriminator(logits, True, kind),
        losses.adversarial_discriminator(logits, False, kind),
        losses.adversarial_decoder(logits, kind),
    ]
    torch.stack(terms).sum().backward()
    assert torch.isfinite(torch.stack(terms)).all()
    assert torch.isfinite(logits.grad).all()


def test_costs_are_means_of_cross_entropies_without_gradient():
    real, fake = randn(4).requires_grad_(), randn(4, seed=1)
    costs = losses.cross_entropy_costs(real, fake)
    assert costs[0].item() == pytest.approx(-real.detach().sigmoid().log().mean().item(), rel=1e-5)
    assert costs[1].item() == pytest.approx(-(1 - fake.sigmoid()).log().mean().item(), rel=1e-5)
    assert not costs[0].requires_grad
    undecided = losses.cross_entropy_costs(torch.zeros(2), torch.zeros(2))
    assert [c.item() for c in undecided] == pytest.approx([math.log(2)] * 2)


# ── learned similarity ───────────────────────────────────────────────────────────────────────────


def features(seed=0, batch=3):
    return [randn(batch, 4, 3, 3, seed=seed), randn(batch, 7, seed=seed + 100)]


def test_learned_similarity_by_its_definition():
    real, fake = features(0), features(1)
    expected = sum(0.5 * (r - f).flatten(1).square().sum(1) for r, f in zip(real, fake))
    torch.testing.assert_close(losses.learned_similarity(real, fake), expected)
    entropy = 0.0
    for r, f in zip(real, fake):
        target, p = r.sigmoid(), f.sigmoid()
        entropy = entropy - (target * p.log() + (1 - target) * (1 - p).log()).flatten(1).sum(1)
    torch.testing.assert_close(losses.learned_similarity(real, fake, "bce"), entropy)


def test_distance_to_itself_is_zero():
    real = features()
    assert losses.learned_similarity(real, real).tolist() == [0.0, 0.0, 0.0]
    assert losses.learned_similarity(real, real, "mse", 784).tolist() == [0.0, 0.0, 0.0]
    # The cross-entropy is least at x~ = x, though not zero.
    at, beside = (losses.learned_similarity(real, other, "bce") for other in (real, features(1)))
    assert (at < beside).all()


def test_normalised_similarity_by_its_definition():
    real, fake = features(0), features(1)
    shares = [
        0.5 * (r - f).flatten(1).square().mean(1) / r.square().mean() for r, f in zip(real, fake)
    ]
    expected = 784 * (shares[0] + shares[1]) / 2
    torch.testing.assert_close(losses.learned_similarity(real, fake, "mse", 784), expected)


def test_normalised_similarity_ignores_scales_and_sizes_of_layers():
    real, fake = features(0), features(1)
    value = losses.learned_similarity(real, fake, "mse", 784)
    scaled = losses.learned_similarity(
        [50 * real[0], real[1] / 7], [50 * fake[0], fake[1] / 7], "mse", 784
    )
    torch.testing.assert_close(scaled, value)
    # A layer whose channels all appear twice says the same; so does a layer tapped twice.
    twice = [torch.cat([t, t], 1) for t in (real[0], fake[0])]
    torch.testing.assert_close(
        losses.learned_similarity([twice[0], real[1]], [twice[1], fake[1]], "mse", 784), value
    )
    torch.testing.assert_close(losses.learned_similarity(real * 2, fake * 2, "mse", 784), value)
    # Half as wrong everywhere is a quarter of the distance.
    nearer = [r + (f - r) / 2 for r, f in zip(real, fake)]
    torch.testing.assert_close(losses.learned_similarity(real, nearer, "mse", 784), value / 4)
    torch.testing.assert_close(losses.learned_similarity(real, fake, "mse", 100), value / 7.84)


def test_normalisation_passes_no_gradient_to_the_real_features_scale():
    real, fake = randn(2, 5).requires_grad_(), randn(2, 5, seed=1)
    losses.learned_similarity([real], [fake], "mse", 10).sum().backward()
    scale = real.detach().square().mean() + 1e-8
    torch.testing.assert_close(real.grad, (real.detach() - fake) / scale * 10 / 5)


@pytest.mark.parametrize("kind", ["mse", "bce"])
@pytest.mark.parametrize("normalised", [0, 784])
def test_similarity_is_finite_at_extreme_features(kind, normalised):
    real, fake = torch.full((2, 3), 1e4), torch.full((2, 3), -1e4, requires_grad=True)
    loss = losses.learned_similarity([real], [fake], kind, normalised)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(fake.grad).all()
    dead = losses.learned_similarity([torch.zeros(2, 3)], [torch.zeros(2, 3)], kind, normalised)
    assert torch.isfinite(dead).all()


# ── feature matching ─────────────────────────────────────────────────────────────────────────────


def test_feature_matching_compares_batch_means():
    real, fake = features(0, batch=6), features(1, batch=6)
    expected = 0.0
    for r, f in zip(real, fake):
        gap = 0.5 * (r.flatten(1).mean(0) - f.flatten(1).mean(0)).square().mean()
        expected = expected + gap / r.square().mean() / 2
    torch.testing.assert_close(losses.feature_matching(real, fake), expected)
    shuffled = [r[torch.tensor([5, 3, 0, 1, 2, 4])] for r in real]
    assert losses.feature_matching(real, shuffled).item() == pytest.approx(0, abs=1e-12)
    # ... which is what the learned similarity, image by image, does not do.
    assert losses.learned_similarity(real, shuffled).min() > 1


# ── auxiliary classifier ─────────────────────────────────────────────────────────────────────────


def test_misread_is_minus_the_log_probability_of_the_label():
    classes, labels = randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    expected = -classes.softmax(1)[torch.arange(5), labels].log()
    torch.testing.assert_close(losses.misread(classes, labels), expected)
    far = losses.misread(torch.tensor([[1e4, -1e4]]), torch.tensor([1]))
    assert far.tolist() == [2e4]


def test_every_term_is_in_single_precision_under_bfloat16():
    logits = randn(4).bfloat16()
    assert losses.adversarial_discriminator(logits, True, "hinge").dtype == torch.float32
    assert losses.adversarial_decoder(logits, "saturating").dtype == torch.float32
    maps = [randn(2, 3, 2, 2).bfloat16()]
    assert losses.learned_similarity(maps, maps).dtype == torch.float32
    assert losses.feature_matching(maps, maps).dtype == torch.float32
    assert losses.misread(maps[0][:, :, 0, 0], torch.tensor([0, 1])).dtype == torch.float32
    images = torch.rand(2, 1, 3, 3)
    assert losses.pixel(randn(2, 1, 3, 3).bfloat16(), images, "bce").dtype == torch.float32


def test_the_gradient_of_the_similarity_lies_in_memory_as_the_features_do():
    real, fake = (
        torch.randn(3, 4, 5, 5).contiguous(memory_format=torch.channels_last) for _ in range(2)
    )
    cost = losses.learned_similarity([real], [fake.requires_grad_()], "mse", 25).mean()
    (gradient,) = torch.autograd.grad(cost, fake)
    assert gradient.is_contiguous(memory_format=torch.channels_last)
