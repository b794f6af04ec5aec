"""The plain way to train a VAE/GAN: three networks, a forward pass for each, three losses.

`Plain` writes every loss as the paper and the config say it, one network at a time, with `detach`
wherever a gradient must stop; nothing is shared between networks. `tests/parity` holds our
objective to its gradients, the benchmarks time it: one reference, tested and timed.

`plainly` gives the networks their obvious layers: upsampling before a convolution, PyTorch's own
spectral norm, group norm and dropout, contiguous memory. Same weights, same function, but for the
spectral norm's estimate, which torch's improves in every pass.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from vaegan.config import ObjectiveConfig
from vaegan.data.batches import Batch
from vaegan.draws import Draws
from vaegan.layers import Dropout, UpsampledConv
from vaegan.model import Model
from vaegan.networks import Judgement
from vaegan.norms import GroupNorm, SpectralNorm

__all__ = ["Plain", "plainly"]


class Plain:
    """The losses of one batch, each network's in a forward pass of its own.

    Within a pass the discriminator judges every image once; what it says is read for all terms.
    """

    def __init__(self, model: Model, config: ObjectiveConfig, batch: Batch, draws: Draws):
        self.model, self.config, self.draws = model, config, draws
        self.x, self.y = batch.images, batch.labels

    def loss(self, network: str) -> Tensor:
        """What one network minimises."""
        family = self.model.config.family
        if family in ("ae", "vae"):
            return self.autoencoder()
        if family == "gan":
            return self.gan(network)
        return {
            "encoder": self.encoder,
            "decoder": self.decoder,
            "discriminator": self.discriminator,
        }[network]()

    def autoencoder(self) -> Tensor:
        """Minus the ELBO, or the plain autoencoder's error."""
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

    def gan(self, network: str) -> Tensor:
        """Goodfellow et al. 2014."""
        fake = torch.sigmoid(self.model.decoder(self.draws.prior, self.y))
        if network == "discriminator":
            real = self.judge(self.x, self.y)
            judged = self.judge(fake.detach(), self.y)
            return self.l_gan(real, {"prior": judged}) + self.reading(real) + self.torn(real)
        judged = {"prior": self.judge(fake, self.y)}
        fooling = self.fooling(judged) + self.misread(judged, {"prior": self.y})
        return self.config.adversarial_weight * fooling

    # Larsen et al. 2016, algorithm 1.

    def encoder(self) -> Tensor:
        """Similarity + KL."""
        config, model, y = self.config, self.model, self.y
        mean, logvar = model.encoder(self.x, y)
        z = self.sampled(mean, logvar)
        logits = model.decoder(z, y)
        rebuilt = torch.sigmoid(logits)
        real, fake = self.compared(rebuilt)
        loss = self.reconstruction(logits, real, fake)
        loss = loss + config.kl_weight * self.reduce(self.kl(mean, logvar))
        if config.code_style_weight and y is not None:
            loss = loss + config.code_style_weight * self.unsaid(mean)
        if config.cycle_weight:
            _, codes, labels = self.fakes(mean.detach())
            made = torch.sigmoid(model.decoder(codes, labels))
            loss = loss + config.cycle_weight * self.cycle(made.detach(), codes, labels)
        return loss

    def decoder(self) -> Tensor:
        """Gamma times the similarity + the adversarial term."""
        config, model, y = self.config, self.model, self.y
        mean, logvar = (part.detach() for part in model.encoder(self.x, y))
        z = self.sampled(mean, logvar)
        logits = model.decoder(z, y)
        rebuilt = torch.sigmoid(logits)
        kinds, codes, labels = self.fakes(mean)
        made = torch.sigmoid(model.decoder(codes, labels))
        real, fake = self.judge(self.x, y), self.judge(rebuilt, y)
        compared = (real, fake) if self.one_pass else self.compared(rebuilt)
        loss = config.similarity_weight * self.reconstruction(logits, *compared)

        judged = {"reconstruction": fake} | parted(self.judge(made, labels), kinds)
        asked = {"reconstruction": y}
        if y is not None:
            asked |= dict(zip(kinds, labels.split(list(kinds.values()))))
        fooling = self.fooling(judged) + self.misread(judged, asked)
        loss = loss + config.adversarial_weight * fooling
        if config.cycle_weight:
            loss = loss + config.cycle_weight * self.cycle(made, codes, labels)
        if config.feature_matching_weight:
            gaps = [
                0.5
                * (f.flatten(1).mean(0) - r.flatten(1).mean(0)).square().mean()
                / (r.detach().square().mean() + 1e-8)
                / len(real.features)
                for kind in kinds
                for r, f in zip(real.features, judged[kind].features)
            ]
            loss = loss + config.feature_matching_weight * sum(gaps) / len(kinds)
        if config.style_weight and "transfer" in kinds:
            moved = made[kinds["prior"] :]
            lost = self.style(real, moved, judged["transfer"], asked["transfer"])
            loss = loss + config.style_weight * self.reduce(lost)
        if model.decoder.prior.learned:
            loss = loss + self.reduce(model.decoder.prior.negative_log_density(z, y))
        return loss

    def discriminator(self) -> Tensor:
        """L_GAN, and the classifier's error on real images."""
        model, y = self.model, self.y
        with torch.no_grad():
            mean, logvar = model.encoder(self.x, y)
            z = self.sampled(mean, logvar)
            kinds, codes, labels = self.fakes(mean)
            made = torch.sigmoid(model.decoder(codes, labels))
        real = self.judge(self.x, y)
        judged = parted(self.judge(made, labels), kinds)
        if self.config.reconstruction_weight:
            with torch.no_grad():
                rebuilt = torch.sigmoid(model.decoder(z, y))
            judged["reconstruction"] = self.judge(rebuilt, y)
        return self.l_gan(real, judged) + self.reading(real) + self.torn(real)

    # Terms.

    @property
    def one_pass(self) -> bool:
        """Whether the similarity is measured on what the game is played with, dropout and all."""
        parts = self.model.discriminator.modules()
        return self.config.similarity_dropout or not any(isinstance(p, nn.Dropout) for p in parts)

    def compared(self, rebuilt: Tensor) -> tuple[Judgement, Judgement]:
        """Originals and reconstructions judged for the similarity."""
        dropouts = [m for m in self.model.discriminator.modules() if isinstance(m, nn.Dropout)]
        for dropout in dropouts:
            dropout.train(self.config.similarity_dropout)
        real, fake = self.judge(self.x, self.y), self.judge(rebuilt, self.y)
        for dropout in dropouts:
            dropout.train()
        return real, fake

    def reconstruction(self, logits: Tensor, real: Judgement, fake: Judgement) -> Tensor:
        """The learned similarity, and the pixel loss where it has a weight."""
        loss = self.similarity(real, fake)
        if self.config.pixel_weight:
            loss = loss + self.config.pixel_weight * self.reduce(self.pixels(logits))
        return loss

    def cycle(self, made: Tensor, codes: Tensor, labels: Tensor | None) -> Tensor:
        """What is left of the codes after a picture."""
        back = self.model.encoder(made, labels)[0]
        return self.reduce(0.5 * (back - codes).square().sum(1))

    def style(self, real: Judgement, made: Tensor, judged: Judgement, targets: Tensor) -> Tensor:
        """What transferred images lack of their sources' style, by means over the images asked."""
        moved = len(targets)
        same = (self.y[:, None] == self.y).to(self.x)
        others = (same - torch.eye(len(same)).to(same))[-moved:]
        there = (targets[:, None] == self.y).to(self.x)
        total = self.x.new_zeros(moved)
        originals = [*self.contrasts(real), *self.strokes(self.x)]
        found = [*self.contrasts(judged), *self.strokes(made)]
        for styles, ours in zip(originals, found):
            wanted = styles[-moved:] - self.averaged(others, styles)
            gap = ours - self.averaged(there, styles) - wanted
            total = total + gap.square().mean(1) / self.spread(styles) / len(found)
        return total * others.any(1) * there.any(1)

    def unsaid(self, codes: Tensor) -> Tensor:
        """What of the strokes' styles is left by the best line from all codes, by least squares."""
        same = (self.y[:, None] == self.y).to(self.x)
        known = (same.sum(1) > 1).to(self.x)[:, None]
        groups = self.strokes(self.x)
        columns = [
            (styles - self.averaged(same, styles))
            / (self.spread(styles) * styles.shape[1] * len(groups)).sqrt()
            for styles in groups
        ]
        middle = (codes * known).sum(0) / known.sum().clamp(min=1e-6)
        wanted, given = torch.cat(columns, 1) * known, (codes - middle.detach()) * known
        size = codes.shape[1]
        rows = torch.cat([given, torch.eye(size).to(given) * (size / 2) ** 0.5]).detach()
        aims = torch.cat([wanted, wanted.new_zeros(size, wanted.shape[1])])
        line = torch.linalg.lstsq(rows, aims).solution
        return self.reduce((wanted - given @ line).square().sum(1))

    def contrasts(self, judgement: Judgement) -> list[Tensor]:
        """The deviation of each channel over its grid."""
        grids = [layer.flatten(2) for layer in judgement.features if layer.ndim == 4]
        return [(grid.var(2, correction=0) + 1e-6).sqrt() for grid in grids]

    def strokes(self, x: Tensor) -> list[Tensor]:
        """Contrast; slopes in eight directions of two smoothed images, as a whole and by share."""
        contrast = (x.flatten(2).var(2, correction=0) + 1e-6).sqrt()
        steepness, directions = [], []
        for share in (1 / 28, 9 / 28):
            k = max(1, round(share * min(x.shape[2:])))
            box = torch.ones(1, 1, k, k).to(x) / k**2
            padded = F.pad(x.flatten(0, 1)[:, None], [2 * k] * 4, mode="replicate")
            smooth = F.conv2d(F.conv2d(padded, box), box)
            right = k * (smooth[..., 1:-1, 2:] - smooth[..., 1:-1, :-2]) / 2
            down = k * (smooth[..., 2:, 1:-1] - smooth[..., :-2, 1:-1]) / 2
            slopes = []
            for angle in torch.arange(8).to(x) * (torch.pi / 8):
                steep = (angle.cos() * right + angle.sin() * down).square().mean((1, 2, 3))
                slopes.append((steep + 1e-6).sqrt().unflatten(0, contrast.shape))
            whole = torch.stack(slopes).square().mean(0).sqrt()
            steepness.append(whole / contrast)
            directions.append(torch.cat([slope / whole for slope in slopes], 1))
        return [contrast, torch.cat(steepness, 1), *directions]

    def spread(self, styles: Tensor) -> Tensor:
        """Variance within the classes, the mean over channels (N, C)."""
        same = (self.y[:, None] == self.y).to(self.x)
        within = styles.detach() - self.averaged(same, styles.detach())
        freedom = max(len(self.y) - len(self.y.unique()), 1)
        return within.square().mean(1).sum() / freedom + 1e-8

    def averaged(self, chosen: Tensor, values: Tensor) -> Tensor:
        """The mean of the values (N, C) that each row of ones and zeros (M, N) chooses."""
        return chosen @ values / chosen.sum(1, keepdim=True).clamp(min=1)

    def sampled(self, mean: Tensor, logvar: Tensor) -> Tensor:
        limit = self.model.config.logvar_limit
        return mean + torch.exp(logvar.clamp(-limit, limit) / 2) * self.draws.posterior

    def kl(self, mean: Tensor, logvar: Tensor) -> Tensor:
        limit = self.model.config.kl_logvar_limit or self.model.config.logvar_limit
        clipped = logvar.clamp(-limit, limit)
        return -0.5 * (1 + clipped - mean**2 - torch.exp(clipped)).sum(1)

    def pixels(self, logits: Tensor) -> Tensor:
        if self.config.pixel_loss == "mse":
            return 0.5 * (torch.sigmoid(logits) - self.x).square().flatten(1).sum(1)
        error = -self.x * F.logsigmoid(logits) - (1 - self.x) * F.logsigmoid(-logits)
        return error.flatten(1).sum(1)

    def similarity(self, real: Judgement, fake: Judgement) -> Tensor:
        total = 0.0
        for r, f in zip(real.features, fake.features):
            r, f = r.detach().flatten(1), f.flatten(1)
            if self.config.similarity_loss == "bce":
                target = torch.sigmoid(r)
                error = -target * F.logsigmoid(f) - (1 - target) * F.logsigmoid(-f)
            else:
                error = 0.5 * (f - r) ** 2
            if self.config.similarity_normalised:
                share = error.mean(1) / (r.square().mean() + 1e-8)
                total = total + share * self.x[0].numel() / len(real.features)
            else:
                total = total + error.sum(1)
        return self.reduce(total)

    def fakes(self, mean: Tensor) -> tuple[dict[str, int], Tensor, Tensor | None]:
        size = len(mean)
        with torch.no_grad():
            prior = self.model.decoder.prior(self.draws.prior, self.y)
        if not self.config.transfer_weight or self.y is None:
            return {"prior": size}, prior, self.y
        half, classes = size // 2, self.model.config.num_classes
        moved = (self.y + self.draws.hop) % classes
        codes = torch.cat([prior[:half], mean[half:]])
        return (
            {"prior": half, "transfer": size - half},
            codes,
            torch.cat([self.y[:half], moved[half:]]),
        )

    def weight(self, kind: str) -> float:
        """The weight of a kind of fake; the prior takes over where a kind is missing."""
        weight: float = getattr(self.config, f"{kind}_weight")
        alone = self.model.config.family == "gan"
        if kind == "prior" and (self.y is None or alone):
            weight += self.config.transfer_weight
        if kind == "prior" and alone:
            weight += self.config.reconstruction_weight
        return weight

    def l_gan(self, real: Judgement, fakes: dict[str, Judgement]) -> Tensor:
        cost = {
            True: lambda d: torch.clamp(1 - d, min=0),
            False: lambda d: -F.logsigmoid(d),
        }[self.config.adversarial_loss == "hinge"]
        total = self.config.real_weight * self.reduce(cost(real.logits))
        fakes_costs = (self.weight(k) * self.reduce(cost(-d.logits)) for k, d in fakes.items())
        return total + sum(fakes_costs)

    def torn(self, real: Judgement) -> Tensor:
        """One image in eight, and the same with a patch copied to another place: real and fake."""
        count = len(self.x) // 8
        if not self.config.torn_weight or not count:
            return self.x.new_zeros(())
        height, width = self.x.shape[2:]
        gaps = (self.x - self.x.mean((2, 3), keepdim=True))[:count].square().sum(1).flatten(1)
        tears = self.draws.tears[:count]
        places = gaps.cumsum(1) <= tears[:, 1:2] * gaps.sum(1, keepdim=True)
        damaged = []
        for image, place, tear in zip(self.x, places.sum(1).tolist(), tears.tolist()):
            size, _, down, right = tear
            k = max(round(min(height, width) * (0.1 + 0.12 * size)), 1)
            top = min(max(place // width - k // 2, 0), height - k)
            left = min(max(place % width - k // 2, 0), width - k)
            patch = image[:, top : top + k, left : left + k]
            top, left = int(down * (height - k + 1)), int(right * (width - k + 1))
            copy = image.clone()
            copy[:, top : top + k, left : left + k] = patch
            damaged.append(copy)
        labels = None if self.y is None else self.y[:count]
        whole, logits = real.logits[:count], self.judge(torch.stack(damaged), labels).logits
        if self.config.adversarial_loss == "hinge":
            costs = torch.clamp(1 - whole, min=0), torch.clamp(1 + logits, min=0)
        else:
            costs = -F.logsigmoid(whole), -F.logsigmoid(-logits)
        return self.config.torn_weight * sum(self.reduce(cost) for cost in costs)

    def fooling(self, fakes: dict[str, Judgement]) -> Tensor:
        cost = {
            "hinge": lambda d: -d,
            "saturating": lambda d: F.logsigmoid(-d),  # log(1 - D)
            "non-saturating": lambda d: -F.logsigmoid(d),  # -log D
        }[self.config.adversarial_loss]
        return sum(self.weight(k) * self.reduce(cost(d.logits)) for k, d in fakes.items())

    # Odena et al. 2017.

    def reading(self, real: Judgement) -> Tensor:
        return self.config.label_weight * self.reduce(self.unread(real, self.y))

    def misread(self, judged: dict[str, Judgement], asked: dict[str, Tensor | None]) -> Tensor:
        costs = [
            self.weight(kind) * self.reduce(self.unread(judgement, asked.get(kind)))
            for kind, judgement in judged.items()
        ]
        return self.config.label_weight * sum(costs)

    def unread(self, judgement: Judgement, labels: Tensor | None) -> Tensor:
        """-log p(label | image) per image; nothing without an auxiliary classifier."""
        if not self.config.label_weight or labels is None or judgement.classes is None:
            return judgement.logits.new_zeros(len(judgement.logits))
        return -F.log_softmax(judgement.classes, 1)[torch.arange(len(labels)), labels]

    def judge(self, images: Tensor, labels: Tensor | None) -> Judgement:
        return self.model.discriminator(self.shifted(images), labels)

    def shifted(self, images: Tensor) -> Tensor:
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

    def reduce(self, per_image: Tensor) -> Tensor:
        if self.config.reduction == "sum-per-pixel":
            return per_image.sum() / (self.x.shape[2] * self.x.shape[3])
        return per_image.mean()


def parted(judged: Judgement, kinds: dict[str, int]) -> dict[str, Judgement]:
    """The judgements of the kinds of image that lie one after the other."""
    found, first = {}, 0
    for kind, count in kinds.items():
        rows = slice(first, first + count)
        classes = None if judged.classes is None else judged.classes[rows]
        features = [feature[rows] for feature in judged.features]
        found[kind] = Judgement(judged.logits[rows], features, classes)
        first += count
    return found


def plainly(model: Model) -> Model:
    """A copy of a model with the same weights and obvious layers, in contiguous memory."""
    model = copy.deepcopy(model)
    for name, part in list(model.named_modules()):
        if isinstance(part, UpsampledConv):
            conv = nn.Conv2d(
                part.in_channels, part.out_channels, part.kernel_size, padding=part.padding
            )
            conv.to(part.weight).load_state_dict(part.state_dict())
            model.set_submodule(name, nn.Sequential(nn.Upsample(scale_factor=2), conv))
        elif isinstance(part, GroupNorm):
            norm = nn.GroupNorm(part.num_groups, part.num_channels, part.eps)
            norm.to(part.weight).load_state_dict(part.state_dict())
            model.set_submodule(name, norm)
        elif isinstance(part, Dropout):
            model.set_submodule(name, nn.Dropout(part.p).train(part.training))
        elif isinstance(part, (nn.Conv2d, nn.Linear)) and parametrize.is_parametrized(part):
            ours = part.parametrizations["weight"]
            assert isinstance(ours[0], SpectralNorm)
            # Back to its plain class by hand: PyTorch's own way changes the original's class too.
            part.__class__ = type(part).__bases__[0]
            del part.parametrizations
            part.weight = nn.Parameter(ours.original.detach())
            parametrizations.spectral_norm(part)
            theirs = part.parametrizations["weight"][0]
            theirs._u.copy_(ours[0].u)
            theirs._v.copy_(ours[0].v)
    return model.to(memory_format=torch.contiguous_format)
