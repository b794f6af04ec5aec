"""Every verb on a tiny run: what it prints, what it writes, where."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageOps

import vaegan as package
from vaegan import allocator
from vaegan.cli import VERBS, app
from vaegan.errors import DataError
from vaegan.evaluation.scores import Scores
from vaegan.images import read_image_files, to_pixels
from vaegan.model import Model
from vaegan.randomness import latents_of_seeds
from vaegan.rundir import RunDirectory

ALL_VERBS = [verb for group in VERBS.values() for verb in group]
FRAMES = 4  # film weights of three steps: 0, 1, 2, 3


def picture(path: Path) -> np.ndarray:
    """The pixels of a whole PNG file that is no blank page."""
    with Image.open(path) as image:
        image.verify()
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("L"))
    assert min(pixels.shape) >= 100 and pixels.std() > 5
    return pixels


def is_film(path: Path, frames: int) -> None:
    """An MP4 (the last frame is held) or an animated WebP with so many frames."""
    if path.suffix == ".webp":
        with Image.open(path) as image:
            assert image.format == "WEBP" and image.n_frames == frames
            image.seek(frames - 1)
            image.load()
        return
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert sum(1 for _ in film.decode(stream)) >= frames


def copy_of(run: Path, to: Path) -> Path:
    """A run that a test may change."""
    return Path(shutil.copytree(run, to))


# ── train ────────────────────────────────────────────────────────────────────────────────────


def test_train_prints_the_weights_and_nothing_else(works: Any, tmp_path: Path) -> None:
    run = tmp_path / "deep" / "run"
    arguments = ["--data", "digits", "--recipe", "dense", "--steps", 3, "--batch", 8]
    ended = works("train", *arguments, "--outdir", run)
    assert ended.out == f"{run / 'model.safetensors'}\n"
    assert (run / "model.safetensors").is_file()
    lines = ended.err.splitlines()
    assert lines[0] == f"training cvae-gan (dense) on digits in {run}"
    assert re.fullmatch(r"step 3: \d\.\d{4} s a step, \d+ images a second", lines[-2])
    # A run that ends while its learning rates rise has learned nothing, and says so.
    assert lines[-1].startswith("note: 3 steps are too few to be worth a look")
    config = json.loads((run / "config.json").read_text())
    assert (config["recipe"], config["data"], config["batch"]) == ("dense", "digits", 8)
    assert config["model"]["class_names"] == list("0123456789")


def test_train_sets_its_process_up(works: Any, tmp_path: Path, monkeypatch: Any) -> None:
    done: list[object] = []
    monkeypatch.setattr(allocator, "keep_memory", lambda: done.append("memory kept"))
    monkeypatch.setattr(torch, "set_num_threads", done.append)
    arguments = ["--data", "digits", "--recipe", "dense", "--steps", 1, "--batch", 8]
    works("train", *arguments, "--threads", 1, "--outdir", tmp_path / "run")
    assert done == ["memory kept", 1]


def test_train_without_outdir(works: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    ended = works("train", "--recipe", "dense", "--system", "vae", "--steps", 1, "--batch", 8)
    assert ended.out == "runs/digits-vae/model.safetensors\n"
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_train_takes_every_flag(works: Any, tmp_path: Path) -> None:
    flags = ["--data", "digits", "--outdir", tmp_path / "run", "--system", "cvae", "--recipe"]
    flags += ["dense", "--latent-dim", 3, "--batch", 4, "--image-size", 12, "--seed", 5]
    flags += ["--device", "cpu", "--precision", "fp32", "--epochs", 0.01]
    flags += ["--set", "objective.kl_weight=0.25", "--set", "optimiser.decay=constant"]
    works("train", *flags)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"] | {"architecture": 0, "class_names": 0} == {
        "system": "cvae",
        "image_size": [12, 12],
        "channels": 1,
        "num_classes": 10,
        "latent_dim": 3,
        "logvar_limit": 10.0,
        "kl_logvar_limit": None,
        "temperature": 1.0,
        "architecture": 0,
        "class_names": 0,
    }
    assert (config["batch"], config["seed"], config["precision"]) == (4, 5, "fp32")
    assert config["objective"]["kl_weight"] == 0.25
    assert config["optimiser"]["decay"] == "constant"
    # 0.01 epochs of 1,197 images, 4 a step.
    rows = (tmp_path / "run" / "stats.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["step"] == 3


def test_minutes_end_a_run(works: Any, tmp_path: Path) -> None:
    arguments = ["--recipe", "dense", "--system", "ae", "--batch", 8, "--minutes", 0.003]
    works("train", *arguments, "--outdir", tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    assert len(rows) >= 1
    seconds = rows[-1]["seconds"]
    assert 0.003 * 60 * 0.5 < seconds < 0.003 * 60 + 2


@pytest.mark.parametrize("flags", [[], ["--minutes", "1"], ["--epochs", "2"]])
def test_dry_run_writes_nothing(
    works: Any, tmp_path: Path, monkeypatch: Any, flags: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = works("train", "--recipe", "dense", "--batch", 4, "--dry-run", *flags)
    assert list(tmp_path.rglob("*")) == []
    assert ended.err == ""
    settings, end = json.JSONDecoder().raw_decode(ended.out)
    assert settings["objective"]["kl_weight"] > 0
    assert "1,197 training, 100 validation, 500 test images of 28x28x1, 10 classes" in ended.out
    plan = {"": "10,000 steps: about", "--minutes": "1 minutes: about", "--epochs": "598 steps"}
    assert plan["".join(flags[:1])] in ended.out[end:]
    assert re.search(r"^memory +about [\d,]+ MB$", ended.out, re.MULTILINE)


def test_dry_run_counts_the_tutorials_parameters(works: Any, tmp_path: Path) -> None:
    ended = works(
        *("train", "--recipe", "tutorial", "--batch", 2, "--dry-run"),
        *("--outdir", tmp_path / "run"),
    )
    counted = dict(re.findall(r"^(\w+) +([\d,]+) parameters", ended.out, re.MULTILINE))
    assert counted == {"encoder": "221,264", "decoder": "343,297", "discriminator": "96,209"}
    assert not (tmp_path / "run").exists()


# ── pictures ─────────────────────────────────────────────────────────────────────────────────

PICTURES = {
    "reconstruct": ([], "reconstructions", ["--n", "5", "--seed", "1", "--data", "digits"]),
    "sample": ([], "samples", ["--n", "4", "--seed", "1", "--label", "3"]),
    "transfer": (["--label", "4"], "transfer-4", ["--n", "5", "--seed", "1", "--data", "digits"]),
    "manifold": (["--label", "3"], "manifold-3", ["--n", "4", "--dims", "2", "1"]),
    "interpolate": ([], "interpolations", ["--n", "5", "--seed", "1", "--data", "digits"]),
    "latents": ([], "latents", ["--n", "40", "--data", "digits"]),
}


@pytest.mark.parametrize("verb", PICTURES)
def test_pictures(works: Any, trained: Any, tmp_path: Path, verb: str) -> None:
    run = copy_of(trained(), tmp_path / "run")
    needed, name, options = PICTURES[verb]
    ended = works(verb, run, *needed)
    assert ended.out == f"{run / 'figures' / name}.png\n"
    assert ended.err == ""
    default = picture(ended.paths[0])
    # --out is honoured, and the same command draws the same bytes.
    out = tmp_path / "elsewhere" / "mine.png"
    assert works(verb, run, *needed, "--out", out).out == f"{out}\n"
    assert out.read_bytes() == ended.paths[0].read_bytes()
    # Every option changes the picture.
    given = [*needed, *options, "--out", out]
    assert works(verb, run, *given).paths == [out]
    assert not np.array_equal(default, picture(out))


def test_transfer_of_every_class(works: Any, trained: Any, tmp_path: Path) -> None:
    run = copy_of(trained(), tmp_path / "run")
    paths = works("transfer", run, "--n", 2, "--out", tmp_path / "all").paths
    assert paths == [tmp_path / "all" / f"transfer-{label}.png" for label in range(10)]
    one = works("transfer", run, "--n", 2, "--label", 3).paths[0]
    assert one.read_bytes() == paths[3].read_bytes()


def test_a_light_ground_is_noted_and_turned_round(works: Any, tmp_path: Path) -> None:
    """A photo of ink on paper, wider than high: the model knows bright digits on dark."""
    paper = Image.new("L", (60, 40), 250)
    ImageDraw.Draw(paper).line([(20, 8), (40, 8), (28, 34)], fill=10, width=5)
    paper.save(tmp_path / "paper.png")
    ImageOps.invert(paper).save(tmp_path / "ink.png")

    def drawn(name: str, *flags: str) -> Any:
        flags = ("--from-label", "7", "--resize", *flags, "--out", tmp_path / f"of-{name}")
        return works("transfer", "mnist", "--images", tmp_path / name, *flags)

    noted = drawn("paper.png")
    assert "paper.png has a light ground where dark is wanted: try with --invert" in noted.err
    turned, dark = drawn("paper.png", "--invert"), drawn("ink.png")
    assert (turned.err, dark.err) == ("", "")
    assert np.abs(picture(turned.paths[0]).astype(int) - picture(dark.paths[0])).max() <= 2
    noted = drawn("ink.png", "--invert")
    assert "ink.png has a dark ground where light is wanted: try without --invert" in noted.err
    # On a transparent ground there is nothing to note, whatever the colour of the ink.
    for ink, flags in ((255, ()), (0, ("--invert",))):
        clear = Image.merge("LA", (Image.new("L", paper.size, ink), ImageOps.invert(paper)))
        clear.save(tmp_path / f"clear-{ink}.png")
        ended = drawn(f"clear-{ink}.png", *flags)
        assert ended.err == ""
        shown = picture(ended.paths[0])
        assert np.abs(shown.astype(int) - picture(turned.paths[0])).mean() < 2


def test_a_model_of_the_package_transfers_without_its_data(
    works: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object) -> None:
        raise DataError("cannot download mnist")

    monkeypatch.setattr("vaegan.cli.loading.Opened.dataset", unreachable)
    ended = works("transfer", "mnist", "--label", 7, "--n", 2, "--out", tmp_path / "a.png")
    assert "note: cannot download mnist; until then, styles are those of the" in ended.err
    other = works(
        "transfer", "mnist", "--label", 7, "--n", 2, "--seed", 4, "--out", tmp_path / "b.png"
    )
    monkeypatch.chdir(tmp_path)  # and a name of its own: the report would take it for test images
    named = works("transfer", "mnist", "--label", 7, "--n", 2).paths
    assert named == [Path("mnist/figures/transfer-7-draws.png")]
    assert not np.array_equal(picture(ended.paths[0]), picture(other.paths[0]))


def test_sample_by_label_has_a_name_of_its_own(works: Any, trained: Any, tmp_path: Path) -> None:
    run = copy_of(trained("cgan"), tmp_path / "run")
    drawn = [works("sample", run, *label).paths[0] for label in ([], ["--label", 0])]
    assert [path.name for path in drawn] == ["samples.png", "samples-0.png"]
    # A row for every class is taller than one row.
    assert picture(drawn[0]).shape[0] > 3 * picture(drawn[1]).shape[0]


def test_samples_at_a_temperature(works: Any, trained: Any, tmp_path: Path) -> None:
    run = copy_of(trained("cgan"), tmp_path / "run")
    usual = works("sample", run).paths[0]
    before = usual.read_bytes()
    bold = works("sample", run, "--temperature", 3).paths[0]
    assert bold.name == "samples-t3.png"
    assert usual.read_bytes() == before

    works("sample", run, "--n", 6, "--temperature", 3, "--to", tmp_path / "bold.npy")
    model = Model.from_pretrained(run)
    labels = torch.arange(6) % model.config.num_classes
    latents = 3 * latents_of_seeds(range(6), model.config.latent_dim)
    assert np.array_equal(np.load(tmp_path / "bold.npy"), to_pixels(model.decode(latents, labels)))

    folder = tmp_path / "folder"
    works("sample", run, "--n", 2, "--temperature", 3, "--to", folder)
    ended = process("sample", run, "--n", 2, "--to", folder, cwd=tmp_path)
    assert ended.returncode == 2
    assert "another model or temperature" in ended.stderr


def test_samples_themselves(works: Any, trained: Any, tmp_path: Path) -> None:
    run, folder, array = trained("cgan"), tmp_path / "images", tmp_path / "deep" / "images.npy"
    ended = works("sample", run, "--n", 1200, "--seed", 3, "--to", folder)
    assert ended.paths == [folder]
    assert re.fullmatch(r"1,200 images written; [\d,]+ a second\n", ended.err)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.*")}
    assert files == {f"{(3 + k) % 10}/{3 + k}.png" for k in range(1200)} | {"samples.json"}
    # The same command has nothing to do; a larger number adds to what is there.
    again = works("sample", run, "--n", 1200, "--seed", 3, "--to", folder)
    assert again.err.startswith("0 images written, 1,200 were there;")
    more = works("sample", run, "--n", 1210, "--seed", 3, "--to", folder)
    assert more.err.startswith("10 images written, 1,200 were there;")

    ended = works("sample", run, "--n", 1200, "--seed", 3, "--to", array, "--device", "cpu")
    assert ended.paths == [array, array.with_name("images-labels.npy")]
    pixels, labels = np.load(array), np.load(ended.paths[1])
    assert (pixels.shape, pixels.dtype) == ((1200, 28, 28, 1), np.uint8)
    assert np.array_equal(labels, np.arange(3, 1203) % 10) and labels.dtype == np.int64
    files = [folder / f"{seed % 10}/{seed}.png" for seed in range(3, 1203)]
    read = read_image_files(files, (28, 28), 1)
    assert np.array_equal(read, pixels)
    assert np.array_equal(to_pixels(Model.from_pretrained(run).sample(1200, seed=3)), pixels)
    # One class, and no classes.
    ended = works("sample", run, "--n", 4, "--label", 7, "--to", tmp_path / "seven.npy")
    assert np.load(ended.paths[1]).tolist() == [7] * 4
    ended = works("sample", trained("vae"), "--n", 4, "--to", tmp_path / "plain.NPY")
    assert ended.paths == [tmp_path / "plain.NPY"] and np.load(ended.paths[0]).shape[0] == 4
    works("sample", trained("vae"), "--n", 2, "--to", tmp_path / "plain")
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == [
        *("0.png", "1.png", "samples.json")
    ]
    assert not (run / "figures").exists()


def test_manifold_of_every_class(works: Any, trained: Any, tmp_path: Path) -> None:
    run = copy_of(trained(), tmp_path / "run")
    names = [f"manifold-{label}.png" for label in range(10)]
    ended = works("manifold", run, "--n", 3)
    assert ended.paths == [run / "figures" / name for name in names]
    ended = works("manifold", run, "--n", 3, "--out", tmp_path / "folder")
    assert ended.paths == [tmp_path / "folder" / name for name in names]
    assert len({path.read_bytes() for path in ended.paths}) == 10


def test_systems_without_labels(works: Any, trained: Any, tmp_path: Path) -> None:
    run = copy_of(trained("vae"), tmp_path / "run")
    for verb, name in (
        *(("reconstruct", "reconstructions"), ("sample", "samples"), ("manifold", "manifold")),
        *(("interpolate", "interpolations"), ("latents", "latents")),
    ):
        ended = works(verb, run)
        assert ended.paths == [run / "figures" / f"{name}.png"]
        picture(ended.paths[0])
    picture(works("sample", run, "--n", 23, "--out", tmp_path / "odd.png").paths[0])


def image_files(folder: Path) -> list[Path]:
    """Files of all kinds: grey and 16-bit grey of 28 x 28, colour JPEG of 40 x 30."""
    draw = np.random.default_rng(0)
    grey = draw.integers(0, 256, (28, 28), np.uint8)
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "deep.png")
    colour = draw.integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(colour).save(folder / "colour.jpg")
    return [folder / "grey.png", folder / "deep.png", folder / "colour.jpg"]


def test_transfer_of_own_images(works: Any, trained: Any, tmp_path: Path) -> None:
    run = copy_of(trained(), tmp_path / "run")
    grey, deep, colour = image_files(tmp_path)
    one = works("transfer", run, "--images", grey, "--from-label", 3)
    assert one.paths == [run / "figures" / "transfer-images-3.png"]
    picture(one.paths[0])
    # 16 bits of the same picture draw the same picture.
    assert np.array_equal(*read_image_files([grey, deep], (28, 28), 1))
    out = tmp_path / "deep-style.png"
    works("transfer", run, "--images", deep, "--from-label", 3, "--out", out)
    assert out.read_bytes() == one.paths[0].read_bytes()
    # Several files follow one flag; other sizes need --resize.
    several = ["transfer", run, "--images", grey, colour, "--from-label", 3, "--out", out]
    assert works(*several, "--resize").paths == [out]
    assert not np.array_equal(picture(out), picture(one.paths[0]))


# ── films, figures, report ───────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_figures_without_a_film_are_all_the_others(works: Any, tmp_path: Path) -> None:
    """Of the model that comes with the package, which recorded none."""
    with chdir(tmp_path):
        ended = works("figures", "mnist", "--data", "digits")
    assert ended.err == "note: mnist recorded no film\n"
    drawn = {path.name for path in (tmp_path / "mnist" / "figures").iterdir()}
    assert {"samples.png", "transfer-7.png", "manifold-3.png", "latents.png"} <= drawn
    assert len(drawn) == 24


def test_film(works: Any, trained: Any, tmp_path: Path) -> None:
    run = copy_of(trained(), tmp_path / "run")
    ended = works("film", run, "--label", 3, "--n", 3)
    assert ended.paths == [run / "films" / f"manifold-3{kind}" for kind in (".mp4", ".webp")]
    for path in ended.paths:
        is_film(path, FRAMES)
    out = tmp_path / "films"
    ended = works("film", run, "--label", 3, "--n", 3, "--fps", 6, "--out", out)
    assert ended.paths == [out / f"manifold-3{kind}" for kind in (".mp4", ".webp")]
    with av.open(str(ended.paths[0])) as film:
        assert film.streams.video[0].average_rate == 6


def test_film_of_a_system_without_labels(works: Any, trained: Any, tmp_path: Path) -> None:
    run = copy_of(trained("gan"), tmp_path / "run")
    ended = works("film", run, "--n", 3)
    assert ended.paths == [run / "films" / f"manifold{kind}" for kind in (".mp4", ".webp")]
    for path in ended.paths:
        is_film(path, FRAMES)


ALBUM = {
    "ae": {"reconstructions", "interpolations", "latents", "losses"},
    "vae": {"reconstructions", "samples", "interpolations", "manifold", "latents", "losses"},
    "cae": {"reconstructions", "interpolations", "latents", "losses", "transfer"},
    "gan": {"samples", "manifold", "losses"},
    "cgan": {"samples", "manifold", "losses"},
}
ALBUM |= {"cvae-gan": ALBUM["vae"] | ALBUM["cae"]}


@pytest.mark.parametrize("system", sorted(ALBUM.keys() - {"gan"}))
@pytest.mark.slow
def test_figures_and_report(works: Any, trained: Any, tmp_path: Path, system: str) -> None:
    run = copy_of(trained(system), tmp_path / "run")
    ended = works("figures", run, "--no-films")
    assert all(path.parent == run / "figures" for path in ended.paths)
    drawn = [path.stem for path in ended.paths]
    assert {re.sub(r"-\d$", "", name) for name in drawn} == ALBUM[system]
    conditional = system.startswith("c")
    for name in ALBUM[system] & {"transfer", "manifold"}:
        count = sum(one.startswith(name) for one in drawn)
        assert count == (10 if conditional else 1), name
    for path in ended.paths:
        picture(path)
    assert not list((run / "films").glob("*.mp4"))

    before = {path: path.read_bytes() for path in ended.paths}
    ended = works("report", run)
    assert ended.paths == [run / "report.html"]
    page = ended.paths[0].read_text("utf-8")
    assert page.lower().startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert f"{system} on digits" in page
    sources = re.findall(r'(?:src|href)="([^"]{1,30})', page)
    assert sum(one.startswith("data:image/") for one in sources) >= len(ALBUM[system])
    assert [one for one in sources if not one.startswith(("data:", "#"))] == []
    # Pictures that are there are used, not drawn again.
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.slow
def test_figures_with_films_and_a_report_that_plays_them(
    works: Any, trained: Any, tmp_path: Path
) -> None:
    run = copy_of(trained("vae"), tmp_path / "run")
    ended = works("figures", run)
    films = [path for path in ended.paths if path.parent.name == "films"]
    assert [path.name for path in films] == ["manifold.mp4", "manifold.webp"]
    out = tmp_path / "page.html"
    assert works("report", run, "--out", out).paths == [out]
    assert "<video" in out.read_text("utf-8") and not (run / "report.html").exists()


def test_report_draws_what_is_missing(works: Any, trained: Any, tmp_path: Path) -> None:
    run = copy_of(trained("gan"), tmp_path / "run")
    assert not (run / "figures").exists()
    page = works("report", run).paths[0].read_text("utf-8")
    names = {path.stem for path in (run / "figures").iterdir()}
    assert names == ALBUM["gan"] and page.count("data:image/") >= 3
    model = RunDirectory(run).config().model
    for name in ("decoder", "discriminator"):
        assert f"{model.parameters(name):,} parameters" in page


def test_a_report_holds_looks_alarms_and_the_evaluation(
    works: Any, trained: Any, tmp_path: Path
) -> None:
    run = RunDirectory(copy_of(trained("gan"), tmp_path / "run"))
    page = works("report", run.path).paths[0].read_text("utf-8")
    assert f"metrics.json is not there: vaegan evaluate {run.path} gives it." in page
    assert not (run.figures / "looks.png").exists()

    about = {
        "extractor_about": "judge of digits: 99.60 %",
        "generated_images": 500,
        "floor": "real",
        "seeds": [0],
    }
    about |= {"real_images": 500, "split": "test", "data": "digits"}
    values = {"prior_frechet_distance": 3.21, "prior_label_accuracy": 0.945}
    intervals = {"prior_label_accuracy": (0.94, 0.95)}
    Scores(about, values, intervals, skipped=["latents: <none>"]).write(run.metrics)
    Image.new("RGB", (40, 30)).save(run.figures / "learned-metric.png")
    run.looks.write_text('{"step": 100, "prior_spread": 0.9}\n{"step": 200, "prior_spread": 1}\n')
    run.alarms.write_text('{"step": 100, "name": "label-leaks", "text": "the code repeats it"}\n')
    page = works("report", run.path).paths[0].read_text("utf-8")
    assert "judge of digits: 99.60 %" in page and "Not measured: latents: &lt;none&gt;" in page
    assert "<td>Fréchet distance</td>" in page and '<td class="number">.945 ± .005</td>' in page
    assert "Alarm at step 100: the code repeats it." in page
    assert "Pairs by the learned metric" in page and 'width="40" height="30"' in page
    picture(run.figures / "looks.png")

    newer = run.metrics.stat().st_mtime + 10
    os.utime(run.weights, (newer, newer))
    page = works("report", run.path).paths[0].read_text("utf-8")
    assert "metrics.json is older than the model: vaegan evaluate" in page
    assert "judge of digits" not in page and "Pairs by the learned metric" not in page


# ── help, and real processes ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("verb", ALL_VERBS)
def test_every_flag_has_a_help_text(works: Any, verb: str) -> None:
    command = app(verb)
    for word in verb.split():
        command = command[word]
    arguments = list(command.assemble_argument_collection(parse_docstring=True))
    assert len(arguments) > 1
    for argument in arguments:
        assert len(argument.parameter.help or "") >= 8, f"{verb} {argument.name}"
    shown = works(*verb.split(), "--help").out
    for argument in arguments:
        assert argument.name in shown
    *family, name = verb.split()
    assert works(*family, "--help").out.count(f" {name} ") >= 1


def test_version(works: Any) -> None:
    assert works("--version").out == f"{package.__version__}\n"


def process(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`python -m vaegan ARGUMENTS` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "vaegan", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["images", "images.npy"])
def test_samples_stop_at_once(works: Any, trained: Any, tmp_path: Path, name: str) -> None:
    command = ["sample", str(trained("cgan")), "--n", "1000000", "--to", name]
    program = (  # who is started in the background is told to ignore Ctrl-C
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from vaegan.cli import main; main()"
    )
    stopped = subprocess.Popen(
        [sys.executable, "-c", program, *command],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    for _ in range(600):
        if len(list(tmp_path.rglob("*.png" if name == "images" else ".*.tmp"))) > 1:
            break
        time.sleep(0.1)
    stopped.send_signal(signal.SIGINT)
    _, err = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    assert list(tmp_path.rglob(".*.tmp")) == []
    if name == "images.npy":
        assert err == "stopped; nothing was written\n" and list(tmp_path.iterdir()) == []
        return
    assert err == "stopped; the same command goes on from here\n"
    made = list((tmp_path / name).rglob("*.png"))
    assert len(read_image_files(made, (28, 28), 1)) == len(made)  # all of them whole
    drawn = sorted(int(path.stem) for path in made)
    assert drawn == list(range(len(made)))
    ended = works("sample", trained("cgan"), "--n", len(made) + 5, "--to", tmp_path / name)
    assert ended.err.startswith(f"5 images written, {len(made):,} were there")


@pytest.mark.slow
def test_a_real_process(trained: Any, tmp_path: Path) -> None:
    run = copy_of(trained("cgan"), tmp_path / "run")
    ended = process("sample", "run", "--label", 3, cwd=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "run/figures/samples-3.png\n", "")
    picture(run / "figures" / "samples-3.png")
    ended = process("sample", "nowhere", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("vaegan: nowhere does not exist")
    assert len(ended.stderr.splitlines()) == 1
