"""What the losses of an objective are, and whom their gradients reach.

That they equal three plain passes is in parity/test_three_passes.py.
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from vaegan.data.batches import Batches
from vaegan.draws import Draws
from vaegan.model import Model
from vaegan.objectives import Objective
from vaegan.schedules import DISCRIMINATOR, EVERYONE, GENERATOR


@pytest.fixture
def prepare(bars):
    """Return the function that gives a model in training mode, its objective, batch and draws."""

    def prepared(config, index=0):
        model = Model(config.model, config.seed).train()
        batches = Batches(bars(config.model.image_size, 3).train, config.batch, config.seed)
        batch = batches(index)
        if not config.model.num_classes:
            batch = replace(batch, labels=None)
        draws = Draws.of(config.seed, index, model, config.objective, config.batch, slice(None))
        return model, Objective(model, config.objective), batch, draws

    return prepared


def gradients(model, evaluation, active=EVERYONE):
    model.zero_grad(set_to_none=True)
    evaluation.backward(model, active & set(model.config.networks))
    return {
        name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()
    }


def same(ours, theirs, network):
    """Whether the gradients of a network agree to single precision, as one long vector."""
    names = [name for name in ours if name.startswith(network)]
    assert [ours[n] is None for n in names] == [theirs[n] is None for n in names]
    a, b = (torch.cat([g[n].flatten() for n in names if g[n] is not None]) for g in (ours, theirs))
    return bool((a - b).norm() <= 1e-5 * a.norm())


# ── how often a network runs ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("candidates", "judged", "passes", "graphs"),
    [
        (EVERYONE, 0.0, (1, 2, 3), 3),
        (EVERYONE, 0.5, (1, 2, 3), 3),
        (GENERATOR, 0.0, (1, 2, 3), 2),  # originals are constants
        (DISCRIMINATOR, 0.5, (1, 2, 3), 3),
        (DISCRIMINATOR, 0.0, (1, 1, 2), 2),  # nobody asks for reconstructions
    ],
)
def test_no_network_runs_for_nothing(configure, prepare, candidates, judged, passes, graphs):
    """Encoder once; decoder and D once for reconstructions, once for all else; D for originals.

    `graphs`: passes of D that are recorded, to be differentiated.
    """
    model, objective, batch, draws = prepare(
        configure(objective__reconstruction_weight=judged, objective__similarity_weight=1.0)
    )
    runs, recorded = dict.fromkeys(model.config.networks, 0), []

    def counted(network, given, judgement):
        name = next(name for name in runs if model.network(name) is network)
        runs[name] += 1
        if name == "discriminator":
            recorded.append(judgement.logits.requires_grad)

    for name in runs:
        model.network(name).register_forward_hook(counted)
    objective(batch, draws, candidates)
    assert (runs["encoder"], runs["decoder"], runs["discriminator"]) == passes
    assert sum(recorded) == graphs


@pytest.mark.parametrize(("candidates", "passes"), [(EVERYONE, 5), (GENERATOR, 4)])
def test_originals_are_judged_once_unless_with_and_without_dropout(
    configure, prepare, candidates, passes
):
    """D with dropout for the game, without for the similarity: originals twice if it learns."""
    model, objective, batch, draws = prepare(configure("cvae-gan", "tutorial-fixed"))
    runs = []
    model.discriminator.register_forward_hook(lambda *_: runs.append(1))
    objective(batch, draws, candidates)
    assert len(runs) == passes


# ── whom a gradient reaches ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("gamma", [1.0, 0.01])
@pytest.mark.parametrize("judged", [0.0, 0.5])
def test_the_game_never_reaches_the_encoder(configure, prepare, gamma, judged):
    def taken(weight):
        config = configure(
            objective__adversarial_weight=weight,
            objective__reconstruction_weight=judged,
            objective__similarity_weight=gamma,
        )
        model, objective, batch, draws = prepare(config)
        return gradients(model, objective(batch, draws, EVERYONE))

    small, large = taken(1.0), taken(1000.0)
    assert same(small, large, "encoder")
    assert not same(small, large, "decoder")
    assert same(small, large, "discriminator")


@pytest.mark.parametrize(
    "settings",
    [
        {"objective__similarity_weight": 50.0},
        {"objective__similarity_loss": "bce"},
        {"objective__similarity_normalised": False},
        {"objective__kl_weight": 50.0},
        {"objective__pixel_weight": 5.0},
        {"objective__cycle_weight": 5.0},
        {"objective__feature_matching_weight": 5.0},
        {"objective__adversarial_weight": 0.0},
    ],
    ids=lambda settings: next(iter(settings)).removeprefix("objective__"),
)
def test_only_the_game_reaches_the_discriminator(configure, prepare, settings):
    def taken(**changes):
        model, objective, batch, draws = prepare(configure(**changes))
        return gradients(model, objective(batch, draws, EVERYONE))

    plain, changed = taken(), taken(**settings)
    assert same(plain, changed, "discriminator")
    assert not (same(plain, changed, "encoder") and same(plain, changed, "decoder"))


def test_the_kl_never_reaches_the_decoder_and_gamma_never_the_encoder(configure, prepare):
    def taken(**changes):
        model, objective, batch, draws = prepare(configure(**changes))
        return gradients(model, objective(batch, draws, EVERYONE))

    plain = taken()
    strong = taken(objective__kl_weight=100.0)
    assert same(plain, strong, "decoder")
    assert not same(plain, strong, "encoder")
    gamma = taken(objective__similarity_weight=0.1)
    assert same(plain, gamma, "encoder")
    assert not same(plain, gamma, "decoder")


def test_without_the_game_the_decoder_learns_from_the_similarity_alone(configure, prepare):
    """Larsen's ablation VAE_Dis_l: its gradient is that of the reconstruction, whatever D says."""
    config = configure("vae-gan", objective__adversarial_weight=0.0)
    model, objective, batch, draws = prepare(config)
    ours = gradients(model, objective(batch, draws, EVERYONE))
    posterior = model.encode(batch.images)
    rebuilt = model.decode(posterior.sample(noise=draws.posterior))
    real, fake = (model.discriminator(x, None).features for x in (batch.images, rebuilt))
    loss = 0.0
    for r, f in zip(real, fake):
        error = 0.5 * (r.detach() - f).square().flatten(1).mean(1)
        loss = loss + 64 * (error / (r.detach().square().mean() + 1e-8)).mean() / len(real)
    expected = torch.autograd.grad(loss, list(model.decoder.body.parameters()))
    for (name, _), gradient in zip(model.decoder.body.named_parameters(), expected):
        torch.testing.assert_close(ours[f"decoder.body.{name}"], gradient, rtol=1e-4, atol=1e-6)
    # The discriminator keeps learning its own game.
    assert any(g is not None and g.any() for n, g in ours.items() if n.startswith("discriminator"))


