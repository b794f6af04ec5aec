"""The learned prior: a density over latents that is fitted to the codes, and sampled from."""

import math

import pytest
import torch

from vaegan.config import SYSTEMS
from vaegan.errors import ConfigError
from vaegan.model import Model
from vaegan.presets import PRIOR, RECIPES
from vaegan.prior import Prior
from vaegan.settings import idle


def prior_of(configure, latents=4, seed=0, system="cvae-gan", **settings) -> Prior:
    """A prior of double precision that is far from the identity."""
    model = Model(configure(system, "dense", latent_dim=latents, **settings).model).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.decoder.prior.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.3 * noise)
    return model.decoder.prior


@pytest.mark.parametrize("latents", [1, 2, 5, 8])
def test_the_density_is_that_of_the_draws(configure, latents):
    """Change of variables, with the determinant that autograd finds."""
    prior = prior_of(configure, latents)
    normal = torch.randn(6, latents, generator=torch.Generator().manual_seed(1)).double()
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    with torch.no_grad():
        drawn = prior(normal, labels)
        found = prior.negative_log_density(drawn, labels)
    for row, label in zip(range(6), labels):
        jacobian = torch.autograd.functional.jacobian(
            lambda u, label=label: prior(u[None], label[None])[0], normal[row]
        )
        density = 0.5 * normal[row].square().sum() + 0.5 * latents * math.log(2 * math.pi)
        assert found[row].item() == pytest.approx((density + jacobian.slogdet()[1]).item())
    assert not torch.allclose(drawn, normal, atol=0.1)
    if latents > 1:  # every latent depends on the others
        assert (jacobian.abs() > 1e-9).all()


def test_it_begins_as_a_standard_normal(configure):
    prior = Model(configure("cvae-gan", "dense").model).decoder.prior
    normal, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    assert prior.learned
    assert torch.equal(prior(normal, labels), normal)
    expected = -torch.distributions.Normal(0, 1).log_prob(normal).sum(1)
    torch.testing.assert_close(prior.negative_log_density(normal, labels), expected)


def test_the_label_matters(configure):
    prior = prior_of(configure)
    normal = torch.randn(3, 4, dtype=torch.float64)
    with torch.no_grad():
        a, b = (prior(normal, torch.full((3,), label)) for label in (0, 1))
    assert (a - b).abs().min() > 1e-6
    unconditional = prior_of(configure, system="vae-gan")
    assert unconditional(normal, None).shape == (3, 4)


@pytest.mark.slow
def test_it_learns_a_density_that_no_normal_is(configure):
    """Two points a label, far apart: hardly a draw falls between them."""
    torch.manual_seed(0)
    prior = Model(configure("cvae-gan", "dense", latent_dim=2).model).decoder.prior
    labels = torch.arange(512) % 2
    centres = torch.tensor([[-2.0, 0.0], [2.0, 0.0], [0.0, -2.0], [0.0, 2.0]])
    optimiser = torch.optim.Adam(prior.parameters(), 3e-3)
    for _ in range(600):
        codes = centres[2 * labels + torch.randint(0, 2, (512,))] + 0.3 * torch.randn(512, 2)
        optimiser.zero_grad()
        loss = prior.negative_log_density(codes, labels).mean()
        loss.backward()
        optimiser.step()
    entropy = math.log(2 * math.pi * math.e * 0.3**2) + math.log(2)
    assert loss.item() == pytest.approx(entropy, abs=0.25)
    with torch.no_grad():
        drawn = prior(torch.randn(512, 2), labels)
    for label in (0, 1):
        own = drawn[labels == label]
        near = torch.cdist(own, centres[2 * label : 2 * label + 2]).amin(1) < 1.0
        assert near.float().mean() > 0.9
        share = (own[:, label] > 0).float().mean()
        assert 0.35 < share < 0.65


@pytest.mark.parametrize("system", SYSTEMS)
def test_it_belongs_to_systems_with_codes_and_a_game(configure, system):
    """A VAE's prior is N(0, I), a GAN has no codes, an autoencoder no prior."""
    prior = Model(configure(system, "dense").model).decoder.prior
    assert prior.learned == system.endswith("vae-gan")


@pytest.mark.parametrize("system", ["vae-gan", "cvae-gan"])
def test_samples_and_manifolds_are_drawn_from_it(configure, system):
    model = Model(configure(system, "default").model)
    assert model.config.temperature == 1.1
    with torch.no_grad():
        model.decoder.prior.couplings[0].gains.fill_(0.5)
    normal = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
    labels = torch.arange(6) % 3 if system == "cvae-gan" else None
    drawn = model.prior_latents(normal, labels)
    assert not torch.allclose(drawn, normal, atol=1e-3)
    sampled = model.sample(6, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.equal(sampled, model.decode(drawn, labels))
        assert not torch.allclose(sampled, model.decode(normal, labels), atol=1e-4)
        middle = torch.zeros(1, 4)
        label = None if labels is None else labels[:1]
        centre = model.decode(model.prior_latents(middle, label), label)
    grid = model.manifold(None if labels is None else 0, n=3)
    torch.testing.assert_close(grid[4:5], centre, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_temperature_is_that_of_a_fitted_prior(configure, system):
    fitted = system.endswith("vae-gan")
    config = configure(system, "default").model
    assert config.temperature == (1.1 if fitted else 1.0)
    model = Model(config.model_copy(update={"temperature": 2.0}))
    normal, labels = torch.randn(3, 4), torch.arange(3) if config.num_classes else None

    def drawn(factor):
        with torch.no_grad():
            return model.decoder.prior(factor * normal, labels)

    assert torch.equal(model.prior_latents(normal, labels), drawn(2 if fitted else 1))
    assert torch.equal(model.prior_latents(normal, labels, 3), drawn(3))


def test_without_couplings_there_is_no_temperature(configure):
    lines = [line for line in RECIPES["default"].architecture.decoder if "coupling" not in line]
    plain = {"model__architecture__decoder": lines}
    assert configure("cvae-gan", "default", **plain).model.temperature == 1.0
    for system, changed in (("cvae-gan", plain), ("gan", {})):
        config = configure(system, "default", model__temperature=2.0, **changed)
        assert config.model.temperature == 1.0
        assert idle(["model.temperature"], config) == ["model.temperature"]


def test_a_manifold_lies_at_quantiles_whatever_the_temperature(configure):
    config = configure("vae-gan", "default").model
    cool, hot = (Model(config.model_copy(update={"temperature": t}), seed=1) for t in (1.0, 2.0))
    assert torch.equal(cool.manifold(n=3), hot.manifold(n=3))
    assert not torch.equal(cool.sample(3), hot.sample(3))


@pytest.mark.parametrize(("network", "at"), [("decoder", 4), ("encoder", 0), ("discriminator", 1)])
def test_couplings_elsewhere_are_refused(configure, network, at):
    lines = list(getattr(RECIPES["dense"].architecture, network))
    lines.insert(at, "coupling 8")
    with pytest.raises(ConfigError, match="'coupling 8': couplings are the first lines of a dec"):
        Model(configure("vae-gan", "dense", **{f"model__architecture__{network}": lines}).model)


def test_without_couplings_the_prior_is_a_standard_normal(configure):
    lines = RECIPES["dense"].architecture.decoder[len(PRIOR) :]
    model = Model(configure("cvae-gan", "dense", model__architecture__decoder=lines).model)
    normal = torch.randn(2, 4)
    assert torch.equal(model.prior_latents(normal, torch.tensor([0, 1])), normal)
