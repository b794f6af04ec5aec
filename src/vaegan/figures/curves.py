"""Values of a run over its steps: small multiples, raw and smoothed, gaps and skips shown."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaegan.errors import DataError
from vaegan.figures import lettering, theme
from vaegan.figures.lettering import legible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL import Image

# Bookkeeping of a row, not drawn unless asked for.
CLOCK = ("step", "epoch", "images_seen", "seconds", "seconds_per_step", "images_per_second", "time")
# Names of panels for the last words of values that a training run logs.
TITLES = {
    "loss": "losses",
    "kl": "KL divergence, nats",
    "cost": "costs of real and fake, nats",
    "logit": "logits of real and fake",
    "gradient": "gradient norms",
    "steps": "updates of each network a step",
}
DECADES = 1.5  # a panel of positive values that spans more powers of ten is logarithmic
PANEL = (3.7, 2.35)  # inches: width and height of one panel with its title


def curves(
    rows: Sequence[Mapping[str, Any]],
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    shares: Collection[str] = (),
    title: str | None = None,
) -> "Image.Image":
    """Draw one panel for each group of values: every value pale, its smooth course strong.

    Args:
        rows: stats by step: dicts with an int `step` and any other values. A missing key or None
            is a value not measured then; NaN or infinity breaks the line and is marked. Rows of
            an earlier attempt at the same steps (a resumed run) are replaced by the later ones.
        groups: panel title -> names of values, in order. None: names with a part in common
            ("loss/encoder", "loss/decoder" or "encoder_loss", "decoder_loss") share a panel.
        shares: names of values to draw as the share, in per cent, of the steps around each step:
            true or a number >= 1 counts whole, 0 not at all. True/false values and counts of
            updates ("..._steps") that never pass 1 always are: the schedule's skips.
        title: a bold line above.

    Returns: an RGB image of `theme.DENSITY` pixels an inch.

    Raises:
        DataError: no rows, a row without a step, or no value to draw.
    """
    steps, series = columns(rows)
    flags = {n for row in rows for n, value in row.items() if isinstance(value, bool)} | set(shares)
    flags |= {n for n in series if n.endswith("_steps") and series[n].max() <= 1}
    panels = grouped(series, flags) if groups is None else groups
    panels = {name: [n for n in names if n in series] for name, names in panels.items()}
    panels = {name: names for name, names in panels.items() if names}
    if not panels:
        raise DataError(
            f"no value to draw among {', '.join(sorted(series)) or 'none'}; log one beside `step`"
        )
    across = 2 if len(panels) in (2, 4) else min(len(panels), 3)
    down = -(-len(panels) // across)
    head = 0.4 if title else 0.05
    width, height = PANEL[0] * across + 0.1, PANEL[1] * down + head + 0.12
    tints: dict[str, int] = {}  # one colour a network, whatever the panel
    with theme.style():
        figure = theme.new_figure(width, height)
        if title:
            figure.text(0.2 / width, 1 - 0.36 / height, legible(title), fontsize=13, weight="bold")
        for i, (name, names) in enumerate(panels.items()):
            left = PANEL[0] * (i % across) + 0.62
            bottom = height - head - PANEL[1] * (i // across + 1) + 0.3
            box = (
                left / width,
                bottom / height,
                (PANEL[0] - 0.8) / width,
                (PANEL[1] - 0.95) / height,
            )
            axes = figure.add_axes(box)
            short = short_names(names)
            colors = [tints.setdefault(s, len(tints)) for s in short] if len(names) > 1 else [0]
            share = flags.issuperset(names)
            lines = [
                (s, np.clip(series[n], 0, 1) if share else series[n], theme.class_color(c))
                for s, n, c in zip(short, names, colors, strict=True)
            ]
            _panel(axes, name, steps, lines, share)
            if i + across >= len(panels):
                axes.set_xlabel("step", labelpad=2)
        return theme.render(figure)


def columns(rows: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, dict[str, np.ma.MaskedArray]]:
    """Rows of stats -> (N,) steps in order, and by name (N,) floats, missing ones masked."""
    table: dict[int, dict[str, float]] = {}
    for row in rows:
        if not isinstance(row.get("step"), int):
            raise DataError(f"a row of stats has step {row.get('step')!r}; give it a whole number")
        numbers = {n: float(v) for n, v in row.items() if isinstance(v, int | float | np.number)}
        table.setdefault(row["step"], {}).update(numbers)
    if not table:
        raise DataError("no rows of stats to draw; train for at least one step, then draw again")
    steps = np.array(sorted(table))
    names = dict.fromkeys(n for row in rows for n in row if n in table[row["step"]])
    return steps, {
        n: np.ma.masked_array(
            [table[s].get(n, 0.0) for s in steps], [n not in table[s] for s in steps]
        )
        for n in names
    }


def grouped(
    series: Mapping[str, np.ma.MaskedArray], flags: Collection[str] = ()
) -> dict[str, list[str]]:
    """Panels: names with the same part before "/", or the same last word, stand together.

    Losses come first, gradients and the schedule last. `CLOCK` is left out, and so is a panel of
    shares (`flags`) that says nothing: all whole at every step.
    """
    names = [n for n in series if n not in CLOCK]
    words = [n.split("/")[0] if "/" in n else n.rsplit("_", 1)[-1] for n in names]
    panels: dict[str, list[str]] = {}
    for name, word in zip(names, words, strict=True):
        panels.setdefault(word if words.count(word) > 1 else name, []).append(name)
    rank = {"loss": -1, "gradient": 1, "steps": 2}
    shown: dict[str, list[str]] = {}
    for panel in sorted(panels, key=lambda panel: rank.get(panel, 0)):
        title = TITLES.get(panel, panel)
        if set(flags).issuperset(panels[panel]):
            if all((series[name] == 1).all() for name in panels[panel]):
                continue
            title = f"{'updated' if panel.endswith('steps') else panel}, share of steps"
        shown[title] = panels[panel]
    return shown


def short_names(names: Sequence[str]) -> list[str]:
    """What tells the names of one panel apart: "encoder" of "loss/encoder" or "encoder_loss"."""
    if len(names) > 1 and len({n.split("/")[0] for n in names if "/" in n}) == 1:
        names = [n.split("/", 1)[-1] for n in names]
    while len(names) > 1 and all("_" in n for n in names):
        if len({n.rpartition("_")[2] for n in names}) > 1:
            break
        names = [n.rpartition("_")[0] for n in names]
    return [n.replace("_", " ") for n in names]


def smooth(values: np.ndarray, width: float) -> np.ndarray:
    """Gaussian mean over neighbours, `width` rows wide (standard deviation); NaN stays NaN.

    Neighbours that are NaN do not count: the weights of the others are scaled up to one.
    """
    known = np.isfinite(values)
    reach = max(1, int(3 * width))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(width, 1e-9)) ** 2)
    sums = np.convolve(np.where(known, values, 0), kernel)[reach:-reach]
    weights = np.convolve(known.astype(float), kernel)[reach:-reach]
    return np.where(known, sums / np.where(known, weights, 1), np.nan)


def logarithmic(values: np.ndarray) -> bool:
    """Whether values (any shape, NaN allowed) are positive and span more than `DECADES`."""
    finite = values[np.isfinite(values)]
    if finite.size < 2 or finite.min() <= 0:
        return False
    low, high = np.quantile(finite, (0.01, 0.99))
    return bool(np.log10(high / low) > DECADES)


def _panel(
    axes: "Axes",
    name: str,
    steps: np.ndarray,
    lines: Sequence[tuple[str, np.ma.MaskedArray, str]],
    share: bool,
) -> None:
    """One panel; `lines` holds (name, values, colour)."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    theme.panel(axes, legible(name.replace("_", " ")))
    log = not share and logarithmic(np.concatenate([values.compressed() for _, values, _ in lines]))

    keys, extremes = [], []
    for short, values, color in lines:
        x, y = steps[~np.ma.getmaskarray(values)], values.compressed()
        finite = np.isfinite(y)
        y = np.where(finite, y, np.nan)
        curve = smooth(np.log(y) if log else y, len(y) / (30 if share else 60))
        curve = np.exp(curve) if log else curve
        if not share:
            axes.plot(x, y, color=color, alpha=0.3, linewidth=0.7)
        elif len(lines) == 1:
            axes.fill_between(x, 0, curve, color=color, alpha=0.14, linewidth=0)
        dots: dict[str, Any] = {"marker": "o", "markersize": 3.5} if finite.sum() <= 2 else {}
        axes.plot(x, curve, color=color, linewidth=1.7, **dots)
        axes.plot(x[~finite], np.full((~finite).sum(), 0.03), "x", color=theme.ACCENT,
                  markersize=4, transform=axes.get_xaxis_transform())  # fmt: skip
        if finite.any():
            extremes += [*np.nanquantile(y, (0.005, 0.995)), np.nanmin(curve), np.nanmax(curve)]
        short = short if len(lines) > 1 else "last"
        last = "".join(f"{v:.0%}" if share else _number(v) for v in curve[finite][-1:]) or "–"
        wrong = "" if finite.all() else f" ({(~finite).sum()} × not finite)"
        keys.append((legible(short), f" {last}{wrong}", color))
    _keys(axes, keys)

    alone = float(len(steps) == 1)
    first = 0 if steps[0] < 0.05 * steps[-1] else steps[0]
    axes.set_xlim(first - alone, steps[-1] + alone)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: _steps(value))
    if share:
        axes.set_ylim(0, 1.04)
        axes.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    elif not extremes:
        axes.set_ylim(0, 1)
        axes.set_yticks([])
    elif log:
        axes.set_yscale("log")
        axes.set_ylim(min(extremes) / 1.15, max(extremes) * 1.15)
        few = np.log10(max(extremes) / min(extremes)) < 2.5
        axes.yaxis.set_major_locator(LogLocator(10, (1, 3) if few else (1,), numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    else:
        low, high = min(extremes), max(extremes)
        air = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        axes.set_ylim(low - air, high + air)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))


