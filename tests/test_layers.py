import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vaegan import layers
from vaegan.blueprint import trace
from vaegan.layers import (
    Classes,
    Film,
    Label,
    Logit,
    SameConv2d,
    Tap,
    UpsampledConv,
)
from vaegan.model import Model


def tensorflow_pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """What TensorFlow documents for SAME: all the padding that ceil(size/stride) outputs need."""
    needed = kernel - stride if size % stride == 0 else kernel - size % stride
    needed = max(needed, 0)
    return needed // 2, needed - needed // 2


# ── "same" convolution ───────────────────────────────────────────────────────────────────────────


def test_the_pads_of_the_tutorial():
    assert tensorflow_pads(28, 3, 2) == (0, 1)
    assert tensorflow_pads(28, 7, 2) == (2, 3)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("size", [(28, 28), (7, 9), (8, 5), (3, 4)])
def test_same_convolution_pads_as_tensorflow(kernel, stride, size):
    conv = SameConv2d(2, 3, kernel, stride, "tensorflow")
    x = torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(1))
    (top, bottom), (left, right) = (tensorflow_pads(n, kernel, stride) for n in size)
    expected = F.conv2d(F.pad(x, (left, right, top, bottom)), conv.weight, conv.bias, stride)
    assert expected.shape[2:] == tuple(-(-n // stride) for n in size)
    torch.testing.assert_close(conv(x), expected)


def test_tensorflow_padding_by_hand():
    # 3 x 3 kernel of ones, stride 2, 4 x 4 ramp: pads (0, 1), so the windows start at 0 and 2.
    conv = SameConv2d(1, 1, 3, 2, "tensorflow").requires_grad_(False)
    conv.weight.fill_(1.0)
    conv.bias.fill_(0.0)
    ramp = torch.arange(16.0).view(1, 1, 4, 4)
    # rows 0-2 x columns 0-2: 0+1+2+4+5+6+8+9+10; columns 2-3: 2+3+6+7+10+11; and so on.
    assert conv(ramp).flatten().tolist() == [45.0, 39.0, 66.0, 50.0]
    # A 7 x 7 kernel that picks its own (2, 2): pads (2, 3), so output i reads pixel 2 i.
    conv = SameConv2d(1, 1, 7, 2, "tensorflow").requires_grad_(False)
    conv.weight.zero_()[0, 0, 2, 2] = 1.0
    conv.bias.fill_(0.0)
    row = torch.arange(28.0).expand(1, 1, 28, 28)
    assert conv(row)[0, 0, 5].tolist() == list(range(0, 28, 2))


def test_symmetric_padding_starts_half_a_kernel_early():
    conv = SameConv2d(1, 1, 3, 2, "symmetric").requires_grad_(False)
    conv.weight.zero_()[0, 0, 1, 1] = 1.0  # the centre: output i reads pixel 2 i
    conv.bias.fill_(0.0)
    ramp = torch.arange(16.0).view(1, 1, 4, 4)
    assert conv(ramp).flatten().tolist() == [0.0, 2.0, 8.0, 10.0]
    assert SameConv2d(1, 1, 5, 2, "symmetric")(torch.zeros(1, 1, 7, 9)).shape[2:] == (4, 5)


def test_maxpool_pads_at_the_end():
    (traced,) = trace(("maxpool 2",), (1, 7, 7), (1, 28, 28), 0)
    pool = layers.build(traced, 0, "tensorflow", upsample=False)
    x = -torch.arange(49.0).view(1, 1, 7, 7)  # negative: padding must never win
    y = pool(x)
    assert y.shape == (1, 1, 4, 4)
    assert y[0, 0, 0].tolist() == [0.0, -2.0, -4.0, -6.0]
    assert y[0, 0, 3].tolist() == [-42.0, -44.0, -46.0, -48.0]


# ── upsampling and convolution in one ────────────────────────────────────────────────────────────


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("grid", [(7, 7), (5, 4), (1, 3), (1, 1)])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9])
def test_upsampled_convolution_is_upsampling_then_convolution(kernel, grid, channels_last):
    torch.manual_seed(kernel)
    folded = UpsampledConv(3, 4, kernel)
    plain = nn.Conv2d(3, 4, kernel, padding=kernel // 2)
    plain.load_state_dict(folded.state_dict())  # same names, same weights: nothing else is saved
    assert set(folded.state_dict()) == {"weight", "bias"}
    x = torch.randn(2, 3, *grid)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
        folded = folded.to(memory_format=torch.channels_last)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y = folded(ours)
    expected = plain(F.interpolate(theirs, scale_factor=2, mode="nearest"))
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)

    weight = torch.randn_like(expected)
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(folded.weight.grad, plain.weight.grad, rtol=1e-5, atol=3e-5)
    torch.testing.assert_close(folded.bias.grad, plain.bias.grad, rtol=1e-5, atol=3e-5)