def test_nothing_trains_the_tutorials_metric_layer(configure, prepare):
    for recipe, dead in (("tutorial", True), ("tutorial-fixed", False)):
        model, objective, batch, draws = prepare(configure("cvae-gan", recipe))
        taken = gradients(model, objective(batch, draws, EVERYONE))
        idle = [n for n, g in taken.items() if n.startswith("discriminator") and g is None]
        assert bool(idle) is dead
        assert all("branch" in name for name in idle)
        assert len(idle) == 2 * dead


@pytest.mark.parametrize("candidates", [DISCRIMINATOR, GENERATOR, EVERYONE])
def test_inactive_networks_are_not_touched(configure, prepare, candidates):
    model, objective, batch, draws = prepare(configure())
    evaluation = objective(batch, draws, candidates)
    for active in (candidates, frozenset({"decoder"}), frozenset({"encoder"}), frozenset()):
        if active <= candidates:
            taken = gradients(model, objective(batch, draws, candidates), active)
            touched = {name.partition(".")[0] for name, g in taken.items() if g is not None}
            assert touched == active
    assert ("encoder_loss" in evaluation.values) == ("encoder" in candidates)


def test_gradients_add_up_until_they_are_cleared(configure, prepare):
    model, objective, batch, draws = prepare(configure())
    once = gradients(model, objective(batch, draws, EVERYONE))
    objective(batch, draws, EVERYONE).backward(model, EVERYONE)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, 2 * once[name], rtol=1e-4, atol=1e-6)


