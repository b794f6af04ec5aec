import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from vaegan.errors import Unsupported
from vaegan.posterior import Posterior


def drawn(seed=0, size=(6, 5)):
    generator = torch.Generator().manual_seed(seed)
    mean, logvar = (torch.randn(size, generator=generator, dtype=torch.float64) for _ in "ml")
    return mean, logvar


def test_kl_equals_torch_distributions():
    mean, logvar = drawn()
    expected = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0))
    posterior = Posterior(mean, logvar)
    torch.testing.assert_close(posterior.kl_per_dimension(), expected)
    torch.testing.assert_close(posterior.kl(), expected.sum(1))
    assert (posterior.kl_per_dimension() >= 0).all()


def test_kl_equals_the_integral():
    # Integrate q log(q/p) for mean 0.7, std 1.4 by the midpoint rule.
    mean, std = 0.7, 1.4
    z = torch.linspace(-20, 20, 400_001, dtype=torch.float64)
    q, p = Normal(mean, std), Normal(0.0, 1.0)
    integral = (q.log_prob(z).exp() * (q.log_prob(z) - p.log_prob(z))).sum() * 1e-4
    posterior = Posterior(torch.tensor([[mean]]), torch.tensor([[2 * math.log(std)]]))
    assert posterior.kl().item() == pytest.approx(integral.item(), rel=1e-6)


def test_kl_is_zero_at_the_prior_and_has_the_known_gradient():
    mean, logvar = (torch.zeros(2, 3, dtype=torch.float64, requires_grad=True) for _ in "ml")
    assert Posterior(mean, logvar).kl().tolist() == [0.0, 0.0]
    mean, logvar = (t.requires_grad_() for t in drawn(1))
    Posterior(mean, logvar).kl().sum().backward()
    torch.testing.assert_close(mean.grad, mean.detach())
    torch.testing.assert_close(logvar.grad, (logvar.detach().exp() - 1) / 2)


def test_sample_is_mean_plus_std_times_noise():
    mean, logvar = drawn(2)
    noise = torch.randn(mean.shape, dtype=torch.float64)
    posterior = Posterior(mean, logvar)
    torch.testing.assert_close(posterior.std, (logvar / 2).exp())
    torch.testing.assert_close(posterior.sample(noise=noise), mean + (logvar / 2).exp() * noise)
    assert posterior.mode() is mean


def test_sample_follows_its_generator():
    posterior = Posterior(*(t.float() for t in drawn(3)))
    draw = lambda seed: posterior.sample(torch.Generator().manual_seed(seed))
    assert torch.equal(draw(5), draw(5))
    assert not torch.equal(draw(5), draw(6))
    noise = torch.randn(6, 5, generator=torch.Generator().manual_seed(5))
    assert torch.equal(draw(5), posterior.sample(noise=noise))


def test_samples_have_the_posteriors_moments():
    posterior = Posterior(torch.full((20_000, 1), 2.0), torch.full((20_000, 1), -1.0))
    z = posterior.sample(torch.Generator().manual_seed(0))
    assert z.mean().item() == pytest.approx(2.0, abs=0.02)
    assert z.var().item() == pytest.approx(math.exp(-1), rel=0.03)


def test_log_variances_are_clamped_once():
    mean, logvar = torch.zeros(1, 4), torch.tensor([[-99.0, -3.0, 3.0, 99.0]])
    posterior = Posterior(mean, logvar, limit=5.0)
    assert posterior.logvar.tolist() == [[-5, -3, 3, 5]]
    expected = Posterior(mean, torch.tensor([[-5.0, -3.0, 3.0, 5.0]])).kl()
    assert torch.equal(posterior.kl(), expected)
    assert torch.isfinite(posterior.kl()).all()


def test_the_tutorials_disagreement():
    # Sampling clips logvar / 2 to [-2, 2], the KL clips logvar to [-2, 2].
    mean, logvar = torch.zeros(1, 3), torch.tensor([[-3.0, 1.0, 9.0]])
    posterior = Posterior(mean, logvar, limit=4.0, kl_limit=2.0)
    assert posterior.std[0].tolist() == pytest.approx([math.exp(h) for h in (-1.5, 0.5, 2.0)])
    kl = [0.5 * (math.exp(v) - 1 - v) for v in (-2.0, 1.0, 2.0)]
    assert posterior.kl_per_dimension()[0].tolist() == pytest.approx(kl)


def test_a_point_has_no_variance_and_no_kl():
    mean = torch.randn(3, 2)
    point = Posterior(mean, None)
    assert point.logvar is None
    assert not point.std.any()
    assert point.sample() is mean
    assert point.mode() is mean
    with pytest.raises(Unsupported, match="train `vae` or `vae-gan`"):
        point.kl()
