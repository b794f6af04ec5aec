import base64
import hashlib
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from vaegan.errors import DataError, RunError
from vaegan.figures.film import write_film
from vaegan.figures.output import save
from vaegan.figures.report import Film, Picture, Section, Table, text, write_report

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><script>x</script>",
    "&lt;b&gt;",
    "javascript:alert(1)",
    "{{7*7}} ${x} %s {0}",
    "-->",
    "]]>",
    "日本語 عربى Ωé",
]
TAGS = """html head meta title style body header p h1 main dl div dt dd nav ol li a
section h2 table thead tr th tbody td figure img figcaption b"""
VOID = {"meta", "img", "source", "br", "hr", "link"}


class Page(HTMLParser):
    """The tree as lists: tags with attributes, the text by tag; refuses unbalanced tags."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(path.read_text("utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append((self.open[-1] if self.open else "", data))

    def of(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def text(self, tag):
        return [words for name, words in self.words if name == tag]


def noise(width=30, height=20, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def payload(url):
    head, data = url.split(",", 1)
    return head, base64.b64decode(data, validate=True)


@pytest.fixture
def film(tmp_path):
    frames = [np.full((32, 48, 3), v, np.uint8) for v in (0, 90, 200)]
    return write_film(frames, tmp_path / "film.mp4", 5)


def write(path, **options):
    defaults = {"title": "Title", "facts": [], "sections": [Section("One")]}
    return Page(write_report(path, **defaults | options))


def test_everything_is_in_the_page(tmp_path, film):
    drawn, saved = noise(), save(noise(seed=1), tmp_path / "saved.png")
    page = write(
        tmp_path / "deep" / "report.html",
        title="A run",
        summary="What came of it",
        kicker="vaegan",
        facts=[("System", "cvae-gan"), ("Steps", "4,200")],
        sections=[
            Section("Pictures", "First.\n\nSecond.", [Picture(drawn, "Noise", "grains"), saved]),
            Section("Films", films=[Film(film, "Grey")]),
            Section(
                "Table", tables=[Table([("name", "value"), ("a", 1.23456), ("b", None), ("c", 7)])]
            ),
        ],
    )
    first, second = page.of("img")
    head, data = payload(first["src"])
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(data)) as image:
        assert (np.asarray(image) == np.asarray(drawn)).all()
    assert payload(second["src"])[1] == saved.read_bytes()
    assert (first["alt"], first["width"], first["height"]) == ("grains", "30", "20")
    assert second["alt"] == "Pictures"

    (source,) = page.of("source")
    assert payload(source["src"]) == ("data:video/mp4;base64", film.read_bytes())
    (video,) = page.of("video")
    assert {"controls", "loop", "muted", "playsinline"} <= set(video)
    with Image.open(io.BytesIO(payload(video["poster"])[1])) as poster:
        assert poster.size == (48, 32)
        assert np.abs(np.asarray(poster).astype(int) - 200).max() < 8  # the last frame

    assert page.text("h1") == ["A run"]
    assert page.text("title") == ["A run"]
    assert page.text("h2") == ["Pictures", "Films", "Table"]
    assert [p for p in page.text("p") if p.strip()] == [
        "vaegan",
        "What came of it",
        "First.",
        "Second.",
    ]
    assert list(zip(page.text("dt"), page.text("dd"), strict=True)) == [
        ("System", "cvae-gan"),
        ("Steps", "4,200"),
    ]
    assert page.text("th") == ["name", "value"]
    assert page.text("td") == ["a", "1.235", "b", "–", "c", "7"]
    assert [a.get("class") for a in page.of("td")] == [None, "number"] * 3
    assert page.text("b") == ["Figure 1.", "Figure 2.", "Figure 3."]
    assert [w.strip() for w in page.text("figcaption") if w.strip()] == ["Noise", "Grey"]
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["report.html"]


def test_text_that_reads_as_a_number_is_flush_right(tmp_path):
    header = ("measure", "aim", "value", "real")
    rows = [
        ("Fréchet", "↓", "1,234 ± 1.5", "–"),
        ("slope", "→1", "−.02", ".945 ± .004"),
        ("none", "", None, ""),
    ]
    tables = [Table([header, *rows], "Measures"), Table([("n",), ("7 of 9",)], "Counts")]
    page = write(tmp_path / "r.html", sections=[Section("One", tables=tables)])
    classes = [a.get("class") for a in page.of("td")]
    assert classes == [None, None, "number", "number"] * 3 + [None]
    assert [p for p in page.text("p") if p.strip()] == ["Measures", "Counts"]


def test_the_table_of_contents_leads_to_the_sections(tmp_path):
    page = write(tmp_path / "r.html", sections=[Section("One"), Section("Two"), Section("Three")])
    targets = [a["href"] for a in page.of("a")]
    assert targets == [f"#{a['id']}" for a in page.of("h2")] == ["#s1", "#s2", "#s3"]
    assert page.text("a") == page.text("h2")
    assert write(tmp_path / "r.html").of("nav") == []


def test_nothing_points_outside_and_nothing_can_run(tmp_path, film):
    path = tmp_path / "r.html"
    page = write(path, sections=[Section("One", "text", [noise()], [film])])
    source = re.sub(r"base64,[A-Za-z0-9+/=]+", "base64,", path.read_text())
    assert not re.search(r"https?:|//[a-z]|@import|url\(|srcdoc|<base", source)
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed", "form", "link")
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href", "poster"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))


def test_the_policy_allows_this_style_sheet_and_no_other(tmp_path):
    path = tmp_path / "r.html"
    page = write(path, sections=[Section("One", images=[noise(123)])])
    policy = next(m for m in page.of("meta") if "http-equiv" in m)["content"]
    style = path.read_text().split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy and "script" not in policy
    assert ".w123{width:123px}" in style


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_as_text(tmp_path, name):
    page = write(
        tmp_path / "r.html",
        title=name,
        kicker=name,
        summary=name,
        facts=[(name, name)],
        sections=[
            Section(name, name, [Picture(noise(), name)], tables=[Table([(name,), (name,)], name)]),
            Section("Other", images=[Picture(noise(), "", name)]),
        ],
    )
    for tag in ("title", "h1", "h2", "dt", "dd", "th", "td"):
        assert page.text(tag)[0] == name
    assert [p for p in page.text("p") if p.strip()] == [name] * 4
    assert [a["alt"] for a in page.of("img")] == [name, name]
    harmless = set(TAGS.split())
    assert {tag for tag, _ in page.tags} <= harmless
    assert len(page.of("img")) == 2


def test_characters_that_disguise_or_cannot_be_written_are_marked():
    assert text("a\u202eb\x00c") == "a\ufffdb\ufffdc"
    assert text("\ud800") == "\\ud800"
    assert text("na\u00efve\u00a0\U0001f600\u200d") == "na\u00efve\u00a0\U0001f600\u200d"
    assert text("<&\">'") == "&lt;&amp;&quot;&gt;&#x27;"


def test_a_dense_picture_is_shown_at_its_size_on_paper(tmp_path):
    image = noise(300, 200)
    image.info["dpi"] = (192, 192)
    saved = save(image, tmp_path / "a.png")
    page = write(tmp_path / "r.html", sections=[Section("One", images=[image, saved])])
    assert [(a["width"], a["height"]) for a in page.of("img")] == [("150", "100")] * 2


@pytest.mark.parametrize(("count", "shown"), [(1, 560), (2, 490), (3, 320), (4, 490), (10, 320)])
def test_films_fill_the_rows_of_the_page(tmp_path, count, shown):
    film = write_film([np.zeros((600, 600, 3), np.uint8)], tmp_path / "f.mp4", 2, hold=0)
    page = write(tmp_path / "r.html", sections=[Section("One", films=[film] * count)])
    assert [a["class"] for a in page.of("figure")] == [f"w{shown}"] * count


def test_an_animated_webp_is_a_picture(tmp_path):
    film = write_film([np.full((20, 30, 3), v, np.uint8) for v in (0, 200)], tmp_path / "f.webp")
    page = write(tmp_path / "r.html", sections=[Section("One", films=[film])])
    (image,) = page.of("img")
    assert payload(image["src"]) == ("data:image/webp;base64", film.read_bytes())
    assert page.of("video") == []


def test_the_same_run_gives_the_same_bytes_and_little_more_than_its_pictures(tmp_path, film):
    options = {"sections": [Section("One", images=[noise()], films=[film])]}
    write(tmp_path / "a.html", **options)
    write(tmp_path / "b.html", **options)
    data = (tmp_path / "a.html").read_bytes()
    assert data == (tmp_path / "b.html").read_bytes()
    assert len(data) < 4 / 3 * (film.stat().st_size + 30 * 20 * 3) + 12_000


def test_bad_input_is_one_line_and_leaves_nothing(tmp_path):
    path = tmp_path / "r.html"
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "broken.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(50))
    for section, words in (
        (Section("One", images=[tmp_path / "none.png"]), "none.png"),
        (Section("One", films=[tmp_path / "none.mp4"]), "none.mp4"),
        (Section("One", images=[tmp_path / "text.png"]), "no PNG or WebP"),
        (Section("One", films=[tmp_path / "text.png"]), "no PNG or WebP"),
        (Section("One", films=[tmp_path / "broken.mp4"]), "no readable MP4"),
        (Section("One", tables=[Table([("a", "b"), (1,)])]), "1 cells, its header 2"),
    ):
        with pytest.raises(DataError) as error:
            write(path, sections=[section])
        assert words in str(error.value)
        assert "\n" not in str(error.value)
        assert not path.exists()
    path.mkdir()
    with pytest.raises(RunError, match="cannot write"):
        write(path)


@pytest.mark.slow
def test_a_browser_shows_the_page_under_its_policy(tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("no Chromium on this machine")
    red = Image.new("RGB", (400, 300), (200, 10, 20))
    write(tmp_path / "r.html", title="T", sections=[Section("S", images=[red])])
    subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         "--window-size=900,900", f"--user-data-dir={tmp_path / 'profile'}",
         f"--screenshot={tmp_path / 'shot.png'}", (tmp_path / "r.html").as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    with Image.open(tmp_path / "shot.png") as shot:
        page = np.asarray(shot.convert("RGB"))
    assert (page[0, 0] == (251, 250, 248)).all()  # the style sheet is in force
    assert (page == (200, 10, 20)).all(2).sum() == 400 * 300 or (
        # less the rounded corners of the card
        400 * 300 - 60 < (page == (200, 10, 20)).all(2).sum() < 400 * 300
    )
