"""The FID's Inception with random weights; the published ones are not needed, nor any network."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import socket
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vaegan.errors import DataError
from vaegan.metrics import inception
from vaegan.metrics.inception import Inception, network

# Features 50, 200, 350, ... of `noise(1, (2, 28, 20, 3))` with the weights of `random_weights`, by
# pytorch-fid 0.3.0 with torchvision 0.28.0 and torch 2.13.0.
THEIRS = """
0.02566 3.90805 0 0 4.22889 5.34034 0.06223 0.35141 4.47541 4.67750 0.22340 1.48494 4.29422 0.05060
0.00131 3.44659 0 0 3.13418 3.46172 0.11743 0.08734 3.04276 3.79209 0.18720 1.35267 3.26952 0
"""


def expected() -> dict[str, Tensor]:
    """Names, types and shapes."""
    with torch.device("meta"):
        return network().state_dict()


def random_weights() -> dict[str, Tensor]:
    """Weights that neither blow features up nor let them die away; functions of their order."""
    rng = np.random.default_rng(0)
    state = {}
    for name, like in sorted(expected().items()):
        shape = tuple(like.shape)
        if name.endswith("num_batches_tracked"):
            values = np.zeros(shape)
        elif name.endswith(("running_var", "bn.weight")):
            values = rng.uniform(0.5, 1.5, shape)
        elif name.endswith(("bias", "running_mean")):
            values = rng.uniform(-0.3, 0.3, shape)
        else:
            values = rng.uniform(-1, 1, shape) * np.sqrt(6 / np.prod(shape[1:]))
        state[name] = torch.from_numpy(values).to(like.dtype)
    return state


def constant_weights(**changes: Tensor) -> dict[str, Tensor]:
    """Ones of the right shapes, a few bytes on disk; `fc__bias` stands for fc.bias."""
    state = {
        name: torch.ones((), dtype=like.dtype).expand(like.shape)
        for name, like in expected().items()
    }
    return state | {name.replace("__", "."): tensor for name, tensor in changes.items()}


def noise(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Images of noise, each with half the contrast of the one before."""
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return pixels >> np.arange(shape[0], dtype=np.uint8)[:, None, None, None]


@pytest.fixture(scope="module")
def random_inception(tmp_path_factory: pytest.TempPathFactory) -> Inception:
    path = tmp_path_factory.mktemp("inception") / "random.safetensors"
    save_file(random_weights(), path)
    return Inception.load(path)


# ── the network ──────────────────────────────────────────────────────────────────────────────────


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        net = network()
    # torchvision's 27,161,264 less its auxiliary head, and with 1008 classes in place of 1000
    assert sum(p.numel() for p in net.parameters()) == 27_161_264 - 3_326_696 + 8 * 2049
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    assert len(shapes) == 94 * 6 + 2  # convolutions with four tensors and a counter of batch norm
    for name, shape in {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_var": (192,),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_5d.branch_pool.conv.weight": (64, 288, 1, 1),
        "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
        "Mixed_6c.branch7x7dbl_5.conv.weight": (192, 160, 1, 7),
        "Mixed_6e.branch7x7_3.conv.weight": (192, 192, 7, 1),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7b.branch1x1.conv.weight": (320, 1280, 1, 1),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "Mixed_7c.branch_pool.bn.num_batches_tracked": (),
        "fc.weight": (1008, 2048),
    }.items():
        assert shapes[name] == shape, name


def test_features_are_those_that_pytorch_fid_gives(random_inception: Inception) -> None:
    features = random_inception.features(noise(1, (2, 28, 20, 3)))
    assert features.shape == (2, 2048) and features.dtype == np.float32
    theirs = np.array([line.split() for line in THEIRS.strip().splitlines()], dtype=float)
    np.testing.assert_allclose(features[:, 50::150], theirs, rtol=1e-4, atol=1e-4)


def test_the_batch_changes_nothing_but_rounding(random_inception: Inception) -> None:
    pixels = noise(2, (3, 12, 12, 3))
    together = random_inception.features(pixels)
    assert np.ptp(together, axis=0).max() > 0.5  # the images differ
    one_by_one = random_inception.features(pixels, batch=1)
    np.testing.assert_allclose(one_by_one, together, rtol=1e-4, atol=1e-4)


def test_grey_is_repeated_in_three_channels(random_inception: Inception) -> None:
    grey = noise(3, (1, 9, 14, 1))
    features = random_inception.features(grey)
    assert np.array_equal(features, random_inception.features(np.repeat(grey, 3, axis=3)))


def test_other_arrays_are_refused(random_inception: Inception) -> None:
    pixels = noise(0, (2, 8, 8, 3))
    for wrong in (pixels / 255, pixels[0], pixels[..., :2], pixels[:0]):
        with pytest.raises(DataError, match=r"reads uint8 pixels \(N > 0, H, W, 1 or 3\), got"):
            random_inception.features(wrong)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(2, 28, 28, 1), (2, 64, 48, 3), (2, 299, 299, 3)])
