"""Folders of image files: how they are laid out, divided and read."""

import os

import numpy as np
import pytest
from PIL import Image

from vaegan.data.image_folder import FileChunk, is_image_folder, list_images, surveyed
from vaegan.errors import DataError
from vaegan.images import read_image_files, survey


def quiet(stage, share):
    pass


def refusal(function, *arguments) -> str:
    with pytest.raises(DataError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names_of(files, purpose):
    """The files of a split, relative to the folder."""
    return [os.path.relpath(path, files.root) for path in files.paths(files.rows[purpose])]


def test_a_sub_folder_is_a_class(images, tmp_path):
    files = list_images(images(tmp_path, {"cat": 42, "ape": 21, "dog": 21}))
    assert files.class_names == ("ape", "cat", "dog")
    assert [len(files.rows[p]) for p in ("train", "validation", "test")] == [66, 6, 12]
    every = [name for p in ("train", "validation", "test") for name in names_of(files, p)]
    assert sorted(every) == sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png"))
    for purpose in ("train", "validation", "test"):
        labels = files.labels[files.rows[purpose]]
        assert [files.class_names[k] for k in labels] == [
            name.split("/")[0] for name in names_of(files, purpose)
        ]
    assert np.bincount(files.labels[files.rows["test"]]).tolist() == [3, 6, 3]
    # Classes mix: the first of a split show them all.
    assert len(set(files.labels[files.rows["train"]][:12])) == 3
    again = list_images(tmp_path)
    assert again.digest == files.digest and names_of(again, "test") == names_of(files, "test")


def test_images_without_folders_are_unlabelled(images, tmp_path):
    files = list_images(images(tmp_path, {"": 14}))
    assert (files.labels, files.class_names) == (None, ())
    assert [len(files.rows[p]) for p in ("train", "validation", "test")] == [11, 1, 2]
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".hidden.png").touch()
    (tmp_path / ".cache").mkdir()
    assert list_images(tmp_path).digest == files.digest
    assert list_images(tmp_path).ignored == 1


def test_given_splits_are_kept(images, tmp_path):
    images(tmp_path, {"train/b": 24, "train/a": 24, "test/a": 2, "test/b": 3})
    files = list_images(tmp_path)
    assert [len(files.rows[p]) for p in ("train", "validation", "test")] == [44, 4, 5]
    assert {name.split("/")[0] for name in names_of(files, "test")} == {"test"}
    images(tmp_path, {"validation/b": 1})
    files = list_images(tmp_path)
    assert [len(files.rows[p]) for p in ("train", "validation", "test")] == [48, 1, 5]
    assert files.labels[files.rows["validation"]].tolist() == [1]


def test_given_splits_without_classes(images, tmp_path):
    files = list_images(images(tmp_path, {"train": 12, "test": 3}))
    assert files.labels is None
    assert [len(files.rows[p]) for p in ("train", "validation", "test")] == [11, 1, 3]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"a": 1, "": 1}, ["holds images beside folders"]),
        ({"a": 1, "b": 0}, ["/b' holds no image", ".png, .jpg"]),
        ({"a/deep": 1}, ["/a' holds the folder 'deep'", "nothing deeper"]),
        ({"train/a": 1, "val/a": 1}, ["train and the folder 'val'", "train, test and validation"]),
        ({"train/a": 1, "": 1}, ["train and images beside it"]),
        ({"train/a": 1, "test": 1}, ["test' has no classes", "train' has a"]),
        ({"train/a": 1, "test/b": 1}, ["test' has the class 'b'", "same classes"]),
        ({"train": 1, "test/b": 1}, ["test' has the class 'b'", "train' has none"]),
        ({"train/a": 1, "test": 0}, ["/test' holds no image"]),
    ],
)
def test_other_layouts_are_refused(images, tmp_path, counts, words):
    line = refusal(list_images, images(tmp_path, counts))
    assert all(word in line for word in words), line


def test_folders_that_are_none(tmp_path):
    assert not is_image_folder(tmp_path)
    assert "cannot list" in refusal(list_images, tmp_path / "absent")
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    assert "is not UTF-8: rename it" in refusal(list_images, tmp_path)


# ── size and colour ──────────────────────────────────────────────────────────────────────────────


def test_survey_of_a_file(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    colour = np.stack([grey, grey, grey + 1], 2)
    for name, image, expected in [
        ("grey.png", Image.fromarray(grey), False),
        ("deep.png", Image.fromarray(grey.astype(np.uint16) * 257), False),
        ("rgb-grey.png", Image.fromarray(np.stack([grey] * 3, 2)), False),
        ("rgb.png", Image.fromarray(colour), True),
        ("palette.png", Image.fromarray(colour).quantize(16), True),
        (
            "clear.png",
            Image.fromarray(np.dstack([colour, 255 * (grey > 3)]).astype(np.uint8)),
            True,
        ),
    ]:
        image.save(tmp_path / name)
        assert survey(tmp_path / name) == ((3, 4), expected), name
        assert survey(tmp_path / name, colour=False) == ((3, 4), None)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey).save(tmp_path / "turned.jpg", exif=exif)
    size, _ = survey(tmp_path / "turned.jpg")
    assert size == (4, 3) == read_image_files([tmp_path / "turned.jpg"], (4, 3), 1).shape[1:3]
    (tmp_path / "text.png").write_text("no picture")
    assert "text.png' is no readable PNG" in refusal(survey, tmp_path / "text.png")
    assert "absent.png' does not exist" in refusal(survey, tmp_path / "absent.png")


def test_grey_unless_an_image_has_colour(images, tmp_path):
    files = list_images(images(tmp_path / "grey", {"a": 3, "b": 3}))
    assert surveyed(files, None, None, 1, quiet) == ((12, 10), 1)
    assert surveyed(files, (20, 20), 3, 1, quiet) == ((20, 20), 3)
    images(tmp_path / "grey", {"c": 1}, shape=(12, 10, 3))
    files = list_images(tmp_path / "grey")
    assert surveyed(files, None, None, 1, quiet) == ((12, 10), 3)
    assert surveyed(files, None, 1, 1, quiet) == ((12, 10), 1)


def test_sizes_that_differ_need_one_that_is_asked(images, tmp_path):
    images(tmp_path, {"a": 2})
    images(tmp_path, {"b": 2}, shape=(9, 9))
    files = list_images(tmp_path)
    line = refusal(surveyed, files, None, None, 1, quiet)
    assert "several sizes (9 x 9, 12 x 10, ...): give --image-size" in line
    assert surveyed(files, (16, 16), None, 1, quiet) == ((16, 16), 1)


def test_sizes_out_of_range_need_one_that_is_asked(images, tmp_path):
    files = list_images(images(tmp_path, {"": 2}, shape=(7, 9)))
    assert "are 7 x 9: give --image-size" in refusal(surveyed, files, None, 1, 1, quiet)


def test_a_chunk_reads_by_the_rules_of_image_files(images, tmp_path):
    images(tmp_path, {"": 3}, shape=(30, 20, 3))
    paths = tuple(str(path) for path in sorted(tmp_path.iterdir()))
    chunk = FileChunk(paths, (16, 16), 1)
    pixels, bad = chunk.read()
    assert bad == []
    assert np.array_equal(pixels, read_image_files(paths, (16, 16), 1, resize=True))
    stamp = chunk.stamp()
    assert chunk.stamp() == stamp
    os.truncate(paths[1], 50)
    assert chunk.stamp() != stamp
    pixels, ((place, why),) = chunk.read()
    assert place == 1 and not pixels[1].any() and why.startswith(repr(paths[1]))
