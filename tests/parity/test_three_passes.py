"""The shared pass against the plain one: three networks, three forward passes, three losses.

`benchmarks.plain` writes every loss as the paper and the config say it, one network at a time. The
objective shares nearly everything, and must give the same gradient to every parameter.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, combinations

import pytest
import torch
from benchmarks.plain import Plain, plainly
from torch import nn

from vaegan.config import SYSTEMS
from vaegan.data.batches import Batches
from vaegan.draws import Draws
from vaegan.layers import UpsampledConv
from vaegan.model import Model
from vaegan.norms import GroupNorm
from vaegan.objectives import Objective
from vaegan.presets import PRIOR, RECIPES
from vaegan.schedules import DISCRIMINATOR, EVERYONE, GENERATOR

COMPARED = ("dense", "default", "tutorial", "larsen-small")


class FixedDropout(nn.Dropout):
    """Dropout whose mask depends on the module and the row alone: two programs can agree on it."""

    def __init__(self, p: float, seed: int):
        super().__init__(p)
        self.seed = seed

    def forward(self, x):
        if not self.training:
            return x
        generator = torch.Generator().manual_seed(self.seed)
        mask = torch.rand(x.shape, generator=generator) >= self.p
        return x * mask / (1 - self.p)


def gradients(plain: Plain) -> dict[str, dict[str, torch.Tensor | None]]:
    """d(loss of the network) / d(parameter of the network), None where there is none."""
    found = {}
    for name in plain.model.config.networks:
        parameters = dict(plain.model.network(name).named_parameters())
        taken = torch.autograd.grad(plain.loss(name), list(parameters.values()), allow_unused=True)
        found[name] = dict(zip(parameters, taken))
    return found


def prepared(config, dataset, dtype=torch.float64):
    """A model in training mode with agreed dropout, an objective, a batch and draws."""
    model = Model(config.model, config.seed).to(dtype).train()
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():  # no parameter at a special value: film tables and biases begin at zero
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(dtype)
            parameter.add_(0.05 * noise)
    for seed, (name, module) in enumerate(list(model.named_modules())):
        if isinstance(module, nn.Dropout):
            parent, _, last = name.rpartition(".")
            model.get_submodule(parent)[int(last)] = FixedDropout(module.p, seed)
    split = dataset.train
    if not config.model.num_classes:
        split = type(split)(split.pixels, None)
    batch = Batches(split, config.batch, config.seed)(3)
    batch = replace(batch, images=batch.images.to(dtype))
    draws = Draws.of(config.seed, 3, model, config.objective, config.batch, slice(None))
    parts = {name: value for name, value in vars(draws).items() if torch.is_tensor(value)}
    draws = replace(
        draws, **{k: v.to(dtype) if v.is_floating_point() else v for k, v in parts.items()}
    )
    return model, Objective(model.train(), config.objective), batch, draws


def assert_same(model, expected, active, rtol):
    """Every parameter of the active networks has the expected gradient, all others have none."""
    for network in model.config.networks:
        if network in active:
            assert_network(model, expected, network, rtol)
        else:
            untouched = all(p.grad is None for p in model.network(network).parameters())
            assert untouched, f"{network} must not be touched"


def assert_network(model, expected, network, rtol):
    """Every parameter of one network has the expected gradient."""
    theirs = expected[network]
    largest = max(g.abs().max().item() for g in theirs.values() if g is not None and g.numel())
    assert largest > 0, f"{network} has no gradient at all: nothing is compared"
    for name, parameter in model.network(network).named_parameters():
        zero = torch.zeros_like(parameter)
        torch.testing.assert_close(
            zero if parameter.grad is None else parameter.grad,
            zero if theirs[name] is None else theirs[name],
            rtol=rtol,
            atol=rtol * largest,
            msg=lambda text, at=f"{network}.{name}": f"{at}: {text}",
        )


def states(networks):
    """Every set of networks that a schedule can leave active, with the candidates of its pass."""
    every = chain.from_iterable(combinations(networks, n) for n in range(1, len(networks) + 1))
    yield from ((EVERYONE, frozenset(active)) for active in every)
    for candidates in (DISCRIMINATOR, GENERATOR):
        if active := candidates & set(networks):
            yield candidates, active


def check(config, dataset, dtype=torch.float64, rtol=1e-9, *, every_state=True):
    model, objective, batch, draws = prepared(config, dataset, dtype)
    plain = Plain(model, config.objective, batch, draws)
    expected = gradients(plain)
    usual = ((c, c & set(config.model.networks)) for c in (DISCRIMINATOR, GENERATOR, EVERYONE))
    for candidates, active in states(config.model.networks) if every_state else usual:
        model.zero_grad(set_to_none=True)
        evaluation = objective(batch, draws, candidates & set(config.model.networks))
        evaluation.backward(model, active)
        assert_same(model, expected, active, rtol)
        for network in active:
            ours = evaluation.values[f"{network}_loss"]
            assert ours == pytest.approx(plain.loss(network).item(), rel=max(rtol, 1e-9))


# ── every system and recipe ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("system", "recipe"),
    [(system, recipe) for system in SYSTEMS for recipe in COMPARED]
    + [("vae-gan", "tutorial-fixed"), ("cvae-gan", "tutorial-fixed")],
)
def test_gradients_equal_three_plain_passes(configure, data_of, double, system, recipe):
    config = configure(system, recipe, batch=5)
    check(config, data_of(config))


@pytest.mark.parametrize("recipe", ["tutorial", "default"])
def test_at_the_real_size(configure, bars, double, recipe):
    config = configure("cvae-gan", recipe, size=28, classes=10, latent_dim=8, batch=3)
    check(config, bars(28, 10), every_state=False)


@pytest.mark.parametrize("recipe", ["default", "tutorial", "larsen-small"])
def test_networks_with_obvious_layers_are_the_same_function(configure, data_of, double, recipe):
    """What the benchmarks time as plain PyTorch: no folded upsampling, PyTorch's spectral norm."""
    config = configure("cvae-gan", recipe, batch=5)
    model, objective, batch, draws = prepared(config, data_of(config))
    obvious = plainly(model)
    assert not any(isinstance(p, (GroupNorm, UpsampledConv)) for p in obvious.modules())
    for part in obvious.modules():  # PyTorch's refreshes its estimate in every pass; not here
        if type(part).__name__ == "_SpectralNorm":
            part.eval()
    evaluation = objective(batch, draws, EVERYONE)
    plain = Plain(obvious, config.objective, batch, draws)
    for network in model.config.networks:
        model.zero_grad(set_to_none=True)
        evaluation = objective(batch, draws, EVERYONE)
        evaluation.backward(model, {network})
        ours = [p.grad for p in model.network(network).parameters() if p.grad is not None]
        own = [p for p in obvious.network(network).parameters() if p.numel()]
        theirs = torch.autograd.grad(plain.loss(network), own, allow_unused=True)
        theirs = [gradient for gradient in theirs if gradient is not None]
        largest = max(gradient.abs().max().item() for gradient in ours)
        assert len(ours) == len(theirs) and largest > 0
        for our, their in zip(ours, theirs):
            torch.testing.assert_close(our, their, rtol=1e-9, atol=1e-9 * largest)


