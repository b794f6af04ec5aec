"""One self-contained HTML page: settings, text, pictures, films and tables; no script, no network.

Everything the page shows lies in the file itself. Its content security policy forbids any other
source, so that opening a stranger's report can load and run nothing.
"""

import base64
import hashlib
import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vaegan.errors import DataError
from vaegan.figures.output import plain
from vaegan.figures.stylesheet import STYLE
from vaegan.files import replacing

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Picture:
    """An image (Pillow, or the path of a PNG or WebP file) with the words that go with it."""

    source: "Image.Image | str | Path"
    caption: str = ""
    alt: str = ""  # for those who cannot see it; the caption where empty


@dataclass(frozen=True)
class Film:
    """The path of an MP4 or an animated WebP with the words that go with it."""

    source: str | Path
    caption: str = ""
    alt: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells, the first is the header, with the words that stand above them.

    Columns of numbers, or of text that reads as one (`.945 ± .004`), are set flush right.
    """

    rows: Sequence[Sequence[object]]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs (parted by empty lines), and what they speak of."""

    heading: str
    text: str = ""
    images: "Sequence[Picture | Image.Image | str | Path]" = ()
    films: Sequence[Film | str | Path] = ()
    tables: Sequence[Table] = ()


def write_report(
    path: str | Path,
    *,
    title: str,
    facts: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    summary: str = "",
    kicker: str = "",
    language: str = "en",
) -> Path:
    """Write the page; the same arguments give the same bytes.

    Args:
        path: the HTML file.
        title: the headline, also the name of the browser's tab.
        facts: (name, value) of settings and results, shown as a list below the headline.
        sections: in order; all but a single one are listed in a table of contents.
        summary: a paragraph below the headline, in larger letters.
        kicker: a few small words above the headline.
        language: of the text, as in HTML's `lang`.

    Returns: the path.

    Raises:
        DataError: a picture or film is missing or of another type, or a table is ragged.
        RunError: the file cannot be written.
    """
    path = Path(path)
    page = _Page()
    body = [page.section(i, section) for i, section in enumerate(sections, 1)]
    contents = "".join(
        f'<li><a href="#s{i}">{text(s.heading)}</a></li>' for i, s in enumerate(sections, 1)
    )
    listed = "".join(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in facts)
    style = STYLE + page.widths()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    document = f"""<!DOCTYPE html>
<html lang="{text(language)}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{text(title)}</title>
<style>{style}</style>
</head>
<body>
<header>
{_if(kicker, '<p class="kicker">{}</p>')}<h1>{text(title)}</h1>
{_if(summary, '<p class="summary">{}</p>')}</header>
<main>
{f'<dl class="facts">{listed}</dl>' if listed else ""}
{f'<nav aria-label="Contents"><ol>{contents}</ol></nav>' if len(sections) > 1 else ""}
{"".join(body)}</main>
</body>
</html>
"""
    with replacing(path) as temporary:
        temporary.write_bytes(document.encode())
    return path


def text(value: object) -> str:
    """Any value as harmless HTML text: markup and quotes escaped, control characters marked.

    Among these are the ones that turn the direction of writing and so could disguise a name.
    """
    shown = str(value).encode("utf-8", "backslashreplace").decode()
    shown = "".join("\ufffd" if _controls(c) else c for c in shown)
    return html.escape(shown, quote=True)


def _controls(character: str) -> bool:
    code = ord(character)
    turns = 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069
    return turns or (unicodedata.category(character) == "Cc" and character not in "\n\t")


def _if(value: str, template: str) -> str:
    return template.format(text(value)) + "\n" if value else ""