def test_features_equal_those_of_an_installed_pytorch_fid(
    shape: tuple[int, ...], random_inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        from pytorch_fid import inception as theirs
    except (ImportError, RuntimeError) as error:  # torchvision of another torch: RuntimeError
        pytest.skip(f"pytorch-fid and its torchvision do not import here: {error}")
    weights = random_weights()
    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: weights)
    pixels = noise(4, shape)
    colours = np.repeat(pixels, 3, axis=3) if shape[3] == 1 else pixels
    with torch.inference_mode():
        images = torch.from_numpy(colours).permute(0, 3, 1, 2) / 255
        features = theirs.InceptionV3().eval()(images)[0][:, :, 0, 0].numpy()
    np.testing.assert_allclose(random_inception.features(pixels), features, rtol=1e-5, atol=1e-5)


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def test_every_way_of_writing_it_is_read(tmp_path: Path) -> None:
    state = constant_weights()
    bare = {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "new.pth")
    torch.save(bare, tmp_path / "bare.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file({name: t.contiguous() for name, t in state.items()}, tmp_path / "x.safetensors")
    names = set()
    for path in sorted(tmp_path.iterdir()):
        read = Inception.load(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert read.name == f"inception-2015-12-05 sha256 {digest[:8]}"
        names.add(read.name)
        assert not read.net.training and not any(p.requires_grad for p in read.net.parameters())
        for name, tensor in read.net.state_dict().items():
            assert name not in bare or (tensor == 1).all(), name
    assert len(names) == 4


class Planted:
    """Makes a folder when it is unpickled by a reader that runs what it reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.folder,)


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        Inception.load(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message and len(message) < 400
    assert message.endswith(inception.REMEDY)
    return message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"fc__weight": torch.zeros(1).expand(1000, 2048)},
            "'fc.weight' is torch.float32 [1000, 2048], not torch.float32 [1008, 2048]",
        ),
        ({"fc__bias": torch.zeros(1008).half()}, "'fc.bias' is torch.float16 [1008], not"),
        ({"fc__bias": torch.full((1008,), torch.nan)}, "'fc.bias' holds values that are not fin"),
        ({"AuxLogits__fc__bias": torch.zeros(1000)}, "'AuxLogits.fc.bias' is unknown"),
        ({"fc__bias": "text"}, "'fc.bias' is missing"),
    ],
)
def test_another_network_is_refused(changes: dict, words: str, tmp_path: Path) -> None:
    torch.save(constant_weights(**changes), tmp_path / "wrong.pth")
    message = refusal(tmp_path / "wrong.pth")
    assert words in message and "does not hold the FID's Inception" in message


def test_other_files_are_refused_and_none_runs_code(tmp_path: Path) -> None:
    assert "cannot read" in refusal(tmp_path / "nothing.pth")
    assert "cannot read" in refusal(tmp_path)
    torch.save([1, 2], tmp_path / "list.pth")
    assert "'Conv2d_1a_3x3.conv.weight' is missing" in refusal(tmp_path / "list.pth")
    with zipfile.ZipFile(tmp_path / "script.pth", "w") as script:
        script.writestr("script/constants.pkl", pickle.dumps(()))
        script.writestr("script/data.pkl", pickle.dumps({}))
    for name, content in {
        "text.pth": b"<!DOCTYPE html>" * 9,
        "empty.pth": b"",
        "short.safetensors": b"\0" * 20,
        "planted.pth": pickle.dumps(Planted(tmp_path / "made")),
    }.items():
        (tmp_path / name).write_bytes(content)
    torch.save(Planted(tmp_path / "made"), tmp_path / "saved.pth")
    for name in ("text", "empty", "planted", "saved", "script"):
        assert "is no file of tensors" in refusal(tmp_path / f"{name}.pth")
    assert "is no file of tensors" in refusal(tmp_path / "short.safetensors")
    assert not (tmp_path / "made").exists()


def test_download_takes_the_published_file_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inception.URL.startswith("https://github.com/mseitzer/pytorch-fid/releases/download/")
    assert inception.URL.endswith("/fid_weights/pt_inception-2015-12-05-6726825d.pth")
    assert len(inception.SHA256) == 64 and inception.SHA256.startswith("6726825d")
    with socket.socket() as probe:  # a port where nobody listens
        probe.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{probe.getsockname()[1]}/{inception.FILE}"
    monkeypatch.setattr(inception, "URL", nowhere)
    with pytest.raises(DataError, match=r"cannot download .*: give a copy of the file") as caught:
        Inception.load("download", tmp_path)
    assert "\n" not in str(caught.value)

    torch.save(constant_weights(), tmp_path / "there.pth")
    digest = hashlib.sha256((tmp_path / "there.pth").read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "SHA256", digest)
    (tmp_path / "inception").mkdir(exist_ok=True)
    shutil.move(tmp_path / "there.pth", tmp_path / "inception" / inception.FILE)
    assert Inception.load("download", tmp_path).name.endswith(digest[:8])