def test_upsampled_convolution_in_double_precision():
    torch.manual_seed(0)
    folded = UpsampledConv(2, 3, 5).double()
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64)
    expected = F.conv2d(
        x.repeat_interleave(2, 2).repeat_interleave(2, 3), folded.weight, None, 1, 2
    )
    torch.testing.assert_close(
        folded(x), expected + folded.bias.view(1, -1, 1, 1), rtol=1e-12, atol=1e-12
    )


def test_a_network_folds_up_into_the_convolution_that_follows(configure):
    # conv 64 k5 follows `up 2`; conv 32 k3 does not; `up 2` before an activation stays.
    config = configure(recipe="tutorial").model
    stages = Model(config).decoder.body.stages
    assert [type(stage) for stage in stages if isinstance(stage, (nn.Conv2d, nn.Upsample))] == [
        UpsampledConv,
        SameConv2d,
        nn.Upsample,
        SameConv2d,
    ]


# ── labels ───────────────────────────────────────────────────────────────────────────────────────


def test_label_appends_one_hot_values_or_maps():
    label, classes = Label(4), torch.tensor([2, 0])
    vector = label(torch.tensor([[7.0, 8.0], [9.0, 6.0]]), classes)
    assert vector.tolist() == [[7, 8, 0, 0, 1, 0], [9, 6, 1, 0, 0, 0]]
    grid = label(torch.full((2, 1, 2, 3), 5.0), classes)
    assert grid.shape == (2, 5, 2, 3)
    assert grid[:, 0].eq(5).all()
    assert torch.equal(grid[:, 1:].amax((2, 3)), F.one_hot(classes, 4).float())
    assert torch.equal(grid[:, 1:].amin((2, 3)), F.one_hot(classes, 4).float())
    x = torch.randn(2, 3)
    assert Label(0)(x, None) is x


def test_film_scales_and_shifts_by_class():
    film = Film(2, 3).requires_grad_(False)
    x = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # (1, 2, 1, 2)
    assert torch.equal(film(x, torch.tensor([1])), x)  # zero tables: the identity
    film.scale.copy_(torch.tensor([[0.0, 0.0], [1.0, -1.0], [9.0, 9.0]]))
    film.shift.copy_(torch.tensor([[0.0, 0.0], [10.0, 0.5], [9.0, 9.0]]))
    y = film(x, torch.tensor([1]))
    assert y.flatten().tolist() == [12.0, 14.0, 0.5, 0.5]
    vectors = film(torch.tensor([[1.0, 1.0], [1.0, 1.0]]), torch.tensor([0, 1]))
    assert vectors.tolist() == [[1.0, 1.0], [12.0, 0.5]]
    assert Film(2, 0)(x, None) is x


def test_logit_is_linear_plus_projection():
    logit = Logit(3, 2, project=True).requires_grad_(False)
    logit.linear.weight.copy_(torch.tensor([[1.0, 2.0, 3.0]]))
    logit.linear.bias.fill_(0.5)
    logit.embedding.weight.copy_(torch.tensor([[0.0, 1.0], [0.0, 2.0], [5.0, 0.0]]))  # (units, K)
    x = torch.tensor([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0]])
    # 6.5 + <(1,2,0), x>; 5.5 + <(0,0,5), x>
    assert logit(x, torch.tensor([1, 0])).tolist() == [9.5, 10.5]
    plain = Logit(3, 2, project=False)
    assert plain.embedding is None
    assert plain(x, torch.tensor([0, 1])).shape == (2,)


def test_classes_read_a_vector_in_single_precision():
    read = Classes(3, 2).requires_grad_(False)
    read.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))
    read.bias.copy_(torch.tensor([0.5, 0.0]))
    with torch.autocast("cpu", torch.bfloat16):
        logits = read(torch.tensor([[1.0, 1.0, 9.0]], dtype=torch.bfloat16))
    assert logits.dtype == torch.float32
    assert logits.tolist() == [[1.5, 2.0]]


