import json
import os

import pytest

from vaegan.errors import ConfigError, RunError
from vaegan.files import write_json
from vaegan.rundir import RunDirectory


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run")


def test_a_config_goes_out_and_in(run, configure):
    config = configure("cvae-gan", objective__kl_weight=0.3)
    run.start(config, new=False)
    assert run.config() == config
    run.start(config, new=False)  # the same question again
    assert RunDirectory.open(run.path).config() == config


def test_opening_says_what_is_missing(tmp_path):
    with pytest.raises(RunError, match=r"nowhere does not exist; train first: vaegan train"):
        RunDirectory.open(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"is not a run: it has no config\.json"):
        RunDirectory.open(tmp_path)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"system": "vae-gan"}, "model.system is cvae-gan there, vae-gan here"),
        ({"seed": 1}, "seed is 0 there, 1 here"),
        ({"batch": 4}, "batch is 8 there, 4 here"),
        ({"latent_dim": 3}, "model.latent_dim is 4 there, 3 here"),
        ({"objective__kl_weight": 2.0}, "objective.kl_weight is 1.0 there, 2.0 here"),
        ({"size": 12}, "data_fingerprint is "),
    ],
)
def test_another_question_is_refused_setting_by_setting(run, configure, change, difference):
    run.start(configure(), new=False)
    with pytest.raises(RunError) as caught:
        run.start(configure(**change), new=False)
    assert difference in str(caught.value)
    assert str(caught.value).endswith("Choose another --outdir, or start over with --new")
    assert run.config() == configure()


def test_the_same_images_at_another_place_are_the_same_question(run, configure):
    config = configure()
    run.start(config, new=False)
    run.start(config.model_copy(update={"data": "/elsewhere"}), new=False)


def test_new_throws_away_the_run_and_nothing_else(run, configure):
    run.start(configure(), new=False)
    files = (run.weights, run.stats, run.looks, run.alarms, run.metrics, run.report)
    for path in (*files, run.figures / "a.png", run.films / "b.mp4"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    (run.checkpoints / "step-00000001").mkdir(parents=True)
    (run.path / "notes.txt").write_text("mine")
    run.start(configure(seed=5), new=True)
    assert run.config().seed == 5
    assert sorted(p.name for p in run.path.iterdir()) == ["config.json", "notes.txt"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "is not JSON"),
        (b"[]", "is not a vaegan config"),
        (b"{}", "is not a vaegan config"),
        (b"\xff\xfe\x00", ""),
        (b"[" * 200_000, ""),
    ],
)
def test_a_config_that_is_not_ours_is_one_line(run, content, why):
    run.path.mkdir()
    run.config_path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        run.config()
    assert str(run.config_path) in str(caught.value)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("format_version", 2, "has format version 2; this program reads version 1"),
        ("objective.kl_wieght", 1.0, "objective.kl_wieght: unknown key"),
        ("objective.kl_weight", -1, "objective.kl_weight: Input should be greater than or equal"),
        ("model.system", "vea", "model.system: Input should be"),
        ("model.latent_dim", 10**9, "model.latent_dim: Input should be less than or equal"),
    ],
)
def test_a_mended_config_is_checked_key_by_key(run, configure, path, value, why):
    run.start(configure(), new=False)
    tree = json.loads(run.config_path.read_text())
    *parents, last = path.split(".")
    branch = tree
    for parent in parents:
        branch = branch[parent]
    branch[last] = value
    write_json(run.config_path, tree)
    with pytest.raises(ConfigError) as caught:
        run.config()
    assert why in str(caught.value)


# ── the lock ─────────────────────────────────────────────────────────────────────────────────────


def test_a_directory_has_one_owner(run):
    with (
        run.locked(),
        pytest.raises(RunError, match=f"is being trained by process {os.getpid()}; wait"),
        RunDirectory(run.path).locked(),
    ):
        pass
    with run.locked():  # free again
        pass


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunError, match=r"cannot write into .*file/run: Not a directory"),
        RunDirectory(tmp_path / "file" / "run").locked(),
    ):
        pass


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_row_cut_short_is_left_out(run):
    run.path.mkdir()
    run.stats.write_text('{"step": 1, "kl": 0.5}\n{"step": 2}\n{"step": 3, "k')
    assert run.rows() == [{"step": 1, "kl": 0.5}, {"step": 2}]
    assert RunDirectory(run.path / "none").rows() == []


def test_what_lies_beyond_the_checkpoint_is_forgotten(run):
    run.film_weights.mkdir(parents=True)
    for path in (run.stats, run.looks, run.alarms):
        path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (1, 2, 3, 4)))
    for step in (0, 2, 3, 4):
        (run.film_weights / f"step-{step:08d}.safetensors").write_text("")
    run.forget_after(2)
    for rows in (run.rows(), run.look_rows(), run.alarm_rows()):
        assert [row["step"] for row in rows] == [1, 2]
    assert sorted(int(p.stem[5:]) for p in run.film_weights.iterdir()) == [0, 2]
    run.forget_after(0)
    assert not run.looks.exists() and run.look_rows() == []