def test_obvious_dropout_is_that_of_torch_and_as_awake_as_ours(configure):
    model = Model(configure("cvae-gan", "tutorial").model)
    for awake in (True, False):
        parts = [p for p in plainly(model.train(awake)).modules() if isinstance(p, nn.Dropout)]
        assert parts and all(type(p) is nn.Dropout and p.training == awake for p in parts)


@pytest.mark.parametrize("recipe", ["dense", "default", "tutorial"])
def test_in_the_precision_that_trains(configure, data_of, recipe):
    config = configure("cvae-gan", recipe, batch=8)
    check(config, data_of(config), torch.float32, rtol=1e-4, every_state=False)


@pytest.mark.parametrize("recipe", [*COMPARED, "tutorial-fixed"])
def test_in_bfloat16_it_is_no_further_from_single_precision_than_the_plain_step(
    configure, data_of, recipe
):
    """Of both, the distance from the plain step's gradient in single precision, by network."""
    config = configure("cvae-gan", recipe, batch=16)
    model, objective, batch, draws = prepared(config, data_of(config), torch.float32)
    exact = gradients(Plain(model, config.objective, batch, draws))
    with torch.autocast("cpu", torch.bfloat16):
        halved = gradients(Plain(model, config.objective, batch, draws))
        evaluation = objective(batch, draws, EVERYONE)
    model.zero_grad(set_to_none=True)
    evaluation.backward(model, EVERYONE)
    for network in config.model.networks:
        ours = {name: p.grad for name, p in model.network(network).named_parameters()}
        plain, shared = (away(g, exact[network]) for g in (halved[network], ours))
        assert shared <= 1.3 * plain, network
        assert 1e-5 < shared < 0.5, network  # it was computed in half precision, and is a gradient


