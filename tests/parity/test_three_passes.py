"""The shared pass against the plain one: three networks, three forward passes, three losses.

`Plain` writes every loss as the paper and the config say it, one network at a time, with `detach`
wherever a gradient must stop, and shares nothing. The objective shares nearly everything, and must
give the same gradient to every parameter.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, combinations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vaegan.config import SYSTEMS
from vaegan.data.batches import Batches
from vaegan.model import Model
from vaegan.objectives import Draws, Objective
from vaegan.schedules import DISCRIMINATOR, EVERYONE, GENERATOR

RECIPES = ("dense", "default", "tutorial", "larsen-small")


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


class Plain:
    """The losses of one batch, each in a forward pass of its own."""

    def __init__(self, model, config, batch, draws):
        self.model, self.config, self.draws = model, config, draws
        self.x, self.y = batch.images, batch.labels

    def gradients(self) -> dict[str, dict[str, torch.Tensor | None]]:
        """d(loss of the network) / d(parameter of the network), None where there is none."""
        found = {}
        for name in self.model.config.networks:
            parameters = dict(self.model.network(name).named_parameters())
            taken = torch.autograd.grad(
                self.loss(name), list(parameters.values()), allow_unused=True
            )
            found[name] = dict(zip(parameters, taken))
        return found

    def loss(self, network):
        family = self.model.config.family
        if family in ("ae", "vae"):
            return self.autoencoder()
        return self.gan(network) if family == "gan" else self.vae_gan(network)

    # Minus the ELBO, or the plain autoencoder's error.
    def autoencoder(self):
        seen = self.x
        if self.config.noise:
            seen = (seen + self.config.noise + self.config.noise * self.draws.pixels).clamp(0, 1)
        mean, logvar = self.model.encoder(seen, self.y)
        if logvar is None:
            loss = self.reduce(self.pixels(self.model.decoder(mean, self.y)))
            return loss + self.config.sparsity * self.reduce(mean.abs().sum(1))
        z = self.sampled(mean, logvar)
        loss = self.reduce(self.pixels(self.model.decoder(z, self.y)))
        return loss + self.config.kl_weight * self.reduce(self.kl(mean, logvar))

    # Goodfellow et al. 2014.
    def gan(self, network):
        fake = torch.sigmoid(self.model.decoder(self.draws.prior, self.y))
        if network == "discriminator":
            real, _ = self.judge(self.x, self.y)
            judged, _ = self.judge(fake.detach(), self.y)
            return self.l_gan(real, {"prior": judged}) + self.reading()
        judged, _ = self.judge(fake, self.y)
        fooling = self.fooling({"prior": judged})
        fooling = fooling + self.misread({"prior": self.unread(fake, self.y)})
        return self.config.adversarial_weight * fooling

    # Larsen et al. 2016, algorithm 1.
    def vae_gan(self, network):
        config, model, x, y = self.config, self.model, self.x, self.y
        mean, logvar = model.encoder(x, y)
        z = self.sampled(mean, logvar)
        if network != "encoder":
            z = z.detach()
        logits = model.decoder(z, y)
        rebuilt = torch.sigmoid(logits)
        kinds, codes, labels = self.fakes(z.detach())
        made = torch.sigmoid(model.decoder(codes, labels))

        if network == "discriminator":
            real, _ = self.judge(x, y)
            fakes = {"reconstruction": self.judge(rebuilt.detach(), y)[0]}
            fakes |= self.cut(self.judge(made.detach(), labels)[0], kinds)
            return self.l_gan(real, fakes) + self.reading()

        reconstruction = self.similarity(rebuilt)
        if config.pixel_weight:
            reconstruction = reconstruction + config.pixel_weight * self.reduce(self.pixels(logits))
        if network == "encoder":
            back = model.encoder(made.detach(), labels)[0]
            cycle = self.reduce(0.5 * (back - codes).square().sum(1))
            kl = self.reduce(self.kl(mean, logvar))
            return reconstruction + config.kl_weight * kl + config.cycle_weight * cycle

        back = model.encoder(made, labels)[0]
        cycle = self.reduce(0.5 * (back - codes).square().sum(1))
        judged, features = self.judge(made, labels)
        fakes = {"reconstruction": self.judge(rebuilt, y)[0]} | self.cut(judged, kinds)
        loss = config.similarity_weight * reconstruction + config.cycle_weight * cycle
        unread = self.cut(self.unread(made, labels), kinds)
        unread["reconstruction"] = self.unread(rebuilt, y)
        fooling = self.fooling(fakes) + self.misread(unread)
        loss = loss + config.adversarial_weight * fooling
        if config.feature_matching_weight:
            _, real = self.judge(x, y)
            parts = [self.cut(tap, kinds) for tap in features]
            gaps = [
                0.5
                * (part[kind].flatten(1).mean(0) - r.flatten(1).mean(0)).square().mean()
                / (r.detach().square().mean() + 1e-8)
                / len(real)
                for kind in kinds
                for r, part in zip(real, parts)
            ]
            loss = loss + config.feature_matching_weight * sum(gaps) / len(kinds)
        return loss

    # Terms.
    def sampled(self, mean, logvar):
        limit = self.model.config.logvar_limit
        return mean + torch.exp(logvar.clamp(-limit, limit) / 2) * self.draws.posterior

    def kl(self, mean, logvar):
        limit = self.model.config.kl_logvar_limit or self.model.config.logvar_limit
        clipped = logvar.clamp(-limit, limit)
        return -0.5 * (1 + clipped - mean**2 - torch.exp(clipped)).sum(1)

    def pixels(self, logits):
        if self.config.pixel_loss == "mse":
            return 0.5 * (torch.sigmoid(logits) - self.x).square().flatten(1).sum(1)
        error = -self.x * F.logsigmoid(logits) - (1 - self.x) * F.logsigmoid(-logits)
        return error.flatten(1).sum(1)

    def similarity(self, rebuilt):
        dropouts = [m for m in self.model.discriminator.modules() if isinstance(m, nn.Dropout)]
        for dropout in dropouts:
            dropout.train(self.config.similarity_dropout)
        _, real = self.judge(self.x, self.y)
        _, fake = self.judge(rebuilt, self.y)
        for dropout in dropouts:
            dropout.train()
        total = 0.0
        for r, f in zip(real, fake):
            r, f = r.detach().flatten(1), f.flatten(1)
            if self.config.similarity_loss == "bce":
                target = torch.sigmoid(r)
                error = -target * F.logsigmoid(f) - (1 - target) * F.logsigmoid(-f)
            else:
                error = 0.5 * (f - r) ** 2
            if self.config.similarity_normalised:
                share = error.mean(1) / (r.square().mean() + 1e-8)
                total = total + share * self.x[0].numel() / len(real)
            else:
                total = total + error.sum(1)
        return self.reduce(total)

    def fakes(self, z):
        size = len(z)
        if not self.config.transfer_weight or self.y is None:
            return {"prior": size}, self.draws.prior, self.y
        half, classes = size // 2, self.model.config.num_classes
        moved = (self.y + self.draws.hop) % classes
        codes = torch.cat([self.draws.prior[:half], z[half:]])
        return (
            {"prior": half, "transfer": size - half},
            codes,
            torch.cat([self.y[:half], moved[half:]]),
        )

    def cut(self, tensor, kinds):
        return dict(zip(kinds, tensor.split(list(kinds.values()))))

    def weight(self, kind):
        """The weight of a kind of fake; the prior takes over where a kind is missing."""
        weight = getattr(self.config, f"{kind}_weight")
        alone = self.model.config.family == "gan"
        if kind == "prior" and (self.y is None or alone):
            weight += self.config.transfer_weight
        if kind == "prior" and alone:
            weight += self.config.reconstruction_weight
        return weight

    def l_gan(self, real, fakes):
        cost = {
            True: lambda d: torch.clamp(1 - d, min=0),
            False: lambda d: -F.logsigmoid(d),
        }[self.config.adversarial_loss == "hinge"]
        total = self.config.real_weight * self.reduce(cost(real))
        return total + sum(self.weight(k) * self.reduce(cost(-d)) for k, d in fakes.items())

    def fooling(self, fakes):
        cost = {
            "hinge": lambda d: -d,
            "saturating": lambda d: F.logsigmoid(-d),  # log(1 - D)
            "non-saturating": lambda d: -F.logsigmoid(d),  # -log D
        }[self.config.adversarial_loss]
        return sum(self.weight(k) * self.reduce(cost(d)) for k, d in fakes.items())

    # Odena et al. 2017.
    def reading(self):
        return self.config.label_weight * self.reduce(self.unread(self.x, self.y))

    def misread(self, unread):
        costs = [self.weight(kind) * self.reduce(cost) for kind, cost in unread.items()]
        return self.config.label_weight * sum(costs)

    def unread(self, images, labels):
        """-log p(label | image) per image; nothing without an auxiliary classifier."""
        if not self.config.label_weight or labels is None:
            return torch.zeros(len(images))
        classes = self.model.discriminator(self.shifted(images), labels).classes
        return -F.log_softmax(classes, 1)[torch.arange(len(labels)), labels]

    def judge(self, images, labels):
        judgement = self.model.discriminator(self.shifted(images), labels)
        return judgement.logits, judgement.features

    def shifted(self, images):
        if not self.config.augment:
            return images
        height, width = images.shape[2:]
        rows = []
        for image, (down, right) in zip(images, self.draws.shift.tolist()):
            d = round(down * self.config.augment * height)
            r = round(right * self.config.augment * width)
            padded = F.pad(image, (max(r, 0), max(-r, 0), max(d, 0), max(-d, 0)))
            top, left = max(-d, 0), max(-r, 0)
            rows.append(padded[:, top : top + height, left : left + width])
        return torch.stack(rows)

    def reduce(self, per_image):
        if self.config.reduction == "sum-per-pixel":
            return per_image.sum() / (self.x.shape[2] * self.x.shape[3])
        return per_image.mean()


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
    expected = plain.gradients()
    usual = ((c, c & set(config.model.networks)) for c in (DISCRIMINATOR, GENERATOR, EVERYONE))
    for candidates, active in states(config.model.networks) if every_state else usual:
        model.zero_grad(set_to_none=True)
        evaluation = objective(batch, draws, candidates & set(config.model.networks))
        evaluation.backward(model, active)
        assert_same(model, expected, active, rtol)
        for network in active:
            ours = evaluation.values[f"{network}_loss"].item()
            assert ours == pytest.approx(plain.loss(network).item(), rel=max(rtol, 1e-9))


# ── every system and recipe ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("system", "recipe"),
    [(system, recipe) for system in SYSTEMS for recipe in RECIPES]
    + [("vae-gan", "tutorial-fixed"), ("cvae-gan", "tutorial-fixed")],
)
def test_gradients_equal_three_plain_passes(configure, data_of, double, system, recipe):
    config = configure(system, recipe, batch=5)
    check(config, data_of(config))


@pytest.mark.parametrize("recipe", ["tutorial", "default"])
def test_at_the_real_size(configure, bars, double, recipe):
    config = configure("cvae-gan", recipe, size=28, classes=10, latent_dim=8, batch=3)
    check(config, bars(28, 10), every_state=False)


@pytest.mark.parametrize("recipe", ["dense", "default", "tutorial"])
def test_in_the_precision_that_trains(configure, data_of, recipe):
    config = configure("cvae-gan", recipe, batch=8)
    check(config, data_of(config), torch.float32, rtol=1e-4, every_state=False)


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
    "augmented": {"augment": 0.3, "reconstruction_weight": 0.5},
    "everything": {
        "augment": 0.2,
        "cycle_weight": 1.0,
        "feature_matching_weight": 1.0,
        "label_weight": 0.5,
        "pixel_weight": 0.5,
        "reconstruction_weight": 0.5,
        "similarity_weight": 0.3,
        "transfer_weight": 1.0,
    },
}


UNCONDITIONAL = ("gamma small", "reconstructions judged", "everything")


@pytest.mark.parametrize(
    ("name", "system"),
    [(name, "cvae-gan") for name in SWITCHES] + [(name, "vae-gan") for name in UNCONDITIONAL],
)
def test_gradients_equal_under_every_switch(configure, data_of, double, name, system):
    settings = {f"objective__{key}": value for key, value in SWITCHES[name].items()}
    config = configure(system, "dense", batch=5, **settings)
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


@pytest.mark.parametrize("kind", ["saturating", "non-saturating", "hinge"])
def test_gan_switches(configure, data_of, double, kind):
    config = configure(
        "cgan",
        "default",
        batch=5,
        objective__adversarial_loss=kind,
        objective__adversarial_weight=3.0,
        objective__label_weight=0.5,
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
    similarity = plain.similarity(rebuilt)
    l_gan = plain.l_gan(plain.judge(x, y)[0], {"prior": plain.judge(made, y)[0]})
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
        objective__adversarial_loss="saturating",
        objective__adversarial_weight=0.5,
        objective__similarity_weight=0.5,
        objective__transfer_weight=0.0,
    )
    model, objective, batch, draws = prepared(config, data_of(config))
    plain = Plain(model, config.objective, batch, draws)
    expected = plain.gradients()
    objective(batch, draws, EVERYONE).backward(model, EVERYONE)
    assert_same(model, expected, EVERYONE, 1e-9)

    three_backwards_on_one_graph(plain, a=0.5)
    for network in ("encoder", "decoder"):
        with pytest.raises(AssertionError, match=f"{network}.*not close"):
            assert_network(model, expected, network, 1e-2)

    # What the decoder gets of the game is exactly -1 times its own gradient of it: it helps D.
    parameters = list(model.decoder.parameters())
    z = plain.sampled(*model.encoder(batch.images, None)).detach()
    similarity = plain.similarity(torch.sigmoid(model.decoder(z, None)))
    judged, _ = plain.judge(torch.sigmoid(model.decoder(draws.prior, None)), None)
    game = 0.5 * plain.fooling({"prior": judged})
    flat = lambda gradients: torch.cat([g.flatten() for g in gradients])
    of_similarity, of_game = (flat(torch.autograd.grad(s, parameters)) for s in (similarity, game))
    received = flat(p.grad for p in parameters)
    torch.testing.assert_close(received, 1.5 * of_similarity - of_game)
    torch.testing.assert_close(flat(expected["decoder"].values()), 0.5 * of_similarity + of_game)