# ── scales ───────────────────────────────────────────────────────────────────────────────────────


def test_losses_do_not_depend_on_the_batch_size(configure, prepare):
    """The same images twice are the same losses; the tutorial's sums double."""
    for reduction, factor in (("mean", 1), ("sum-per-pixel", 2)):
        config = configure(
            objective__reduction=reduction,
            objective__transfer_weight=0.0,  # it is made of the last half of a batch,
            objective__torn_weight=0.0,  # and torn of the first eighth
        )
        _, objective, batch, draws = prepare(config)
        twice = replace(
            batch, images=batch.images.repeat(2, 1, 1, 1), labels=batch.labels.repeat(2)
        )
        double = replace(
            draws,
            **{n: getattr(draws, n).repeat(2, 1) for n in ("posterior", "prior", "shift")},
            hop=draws.hop.repeat(2),
        )
        one = objective(batch, draws, EVERYONE).values
        two = objective(twice, double, EVERYONE).values
        for name in ("encoder_loss", "decoder_loss", "discriminator_loss", "kl", "similarity"):
            assert two[name] == pytest.approx(factor * one[name], rel=1e-4)


def test_the_kl_is_summed_over_latents_and_averaged_over_the_batch(configure, prepare):
    model, objective, batch, draws = prepare(configure("cvae", latent_dim=3))
    for parameter in (*model.encoder.mean.parameters(), *model.encoder.logvar.parameters()):
        nn.init.zeros_(parameter)
    nn.init.constant_(model.encoder.mean.bias, 2.0)
    assert objective(batch, draws, GENERATOR).values["kl"] == pytest.approx(3 * 2.0)


def test_the_tutorials_sums_over_784_pixels(configure, prepare):
    config = configure("cvae-gan", "tutorial", size=28, batch=2, latent_dim=8)
    model, objective, batch, draws = prepare(config)
    for parameter in (*model.encoder.mean.parameters(), *model.encoder.logvar.parameters()):
        nn.init.zeros_(parameter)
    nn.init.constant_(model.encoder.mean.bias, 1.0)
    values = objective(batch, draws, EVERYONE).values
    assert values["kl"] == pytest.approx(2 * 8 * 0.5 / 784)


def test_values_are_finite_detached_and_named(configure, prepare):
    model, objective, batch, draws = prepare(configure())
    values = objective(batch, draws, EVERYONE).values
    assert {"kl", "similarity", "gan", "fooling", "real_cost", "fake_cost"} <= set(values)
    assert {f"{name}_loss" for name in model.config.networks} <= set(values)
    assert all(math.isfinite(value) for value in values.values())


def test_costs_are_what_the_schedules_are_told(configure, prepare):
    model, objective, batch, draws = prepare(configure("cvae-gan", objective__transfer_weight=0.0))
    evaluation = objective(batch, draws, EVERYONE)
    with torch.no_grad():
        real = model.discriminator(batch.images, batch.labels).logits.double()
        made = model.decode(draws.prior, batch.labels)
        fake = model.discriminator(made, batch.labels).logits.double()
    assert evaluation.costs.real == pytest.approx(-real.sigmoid().log().mean().item(), rel=1e-5)
    assert evaluation.costs.fake == pytest.approx(
        -(1 - fake.sigmoid()).log().mean().item(), rel=1e-5
    )
    assert evaluation.costs.gan == pytest.approx(evaluation.values["gan"])


# ── what goes into the networks ──────────────────────────────────────────────────────────────────


def test_dropout_is_off_in_the_similarity_unless_asked_for(configure, prepare):
    """An encoder and decoder that reproduce the images: d(x, x) = 0, but for dropout's masks."""
    for asked in (False, True):
        config = configure(
            "vae-gan",
            "tutorial-fixed",
            objective__similarity_dropout=asked,
            objective__similarity_normalised=False,
        )
        model, objective, batch, draws = prepare(config)
        logits = torch.logit(batch.images.clamp(1e-6, 1 - 1e-6))

        class Perfect(nn.Module):
            def forward(self, latents, labels, logits=logits):
                return logits + 0 * latents.sum()

        model.decoder.forward = Perfect().forward
        values = objective(batch, draws, EVERYONE).values
        if asked:
            assert values["similarity"] > 1e-3
        else:
            assert values["similarity"] == pytest.approx(0, abs=1e-6)
        dropouts = [p for p in model.discriminator.modules() if isinstance(p, nn.Dropout)]
        assert dropouts and all(dropout.training for dropout in dropouts)