def _keys(axes: "Axes", keys: list[tuple[str, str, str]]) -> None:
    """Write name and last value beside a stroke of the line's colour, on one line.

    Where that is too long the values go first, then the ends of the names.
    """
    face = lettering.font(round(8 * theme.DENSITY / 72))
    room = (PANEL[0] - 0.8) * theme.DENSITY
    blank = lettering.line_width("0", face)
    frame = 3.2 * blank  # stroke, and air on both sides
    texts = [name + value for name, value, _ in keys]
    if sum(lettering.line_width(text, face) + frame for text in texts) > room + blank:
        texts = [name for name, _, _ in keys]
    widths = [lettering.line_width(text, face) for text in texts]
    squeeze = min(1.0, (room - frame * len(keys)) / sum(widths))
    x = 0.0
    for text, wide, (_, _, color) in zip(texts, widths, keys, strict=True):
        text = text if squeeze == 1 else lettering.shorten(text, face, int(wide * squeeze))
        ends = [x / room, (x + 1.3 * blank) / room]
        axes.plot(ends, [1.085, 1.085], color=color, lw=2, transform=axes.transAxes, clip_on=False)
        axes.text((x + 1.9 * blank) / room, 1.05, text, transform=axes.transAxes, fontsize=8)
        x += wide * squeeze + frame


def _steps(value: float) -> str:
    """12000 -> "12k"; whole numbers below."""
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


def _number(value: float) -> str:
    """Three significant digits, thousands in full."""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")
