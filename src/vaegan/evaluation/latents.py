"""Latents of the real images: what the code holds, and what it should not."""

from __future__ import annotations

from vaegan.errors import VaeganError
from vaegan.evaluation.bench import Bench
from vaegan.evaluation.scores import Scores
from vaegan.metrics.latents import active_units, kl_per_dimension, label_leak, prior_gap

__all__ = ["measure_latents"]


def measure_latents(bench: Bench, scores: Scores) -> None:
    """`latents_...`: KL in nats, active units, distance to the prior, label read from the code."""
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
    try:
        leak = label_leak(means, bench.real.labels, bench.seed)
    except VaeganError as error:
        scores.skip(f"latents: {error}")
        return
    values = {"linear": leak.linear, "neighbours": leak.neighbours, "chance": leak.chance}
    scores.add("latents_label", {**values, "leak": leak.leak})