def away(given, exact):
    """|given - exact| / |exact| over all parameters."""
    pairs = [(given[name], g) for name, g in exact.items() if g is not None]
    gap = torch.stack([(a - b).norm() for a, b in pairs]).norm()
    return (gap / torch.stack([b.norm() for _, b in pairs]).norm()).item()


# ── every switch ─────────────────────────────────────────────────────────────────────────────────

SWITCHES = {
    "gamma small": {"similarity_weight": 1e-6},
    "gamma large": {"similarity_weight": 3.0},
    "gamma 0": {"similarity_weight": 0.0},
    "gamma and reconstructions judged": {"similarity_weight": 0.3, "reconstruction_weight": 0.7},
    "reconstructions judged": {"reconstruction_weight": 1.0},
    "VAE_Dis_l": {"adversarial_weight": 0.0},
    "VAE_Dis_l, reconstructions judged": {"adversarial_weight": 0.0, "reconstruction_weight": 1.0},
    "VAE_Dis_l, gamma": {"adversarial_weight": 0.0, "similarity_weight": 0.5},
    "transfer": {"transfer_weight": 1.5, "prior_weight": 0.25},
    "no transfer": {"transfer_weight": 0.0},
    "transfer alone": {"transfer_weight": 1.0, "prior_weight": 0.0},
    "cycle": {"cycle_weight": 2.0},
    "cycle, gamma": {"cycle_weight": 2.0, "similarity_weight": 0.2},
    "cycle, reconstructions judged": {"cycle_weight": 2.0, "reconstruction_weight": 1.0},
    "pixels": {"pixel_weight": 0.5, "similarity_weight": 0.2},
    "squared pixels": {"pixel_weight": 3.0, "pixel_loss": "mse", "reconstruction_weight": 1.0},
    "feature matching": {"feature_matching_weight": 5.0, "similarity_weight": 0.2},
    "cross-entropy of features": {"similarity_loss": "bce", "similarity_normalised": False},
    "normalised cross-entropy": {"similarity_loss": "bce", "similarity_normalised": True},
    "plain features": {"similarity_normalised": False},
    "saturating": {"adversarial_loss": "saturating", "reconstruction_weight": 0.5},
    "non-saturating": {"adversarial_loss": "non-saturating"},
    "hinge": {"adversarial_loss": "hinge", "reconstruction_weight": 0.5},
    "kl": {"kl_weight": 7.0, "similarity_weight": 0.1},
    "labels": {"label_weight": 0.7},
    "labels, sum per pixel": {"label_weight": 0.7, "reduction": "sum-per-pixel"},
    "labels of reconstructions": {"label_weight": 2.0, "reconstruction_weight": 0.5},
    "sum per pixel": {"reduction": "sum-per-pixel", "reconstruction_weight": 0.5},
    "torn": {"torn_weight": 0.7, "real_weight": 1.2},
    "torn, sum per pixel": {"torn_weight": 0.7, "reduction": "sum-per-pixel"},
    "torn and augmented": {"torn_weight": 0.4, "augment": 0.3, "adversarial_loss": "hinge"},
    "augmented": {"augment": 0.3, "reconstruction_weight": 0.5},
    "everything": {
        "augment": 0.2,
        "code_style_weight": 3.0,
        "cycle_weight": 1.0,
        "feature_matching_weight": 1.0,
        "label_weight": 0.5,
        "pixel_weight": 0.5,
        "reconstruction_weight": 0.5,
        "similarity_weight": 0.3,
        "torn_weight": 0.3,
        "transfer_weight": 1.0,
    },
}


