"""Films: MP4 for players and pages, animated WebP for places that show images only."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vaegan.errors import ConfigError, DataError
from vaegan.figures import layout, lettering, theme
from vaegan.figures.sheet import check, draw
from vaegan.files import replacing

if TYPE_CHECKING:
    from PIL import Image

SIDE = 840  # pixels that a manifold in a film may take


def write_film(
    frames: "Iterable[np.ndarray | Image.Image]",
    path: str | Path,
    fps: int = 12,
    *,
    hold: float = 1.5,
) -> Path:
    """Write `frames` as a film; the last one stays for `hold` seconds.

    The same frames give the same file. MP4 (H.264, 4:2:0, its index at the front so that it plays
    while it loads) repeats the last frame `round(hold * fps)` times; WebP (an endless loop) shows
    it longer. An MP4 takes frames from an iterator one at a time, a WebP keeps them all. An odd
    side of an MP4 is made even by repeating its last row or column.

    Args:
        frames: (H, W, 3) or (H, W) uint8 arrays or Pillow images, all of one size.
        path: ends in .mp4 or .webp.
        fps: frames a second, 1..60.
        hold: extra seconds of the last frame, >= 0.

    Returns: the path.

    Raises:
        ConfigError: another file type, or `fps` or `hold` out of range.
        DataError: no frames, or frames of several sizes.
        RunError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".mp4", ".webp"):
        raise ConfigError(f"a film is written as .mp4 or .webp, not {path.name!r}; rename it")
    if not 1 <= fps <= 60 or not 0 <= hold <= 60:
        raise ConfigError(f"`fps` (={fps}) must lie in 1..60 and `hold` (={hold}) in 0..60 seconds")
    pictures = _arrays(frames)
    first = next(pictures, None)
    if first is None:
        raise DataError("a film without frames; record at least one during training")
    write = _write_mp4 if path.suffix.lower() == ".mp4" else _write_webp
    with replacing(path) as temporary:
        write(chain([first], pictures), temporary, fps, hold)
    return path


def manifold_frame(
    pixels: np.ndarray,
    label_name: str | None,
    step: int,
    *,
    last_step: int | None = None,
    scale: int | None = None,
    invert: bool = False,
) -> "Image.Image":
    """One frame of a manifold film: n x n images without gaps under "Label: c, Step: n".

    All frames of a film have one size: the title keeps to one line.

    Args:
        pixels: (n, n, H, W, C) uint8.
        label_name: the class; None where there are no labels ("Step: n").
        step: optimisation steps behind the network that drew the frame.
        last_step: the step of the film's last frame: adds a line that fills as training goes on.
        scale: pixels a side of one image pixel; None: the largest for a side of 840.
        invert: show 255 - pixels.

    Raises:
        DataError: `pixels` has another shape.
    """
    from PIL import ImageDraw

    check(pixels)
    rows, columns, height, width, _ = pixels.shape
    scale = scale or max(1, SIDE // max(rows * height, columns * width))
    side = columns * width * scale
    size = max(15, side // 42)  # larger than on a sheet: films are shown small
    face = layout.title_face(size)
    title = "Step: "
    if label_name is not None:
        room = max(side, layout.TITLE) - lettering.line_width(f"Label: , Step: {10**8}", face)
        title = f"Label: {lettering.shorten(lettering.legible(label_name), face, room)}, {title}"
    widest = lettering.line_width(f"{title}{10**8}", face)
    title = f"{title}{step}"
    plan = layout.plan(
        pixels.shape[:4], title=title, scale=scale, gap=0, size=size, least=max(side, widest)
    )
    image = draw(plan, 255 - pixels if invert else pixels)
    if last_step:
        left, bottom = plan.columns[0], plan.rows[0] - 3
        right = plan.cell(0, columns - 1).right - 1
        pen = ImageDraw.Draw(image)
        pen.rectangle((left, bottom - 2, right, bottom), fill=theme.RULE)
        if done := round((right - left) * min(1.0, step / last_step)):
            pen.rectangle((left, bottom - 2, left + done, bottom), fill=theme.ACCENT)
    return image


def _arrays(frames: "Iterable[np.ndarray | Image.Image]") -> Iterator[np.ndarray]:
    """Frames as contiguous (H, W, 3) uint8, their sizes compared."""
    size: tuple[int, ...] | None = None
    for i, frame in enumerate(frames):
        array = np.asarray(frame if isinstance(frame, np.ndarray) else frame.convert("RGB"))
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
            raise DataError(
                f"frame {i} is {array.dtype} of shape {array.shape}; give uint8 (H, W, 3)"
            )
        array = array[..., None] if array.ndim == 2 else array
        if array.shape[2] not in (1, 3):
            raise DataError(f"frame {i} has {array.shape[2]} channels; give 1 or 3")
        size = size or array.shape[:2]
        if array.shape[:2] != size:
            raise DataError(
                f"frame {i} is {array.shape[1]}x{array.shape[0]}, the first is "
                f"{size[1]}x{size[0]}; draw all frames of a film at one size"
            )
        yield np.ascontiguousarray(np.broadcast_to(array, (*size, 3)))


def _write_mp4(frames: Iterable[np.ndarray], path: Path, fps: int, hold: float) -> None:
    import av

    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.pix_fmt = "yuv420p"
        # One thread: the file then does not depend on the machine's number of cores.
        stream.options = {"crf": "25", "preset": "fast", "tune": "animation", "threads": "1"}
        frame = None
        for array in frames:
            even = [(0, side % 2) for side in array.shape[:2]]
            array = np.pad(array, [*even, (0, 0)], mode="edge")
            if frame is None:
                stream.height, stream.width = array.shape[:2]
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            container.mux(stream.encode(frame))
        for _ in range(round(hold * fps)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())


def _write_webp(frames: Iterable[np.ndarray], path: Path, fps: int, hold: float) -> None:
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    times = [round(1000 / fps)] * len(images)
    times[-1] += round(1000 * hold)
    images[0].save(
        path, format="WEBP", save_all=True, append_images=images[1:], duration=times,
        loop=0, quality=50, method=2,
    )  # fmt: skip
