"""Four objectives on one pass: for each network, the loss THAT network minimises.

The three losses of a VAE/GAN share their forward passes: no network runs again on the same images
for another's loss (but the discriminator, where a similarity wants it without dropout). They are
told apart when gradients are taken: each loss is differentiated with respect to its own network's
parameters only (`Evaluation.backward`), so that the gradient of L_GAN never reaches the encoder and
the similarity never reaches the discriminator.

    encoder         similarity + KL + style that codes leave unsaid
    decoder         gamma similarity + adversarial term     (its prior: -log p of the codes)
    discriminator   L_GAN                                   (Larsen et al. 2016, algorithm 1)
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vaegan import losses
from vaegan.augmentation import TORN_IN, shifted, tear
from vaegan.config import NetworkName, ObjectiveConfig
from vaegan.data.batches import Batch
from vaegan.draws import Draws
from vaegan.game import Game
from vaegan.model import Model
from vaegan.networks import Judgement
from vaegan.ranks import ALONE, Ranks
from vaegan.schedules import DISCRIMINATOR, GENERATOR, Costs
from vaegan.style import Styles, contrasts, strokes

__all__ = ["Evaluation", "Objective"]


@dataclass(frozen=True)
class Evaluation:
    """One pass: what each network minimises, and the values worth writing down.

    `values` holds every term by name and `encoder_loss`, `decoder_loss`, `discriminator_loss`.
    `shares` is how their gradients are taken: networks that can share one backward pass stand
    together with a scalar whose gradient, for each of them, is that of its own loss.
    """

    shares: list[tuple[frozenset[NetworkName], Tensor]]
    values: dict[str, float]
    costs: Costs

    def backward(self, model: Model, active: Set[NetworkName]) -> None:
        """Add to every active network's gradients those of its own loss, and of no other."""
        chosen = [(names & active, loss) for names, loss in self.shares if names & active]
        for place, (names, loss) in enumerate(chosen):
            inputs = [p for name in sorted(names) for p in model.network(name).parameters()]
            loss.backward(inputs=inputs, retain_graph=place < len(chosen) - 1)


class ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        """Return x itself."""
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Multiply by the factor."""
        return gradients[0] * ctx.factor, None


class Objective:
    """The losses of a system (`model.config.family`) under an `ObjectiveConfig`.

    With several `ranks` each computes its share of a global batch: the mean of the losses over the
    ranks is the loss of the batch, and costs and values are averaged already.
    """

    def __init__(self, model: Model, config: ObjectiveConfig, ranks: Ranks = ALONE):
        self.model = model
        self.config = config
        self.ranks = ranks
        self.game = Game(config, self._mean)
        networks = [] if model.discriminator is None else model.discriminator.modules()
        dropouts = [part for part in networks if isinstance(part, nn.Dropout)]
        self.muffled = [] if config.similarity_dropout else dropouts
        """The discriminator's dropouts, when the similarity is measured without them."""

    def __call__(self, batch: Batch, draws: Draws, candidates: Set[NetworkName]) -> Evaluation:
        """One forward pass of everything that the `candidates` may need gradients of.

        A weight is normalised once in it, however often its network runs.
        """
        with parametrize.cached():
            match self.model.config.family:
                case "ae" | "vae":
                    return self.autoencoder(batch, draws)
                case "gan":
                    return self.adversarial(batch, draws, candidates)
                case _:
                    return self.vae_gan(batch, draws, candidates)

    # ── ae, vae ──────────────────────────────────────────────────────────────────────────────

    def autoencoder(self, batch: Batch, draws: Draws) -> Evaluation:
        """Reconstruction in pixels, and for a VAE the KL: minus the ELBO (Kingma & Welling 2014).

        One loss for both networks: the KL does not depend on the decoder.
        """
        config, images = self.config, batch.images
        if draws.pixels is not None:
            images = (images + config.noise * (1 + draws.pixels)).clamp(0, 1)
        posterior = self.model.encode(images, batch.labels)
        latents = posterior.sample(noise=draws.posterior)
        logits = self.model.decoder(latents, batch.labels)
        loss = self._mean(losses.pixel(logits, batch.images, config.pixel_loss))
        values = {"pixel": loss}
        if self.model.config.family == "vae":
            values["kl"] = self._mean(posterior.kl())
            loss = loss + config.kl_weight * values["kl"]
        elif config.sparsity:
            values["sparsity"] = self._mean(posterior.mean.abs().sum(1))
            loss = loss + config.sparsity * values["sparsity"]
        values |= {"encoder_loss": loss, "decoder_loss": loss}
        return self._evaluation([(GENERATOR, loss)], values)

    # ── gan ──────────────────────────────────────────────────────────────────────────────────

    def adversarial(self, batch: Batch, draws: Draws, candidates: Set[NetworkName]) -> Evaluation:
        """Decoder against discriminator on samples from the prior (Goodfellow et al. 2014)."""
        with torch.set_grad_enabled("decoder" in candidates):
            fake = self.model.decoder(draws.prior, batch.labels).sigmoid()
        real = self._judged_real(batch, draws, candidates)
        torn = self._judged_torn(batch, draws, candidates)
        judged = {"prior": self._judge(fake, batch.labels, draws)}
        asked = {"real": batch.labels, "prior": batch.labels}
        discriminator, fooling, values = self.game(real, torn, judged, asked)
        decoder = self.config.adversarial_weight * fooling
        values |= {"decoder_loss": decoder, "discriminator_loss": discriminator}
        return self._evaluation([(DISCRIMINATOR, discriminator), (GENERATOR, decoder)], values)

    # ── vae-gan ──────────────────────────────────────────────────────────────────────────────

    def vae_gan(self, batch: Batch, draws: Draws, candidates: Set[NetworkName]) -> Evaluation:
        """Larsen et al. 2016: a VAE whose reconstruction is measured in the features of D.

        Encoder and decoder disagree by gamma on the weight of the reconstruction, and the game
        must not reach the encoder. When no discriminator term touches the reconstructions, one
        backward pass serves both: it carries gamma times the reconstruction's gradient through
        the decoder, and gamma is divided out where it enters the encoder.
        """
        config, model = self.config, self.model
        learning = bool({"encoder", "decoder"} & candidates)
        rebuilding = learning or config.reconstruction_weight > 0
        gamma, weight = config.similarity_weight, config.adversarial_weight
        disputed = config.reconstruction_weight * weight > 0
        together = not disputed and gamma > 0

        # Run encoder and decoder: reconstructions, and fakes of every kind that D is shown.
        with torch.set_grad_enabled(learning):
            posterior = model.encode(batch.images, batch.labels)
            latents = posterior.sample(noise=draws.posterior)
            if rebuilding:
                entering = _scaled(latents, 1 / gamma) if together else latents
                rebuilt = model.decoder(entering, batch.labels)
                reconstruction = rebuilt.sigmoid()
            made_of, made_codes, made_labels = self._fakes(batch, draws, posterior.mean.detach())
            made = model.decoder(made_codes, made_labels).sigmoid()

        # Judge originals, torn ones, reconstructions, and all without an original, in a pass each.
        real = self._judged_real(batch, draws, candidates)
        torn = self._judged_torn(batch, draws, candidates)
        judged = {}
        if rebuilding:
            judged["reconstruction"] = self._judge(reconstruction, batch.labels, draws)
        judged |= self._judge(made, made_labels, draws).cut(made_of)
        asked = {"real": batch.labels, "reconstruction": batch.labels}
        asked |= _cut(made_labels, made_of)
        discriminator, fooling, values = self.game(real, torn, judged, asked)
        values["discriminator_loss"] = discriminator
        shares = [(DISCRIMINATOR, discriminator)]
        if not learning:
            return self._evaluation(shares, values)

        # Weigh what encoder and decoder minimise.
        kl = self._mean(posterior.kl())
        similarity = self._similarity(
            batch, draws, candidates, reconstruction, real, judged["reconstruction"]
        )
        distance, extra = similarity, torch.zeros_like(kl)
        values |= {"kl": kl, "similarity": similarity}
        if config.pixel_weight:
            values["pixel"] = self._mean(losses.pixel(rebuilt, batch.images, config.pixel_loss))
            distance = distance + config.pixel_weight * values["pixel"]
        if config.cycle_weight:
            cycle = self._cycle(made, made_codes, made_labels)
            values["cycle"] = self._mean(cycle)
            extra = extra + config.cycle_weight * values["cycle"]
        game_term = weight * fooling
        if config.feature_matching_weight:
            fakes = [judged[kind].features for kind in made_of]
            matched = [losses.feature_matching(real.features, fake, self.ranks) for fake in fakes]
            values["feature_matching"] = torch.stack(matched).mean()
            game_term = game_term + config.feature_matching_weight * values["feature_matching"]
        targets = asked.get("transfer")
        styles = self._styles(batch, real, targets is not None)
        if styles is not None and targets is not None and config.style_weight:
            moved, features = made[-made_of["transfer"] :], judged["transfer"].features
            found = contrasts(features) + strokes(moved)
            values["style"] = self._mean(styles.lost(found, targets))
            game_term = game_term + config.style_weight * values["style"]
        fit = torch.zeros_like(kl)
        if model.decoder.prior.learned:  # reaches neither the encoder nor the rest of the decoder
            codes = latents.detach()
            fit = self._mean(model.decoder.prior.negative_log_density(codes, batch.labels))
            values["prior_nll"] = fit
        latent_term = config.kl_weight * kl
        if styles is not None and config.code_style_weight:
            values["unsaid"] = self._mean(styles.unsaid(posterior.mean))
            latent_term = latent_term + config.code_style_weight * values["unsaid"]
        encoder = distance + latent_term + extra
        decoder = gamma * distance + game_term + extra + fit
        values |= {"encoder_loss": encoder, "decoder_loss": decoder}
        if together:
            shares.append((GENERATOR, decoder + latent_term))
        else:
            shares += [(frozenset({"decoder"}), decoder), (frozenset({"encoder"}), encoder)]
        return self._evaluation(shares, values)

    def _fakes(
        self, batch: Batch, draws: Draws, means: Tensor
    ) -> tuple[dict[str, int], Tensor, Tensor | None]:
        """Codes and labels of the images that are made without an original, by kind and number.

        Samples from the prior, as many as the batch; or, when D is shown transferred images too,
        half as many, and for the other half posterior means, of which `Model.transfer` is made,
        under another label.
        """
        size, labels = len(means), batch.labels
        with torch.no_grad():
            prior = self.model.decoder.prior(draws.prior, labels)
        if not self.config.transfer_weight or labels is None:
            return {"prior": size}, prior, labels
        half = size // 2
        other = (labels + draws.hop) % self.model.config.num_classes
        codes = torch.cat([prior[:half], means[half:]])
        return (
            {"prior": half, "transfer": size - half},
            codes,
            torch.cat([labels[:half], other[half:]]),
        )

    # ── shared terms ─────────────────────────────────────────────────────────────────────────

    def _judge(self, images: Tensor, labels: Tensor | None, draws: Draws) -> Judgement:
        """One pass of the discriminator; several kinds of image may lie one after the other."""
        assert self.model.discriminator is not None
        shown = shifted(images, draws.shift, self.config.augment)
        judgement: Judgement = self.model.discriminator(shown, labels)
        return judgement

    def _judged_real(self, batch: Batch, draws: Draws, candidates: Set[NetworkName]) -> Judgement:
        """The batch's own images: constants to all but the discriminator.

        While it does not learn they are judged once, as the similarity wants them.
        """
        if "discriminator" in candidates:
            return self._judge(batch.images, batch.labels, draws)
        with torch.no_grad(), _switched_off(self.muffled):
            return self._judge(batch.images, batch.labels, draws)

    def _judged_torn(
        self, batch: Batch, draws: Draws, candidates: Set[NetworkName]
    ) -> Judgement | None:
        """The first of the batch's images torn, while the discriminator learns from such."""
        count = len(batch.images) // TORN_IN
        if not (self.config.torn_weight and count and "discriminator" in candidates):
            return None
        labels = None if batch.labels is None else batch.labels[:count]
        return self._judge(tear(batch.images[:count], draws.tears[:count]), labels, draws)

    def _similarity(
        self,
        batch: Batch,
        draws: Draws,
        candidates: Set[NetworkName],
        reconstruction: Tensor,
        real: Judgement,
        fake: Judgement,
    ) -> Tensor:
        """Larsen's learned similarity of images and reconstructions, averaged over the batch.

        It is measured without dropout, in passes of its own if there is any, so that d(x, x) = 0.
        """
        config = self.config
        if self.muffled:
            with _switched_off(self.muffled):
                if "discriminator" in candidates:
                    real = self._judge(batch.images, batch.labels, draws)
                fake = self._judge(reconstruction, batch.labels, draws)
        pixels = batch.images[0].numel() if config.similarity_normalised else 0
        return self._mean(
            losses.learned_similarity(
                real.features, fake.features, config.similarity_loss, pixels, self.ranks
            )
        )

    @torch.no_grad()
    def _styles(self, batch: Batch, real: Judgement, transferred: bool) -> Styles | None:
        """What is usual in the batch's classes, where something is asked of style."""
        asked = transferred and self.config.style_weight > 0
        if batch.labels is None or not (asked or self.config.code_style_weight):
            return None
        textures = contrasts(real.features) if asked else []
        classes = self.model.config.num_classes
        return Styles(textures, strokes(batch.images), batch.labels, classes, self.ranks)

    def _cycle(self, made: Tensor, codes: Tensor, labels: Tensor | None) -> Tensor:
        """|E(G(z, y), y) - z|^2 / 2 per generated image: the code must survive the picture."""
        return 0.5 * (self.model.encode(made, labels).mean - codes).square().sum(1)

    def _mean(self, per_image: Tensor) -> Tensor:
        """Mean over the batch; or the tutorial's sum over the batch divided by the pixel count."""
        if self.config.reduction == "sum-per-pixel":
            _, height, width = self.model.config.image_shape
            return per_image.sum() * self.ranks.world / (height * width)
        return per_image.mean()

    def _evaluation(
        self, shares: list[tuple[frozenset[NetworkName], Tensor]], values: dict[str, Tensor]
    ) -> Evaluation:
        """Average the values over the ranks, and read all at once: it waits for the device."""
        row = self.ranks.mean(torch.stack([value.detach().float() for value in values.values()]))
        read = dict(zip(values, row.tolist()))
        costs = Costs(*(read.get(name, 0.0) for name in ("gan", "real_cost", "fake_cost")))
        return Evaluation(shares, read, costs)


def _cut(labels: Tensor | None, kinds: dict[str, int]) -> dict[str, Tensor | None]:
    """The labels of each kind of image that lie one after the other, None for none."""
    parts = [None] * len(kinds) if labels is None else labels.split(list(kinds.values()))
    return dict(zip(kinds, parts))


def _scaled(x: Tensor, factor: float) -> Tensor:
    """x, with its gradient multiplied by `factor`; x itself when the factor is 1."""
    return x if factor == 1 else ScaledGradient.apply(x, factor)


@contextmanager
def _switched_off(dropouts: list[nn.Dropout]) -> Iterator[None]:
    """Run with these dropouts in eval mode, and put each back as it was."""
    before = [dropout.training for dropout in dropouts]
    for dropout in dropouts:
        dropout.eval()
    try:
        yield
    finally:
        for dropout, training in zip(dropouts, before):
            dropout.train(training)
