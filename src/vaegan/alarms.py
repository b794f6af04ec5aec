"""Alarms in plain words: what goes wrong in training, named before anyone looks at a picture.

    posterior-collapse    the code carries nothing
    label-ignored         the decoder draws the same picture whatever the label
    label-disobeyed       the decoder draws another class than it was asked for
    label-leaks           the label can be read from the code, so that transfer keeps the old class
    discriminator-wins    it is never fooled, and has little left to teach
    discriminator-loses   it cannot tell real from generated
    samples-collapsed     the samples of a class are all alike

A check takes a value of `vaegan.looks` and returns an `Alarm` or None; `raised` makes all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

__all__ = [
    "Alarm",
    "discriminator_loses",
    "discriminator_wins",
    "label_disobeyed",
    "label_ignored",
    "label_leaks",
    "posterior_collapse",
    "raised",
    "samples_collapsed",
]

MIN_KL = 0.01  # nats a latent
MIN_LABEL_EFFECT = 0.1  # of the effect of label and latents together
MIN_SPREAD = 0.25  # of the spread of real images
MIN_COST, MAX_COST = 0.05, 0.99  # of the cost of a guess


@dataclass(frozen=True)
class Alarm:
    """What is wrong: a name for programs, a sentence for people, the value and its limit."""

    name: str
    text: str
    value: float
    limit: float

    @property
    def severity(self) -> float:
        """How many times the value is beyond its limit, on whichever side that is: 1 or more."""
        ratio = max(self.value, 1e-9) / self.limit
        return max(ratio, 1 / ratio)


def raised(look: Mapping[str, Any], class_names: Sequence[str] = ()) -> list[Alarm]:
    """Every alarm that the values of a look call for; a value that is missing is not checked."""
    classes = len(class_names)
    checks = (
        ("discriminator_cost", discriminator_wins),
        ("discriminator_cost", discriminator_loses),
        ("latents_kl_per_latent", posterior_collapse),
        ("latents_label_read", partial(label_leaks, classes=classes)),
        ("label_effect", label_ignored),
        ("prior_label_accuracy", partial(label_disobeyed, classes=classes)),
        ("prior_spread_by_class", partial(samples_collapsed, class_names=class_names)),
    )
    found = (check(look[name]) for name, check in checks if name in look)
    return [alarm for alarm in found if alarm is not None]


def posterior_collapse(kl: float) -> Alarm | None:
    """`kl`: of the posteriors to the prior, nats a latent. Below 0.01 nothing of the image enters
    the code.
    """
    if not kl < MIN_KL:
        return None
    text = (
        f"the code carries nothing: KL is {kl:.4f} nats a latent, below {MIN_KL}; the decoder "
        "has learned to do without it. Lower objective.kl_weight"
    )
    return Alarm("posterior-collapse", text, kl, MIN_KL)


def label_ignored(effect: float) -> Alarm | None:
    """`effect` of the label on a picture, of that of label and latents together, in [0, 1]."""
    if not effect < MIN_LABEL_EFFECT:
        return None
    text = (
        f"the decoder ignores the label: another label changes a picture by {effect:.1%} of what "
        "another label and code together do. Let decoder and discriminator see the label in more "
        "layers (`film`, `label`, `logit project`)"
    )
    return Alarm("label-ignored", text, effect, MIN_LABEL_EFFECT)


def label_disobeyed(accuracy: float, classes: int) -> Alarm | None:
    """`accuracy`: share of the samples in which the judge reads the class that was asked for."""
    limit = above_chance(0.25, classes)
    if not accuracy < limit:
        return None
    text = (
        f"the decoder disobeys the label: the judge reads the class that was asked for in "
        f"{accuracy:.0%} of the samples, and chance is {1 / classes:.0%}. Train longer, or let "
        "decoder and discriminator see the label in more layers (`film`, `label`, `logit project`)"
    )
    return Alarm("label-disobeyed", text, accuracy, limit)


def label_leaks(accuracy: float, classes: int) -> Alarm | None:
    """`accuracy`: share of the images whose label can be read from their code."""
    limit = above_chance(0.5, classes)
    if not accuracy > limit:
        return None
    text = (
        f"the code repeats the label: it can be read from the code of {accuracy:.0%} of the "
        f"images, and chance is {1 / classes:.0%}; a transfer will keep the old class. Raise "
        "objective.kl_weight or transfer_weight"
    )
    return Alarm("label-leaks", text, accuracy, limit)


def discriminator_wins(cost: float) -> Alarm | None:
    """`cost` of the discriminator, of that of a guess: below 5 % it is hardly ever fooled."""
    if not cost < MIN_COST:
        return None
    text = (
        f"the discriminator wins: its cost is {cost:.1%} of that of a guess, it is hardly ever "
        "fooled and has little left to teach. Lower optimiser.discriminator_lr, or raise "
        "objective.adversarial_weight, or augment"
    )
    return Alarm("discriminator-wins", text, cost, MIN_COST)


def discriminator_loses(cost: float) -> Alarm | None:
    """`cost` of the discriminator, of that of a guess: that of a guess, or above."""
    if not cost > MAX_COST:
        return None
    text = (
        f"the discriminator loses: its cost is {cost:.0%} of that of a guess, it cannot tell "
        "generated images from real ones. Raise optimiser.discriminator_lr, or lower "
        "objective.adversarial_weight"
    )
    return Alarm("discriminator-loses", text, cost, MAX_COST)


def samples_collapsed(
    spreads: Sequence[float | None], class_names: Sequence[str] = ()
) -> Alarm | None:
    """`spreads` of the samples of each class, of that of its real images, None where unknown; a
    single one without classes. A class is collapsed below a quarter.
    """
    known = {label: spread for label, spread in enumerate(spreads) if spread is not None}
    collapsed = [label for label, spread in known.items() if spread < MIN_SPREAD]
    if not collapsed:
        return None
    value = min(known.values())
    where = "the samples"
    if class_names:
        listed = ", ".join(class_names[label] for label in collapsed[:5])
        where += f" of class {listed}" + (", ..." if len(collapsed) > 5 else "")
    text = (
        f"{where} are nearly all alike: their distance is {value:.0%} of that of real images. "
        "Lower objective.adversarial_weight or the learning rates"
    )
    return Alarm("samples-collapsed", text, value, MIN_SPREAD)


def above_chance(share: float, classes: int) -> float:
    """The accuracy that lies a share of the way from chance to certainty."""
    return 1 / classes + share * (1 - 1 / classes)
