"""The models that come with the package work before anything was trained, and give way to runs."""

import shutil

import pytest
import torch

from vaegan.config import RunConfig
from vaegan.errors import RunError
from vaegan.model import Model
from vaegan.pretrained import NAMES, shipped
from vaegan.rundir import RunDirectory


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty folder, as a newcomer's."""
    monkeypatch.chdir(tmp_path)


def test_mnist_comes_with_the_package():
    assert NAMES == ("mnist",)
    folder = shipped("mnist")
    assert {"config.json", "model.safetensors", "README.md"} <= {p.name for p in folder.iterdir()}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 3_000_000


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_is_a_run_that_writes_elsewhere(tmp_path, name):
    run = RunDirectory.open(name)
    assert isinstance(run.config(), RunConfig)
    assert run.weights.is_file()
    for path in (run.figures, run.films, run.metrics, run.report):
        assert path.resolve().is_relative_to(tmp_path / name)


def test_a_run_of_that_name_comes_first(tmp_path):
    shutil.copytree(shipped("mnist"), tmp_path / "mnist")
    assert shipped("mnist") is None
    assert RunDirectory.open("mnist").figures == RunDirectory.open("mnist").path / "figures"
    (tmp_path / "mnist" / "model.safetensors").unlink()
    with pytest.raises(RunError, match="train it first"):
        Model.from_pretrained("mnist")


def test_mnist_draws_ten_digits_and_transfers_between_them():
    model = Model.from_pretrained("mnist")
    labels = torch.arange(10)
    with torch.no_grad():
        drawn = model.decode(torch.zeros(10, model.config.latent_dim), labels)
        rebuilt = model.reconstruct(drawn, labels)
        moved = model.transfer(drawn, labels, (labels + 1) % 10)
    assert drawn.shape == (10, 1, 28, 28)
    between = (drawn[:, None] - drawn[None]).square().mean((2, 3, 4)) + torch.eye(10)
    assert between.min() > 0.01  # ten different pictures of bright ink on dark paper
    assert 0.05 < drawn.mean() < 0.25
    # A digit comes back as itself, and goes to the next class as that class.
    assert (rebuilt - drawn).square().mean() < 0.3 * between[~torch.eye(10, dtype=bool)].mean()
    nearest = (moved[:, None] - drawn[None]).square().mean((2, 3, 4)).argmin(1)
    assert (nearest == (labels + 1) % 10).float().mean() >= 0.8
