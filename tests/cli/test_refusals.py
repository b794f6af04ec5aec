"""What a user can get wrong: exit code 2 and one line on stderr that says how to mend it."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cyclopts import App
from PIL import Image

from vaegan.cli import VERBS, app
from vaegan.model import Model

DENSE = ["--recipe", "dense", "--steps", "1", "--batch", "8"]
Refused = Callable[..., str]


@pytest.fixture
def refused(vaegan: Any) -> Refused:
    """Return the function that runs a command which must be refused, in a line with these words."""

    def ended_badly(arguments: list[object], *words: str) -> str:
        ended = vaegan(*arguments)
        assert (ended.code, ended.out) == (2, ""), ended.err
        assert ended.err.startswith("vaegan: ") and ended.err.endswith("\n")
        assert len(ended.err.splitlines()) == 1, ended.err
        missing = [word for word in words if word not in ended.err]
        assert missing == [], ended.err
        return str(ended.err)

    return ended_badly


@pytest.fixture
def run(trained: Any, tmp_path: Path) -> Path:
    """A run that a test may break."""
    return Path(shutil.copytree(trained(), tmp_path / "run"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is written without being asked lands here."""
    monkeypatch.chdir(tmp_path)


# ── flags ────────────────────────────────────────────────────────────────────────────────────

FLAGS: dict[str, tuple[list[str], list[str]]] = {
    "verb": (["tarin"], ['"tarin"', 'Did you mean "train"']),
    "flag": (["train", "--stepps", "3"], ["--stepps"]),
    "flag of another verb": (["sample", "run", "--dims", "0", "1"], ["--dims"]),
    "a value too many": (["sample", "run", "extra"], ["extra"]),
    "no run": (["sample"], ["RUN requires an argument"]),
    "system": (["train", "--system", "vae-gna"], ['"vae-gna"', '"cvae-gan"']),
    "recipe": (["train", "--recipe", "dance"], ["'dance'", "tutorial-fixed, larsen, dense"]),
    "device": (["train", "--device", "tpu"], ['"tpu"', '"auto"']),
    "precision": (["train", "--precision", "fp8"], ['"fp8"', '"bf16"']),
    "no number": (["train", "--steps", "many"], ["--steps", '"many"']),
    "two budgets": (["train", "--steps", "3", "--minutes", "1"], ["only one of --steps"]),
    "three": (["train", "--steps", "3", "--epochs", "1", "--minutes", "1"], ["only one of"]),
    "no step": (["train", "--steps", "0"], ["--steps", "Must be >= 1"]),
    "negative steps": (["train", "--steps", "-5"], ["--steps", "Must be >= 1"]),
    "negative epochs": (["train", "--epochs", "-1"], ["--epochs", "Must be > 0"]),
    "endless": (["train", "--epochs", "inf"], ["--epochs", "Must be <= 1"]),
    "negative minutes": (["train", "--minutes", "-0.5"], ["--minutes", "Must be > 0"]),
    "no minutes": (["train", "--minutes", "nan"], ["--minutes", '"nan"']),
    "negative seed": (["train", "--seed", "-1"], ["--seed", "Must be >= 0"]),
    "huge seed": (
        ["train", "--seed", str(2**63), *DENSE],
        ["seed", f"less than {2**63}"],
    ),
    "batch of one": (["train", "--batch", "1"], ["--batch", "Must be >= 2"]),
    "batch larger than the data": (
        ["train", "--recipe", "dense", "--batch", "1198"],
        ["batch (=1198)", "(=1197)", "smaller --batch"],
    ),
    "no latents": (["train", "--latent-dim", "0"], ["--latent-dim", "Must be >= 1"]),
    "tiny images": (["train", "--image-size", "7"], ["--image-size", "Must be >= 8"]),
    "no threads": (["train", "--threads", "0"], ["--threads", "Must be >= 1"]),
    "threads beyond number": (
        ["train", "--data", "digits", "--threads", "99999"],
        ["--threads 99999: this machine has", "cores"],
    ),
    "unknown key": (["train", "--set", "objective.kl=2"], ["objective.kl", "--dry-run"]),
    "unknown group": (["train", "--set", "losses.kl_weight=2"], ["losses.kl_weight: unknown key"]),
    "a group": (["train", "--set", "objective=2"], ["objective", "(got 2)"]),
    "no pair": (["train", "--set", "objective.kl_weight"], ["KEY=VALUE"]),
    "negative weight": (
        ["train", "--set", "objective.kl_weight=-2"],
        ["objective.kl_weight", "greater than or equal to 0", "(got -2)"],
    ),
    "a weight in words": (["train", "--set", "objective.kl_weight=high"], ["(got 'high')"]),
    "no number at all": (["train", "--set", "optimiser.encoder_lr=NaN"], ["optimiser.encoder_lr"]),
    "a blueprint": (
        ["train", "--recipe", "dense", "--set", 'model.architecture.encoder=["twirl 3"]'],
        ["'twirl'"],
    ),
    "a weight without effect": (
        ["train", "--system", "cvae", "--set", "objective.style_weight=2"],
        ["--set objective.style_weight: has no effect on system 'cvae'"],
    ),
    "labels of an unconditional system": (
        ["train", "--system", "vae", "--set", "model.num_classes=10"],
        ["system 'vae'", "num_classes is 10"],
    ),
    "n": (["sample", "run", "--n", "0"], ["--n", "Must be >= 1"]),
    "temperature": (["sample", "run", "--temperature", "0"], ["--temperature", "Must be > 0"]),
    "n of a picture": (["sample", "run", "--n", "1001"], ["--n 1001", "up to 1000", "--to"]),
    "n of a billion": (
        ["sample", "run", "--n", "1000000000", "--to", "out"],
        ["--n", "Must be <= 100000000"],
    ),
    "picture and images": (["sample", "run", "--to", "a", "--out", "b.png"], ["--out", "--to"]),
    "device of samples": (["sample", "run", "--to", "a", "--device", "tpu"], ['"tpu"', '"auto"']),
    "side": (["manifold", "run", "--n", "1"], ["--n", "Must be >= 2"]),
    "one latent": (["manifold", "run", "--dims", "1"], ["--dims"]),
    "frames a second": (["film", "run", "--fps", "0"], ["--fps", "Must be >= 1"]),
    "negative label": (["sample", "run", "--label", "-1"], ["--label", "Must be >= 0"]),
    "no data set": (["train", "--data", "mnits"], ["'mnits'", "did you mean mnist"]),
    "no folder": (["train", "--data", "nowhere/at/all"], ["'nowhere/at/all'", "digits, mnist"]),
}


