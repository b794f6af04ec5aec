import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest

from vaegan.figures import theme

# Machado, Oliveira & Fernandes 2009: linear RGB seen with full deuteranopia and protanopia.
BLINDNESS = {
    "none": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}
TAB10 = """#1f77b4 #ff7f0e #2ca02c #d62728 #9467bd
#8c564b #e377c2 #7f7f7f #bcbd22 #17becf"""


def linear(color):
    c = np.array(theme.rgb(color)) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    to_xyz = [
        [0.4124, 0.3576, 0.1805],
        [0.2126, 0.7152, 0.0722],
        [0.0193, 0.1192, 0.9505],
    ]
    xyz = np.array(to_xyz) @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def nearest(colors, kind):
    seen = [lab(np.array(BLINDNESS[kind]) @ linear(c)) for c in colors]
    return min(np.linalg.norm(a - b) for a, b in combinations(seen, 2))


@pytest.mark.parametrize("kind", BLINDNESS)
def test_ten_classes_stay_apart_for_colour_blind_people(kind):
    # 2.3 is a just noticeable difference in CIE Lab.
    assert nearest(theme.PALETTE, kind) > 10
    if kind != "none":
        assert nearest(theme.PALETTE, kind) > 1.5 * nearest(TAB10.split(), kind)


@pytest.mark.parametrize("color", [theme.INK, theme.MUTED, theme.ACCENT])
def test_text_colours_meet_wcag_aa_on_paper(color):
    luminance = [0.2126, 0.7152, 0.0722] @ linear(color)
    assert 1.05 / (luminance + 0.05) >= 4.5


def test_sixty_classes_have_sixty_looks():
    assert len({(theme.class_color(i), theme.class_marker(i)) for i in range(60)}) == 60
    assert theme.class_color(13) == theme.class_color(3)


def test_rgb():
    assert theme.rgb("#c2410c") == (194, 65, 12)


def test_style_ignores_and_restores_the_users_settings():
    import matplotlib

    with matplotlib.rc_context({"font.size": 31, "axes.grid": True}):
        with theme.style():
            assert matplotlib.rcParams["font.size"] == 9
            assert matplotlib.rcParams["axes.grid"] is False
        assert matplotlib.rcParams["font.size"] == 31


def test_rendered_pixels_and_density():
    with theme.style():
        image = theme.render(theme.new_figure(1.5, 0.5))
    assert image.size == (288, 96)
    assert image.info["dpi"] == (192, 192)
    assert (np.asarray(image) == 255).all()


def test_importing_the_pictures_imports_nothing_heavy():
    code = """
import sys, pkgutil, importlib, vaegan.figures
for module in pkgutil.iter_modules(vaegan.figures.__path__):
    importlib.import_module("vaegan.figures." + module.name)
heavy = {"matplotlib", "av", "PIL", "torch", "scipy", "sklearn"} & set(sys.modules)
assert not heavy, heavy
import numpy as np
from vaegan.figures.scatter import scatter
from vaegan.figures.curves import curves
scatter(np.eye(4)), curves([{"step": 1, "kl": 1.0}])
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
