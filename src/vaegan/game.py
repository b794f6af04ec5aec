"""The adversarial game: what the discriminator minimises, and what it comes to for the decoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vaegan import losses
from vaegan.config import ObjectiveConfig
from vaegan.networks import Judgement

__all__ = ["Game"]


class Game:
    """L_GAN, the auxiliary classifier and torn images under an `ObjectiveConfig`: judgements in.

    `mean` takes a term of every image, (B,), to the scalar that the objective weighs.
    """

    def __init__(self, config: ObjectiveConfig, mean: Callable[[Tensor], Tensor]):
        self.config = config
        self.mean = mean

    def __call__(
        self,
        real: Judgement,
        torn: Judgement | None,
        judged: dict[str, Judgement],
        asked: dict[str, Tensor | None],
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """What D minimises, the decoder's counterpart, and the values of their terms.

        `gan` and `fooling` are the game of real and fake, `label` and `mislabelled` that of the
        auxiliary classifier: D reads real images by it, the decoder is asked for images that it
        reads as the label they were `asked` for under. To tell `torn` images from those they were
        made of, the first of the batch, is D's affair alone. `gan` holds neither that nor the
        classifier's error: schedules and alarms see the game.
        """
        config, kind = self.config, self.config.adversarial_loss
        weights = {
            "reconstruction": config.reconstruction_weight,
            "prior": config.prior_weight,
            "transfer": config.transfer_weight,
        }
        weights["prior"] += sum(weight for name, weight in weights.items() if name not in judged)
        gan = self.mean(losses.adversarial_discriminator(real.logits, True, kind))
        gan, fooling = config.real_weight * gan, torch.zeros_like(gan)
        label, mislabelled = self.misread(real, asked["real"]), torch.zeros_like(gan)
        for name, fake in judged.items():
            if weights[name]:
                cost = losses.adversarial_discriminator(fake.logits, False, kind)
                gan = gan + weights[name] * self.mean(cost)
                success = losses.adversarial_decoder(fake.logits, kind)
                fooling = fooling + weights[name] * self.mean(success)
                mislabelled = mislabelled + weights[name] * self.misread(fake, asked[name])
        real_cost, fake_cost = losses.cross_entropy_costs(real.logits, judged["prior"].logits)
        values = {
            "gan": gan,
            "fooling": fooling,
            "real_cost": real_cost,
            "fake_cost": fake_cost,
            "real_logit": real.logits.mean(),
            "fake_logit": judged["prior"].logits.mean(),
        }
        discriminator, decoder = gan, fooling
        if config.label_weight and real.classes is not None:
            values |= {"label": label, "mislabelled": mislabelled}
            discriminator = discriminator + config.label_weight * label
            decoder = decoder + config.label_weight * mislabelled
        if torn is not None:
            whole = real.logits[: len(torn.logits)]
            costs = losses.adversarial_discriminator(whole, True, kind)
            costs = costs + losses.adversarial_discriminator(torn.logits, False, kind)
            values["torn"] = self.mean(costs)
            discriminator = discriminator + config.torn_weight * values["torn"]
        return discriminator, decoder, values

    def misread(self, judgement: Judgement, labels: Tensor | None) -> Tensor:
        """Cost of the auxiliary classifier; 0 where there is none, or nothing to read."""
        if not self.config.label_weight or judgement.classes is None or labels is None:
            return judgement.logits.new_zeros(())
        return self.mean(losses.misread(judgement.classes, labels))