@pytest.mark.parametrize("case", FLAGS)
def test_flags(refused: Refused, tmp_path: Path, case: str) -> None:
    arguments, words = FLAGS[case]
    if arguments[0] == "train" and not {"--steps", "--epochs", "--minutes"} & {*arguments}:
        arguments = [*arguments, "--steps", "1"]  # should it be accepted
    refused([*arguments], *words)
    assert list(tmp_path.iterdir()) == []


def command_of(verb: str) -> App:
    """The command of a verb of one word or two."""
    return reduce(App.__getitem__, verb.split(), app(verb))


WHOLE = [
    (verb, argument.name)
    for group in VERBS.values()
    for verb in group
    for argument in command_of(verb).assemble_argument_collection()
    if "int" in str(argument.hint)
]


@pytest.mark.parametrize(("verb", "flag"), WHOLE)
def test_a_fraction_is_no_whole_number(
    refused: Refused, tmp_path: Path, verb: str, flag: str
) -> None:
    given = {"train": [], "data prepare": ["digits", "--out", "made"]}.get(verb, ["run"])
    for value in ("2.5", "2.0"):
        values = [value, "1"] if flag == "--dims" else [value]
        refused([*verb.split(), *given, flag, *values], flag, f'"{value}" is')
    assert list(tmp_path.iterdir()) == []


