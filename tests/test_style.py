"""What style is made of, what is asked of it, and that a batch asks for what all images do."""

import math

import pytest
import torch
from torch.nn import functional as F

from vaegan.style import Styles, contrasts, strokes


def randn(*size, seed=0):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def lost(real, labels, made, targets, classes):
    return Styles(contrasts(real), [], labels, classes).lost(contrasts(made), targets)


# ── strokes ──────────────────────────────────────────────────────────────────────────────────────


def bar(angle, width=3.0, size=28, soft=1.0, level=1.0):
    """A bar through the middle, `angle` (radians) from upright to the right, (1, 1, H, W)."""
    axis = torch.arange(size) - (size - 1) / 2
    down, right = torch.meshgrid(axis, axis, indexing="ij")
    beside = (right * math.cos(angle) + down * math.sin(angle)).abs()
    along = (down * math.cos(angle) - right * math.sin(angle)).abs()
    inside = ((width / 2 - beside) / soft + 0.5).clamp(0, 1) * (size / 3 - along + 0.5).clamp(0, 1)
    return level * inside[None, None]


def test_slopes_are_those_of_the_smoothed_image():
    """Each by its definition: repeat the border, smooth, differ, square, in eight directions."""
    image = torch.rand(2, 3, 15, 28, generator=torch.Generator().manual_seed(0))
    contrast, steepness, *directions = strokes(image)
    torch.testing.assert_close(contrast, image.std((2, 3), correction=0), rtol=1e-4, atol=0)
    for scale, reach in enumerate((1, round(15 * 9 / 28))):
        padded = F.pad(image.flatten(0, 1)[:, None], [2 * reach] * 4, mode="replicate")
        for _ in range(2):
            padded = F.avg_pool2d(padded, reach, stride=1)
        right = reach * (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
        down = reach * (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
        whole = ((right.square() + down.square()) / 2).mean((1, 2, 3)).sqrt().view(2, 3)
        torch.testing.assert_close(
            steepness.view(2, 2, 3)[:, scale], whole / contrast, rtol=1e-4, atol=0
        )
        for step in range(8):
            angle = step * math.pi / 8
            slope = math.cos(angle) * right + math.sin(angle) * down
            expected = slope.square().mean((1, 2, 3)).sqrt().view(2, 3) / whole
            found = directions[scale].unflatten(1, (3, 8))[:, :, step]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)  # but for `FAINT`


@pytest.mark.parametrize("scale", [0, 1])
def test_directions_turn_with_the_image(scale):
    """Steepest across the bar; the mirror image swaps a direction for its mirror's."""
    for step in range(8):
        angle = step * math.pi / 8
        directions = strokes(bar(angle))[2:][scale][0]
        assert directions.argmax() == step
        mirrored = strokes(bar(angle).flip(3))[2:][scale][0]
        torch.testing.assert_close(mirrored, directions[(8 - torch.arange(8)) % 8])


def test_heavier_and_softer_strokes_are_less_steep_and_paler_ones_as_steep():
    thin, heavy, soft, pale = bar(0.3), bar(0.3, 6.0), bar(0.3, soft=3.0), bar(0.3, level=0.5)
    contrast, steepness, fine, _ = strokes(torch.cat([thin, heavy, soft, pale]))
    assert steepness[1, 0] < 0.8 * steepness[0, 0] and steepness[2, 0] < 0.9 * steepness[0, 0]
    torch.testing.assert_close(steepness[3], steepness[0], rtol=1e-3, atol=0)
    torch.testing.assert_close(fine[3], fine[0], rtol=1e-3, atol=0)
    assert contrast[1] > 1.2 * contrast[0] and contrast[3] < 0.6 * contrast[0]


def test_strokes_hardly_depend_on_the_size_of_the_image():
    small, large = strokes(bar(0.3, 6.0, soft=3.0)), strokes(bar(0.3, 24.0, 112, soft=12.0))
    # The frame that smoothing reaches grows in whole pixels, and a single pixel does not smooth.
    for one, other, apart in zip(small, large, (0.02, 0.1, 0.2, 0.06)):
        torch.testing.assert_close(one, other, rtol=apart, atol=0)


def test_dark_strokes_on_a_bright_ground_are_strokes_as_well():
    for dark, bright in zip(strokes(1 - bar(0.3)), strokes(bar(0.3))):
        torch.testing.assert_close(dark, bright, rtol=1e-4, atol=0)


@pytest.mark.parametrize("ground", [0.0, 0.5])
def test_an_image_with_hardly_any_contrast_has_a_style_and_a_gentle_gradient(ground):
    blank = torch.full((2, 1, 28, 28), ground)
    blank[1] += 1e-4 * randn(1, 28, 28)
    blank.requires_grad_()
    groups = strokes(blank)
    assert [group.shape for group in groups] == [(2, 1), (2, 2), (2, 8), (2, 8)]
    assert max(group.max() for group in groups) < 3
    torch.cat(groups, 1).sum().backward()
    assert blank.grad.norm() < 10


@pytest.mark.parametrize("shape", [(3, 1, 2), (3, 64, 40), (1, 5, 200)])
def test_images_of_any_shape_have_strokes(shape):
    images = torch.rand(6, *shape, generator=torch.Generator().manual_seed(0))
    groups = strokes(images)
    assert [group.shape[1] for group in groups] == [shape[0] * n for n in (1, 2, 8, 8)]
    styles = Styles([], groups, torch.tensor([0, 0, 1, 1, 0, 1]), 2)
    assert torch.isfinite(styles.unsaid(randn(6, 2))).all()
    assert torch.isfinite(styles.lost(strokes(images[3:]), torch.tensor([0, 1, 0]))).all()


# ── what is usual ────────────────────────────────────────────────────────────────────────────────


def drawn(labels, styles, seed=0):
    """Grids (N, C, 6, 6) with these standard deviations (N, C), and other means in each class."""
    noise = randn(len(labels), styles.shape[1], 6, 6, seed=seed)
    noise = noise - noise.mean((2, 3), keepdim=True)
    noise = noise / noise.std((2, 3), keepdim=True, correction=0)
    return noise * styles[:, :, None, None] + labels[:, None, None, None]


def test_style_is_what_is_unusual_in_its_class():
    """Image i of class 1 deviates from its class as image i of class 0 does: nothing is lost."""
    usual = torch.tensor([[2.0, 5.0], [4.0, 3.0]])
    deviations = randn(20, 2, seed=1)
    deviations = 0.3 * (deviations - deviations.mean(0))
    labels = torch.tensor([0] * 20 + [1] * 20)
    real = drawn(labels, usual[labels] + deviations.repeat(2, 1))
    sources, targets = labels[20:], torch.zeros(20, dtype=torch.long)
    # Left out of the mean of its class, a source deviates from it by 20 / 19 of what it did.
    wanted = usual[targets] + deviations * 20 / 19
    kept = lost([real], labels, [drawn(targets, wanted, seed=5)], targets, 2)
    assert sources.tolist() == [1] * 20
    assert kept.shape == (20,) and kept.max() < 1e-6
    mixed = lost([real], labels, [drawn(targets, wanted.roll(7, 0))], targets, 2)
    assert mixed.mean() == pytest.approx(2, abs=0.8)
    flat = lost([real], labels, [drawn(targets, usual[targets])], targets, 2)
    assert flat.mean() == pytest.approx(1, abs=0.2)
    scaled = lost([10 * real], labels, [10 * drawn(targets, usual[targets])], targets, 2)
    torch.testing.assert_close(scaled, flat, rtol=1e-3, atol=1e-3)


def test_style_asks_nothing_where_the_batch_does_not_know_what_is_usual():
    labels = torch.tensor([0, 0, 1, 0])  # class 2 is missing, class 1 has one image
    targets = torch.tensor([2, 0, 1])
    real, made = [randn(4, 3, 4, 4), randn(4, 5)], [randn(3, 3, 4, 4, seed=3), randn(3, 5)]
    made = [layer.requires_grad_() for layer in made]
    gap = lost(real, labels, made, targets, 3)
    assert gap[0] == 0 and gap[1] == 0 and gap[2] > 0
    gap.sum().backward()
    assert made[0].grad[:2].abs().max() == 0 and made[0].grad[2].abs().max() > 0
    assert made[1].grad is None  # what is no grid has no texture
    blank = torch.zeros(3, 3, 4, 4, requires_grad=True)
    lost(real[:1], labels, [blank], targets, 3).sum().backward()
    assert torch.isfinite(blank.grad).all()


def test_style_is_as_exact_where_products_are_in_bfloat16():
    labels = torch.arange(12) % 3
    real, made = randn(12, 5, 4, 4), randn(6, 5, 4, 4, seed=1)
    asked = [real], labels, [made], (labels[6:] + 1) % 3, 3
    exact = lost(*asked)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(lost(*asked), exact)


def test_a_batch_asks_on_average_for_what_all_images_do():
    """Its class means are noisy; the gradient is right on average, the source being left out."""
    everyone = torch.arange(600) % 3
    styles = 3 + everyone[:, None] + 0.5 * randn(600, 2, seed=2)
    real, made = drawn(everyone, styles), drawn(torch.tensor([1]), torch.tensor([[4.0, 4.0]]))
    source, target = 0, torch.tensor([1])

    def gradient(rows):
        image = made.clone().requires_grad_()
        rows = torch.cat([rows[rows != source], torch.tensor([source])])
        lost([real[rows]], everyone[rows], [image], target, 3).sum().backward()
        return image.grad

    exact = gradient(torch.arange(600))
    shuffled = torch.Generator().manual_seed(0)
    batches = [torch.randperm(600, generator=shuffled)[:60] for _ in range(300)]
    mean = torch.stack([gradient(rows) for rows in batches]).mean(0)
    assert (mean - exact).norm() < 0.1 * exact.norm()


# ── what codes say ───────────────────────────────────────────────────────────────────────────────


def coded(slopes, seed=0):
    """60 images of three classes: styles `slopes[label]` times the first number of their codes."""
    labels = torch.arange(60) % 3
    codes = randn(60, 4, seed=seed)
    style = slopes[labels] * codes[:, 0]
    return Styles([], [style[:, None]], labels, 3), codes


def test_a_code_is_read_where_it_means_the_same_under_every_label():
    styles, codes = coded(torch.tensor([1.0, 1.0, 1.0]))
    same = styles.unsaid(codes).mean()
    styles, codes = coded(torch.tensor([1.0, -1.0, 0.0]))
    other = styles.unsaid(codes).mean()
    nothing = styles.unsaid(randn(60, 4, seed=9)).mean()
    assert same < 0.15 and other > 0.6 and 0.85 < nothing < 1


@pytest.mark.parametrize("alone", [0, 1])
def test_the_gradient_by_a_held_line_is_that_of_the_penalised_minimum(alone):
    """Against autograd through the minimum itself; an image alone in its class is left out."""
    labels = torch.tensor([0, 1, 2] * 4)
    labels[:alone] = 3
    style, codes = randn(12, 5).double(), randn(12, 3, seed=1).double().requires_grad_()
    styles = Styles([], [style], labels, 4)
    (held,) = torch.autograd.grad(styles.unsaid(codes).sum(), codes)

    known = (torch.arange(12) >= alone).double()[:, None]
    centred = (codes - (codes * known).sum(0) / known.sum()) * known
    wanted = styles.within * known
    ridge = 1.5 * torch.eye(3).double()
    line = torch.linalg.solve(centred.T @ centred + ridge, centred.T @ wanted)
    minimum = (wanted - centred @ line).square().sum() + 1.5 * line.square().sum()
    (exact,) = torch.autograd.grad(minimum / 5 / styles.variances[0], codes)
    torch.testing.assert_close(held, exact.to(held), rtol=1e-3, atol=1e-5)


def test_codes_learn_to_mean_the_same_under_every_label():
    """The gradient by a constant line is that of the minimum: descent finds such codes."""
    styles, codes = coded(torch.tensor([1.0, -1.0, 0.5]))
    codes.requires_grad_()
    before = styles.unsaid(codes).mean().item()
    for _ in range(200):
        (gradient,) = torch.autograd.grad(styles.unsaid(codes).mean(), codes)
        codes = (codes - 5 * gradient).detach().requires_grad_()
    assert styles.unsaid(codes).mean() < 0.2 * before


def test_a_class_that_comes_once_says_nothing_of_codes():
    labels = torch.tensor([0, 0, 0, 1])
    styles, codes = Styles([], [randn(4, 3)], labels, 3), randn(4, 2, seed=1).requires_grad_()
    unsaid = styles.unsaid(codes)
    unsaid.sum().backward()
    assert unsaid[3] == 0 and codes.grad[3].abs().max() == 0 and (unsaid[:3] > 0).all()


def test_codes_are_read_as_exactly_where_products_are_in_bfloat16():
    labels = torch.arange(12) % 3
    images, codes = torch.rand(12, 1, 9, 9), randn(12, 4)
    exact = Styles([], strokes(images), labels, 3).unsaid(codes)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(Styles([], strokes(images), labels, 3).unsaid(codes), exact)
    half = Styles([], strokes(images.bfloat16()), labels, 3).unsaid(codes.bfloat16())
    assert half.dtype == torch.float32