UNCONDITIONAL = ("gamma small", "reconstructions judged", "torn", "everything")


@pytest.mark.parametrize(
    ("name", "system"),
    [(name, "cvae-gan") for name in SWITCHES] + [(name, "vae-gan") for name in UNCONDITIONAL],
)
def test_gradients_equal_under_every_switch(configure, data_of, double, name, system):
    settings = {f"objective__{key}": value for key, value in SWITCHES[name].items()}
    torn = SWITCHES[name].get("torn_weight", 0)  # one image in eight is
    config = configure(system, "dense", batch=17 if torn else 5, **settings)
    check(config, data_of(config))


@pytest.mark.parametrize("similarity_dropout", [False, True])
@pytest.mark.parametrize("augment", [0.0, 0.25])
def test_dropout_in_the_similarity_is_a_switch(
    configure, bars, double, similarity_dropout, augment
):
    config = configure(
        "cvae-gan",
        "tutorial",
        batch=4,
        size=12,
        objective__similarity_dropout=similarity_dropout,
        objective__augment=augment,
        objective__transfer_weight=0.5,
    )
    check(config, bars(12), every_state=False)


@pytest.mark.parametrize("batch", [6, 12])  # in the smaller, classes are missing or come once
@pytest.mark.parametrize("judged", [0.0, 0.5])
def test_the_style_of_transferred_images(configure, bars, double, batch, judged):
    config = configure(
        "cvae-gan",
        "default",
        batch=batch,
        classes=4,
        objective__style_weight=500.0,
        objective__similarity_weight=0.3,
        objective__reconstruction_weight=judged,
    )
    _, objective, images, draws = prepared(config, bars(8, 4))
    assert objective(images, draws, EVERYONE).values["style"] > 0.1
    check(config, bars(8, 4))


@pytest.mark.parametrize(
    ("batch", "style", "reduction"),
    [(6, 0.0, "mean"), (12, 50.0, "mean"), (6, 50.0, "sum-per-pixel"), (12, 0.0, "sum-per-pixel")],
)
def test_the_style_that_codes_do_not_say(configure, bars, double, batch, style, reduction):
    config = configure(
        "cvae-gan",
        "default",
        batch=batch,
        classes=4,
        latent_dim=3,
        objective__code_style_weight=200.0,
        objective__style_weight=style,
        objective__similarity_weight=0.3,
        objective__reduction=reduction,
    )
    _, objective, images, draws = prepared(config, bars(8, 4))
    assert objective(images, draws, EVERYONE).values["unsaid"] > 0.01
    check(config, bars(8, 4))


@pytest.mark.parametrize("kind", ["saturating", "non-saturating", "hinge"])
def test_gan_switches(configure, data_of, double, kind):
    config = configure(
        "cgan",
        "default",
        batch=8,
        objective__adversarial_loss=kind,
        objective__adversarial_weight=3.0,
        objective__label_weight=0.5,
        objective__torn_weight=0.5,
        objective__augment=0.2,
    )
    check(config, data_of(config))


