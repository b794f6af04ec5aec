"""`vaegan figures`, which draws everything, and `vaegan report`, which puts it on one page."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vaegan.cli.films import write_films
from vaegan.cli.loading import Opened, open_run
from vaegan.cli.measuring import trained
from vaegan.cli.pictures import Data, Run, inverted, labels_of, write
from vaegan.cli.train import too_short

if TYPE_CHECKING:
    from PIL import Image

    from vaegan.figures.report import Section

INDENT = "\N{EM SPACE}"  # HTML swallows the spaces that indent a measure
LOOKS = "The measures of an evaluation at a small size, on training images and a few hundred draws."


@dataclass(frozen=True)
class Entry:
    """One picture of the album: file name, where it stands in the report, and how to draw it."""

    name: str
    heading: str
    caption: str
    draw: Callable[[], Image.Image]
    featured: bool = True


TEXTS = {
    "Reconstructions": "The encoder turns each test image, none of which was used in training, "
    "into a handful of numbers; the decoder draws it again from them.",
    "Samples": "Latents drawn from the prior, decoded under a label. A column shares its draw: "
    "what stays the same down a column is style.",
    "Style transfer": "Encode an image under its own label, decode the code under every other "
    "label. What the code still holds once the label is given is the style: slant, weight, width.",
    "Between images": "Walking along the straight line between two codes. A good latent space has "
    "a plausible image at every step.",
    "Manifold": "Two dimensions of the prior vary over its central 90 %, the others are zero.",
    "Latent space": "Where the encoder puts the test images. In a conditional model the classes "
    "ought to lie on top of one another: the label is given, so the code need not repeat it.",
    "Training": "The values that were written to stats.jsonl and, every so often, to looks.jsonl.",
}


def figures(
    run: Run,
    /,
    *,
    data: Data = None,
    films: Annotated[bool, Parameter(help="Draw the films too: the slowest part.")] = True,
) -> None:
    """Draw every picture that the system can have, and a film for every class."""
    from vaegan.cli.progress import tracked

    opened = open_run(run, data)
    entries = list(album(opened))
    for entry in tracked("figures", entries):
        write(entry.draw(), opened, entry.name, None)
    if not films or opened.model.config.family == "ae":
        return
    if not any(opened.run.film_weights.glob("*")):
        print(f"note: {run} recorded no film", file=sys.stderr)
    else:
        for label in labels_of(opened, None):
            for path in write_films(opened, label):
                print(path)


def report(
    run: Run,
    /,
    *,
    data: Data = None,
    out: Annotated[Path | None, Parameter(help="The file; RUN/report.html when left out.")] = None,
) -> None:
    """Write one self-contained HTML page: pictures, films, measures, losses, alarms and settings.

    Films that `vaegan figures` has drawn and what `vaegan evaluate` has measured are used; missing
    and outdated pictures are drawn.
    """
    from vaegan.figures.report import write_report

    opened = open_run(run, data)
    config = opened.run.config()
    model = config.model
    print(
        write_report(
            out or opened.run.report,
            title=f"{model.system} on {Path(config.data).name}",
            kicker="vaegan",
            summary=_summary(model.system),
            facts=_facts(opened),
            sections=[*_sections(opened), _evaluation(opened)],
        )
    )


def album(opened: Opened) -> Iterator[Entry]:
    """The pictures this system can have."""
    from vaegan import gallery
    from vaegan.figures.curves import curves
    from vaegan.looks import PANELS

    model, family = opened.model, opened.model.config.family
    names, invert = model.config.class_names, inverted(opened)
    if family != "gan":
        test = opened.dataset().test
        yield Entry(
            "reconstructions",
            "Reconstructions",
            "Above: original, below: reconstruction.",
            partial(gallery.reconstructions, model, test),
        )
    if family != "ae":
        yield Entry(
            "samples",
            "Samples",
            "Draws from the prior." if not names else "A row for every class.",
            partial(gallery.samples, model, n=12 if names else 80, invert=invert),
        )
    if family != "gan" and names:
        shown = min(7, len(names) - 1)
        for label, name in enumerate(names):
            yield Entry(
                f"transfer-{label}",
                "Style transfer",
                f"Framed: test images of {name}. Every other row: the same styles in that class.",
                partial(_transfer, model, opened, label, invert),
                featured=label in {shown, len(names) // 3},
            )
    if family != "gan":
        yield Entry(
            "interpolations",
            "Between images",
            "First and last column: test images.",
            partial(gallery.interpolations, model, test),
        )
    if family != "ae":
        for one in labels_of(opened, None):
            yield Entry(
                "manifold" if one is None else f"manifold-{one}",
                "Manifold",
                "The prior's plane." if one is None else f"Label: {names[one]}.",
                partial(gallery.manifold, model, one, invert=invert),
                featured=one in {None, 0, min(3, len(names) - 1)},
            )
    if family != "gan":
        yield Entry(
            "latents",
            "Latent space",
            "Posterior means of test images.",
            partial(gallery.latents, model, test),
        )
    if opened.run.rows():
        yield Entry(
            "losses",
            "Training",
            "Losses, costs, gradients and speed.",
            lambda: curves(_curve_rows(opened), title="Training"),
        )
    if looks := opened.run.look_rows():
        yield Entry(
            "looks",
            "Training",
            LOOKS,
            lambda: curves(looks, groups=PANELS, title="Looks of the watch"),
        )


def _transfer(model, opened: Opened, label: int, invert: bool) -> Image.Image:  # type: ignore[no-untyped-def]
    from vaegan import gallery

    pixels = gallery.of_class(opened.dataset().test, label, 12)
    return gallery.transfer(model, pixels, label, invert=invert)


def _curve_rows(opened: Opened) -> list[dict[str, float]]:
    """Rows of stats without the columns that only count."""
    counted = {"images_seen", "seconds"}
    return [
        {name: value for name, value in row.items() if name not in counted}
        for row in opened.run.rows()
    ]


def _sections(opened: Opened) -> Iterator[Section]:
    """One section a heading, its featured pictures, and the films under the manifold."""
    from vaegan.figures.output import save
    from vaegan.figures.report import Film, Picture, Section

    pictures: dict[str, list[Picture]] = {}
    for entry in album(opened):
        if entry.featured:
            path = opened.run.figures / f"{entry.name}.png"
            if not _current(path, opened):
                save(entry.draw(), path)
            pictures.setdefault(entry.heading, []).append(Picture(path, entry.caption))
    films = sorted(opened.run.films.glob("*.mp4"))[:2]
    for heading, images in pictures.items():
        shown = [Film(path, "The same plane through training.") for path in films]
        words = [TEXTS[heading]]
        if heading == "Training":
            step = int((trained(opened.run) or {"step": 0})["step"])
            if step and (short := too_short(opened.run.config(), step)):
                words.append(f"Note: {short}.")
            words += [f"Alarm at step {a['step']}: {a['text']}." for a in opened.run.alarm_rows()]
        films_here = shown if heading == "Manifold" else []
        yield Section(heading, "\n\n".join(words), images, films_here)


def _evaluation(opened: Opened) -> Section:
    """What `vaegan evaluate` measured and drew; how to get it, where there is nothing current."""
    from vaegan.cli.scoreboard import described, grids
    from vaegan.evaluation.comparison import spread
    from vaegan.evaluation.scores import Scores
    from vaegan.figures.report import Picture, Section, Table

    run = opened.run
    if not _current(run.metrics, opened):
        why = "is older than the model" if run.metrics.is_file() else "is not there"
        return Section(
            "Evaluation", f"metrics.json {why}: vaegan evaluate {run.metrics.parent} gives it."
        )
    scores = Scores.read(run.metrics)
    tables = []
    for title, headings, rows in grids([scores]):
        body = [(words.replace("  ", INDENT), *cells) for words, *cells in rows]
        tables.append(Table([("", "", *headings), *body], title))
    lines = [*described(scores), spread([scores])]
    lines += (f"Not measured: {line}" for line in scores.skipped)
    figure = run.figures / "learned-metric.png"
    caption = "Pairs by the learned metric: a shifted image ought to be nearer than a cut one."
    pictures = [Picture(figure, caption)] if _current(figure, opened) else []
    return Section("Evaluation", "\n\n".join(lines), pictures, tables=tables)


def _current(path: Path, opened: Opened) -> bool:
    """Whether a file made from the model is there, and not older than it."""
    return path.is_file() and path.stat().st_mtime >= opened.run.weights.stat().st_mtime


def _facts(opened: Opened) -> list[tuple[str, str]]:
    """Settings and results in words."""
    config, last = opened.run.config(), trained(opened.run)
    facts = [
        ("System", config.model.system),
        ("Recipe", config.recipe),
        ("Latents", str(config.model.latent_dim)),
        ("Batch", str(config.batch)),
        ("Seed", str(config.seed)),
        ("Precision", config.precision),
    ]
    facts += [
        (name.capitalize(), f"{config.model.parameters(name):,} parameters")
        for name in config.model.networks
    ]
    if last:
        facts += [
            ("Steps", f"{last['step']:,}"),
            ("Images seen", f"{last['images_seen']:,}"),
            ("Training time", f"{last['seconds'] / 60:.1f} min"),
            ("Speed", f"{last['images_seen'] / max(last['seconds'], 1e-9):,.0f} images/s"),
        ]
    return facts


def _summary(system: str) -> str:
    """What the system is, in a sentence."""
    kinds = {
        "ae": "An autoencoder: an encoder and a decoder that meet in a small code.",
        "vae": "A variational autoencoder: a code with a prior, measured in pixels.",
        "gan": "A generative adversarial network: a decoder and a discriminator that judges it.",
        "vae-gan": "A VAE/GAN: a variational autoencoder whose reconstructions are measured in the "
        "features of a discriminator, which learns what matters.",
    }
    from vaegan.config import family_of

    words = kinds[family_of(system)]
    return words + (" Every network is told the label." if system.startswith("c") else "")
