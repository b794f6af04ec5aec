"""Facts about the published data sets: names, digests, mirrors."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FASHION_MNIST", "MNIST", "Archive", "Published"]


@dataclass(frozen=True)
class Archive:
    """A gzipped IDX file as its authors published it.

    Attributes:
        role: beginning of its name, as in `idx.ROLES`.
        size: bytes.
        sha256: of the gzipped file (hex); copies packed anew differ here.
        content_sha256: of the IDX file inside (hex); the same for every copy.
    """

    role: str
    size: int
    sha256: str
    content_sha256: str

    @property
    def file_name(self) -> str:
        """The name under which every mirror has it."""
        return f"{self.role}-idx{3 if self.role.endswith('images') else 1}-ubyte.gz"


@dataclass(frozen=True)
class Published:
    """A public data set of four IDX files.

    Attributes:
        name: what `--data` calls it.
        class_names: one a class.
        archives: the four files, the smallest first.
        mirrors: addresses of folders that hold the files, each ending in "/".
    """

    name: str
    class_names: tuple[str, ...]
    archives: tuple[Archive, ...]
    mirrors: tuple[str, ...]

    @property
    def content(self) -> dict[str, str]:
        """The sha256 of the uncompressed file of each role."""
        return {archive.role: archive.content_sha256 for archive in self.archives}


MNIST = Published(
    name="mnist",
    class_names=tuple("0123456789"),
    archives=(
        Archive(
            "t10k-labels",
            4542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        Archive(
            "train-labels",
            28881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        Archive(
            "t10k-images",
            1648877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        Archive(
            "train-images",
            9912422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
    ),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://raw.githubusercontent.com/fgnt/mnist/master/",
    ),
)

FASHION_MNIST = Published(
    name="fashion-mnist",
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    archives=(
        Archive(
            "t10k-labels",
            5148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        Archive(
            "train-labels",
            29515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        Archive(
            "t10k-images",
            4422102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        Archive(
            "train-images",
            26421880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
    ),
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
)