@pytest.mark.parametrize(
    ("system", "settings"),
    [
        ("ae", {"objective__noise": 0.5}),
        ("cae", {"objective__sparsity": 1e-2}),
        ("ae", {"objective__pixel_loss": "mse", "objective__sparsity": 0.1}),
        ("vae", {"objective__pixel_loss": "mse", "objective__kl_weight": 0.3}),
        ("cvae", {"objective__noise": 0.2, "objective__kl_weight": 4.0}),
        ("cvae", {"model__logvar_limit": 0.02, "model__kl_logvar_limit": 0.01}),
    ],
)
def test_autoencoder_switches(configure, data_of, double, system, settings):
    config = configure(system, "dense", batch=5, **settings)
    check(config, data_of(config))


# ── a published failure ──────────────────────────────────────────────────────────────────────────


def three_backwards_on_one_graph(plain: Plain, a: float):
    """What pythae 0.1.2's VAEGAN does: no detach, three backwards that pile up in `.grad`.

    encoder KL + S, decoder (1 - a) S - a L_GAN, discriminator L_GAN, all on one graph.
    """
    model, x, y = plain.model, plain.x, plain.y
    model.zero_grad(set_to_none=True)
    mean, logvar = model.encoder(x, y)
    z = plain.sampled(mean, logvar)
    rebuilt = torch.sigmoid(model.decoder(z, y))
    made = torch.sigmoid(model.decoder(plain.draws.prior, y))
    similarity = plain.similarity(plain.judge(x, y), plain.judge(rebuilt, y))
    l_gan = plain.l_gan(plain.judge(x, y), {"prior": plain.judge(made, y)})
    kl = plain.reduce(plain.kl(mean, logvar))
    (kl + similarity).backward(retain_graph=True)
    ((1 - a) * similarity - a * l_gan).backward(retain_graph=True)
    l_gan.backward()
    return similarity, l_gan


def test_three_backwards_on_one_undetached_graph_are_caught(configure, data_of, double):
    config = configure(
        "vae-gan",
        "dense",
        batch=6,
        model__architecture__decoder=RECIPES["dense"].architecture.decoder[len(PRIOR) :],
        objective__adversarial_loss="saturating",
        objective__adversarial_weight=0.5,
        objective__similarity_weight=0.5,
        objective__transfer_weight=0.0,
    )
    model, objective, batch, draws = prepared(config, data_of(config))
    plain = Plain(model, config.objective, batch, draws)
    expected = gradients(plain)
    objective(batch, draws, EVERYONE).backward(model, EVERYONE)
    assert_same(model, expected, EVERYONE, 1e-9)

    three_backwards_on_one_graph(plain, a=0.5)
    for network in ("encoder", "decoder"):
        with pytest.raises(AssertionError, match=f"{network}.*not close"):
            assert_network(model, expected, network, 1e-2)

    # What the decoder gets of the game is exactly -1 times its own gradient of it: it helps D.
    parameters = list(model.decoder.parameters())
    z = plain.sampled(*model.encoder(batch.images, None)).detach()
    rebuilt = torch.sigmoid(model.decoder(z, None))
    similarity = plain.similarity(*plain.compared(rebuilt))
    judged = plain.judge(torch.sigmoid(model.decoder(draws.prior, None)), None)
    game = 0.5 * plain.fooling({"prior": judged})
    flat = lambda gradients: torch.cat([g.flatten() for g in gradients])
    of_similarity, of_game = (flat(torch.autograd.grad(s, parameters)) for s in (similarity, game))
    received = flat(p.grad for p in parameters)
    torch.testing.assert_close(received, 1.5 * of_similarity - of_game)
    torch.testing.assert_close(flat(expected["decoder"].values()), 0.5 * of_similarity + of_game)