class _Page:
    """Turns sections into HTML; counts figures and collects the widths they are shown at."""

    def __init__(self) -> None:
        self.figures = 0
        self.used: set[int] = set()

    def widths(self) -> str:
        """A style rule for each width in use: a strict policy allows no style at the element."""
        return "".join(f".w{w}{{width:{w}px}}\n" for w in sorted(self.used))

    def section(self, number: int, section: Section) -> str:
        """One section as HTML."""
        paragraphs = "".join(
            f"<p>{text(p.strip())}</p>\n" for p in section.text.split("\n\n") if p.strip()
        )
        pictures = [p if isinstance(p, Picture) else Picture(p) for p in section.images]
        films = [f if isinstance(f, Film) else Film(f) for f in section.films]
        figures = [self._picture(p, section.heading) for p in pictures]
        figures += [self._film(f, section.heading, len(films)) for f in films]
        rows = f'<div class="figures">{"".join(figures)}</div>\n' if figures else ""
        tables = "".join(_table(table) for table in section.tables)
        heading = f'<h2 id="s{number}">{text(section.heading)}</h2>'
        return f"<section>\n{heading}\n{paragraphs}{tables}{rows}</section>\n"

    def _picture(self, picture: Picture, heading: str) -> str:
        data, mime, width, height = _encoded(picture.source)
        alt = picture.alt or picture.caption or heading
        tag = (
            f'<img src="data:{mime};base64,{data}" alt="{text(alt)}" '
            f'width="{width}" height="{height}">'
        )
        return self._figure(tag, picture.caption, width)

    def _film(self, film: Film, heading: str, count: int) -> str:
        path = Path(film.source)
        alt = film.alt or film.caption or heading
        data = _read(path)
        shown = 560 if count == 1 else 490 if count in (2, 4) else 320  # fill rows of 1024
        if data[4:8] != b"ftyp":
            image, mime, width, height = _encoded(path)
            shown = min(shown, width)
            tag = (
                f'<img src="data:{mime};base64,{image}" alt="{text(alt)}" '
                f'width="{width}" height="{height}">'
            )
            return self._figure(tag, film.caption, shown)
        poster, width, height = _last_frame(path)
        tag = (
            f'<video controls loop muted playsinline preload="metadata" width="{width}" '
            f'height="{height}" aria-label="{text(alt)}" poster="data:image/webp;base64,{poster}">'
            f'<source src="data:video/mp4;base64,{_base64(data)}" type="video/mp4">'
            f"{text(alt)}</video>"
        )
        return self._figure(tag, film.caption, min(shown, width))

    def _figure(self, tag: str, caption: str, width: int) -> str:
        self.figures += 1
        self.used.add(width)
        words = f" {text(caption)}" if caption else ""
        return (
            f'<figure class="w{width}"><div class="card">{tag}</div>'
            f"<figcaption><b>Figure {self.figures}.</b>{words}</figcaption></figure>\n"
        )


def _table(table: Table) -> str:
    (header, *body), caption = table.rows, table.caption
    for row in body:
        if len(row) != len(header):
            raise DataError(
                f"a table row has {len(row)} cells, its header {len(header)}: {list(row)!r}; "
                "give as many"
            )
    head = "".join(f'<th scope="col"{_right(body, i)}>{text(c)}</th>' for i, c in enumerate(header))
    lines = "".join(
        "<tr>"
        + "".join(f"<td{_right(body, i)}>{text(_cell(cell))}</td>" for i, cell in enumerate(row))
        + "</tr>\n"
        for row in body
    )
    words, name = _if(caption, '<p class="caption">{}</p>'), text(caption or "Table")
    return (
        f'{words}<div class="table" role="region" tabindex="0" aria-label="{name}">'
        f"<table><thead><tr>{head}</tr></thead>\n"
        f"<tbody>{lines}</tbody></table></div>\n"
    )


def _right(body: Iterable[Sequence[object]], column: int) -> str:
    """The class of a column of numbers."""
    cells = [row[column] for row in body if row[column] not in (None, "", "–")]
    return ' class="number"' if cells and all(map(_is_number, cells)) else ""


def _is_number(cell: object) -> bool:
    if isinstance(cell, str):
        return re.fullmatch(r"[-−]?[\d,]*\.?\d+( ± [\d,]*\.?\d+)?", cell) is not None
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _cell(value: object) -> object:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else value


def _encoded(source: "Image.Image | str | Path") -> tuple[str, str, int, int]:
    """A picture as base64, its media type, and the width and height to show it at."""
    from io import BytesIO

    from PIL import Image

    if isinstance(source, str | Path):
        data = _read(Path(source))
        try:
            with Image.open(BytesIO(data), formats=("PNG", "WEBP")) as image:
                width, height = image.size
                density = image.info.get("dpi", (96, 96))[0]
                mime = Image.MIME[image.format or "PNG"]
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(
                f"{str(source)!r} is no PNG or WebP picture; draw it again or leave it out"
            ) from error
    else:
        stream = BytesIO()
        plain(source).save(stream, format="PNG", optimize=True)
        data, mime, (width, height) = stream.getvalue(), "image/png", source.size
        density = source.info.get("dpi", (96, 96))[0]
    shrink = 96 / min(max(density, 96), 400)
    return _base64(data), mime, round(width * shrink), round(height * shrink)


def _last_frame(path: Path) -> tuple[str, int, int]:
    """The last frame of an MP4 as base64 WebP, for before it plays and on paper; its size."""
    from io import BytesIO

    import av

    try:
        with av.open(str(path)) as container:
            frame = None
            for frame in container.decode(video=0):  # noqa: B007
                pass
            if frame is None:
                raise DataError(f"{str(path)!r} holds no frame; record the film again")
            image = frame.to_image()
    except av.FFmpegError as error:
        raise DataError(f"{str(path)!r} is no readable MP4; record the film again") from error
    stream = BytesIO()
    image.save(stream, format="WEBP", quality=60)
    return _base64(stream.getvalue()), image.width, image.height


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read {str(path)!r}: {error.strerror}; draw it again or leave it out"
        ) from error


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