def test_transferred_images_have_the_mean_code_and_another_label(configure, prepare):
    config = configure("cvae-gan", batch=8, classes=3)
    model, objective, batch, draws = prepare(config)
    seen = []
    original = model.decoder.forward

    def spy(latents, labels):
        seen.append((latents.detach().clone(), labels.clone()))
        return original(latents, labels)

    model.decoder.forward = spy
    objective(batch, draws, EVERYONE)
    (z, y), (codes, labels) = seen
    mean = model.encode(batch.images, batch.labels).mean
    # Half the images that D is shown without an original are prior samples, half transferred.
    assert torch.equal(codes[:4], draws.prior[:4])
    assert torch.equal(labels[:4], y[:4])
    assert torch.equal(codes[4:], mean[4:])  # as `Model.transfer` decodes
    assert not torch.isclose(z, mean).any()  # reconstructions are of the sampled code
    assert (labels[4:] != y[4:]).all()
    assert ((labels >= 0) & (labels < 3)).all()


def test_a_denoising_autoencoder_sees_noise_and_is_asked_for_the_image(configure, prepare):
    config = configure("ae", objective__noise=0.5)
    model, objective, batch, draws = prepare(config)
    seen = []
    original = model.encoder.forward
    model.encoder.forward = lambda x, y: (seen.append(x), original(x, y))[1]
    values = objective(batch, draws, GENERATOR).values
    expected = (batch.images + 0.5 + 0.5 * draws.pixels).clamp(0, 1)
    torch.testing.assert_close(seen[0], expected)
    logits = model.decoder(original(expected, None)[0], None)
    bce = nn.functional.binary_cross_entropy_with_logits(logits, batch.images, reduction="none")
    assert values["pixel"] == pytest.approx(bce.flatten(1).sum(1).mean().item(), rel=1e-5)


def test_a_sparse_autoencoder_pays_for_its_code(configure, prepare):
    model, objective, batch, draws = prepare(configure("ae", objective__sparsity=0.25))
    values = objective(batch, draws, GENERATOR).values
    code = model.encoder(batch.images, None)[0]
    assert values["sparsity"] == pytest.approx(code.abs().sum(1).mean().item(), rel=1e-5)
    total = values["pixel"] + 0.25 * values["sparsity"]
    assert values["encoder_loss"] == pytest.approx(total, rel=1e-6)


def test_draws_are_a_function_of_seed_and_index(configure):
    config = configure("cvae", objective__noise=0.1, classes=5)
    model = Model(config.model)

    def of(seed, index, rows=slice(None)):
        torch.manual_seed(0)
        return vars(Draws.of(seed, index, model, config.objective, 8, rows))

    first, again = of(1, 4), of(1, 4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    for other in (of(2, 4), of(1, 5)):
        assert not any(torch.equal(first[name], other[name]) for name in ("posterior", "prior"))
    # Each rank keeps its rows of the same global draw.
    parts = of(1, 4, slice(0, 8, 2)), of(1, 4, slice(1, 8, 2))
    for name, whole in first.items():
        assert torch.equal(parts[0][name], whole[0::2])
        assert torch.equal(parts[1][name], whole[1::2])


def test_draws_have_their_distributions(configure):
    config = configure(classes=5)
    draws = Draws.of(0, 0, Model(config.model), config.objective, 20_000, slice(None))
    for normal in (draws.posterior, draws.prior):
        assert normal.mean().item() == pytest.approx(0, abs=0.01)
        assert normal.std().item() == pytest.approx(1, abs=0.01)
    assert abs(torch.corrcoef(torch.stack([draws.posterior[:, 0], draws.prior[:, 0]]))[0, 1]) < 0.03
    counts = draws.hop.bincount(minlength=5)
    assert counts[0] == 0  # never its own label
    assert (counts[1:] / 20_000).tolist() == pytest.approx([0.25] * 4, abs=0.02)
    assert draws.shift.abs().max() <= 1
    assert draws.pixels is None
