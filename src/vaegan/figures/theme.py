"""The one look of all pictures: paper, ink, an accent, ten class colours, a typeface."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

PAPER = "#ffffff"
INK = "#1c1d21"
MUTED = "#686c75"
RULE = "#dcdee3"
ACCENT = "#c2410c"

# Petroff 2021 (arXiv:2107.02270), "Accessible color sequences for data visualization", ten colours:
# chosen so that the nearest two stay as far apart as can be under three kinds of colour blindness.
PALETTE = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
MARKERS = ("o", "^", "s", "D", "P", "X")
DENSITY = 192  # pixels an inch of a matplotlib picture: twice a screen's 96, sharp on fine displays


def class_color(index: int) -> str:
    """The colour of class `index`; after ten classes colours return with another marker."""
    return PALETTE[index % len(PALETTE)]


def class_marker(index: int) -> str:
    """The matplotlib marker of class `index`: one for each run through the palette."""
    return MARKERS[index // len(PALETTE) % len(MARKERS)]


def rgb(color: str) -> tuple[int, int, int]:
    """`#rrggbb` -> (red, green, blue), each in 0..255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


@contextmanager
def style() -> Iterator[None]:
    """Draw in the house style inside the block, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.family": "DejaVu Sans",
                "font.size": 9.0,
                "text.color": INK,
                "text.parse_math": False,  # a class may be called "$5"
                "figure.facecolor": PAPER,
                "figure.dpi": DENSITY,
                "axes.facecolor": PAPER,
                "axes.edgecolor": RULE,
                "axes.labelcolor": MUTED,
                "axes.labelsize": 8.5,
                "axes.linewidth": 0.8,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.titlecolor": INK,
                "axes.titlelocation": "left",
                "axes.titlesize": 10.0,
                "axes.titleweight": "bold",
                "axes.axisbelow": True,
                "grid.color": RULE,
                "grid.linewidth": 0.6,
                "xtick.color": RULE,
                "ytick.color": RULE,
                "xtick.labelcolor": MUTED,
                "ytick.labelcolor": MUTED,
                "xtick.labelsize": 8.0,
                "ytick.labelsize": 8.0,
                "lines.solid_capstyle": "round",
                "lines.solid_joinstyle": "round",
            }
        )
        yield


def new_figure(width: float, height: float) -> "Figure":
    """An empty matplotlib figure of `width` x `height` inches, drawn by Agg, unknown to pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def panel(axes: "Axes", title: str) -> None:
    """Make `axes` one of many: a title with room for names below it, rules for values, no ticks."""
    axes.set_title(title, fontsize=9.5, pad=19)
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0, pad=3)


def note(axes: "Axes", text: str) -> None:
    """Write a small muted line inside the lower left corner of `axes`."""
    axes.text(0.012, 0.012, text, transform=axes.transAxes, color=MUTED, fontsize=7.5, zorder=9)


def render(figure: "Figure") -> "Image.Image":
    """A matplotlib figure -> an RGB image, its density noted in `info["dpi"]`."""
    import numpy as np
    from PIL import Image

    figure.canvas.draw()
    image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])  # type: ignore[attr-defined]
    image.info["dpi"] = (DENSITY, DENSITY)
    return image
