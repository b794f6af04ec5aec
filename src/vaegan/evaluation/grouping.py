"""Which runs are one and the same but for their seed, and what tells the others apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vaegan.config import RunConfig
from vaegan.errors import RunError
from vaegan.presets import RECIPES

__all__ = ["headings", "settings_of", "swept"]

LONGEST = 20  # characters of a value in a heading; what is longer is numbered


def settings_of(config: RunConfig) -> dict[str, Any]:
    """What runs of several seeds share: every setting but the seed and where the data lies."""
    return config.model_dump(mode="json", exclude={"seed", "data"})


def headings(paths: Sequence[Path], configs: Sequence[RunConfig]) -> list[str]:
    """A heading for each run, the same for those that differ in their seed alone.

    System and latent size, `cvae 8`, and the program where it is another's than ours. Where several
    configurations share these: their recipes too, and where they share that, the settings that
    differ, `cvae 8 kl_weight 2`. Raises RunError for the same configuration and seed twice: that is
    one run, however often it is measured.
    """
    keys = [json.dumps(settings_of(config)) for config in configs]
    first: dict[tuple[str, int], Path] = {}
    for key, path, config in zip(keys, paths, configs):
        if other := first.get((key, config.seed)):
            raise RunError(
                f"{other} and {path} are one run twice (same settings, seed {config.seed}): "
                "leave one out"
            )
        first[key, config.seed] = path
    distinct = dict(zip(keys, configs))
    names = {
        key: f"{config.model.system} {config.model.latent_dim}"
        + f" {config.recipe}" * (config.recipe not in RECIPES)
        for key, config in distinct.items()
    }
    for told_apart in (_by_recipe, _by_settings):
        names = _longer(names, distinct, told_apart)
    return [names[key] for key in keys]


def swept(configs: Sequence[RunConfig]) -> tuple[str, list[float]] | None:
    """The one setting that tells all these apart, if it is a number, and its values."""
    leaves = [dict(_leaves(settings_of(config))) for config in configs]
    if len({frozenset(one) for one in leaves}) != 1:
        return None
    differing = [key for key in leaves[0] if len({json.dumps(one[key]) for one in leaves}) > 1]
    if len(differing) != 1:
        return None
    values = [one[differing[0]] for one in leaves]
    if len(set(values)) < len(values) or any(type(value) not in (int, float) for value in values):
        return None
    return differing[0], values


def _longer(
    names: dict[str, str],
    configs: dict[str, RunConfig],
    told_apart: Callable[[list[RunConfig]], list[str]],
) -> dict[str, str]:
    """Names that several configurations have, with words added that tell these apart."""
    longer = dict(names)
    for name in set(names.values()):
        same = [key for key in names if names[key] == name]
        for key, words in zip(same, told_apart([configs[key] for key in same])):
            longer[key] = f"{name} {words}".strip()
    return longer


def _by_recipe(configs: list[RunConfig]) -> list[str]:
    """The recipe of each, or nothing when it is the same for all."""
    recipes = [config.recipe for config in configs]
    return recipes if len(set(recipes)) > 1 else [""] * len(recipes)


def _by_settings(configs: list[RunConfig]) -> list[str]:
    """The settings of each that are not the same for all: `kl_weight 2, batch 32`."""
    leaves = [dict(_leaves(settings_of(config))) for config in configs]
    columns = {key: [_short(one[key]) for one in leaves] for key in leaves[0]}
    columns = {key: values for key, values in columns.items() if len(set(values)) > 1}
    last = [key.rpartition(".")[2] for key in columns]
    words = []
    for (key, values), name in zip(columns.items(), last):
        if any(len(value) > LONGEST for value in values):
            numbers = {value: f"#{n}" for n, value in enumerate(dict.fromkeys(values), 1)}
            values = [numbers[value] for value in values]
        named = name if last.count(name) == 1 else key
        words.append([f"{named} {value}" for value in values])
    return [", ".join(row) for row in zip(*words)] if words else [""] * len(configs)


def _leaves(tree: dict[str, Any], at: str = "") -> list[tuple[str, Any]]:
    """Every setting with its dotted name."""
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        key = f"{at}{name}"
        found += _leaves(value, f"{key}.") if isinstance(value, dict) else [(key, value)]
    return found


def _short(value: Any) -> str:
    """A value in as few characters as tell it: `2`, `true`, `0.5 0.99`."""
    if isinstance(value, list):
        return " ".join(_short(entry) for entry in value)
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return value if isinstance(value, str) else json.dumps(value)