def test_every_number_was_asked() -> None:
    flags = {"--n", "--seed", "--label", "--dims", "--batch", "--steps", "--threads", "--fps"}
    assert flags < {flag for _, flag in WHOLE} and len(WHOLE) > 20


# ── data ─────────────────────────────────────────────────────────────────────────────────────


def idx(values: np.ndarray) -> bytes:
    """An IDX file by the format's definition."""
    return (
        bytes([0, 0, 8, values.ndim])
        + struct.pack(f">{values.ndim}I", *values.shape)
        + bytes(values.astype(np.uint8))
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four IDX files: 40 + 20 images of 12 x 12, 4 classes."""
    made = tmp_path / "images"
    made.mkdir()
    draw = np.random.default_rng(0)
    for part, count in (("train", 40), ("t10k", 20)):
        images = draw.integers(0, 256, (count, 12, 12), np.uint8)
        (made / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (made / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(count) % 4))
    return made


def test_a_folder_of_idx_files_is_data(works: Any, folder: Path, tmp_path: Path) -> None:
    ended = works("train", "--data", "images", *DENSE)
    assert ended.out == "runs/images-cvae-gan/model.safetensors\n"
    config = json.loads((tmp_path / "runs/images-cvae-gan/config.json").read_text())
    assert config["data"] == str(folder)
    assert config["model"]["class_names"] == list("0123")


def test_missing_files(refused: Refused, folder: Path, tmp_path: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte").unlink()
    refused(["train", "--data", folder, *DENSE], "lacks t10k-labels-idx1-ubyte", "train-images")
    (tmp_path / "empty").mkdir()
    refused(["train", "--data", "empty", *DENSE], "found: nothing")
    refused(["train", "--data", folder / "train-labels-idx1-ubyte"], "is a file", "give the folder")


def test_damaged_files(refused: Refused, folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    refused(["train", "--data", folder, *DENSE], path.name, "declares 5760 bytes", "holds 5660")
    path.write_bytes(whole + b"more")
    refused(["train", "--data", folder, *DENSE], path.name, "declares 5760 bytes")
    path.write_bytes(b"\x89PNG" + whole[4:])
    refused(["train", "--data", folder, *DENSE], path.name)
    path.write_bytes(b"")
    refused(["train", "--data", folder, *DENSE], path.name)
    assert not Path("runs").exists()


def test_counts_that_differ(refused: Refused, folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.arange(19) % 4))
    line = refused(["train", "--data", folder, *DENSE], "20 images", "19 labels")
    assert "take both files from one source" in line


def test_data_of_another_kind_than_the_runs(refused: Refused, run: Path, folder: Path) -> None:
    # Images are resized to the run's size; classes have to be the run's.
    for verb in ("reconstruct", "interpolate", "latents"):
        refused([verb, run, "--data", folder], "4 classes", "trained with 10")


def test_a_data_set_that_is_gone(refused: Refused, works: Any, folder: Path) -> None:
    works("train", "--data", folder, *DENSE, "--outdir", "mine")
    works("reconstruct", "mine")
    moved = folder.rename(folder.with_name("moved"))
    refused(["reconstruct", "mine"], repr(str(folder)))
    works("reconstruct", "mine", "--data", moved)


# ── runs ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "verb",
    [
        *(["reconstruct"], ["sample"], ["transfer", "--label", "1"], ["manifold"]),
        *(["interpolate"], ["latents"], ["film"], ["figures"], ["report"]),
    ],
    ids=lambda verb: verb[0],
)
def test_directories_that_hold_no_model(
    refused: Refused, run: Path, tmp_path: Path, verb: list[str]
) -> None:
    name, *flags = verb
    refused([name, "nowhere", *flags], "nowhere does not exist", "vaegan train --outdir nowhere")
    (tmp_path / "empty").mkdir()
    refused([name, "empty", *flags], "empty is not a run", "config.json")
    (run / "model.safetensors").unlink()
    refused([name, run, *flags], "no model.safetensors", "train it first")
    assert not (run / "figures").exists() and not list((run / "films").glob("*.*"))


def test_configs_that_are_none(refused: Refused, run: Path) -> None:
    path = run / "config.json"
    tree = json.loads(path.read_text())
    for change, words in (
        ({"model": tree["model"] | {"wings": 2}}, ["wings: unknown key"]),
        ({"model": tree["model"] | {"latent_dim": 0}}, ["latent_dim", "(got 0)"]),
        ({"model": tree["model"] | {"latent_dim": 9}}, ["has shape"]),
        ({"model": tree["model"] | {"system": "vea"}}, ["system", "(got 'vea')"]),
        ({"format_version": 2}, ["format version 2", "reads version 1"]),
        ({"model": None}, ["config.json"]),
    ):
        path.write_text(json.dumps(tree | change))
        refused(["sample", run], *words)
    for content in (b"", b"{", b"[]", b"\xff\xfe{}", b"[" * 100_000):
        path.write_bytes(content)
        refused(["sample", run], "config.json")
    # Keys beside the model matter to training and to whoever needs the data.
    path.write_text(json.dumps(tree | {"colour": "red"}))
    refused(["reconstruct", run], "colour: unknown key")
    refused(["train", *DENSE, "--outdir", run], "colour: unknown key")


def test_a_model_that_is_no_run(refused: Refused, run: Path) -> None:
    Model.from_pretrained(run).save_pretrained("alone")
    before = {path: path.read_bytes() for path in Path("alone").iterdir()}
    for command in (["figures", "alone"], ["evaluate", "alone"], ["train", "--outdir", "alone"]):
        refused(command, "alone holds a model alone, and no run", "another directory")
    refused(["train", *DENSE, "--outdir", "alone", "--new"], "alone holds a model alone")
    assert all(path.read_bytes() == content for path, content in before.items())


def test_weights_that_are_none(refused: Refused, run: Path) -> None:
    path = run / "model.safetensors"
    whole = path.read_bytes()
    for content in (b"", b"PK\x03\x04" + whole, whole[:-10], whole[:1000], whole[8:]):
        path.write_bytes(content)
        refused(["sample", run], "model.safetensors")


def test_another_run_in_the_same_directory(refused: Refused, run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*.*") if path.is_file()}
    same = ["train", *DENSE, "--outdir", run]
    for flags, words in (
        (["--system", "vae"], ["model.system is cvae-gan there, vae here"]),
        (["--seed", "4"], ["seed is 0 there, 4 here"]),
        (["--latent-dim", "4"], ["model.latent_dim is 8 there, 4 here"]),
        (["--set", "objective.kl_weight=0.125"], ["objective.kl_weight is"]),
    ):
        refused([*same, *flags], "holds another run", *words, "--new")
    assert before == {path: path.read_bytes() for path in run.rglob("*.*") if path.is_file()}


def test_places_that_cannot_be_written(refused: Refused, run: Path) -> None:
    Path("file").write_text("in the way")
    refused(["train", *DENSE, "--outdir", "file"], "file", "File exists")
    refused(["train", *DENSE, "--outdir", "file/run"], "file")
    refused(["sample", run, "--out", "file/a.png"], "file/a.png")
    refused(["sample", run, "--out", "picture.gif"], "'picture.gif'", ".png")
    refused(["film", run, "--label", "1", "--n", "2", "--out", "file"], "file")
    refused(["sample", run, "--to", "file"], "file is a file", "give a folder")
    refused(["sample", run, "--to", "file/a.npy"], "cannot write file/a")
    refused(["sample", run, "--to", "file/a"], "file/a")
    refused(["sample", run, "--to", run], "holds other things", "give a new folder")
    Path("taken.npy").write_text("mine")
    refused(["sample", run, "--to", "taken.npy"], "taken.npy is there already", "another name")
    assert Path("taken.npy").read_text() == "mine"


# ── what a system cannot do ──────────────────────────────────────────────────────────────────

CANNOT: dict[tuple[str, str], list[str]] = {
    ("gan", "reconstruct"): ["no encoder", "vae-gan"],
    ("cgan", "reconstruct"): ["no encoder", "vae-gan"],
    ("gan", "interpolate"): ["no encoder"],
    ("gan", "latents"): ["no encoder"],
    ("cgan", "transfer --label 3"): ["no encoder"],
    ("gan", "transfer --label 0"): ["no labels", "cvae-gan"],
    ("gan", "transfer --label 3"): ["no labels"],
    ("vae", "transfer --label 0"): ["no labels", "cvae-gan"],
    ("vae", "sample --label 3"): ["no labels"],
    ("vae", "manifold --label 3"): ["no labels"],
    ("vae", "film --label 3"): ["no labels"],
    ("ae", "sample"): ["no prior", "vae"],
    ("cae", "sample --label 1"): ["no prior", "vae"],
    ("ae", "sample --n 2000 --to samples"): ["no prior", "vae"],
    ("vae", "sample --label 3 --to samples"): ["no labels"],
    ("cvae-gan", "sample --label 10 --to samples.npy"): ["label 10 is out of range", "0 to 9"],
    ("ae", "manifold"): ["no prior"],
    ("ae", "film"): ["no prior"],
    ("cvae-gan", "sample --label 10"): ["label 10 is out of range", "0 to 9"],
    ("cvae-gan", "transfer --label 10"): ["label 10 is out of range", "0 to 9"],
    ("cvae-gan", "manifold --label 10"): ["label 10 is out of range", "0 to 9"],
    ("cvae-gan", "film --label 10"): ["label 10 is out of range", "0 to 9"],
    ("cvae-gan", "manifold --label 1 --dims 0 8"): ["(0, 8)", "latent_dim is 8"],
    ("cvae-gan", "manifold --label 1 --dims 2 2"): ["(2, 2)"],
    ("cvae-gan", "transfer"): ["picture.png", "without --label", "give a folder"],
    ("cvae-gan", "transfer --from-label 3"): ["--label", "--from-label"],
}


@pytest.mark.parametrize(("system", "command"), CANNOT)
def test_what_a_system_cannot_do(
    refused: Refused, trained: Any, tmp_path: Path, system: str, command: str
) -> None:
    verb, *flags = command.split()
    out = tmp_path / "out"
    place = out if verb == "film" else out / "picture.png"
    where = [] if "--to" in flags else ["--out", place]
    refused([verb, trained(system), *flags, *where], *CANNOT[system, command])
    assert not out.exists() or list(out.iterdir()) == []
    assert not list(tmp_path.glob("samples*"))


def test_images_that_do_not_fit(refused: Refused, trained: Any) -> None:
    run, command = trained(), ["transfer", trained(), "--out", "out.png", "--images"]
    right = Image.new("L", (28, 28))
    right.putpixel((9, 9), 99)
    right.save("right.png")
    Image.new("L", (30, 20)).save("wide.png")
    Path("text.png").write_text("no picture")
    own = ["--from-label", "3"]
    refused([*command, "wide.png", *own], "'wide.png' is 30 x 20", "28 x 28", "resize")
    refused([*command, "text.png", *own, "--resize"], "'text.png' is no readable PNG")
    refused([*command, "gone.png", *own], "'gone.png' does not exist")
    # All that is wrong is said at once, on one line.
    several = ["right.png", "wide.png", "text.png"]
    refused([*command, *several, *own], "2 of 3 images", "'wide.png'", "'text.png'")
    refused([*command, "right.png"], "--images needs --from-label")
    refused([*command, "right.png", "--label", "3"], "either --label, or --images")
    refused([*command, "right.png", "--from-label", "10"], "label 10 is out of range")
    refused([*command, "right.png", "--from-label", "-1"], "label -1 is out of range")
    Image.new("L", (60, 40), 99).save("blank.png")
    refused([*command, "blank.png", *own, "--resize"], "'blank.png' is all of one colour")
    refused(["transfer", trained(), "--label", "3", "--invert"], "are for --images")
    refused([*command, *own], "no image files given")
    assert not Path("out.png").exists() and not (run / "figures" / "transfer-3.png").exists()
