import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from vaegan import norms
from vaegan.layers import Film
from vaegan.model import Model
from vaegan.norms import GroupNorm, SpectralNorm

# ── spectral norm ────────────────────────────────────────────────────────────────────────────────


def normalised(module: nn.Module) -> nn.Module:
    norms.normalise_spectrally(module)
    return module


@pytest.mark.parametrize(
    "module",
    [nn.Linear(20, 7), nn.Conv2d(3, 8, 5), nn.Linear(6, 6)],
    ids=["wide", "conv", "square"],
)
def test_spectral_norm_converges_to_the_largest_singular_value(module):
    raw = module.weight.detach().clone().flatten(1)
    sigma = torch.linalg.svdvals(raw)[0]
    module = normalised(module)
    for _ in range(300):
        norms.refresh_spectra(module)
    torch.testing.assert_close(module.weight.flatten(1), raw / sigma, rtol=1e-5, atol=1e-6)
    assert torch.linalg.svdvals(module.weight.detach().flatten(1))[0] == pytest.approx(1, abs=1e-5)


def test_spectral_norm_changes_only_when_refreshed():
    torch.manual_seed(3)
    module = normalised(nn.Linear(9, 5)).train()
    before = {name: t.clone() for name, t in module.state_dict().items()}
    x = torch.randn(4, 9)
    first = module(x)
    second = module(x)
    first.sum().backward()
    assert torch.equal(first, second)
    assert all(torch.equal(before[name], t) for name, t in module.state_dict().items())
    with torch.no_grad():
        module.parametrizations.weight.original.mul_(torch.linspace(1, 2, 9))
    norms.refresh_spectra(module)
    changed = [name for name, t in module.state_dict().items() if not torch.equal(before[name], t)]
    assert {name.rpartition(".")[2] for name in changed} == {"original", "u", "v"}


def test_gradient_through_the_spectral_norm():
    # u and v are constants: d(W / u'Wv) of a loss <G, W / s> is (G - <G, W/s> u v') / s.
    torch.manual_seed(4)
    module = normalised(nn.Linear(5, 3, bias=False)).double()
    (norm,) = module.parametrizations.weight
    assert isinstance(norm, SpectralNorm)
    weight, g = module.parametrizations.weight.original, torch.randn(3, 5, dtype=torch.float64)
    (module.weight * g).sum().backward()
    s = norm.u @ weight.detach() @ norm.v
    expected = (g - (g * weight.detach() / s).sum() * torch.outer(norm.u, norm.v)) / s
    torch.testing.assert_close(weight.grad, expected, rtol=1e-10, atol=1e-12)


def test_every_weight_of_the_default_discriminator_is_normalised(configure):
    network = Model(configure(recipe="default").model).discriminator
    weighty = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(weighty) == 7  # four convolutions, the classes, the logit and its label table
    assert all(parametrize.is_parametrized(module, "weight") for module in weighty)


# ── group norm ───────────────────────────────────────────────────────────────────────────────────


def normed_and_filmed(groups, x, labels, layout=torch.contiguous_format, plain=False):
    """Group norm, then a film: folded as ours is, or as torch has it; with all gradients."""
    own = torch.Generator().manual_seed(7)
    norm, film = GroupNorm(groups, x.shape[1]), Film(x.shape[1], 3)
    for parameter in (*norm.parameters(), *film.parameters()):
        parameter.data = torch.randn(parameter.shape, generator=own, dtype=torch.float64)
    x = x.double()
    x = (x.contiguous(memory_format=layout) if x.ndim == 4 else x).requires_grad_()
    if plain:
        y = film(F.group_norm(x, groups, norm.weight, norm.bias), labels)
    else:
        y = norm(x, film.terms(labels))
    weights = torch.randn(y.shape, generator=own, dtype=torch.float64)
    weights = weights.contiguous(memory_format=layout) if x.ndim == 4 else weights
    wanted = [x, *norm.parameters(), *(film.parameters() if labels is not None else ())]
    return y, torch.autograd.grad((y * weights).sum(), wanted)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(
    ("groups", "shape"),
    [(2, (5, 6, 4, 3)), (6, (2, 6, 1, 5)), (1, (1, 4, 2, 2)), (2, (3, 8)), (3, (2, 6, 7))],
)
def test_group_norm_and_its_film_are_those_of_torch(groups, shape, labelled, layout):
    x = 3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(len(x)) % 3 if labelled else None
    ours, gradients = normed_and_filmed(groups, x, labels, layout)
    plain, expected = normed_and_filmed(groups, x, labels, layout, plain=True)
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-12)
    for own, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-11)


def test_group_norm_of_half_precision_is_computed_in_single_and_keeps_the_layout():
    x = (100 + torch.randn(4, 6, 5, 5)).to(torch.bfloat16)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = GroupNorm(2, 6)(x)
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, F.group_norm(x.float(), 2).to(torch.bfloat16))
    (gradient,) = torch.autograd.grad(y, x, torch.randn_like(y))
    assert gradient.dtype == torch.bfloat16
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_group_norm_of_a_half_model_does_not_overflow():
    x = (300 * torch.randn(2, 4, 16, 16)).half()
    y = GroupNorm(2, 4).half()(x)
    torch.testing.assert_close(y, F.group_norm(x.float(), 2).half())


def test_group_norm_refuses_second_derivatives_and_allows_jacobians():
    norm = GroupNorm(2, 4).double()
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(norm(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
    own = torch.autograd.functional.jacobian(norm, x)
    plain = torch.autograd.functional.jacobian(lambda x: F.group_norm(x, 2), x)
    torch.testing.assert_close(own, plain)