# ── taps and residuals ───────────────────────────────────────────────────────────────────────────


def test_a_tap_reads_the_path_and_does_not_change_it(configure):
    torch.manual_seed(0)
    with_tap = Model(configure(recipe="tutorial").model)
    lines = [line for line in with_tap.config.architecture.discriminator if "features" not in line]
    config = configure("cgan", "tutorial", model__architecture__discriminator=lines).model
    without = Model(config)
    weights = {
        name: t for name, t in with_tap.discriminator.state_dict().items() if "branch" not in name
    }
    own = without.discriminator.state_dict()
    without.discriminator.load_state_dict(dict(zip(own, weights.values())))
    images, labels = torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2])
    judged = with_tap.discriminator(images, labels)
    assert torch.equal(judged.logits, without.discriminator(images, labels).logits)
    assert [f.shape for f in judged.features] == [(3, 16, 1, 1)]


def test_a_tap_without_channels_is_the_activation_itself():
    x = torch.randn(2, 3, 4, 4)
    assert Tap(3, 0, 1)(x) is x
    assert not list(Tap(3, 0, 1).parameters())
    assert Tap(3, 5, 3)(x).shape == (2, 5, 4, 4)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.75])
def test_dropout_drops_its_share_everywhere_alike(rate):
    torch.manual_seed(3)
    x = torch.ones(500, 4, 10, 10).contiguous(memory_format=torch.channels_last)
    for images in (x, x.contiguous()):
        y = layers.Dropout(rate).train()(images)
        kept = torch.tensor(1 / (1 - round(rate * 65536) / 65536))
        torch.testing.assert_close(y, torch.where(y == 0, 0.0, kept))
        dropped = (y == 0).double()
        near = 5 * (rate * (1 - rate)) ** 0.5
        assert abs(dropped.mean() - rate) < near / dropped.numel() ** 0.5
        # Four numbers share a draw: no place among them is favoured, none knows its neighbour.
        last = images.is_contiguous(memory_format=torch.channels_last)
        lanes = (dropped.movedim(1, -1) if last else dropped).reshape(-1, 4)
        assert (lanes.mean(0) - rate).abs().max() < near / len(lanes) ** 0.5
        together = torch.corrcoef(lanes.T) - torch.eye(4)
        assert together.abs().max() < 5 / len(lanes) ** 0.5
        assert y.stride() == images.stride()


def test_dropout_of_nearly_everything_keeps_its_mean():
    torch.manual_seed(4)
    y = layers.Dropout(1 - 1e-9).train()(torch.ones(1 << 20))
    assert y.unique().tolist() == [0.0, 65536.0]
    assert 0.2 < y.mean() < 3  # sixteen are expected to be kept


def test_residual_formula():
    torch.manual_seed(0)
    (traced,) = trace(("residual 4 k3",), (2, 5, 5), (1, 8, 8), 0)
    block = layers.build(traced, 0, "tensorflow", upsample=False)
    x = torch.randn(2, 2, 5, 5)
    act = lambda t: torch.where(t > 0, t, 0.2 * t)
    conv = lambda t, c, pad: F.conv2d(t, c.weight, c.bias, padding=pad)
    inner = conv(act(conv(act(x), block.first, 1)), block.second, 1)
    torch.testing.assert_close(block(x), conv(x, block.shortcut, 0) + inner)


def test_a_deconvolution_doubles_the_grid():
    (traced,) = trace(("deconv 4 k5",), (2, 3, 5), (1, 8, 8), 0)
    module = layers.build(traced, 0, "tensorflow", upsample=False)
    assert module(torch.zeros(1, 2, 3, 5)).shape[1:] == traced.after == (4, 6, 10)


# ── initial weights ──────────────────────────────────────────────────────────────────────────────


def test_initial_weights_have_the_named_distribution():
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 64, 5)
    fan_in, fan_out = 16 * 25, 64 * 25
    layers.initialise(conv, "glorot")
    limit = np.sqrt(6 / (fan_in + fan_out))
    assert conv.weight.abs().max().item() == pytest.approx(limit, rel=1e-3)
    assert conv.weight.std().item() == pytest.approx(limit / np.sqrt(3), rel=0.02)
    layers.initialise(conv, "he")
    assert conv.weight.std().item() == pytest.approx(np.sqrt(2 / (1 + 0.2**2) / fan_in), rel=0.02)
    layers.initialise(conv, "gaussian")
    assert conv.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not conv.bias.any()
