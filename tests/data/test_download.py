import functools
import hashlib
import io
import socket
import threading
import time
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vaegan.data import download as downloading
from vaegan.data.download import cache_folder, download, download_file
from vaegan.data.idx import dataset_of_idx, read_idx, read_idx_folder
from vaegan.data.published import FASHION_MNIST, MNIST, Archive, Published
from vaegan.errors import DataError


class Mirror(SimpleHTTPRequestHandler):
    """A quiet file server on the loopback that counts what it is asked for."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.server.requests.append(self.path)
        super().do_GET()


@pytest.fixture
def serve():
    """Return a function that serves a folder and gives its address; `.requests` collects GETs."""
    servers = []
    requests: list[str] = []

    def start(folder) -> str:
        handler = functools.partial(Mirror, directory=str(folder))
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.requests = requests
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}/"

    start.requests = requests
    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def source(tmp_path, idx_folder):
    return idx_folder(tmp_path / "source")


@pytest.fixture
def tiny(source, monkeypatch):
    """A published data set of four small files, without mirrors."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    archives = []
    for role in ("t10k-labels", "train-labels", "t10k-images", "train-images"):
        content = next(source.glob(f"{role}*")).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        archives.append(Archive(role, len(content), digest, "unused"))
    return Published("tiny", ("a", "b", "c"), tuple(archives), ())


@pytest.fixture
def nowhere() -> str:
    """The address of a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def refusal(published, folder) -> str:
    with pytest.raises(DataError) as caught:
        download(published, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_fetches_once(tiny, source, serve, tmp_path, capsys):
    tiny = replace(tiny, mirrors=(serve(source),))
    folder = tmp_path / "cache" / "tiny"
    assert download(tiny, folder) == folder
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in source.iterdir()
    )
    here, there = (dataset_of_idx(read_idx_folder(one), "tiny") for one in (folder, source))
    assert here.fingerprint == there.fingerprint
    assert len(serve.requests) == 4

    download(tiny, folder)
    assert len(serve.requests) == 4
    # Nothing is drawn where stderr is no terminal.
    assert capsys.readouterr() == ("", "")


def test_a_damaged_file_is_fetched_again_and_no_other(tiny, source, serve, tmp_path):
    tiny = replace(tiny, mirrors=(serve(source),))
    folder = download(tiny, tmp_path / "cache")
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"cut short")
    download(tiny, folder)
    assert serve.requests[4:] == ["/train-images-idx3-ubyte.gz"]
    assert read_idx(folder / "train-images-idx3-ubyte.gz").shape == (36, 5, 7)


def test_mirrors_are_tried_in_turn(tiny, source, serve, nowhere, tmp_path):
    empty, wrong = tmp_path / "empty", tmp_path / "wrong"
    empty.mkdir()
    wrong.mkdir()
    for path in source.iterdir():
        (wrong / path.name).write_bytes(path.read_bytes()[:-1] + b"?")
    tiny = replace(tiny, mirrors=(nowhere, serve(empty), serve(wrong), serve(source)))
    folder = download(tiny, tmp_path / "cache")
    assert dataset_of_idx(read_idx_folder(folder), "tiny").num_classes == 3


def test_wrong_files_are_never_kept(tiny, source, serve, tmp_path):
    path = source / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1])
    message = refusal(replace(tiny, mirrors=(serve(source),)), tmp_path / "cache")
    assert "cannot download train-images-idx3-ubyte.gz of tiny (127.0.0.1:" in message
    assert "wrong sha256" in message
    names = {path.name for path in (tmp_path / "cache").iterdir()}
    assert len(names) == 3
    assert path.name not in names


def test_offline_is_said_at_once_with_the_remedies(tiny, nowhere, tmp_path):
    start = time.monotonic()
    message = refusal(replace(tiny, mirrors=(nowhere, nowhere)), tmp_path / "cache")
    assert time.monotonic() - start < 2
    assert "ConnectionError" in message
    for remedy in ("--data digits", "--data FOLDER", "VAEGAN_DATA=FOLDER --data tiny"):
        assert remedy in message
    assert not (tmp_path / "cache").exists()


def test_a_network_that_swallows_everything_does_not_hang(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(downloading, "ANSWER_SECONDS", 0.4)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        start = time.monotonic()
        message = refusal(replace(tiny, mirrors=(address,) * 3), tmp_path / "cache")
        assert time.monotonic() - start < 3
    assert "--data digits" in message
    assert downloading.CONNECT_SECONDS <= 5


def test_a_folder_that_cannot_be_written(tiny, source, serve, tmp_path):
    (tmp_path / "file").touch()
    message = refusal(replace(tiny, mirrors=(serve(source),)), tmp_path / "file" / "cache")
    assert "cannot save t10k-labels-idx1-ubyte.gz in " in message
    assert "set VAEGAN_DATA" in message


def test_progress_is_drawn_on_a_terminal(tiny, source, serve, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    download(replace(tiny, mirrors=(serve(source),)), tmp_path / "cache")
    drawn = terminal.getvalue()
    total = sum(archive.size for archive in tiny.archives)
    assert "tiny: train-images-idx3-ubyte.gz" in drawn
    assert f"{total / 1000:.1f}/{total / 1000:.1f} kB" in drawn


def test_a_single_file_is_fetched_once_and_only_whole(tiny, source, serve, nowhere, tmp_path):
    archive = tiny.archives[0]
    folder = tmp_path / "cache"

    def fetch(address, sha256=archive.sha256, into=folder):
        url = address + archive.file_name
        return download_file(url, archive.size, sha256, into, "bring it yourself")

    path = fetch(serve(source))
    assert path == folder / archive.file_name
    assert path.read_bytes() == (source / path.name).read_bytes()
    assert fetch(nowhere) == path and len(serve.requests) == 1
    path.write_bytes(b"cut short")
    for address, sha256, into, words in (
        (nowhere, archive.sha256, folder, "cannot download http"),
        (serve(source), "0" * 64, tmp_path / "other", "wrong sha256"),
        (serve(source), archive.sha256, path, "cannot save t10k-labels"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            fetch(address, sha256, into)
        assert str(caught.value).endswith("): bring it yourself") and "\n" not in str(caught.value)
    assert not list((tmp_path / "other").glob("*"))
    assert fetch(serve(source)).stat().st_size == archive.size


def test_published_facts_are_complete():
    for published in (MNIST, FASHION_MNIST):
        assert sorted(published.content) == sorted(
            ["t10k-images", "t10k-labels", "train-images", "train-labels"]
        )
        assert [a.size for a in published.archives] == sorted(a.size for a in published.archives)
        digests = [d for a in published.archives for d in (a.sha256, a.content_sha256)]
        assert len(set(digests)) == 8
        assert all(len(digest) == 64 and int(digest, 16) for digest in digests)
        assert len(published.mirrors) == 3
        assert all(mirror.endswith("/") for mirror in published.mirrors)
        assert len(published.class_names) == 10
    assert MNIST.archives[-1].file_name == "train-images-idx3-ubyte.gz"
    assert MNIST.archives[0].file_name == "t10k-labels-idx1-ubyte.gz"


def test_cache_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "vaegan" in cache_folder().parts
