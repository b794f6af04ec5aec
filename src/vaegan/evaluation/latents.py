"""Latents of the real images: what the code holds, and what it should not."""

from __future__ import annotations

from vaegan.errors import VaeganError
from vaegan.evaluation.bench import Bench
from vaegan.evaluation.scores import Scores
from vaegan.metrics.latents import active_units, kl_per_dimension, label_leak, prior_gap
from vaegan.randomness import generator

__all__ = ["measure_latents"]


def measure_latents(bench: Bench, scores: Scores) -> None:
    """`latents_...`: KL in nats, active units, distance to the prior, label read from the code.

    The label is read from the means, with which images are transferred, and from draws, as which
    the decoder learned to read the code: what the noise drowns does no harm.
    """
    posterior = bench.posterior
    means = posterior.mean.numpy()
    active = active_units(means)
    scores.add("latents", {"active_units": active.sum()})
    scores.table("latents_variance_of_means", means.var(0))
    if posterior.logvar is None:
        scores.skip("latents: no KL and no distance to the prior: the code is a point")
    else:
        logvars = posterior.logvar.numpy()
        kl, gap = kl_per_dimension(means, logvars), prior_gap(means, logvars)
        scores.add(
            "latents",
            {
                "kl": kl.sum(),
                "kl_per_latent": kl.mean(),
                "prior_distance": gap.frechet,
                "prior_correlation": gap.correlation,
            },
        )
        for name, row in (
            ("kl_per_dimension", kl),
            ("prior_mean", gap.mean),
            ("prior_deviation", gap.deviation),
        ):
            scores.table(f"latents_{name}", row)
    if bench.real.labels is None:
        scores.skip("latents: no label to read from the code: the data has no labels")
        return
    codes = {"label": means}
    if posterior.logvar is not None:
        own = generator(bench.seed, "evaluation", "codes")
        codes["label_of_draws"] = posterior.sample(own).numpy()
    for name, latents in codes.items():
        try:
            leak = label_leak(latents, bench.real.labels, bench.seed)
        except VaeganError as error:
            scores.skip(f"latents: {error}")
            return
        values = {"linear": leak.linear, "neighbours": leak.neighbours, "leak": leak.leak}
        scores.add(f"latents_{name}", values)
    scores.add("latents_label", {"chance": leak.chance})
