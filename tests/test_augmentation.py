import pytest
import torch

from vaegan.augmentation import LARGEST, SMALLEST, TEARS, shifted, tear


def drawn(count, seed=0):
    return torch.rand((count, TEARS), generator=torch.Generator().manual_seed(seed))


def noise(count, channels=1, height=20, width=30):
    return torch.rand((count, channels, height, width), generator=torch.Generator().manual_seed(1))


def test_every_image_is_shifted_by_its_own_draw():
    image = torch.arange(64.0).view(1, 1, 8, 8) + 1
    directions = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, -1.0], [-0.5, 0.5]])
    moved = shifted(image.expand(4, -1, -1, -1), directions, 0.25)
    assert torch.equal(moved[0], image[0])
    assert torch.equal(moved[1, 0, 2:], image[0, 0, :6])  # two pixels down
    assert not moved[1, 0, :2].any()
    assert torch.equal(moved[2, 0, :, :6], image[0, 0, :, 2:])  # two pixels to the left
    assert not moved[2, 0, :, 6:].any()
    assert torch.equal(moved[3, 0, :7, 1:], image[0, 0, 1:, :7])  # one up, one to the right
    assert not moved[3, 0, 7].any()
    assert not moved[3, 0, :, 0].any()
    # Several kinds of image one after the other: the k-th of each moves alike.
    both = shifted(image.expand(8, -1, -1, -1), directions, 0.25)
    assert torch.equal(both[:4], both[4:])
    # Fewer images than draws: the first draws.
    assert torch.equal(shifted(image.expand(3, -1, -1, -1), directions, 0.25), moved[:3])


def test_no_share_is_the_identity():
    images = noise(2)
    assert shifted(images, torch.ones(2, 2), 0.0) is images


def test_a_patch_of_the_image_itself_is_somewhere_else_too():
    images, moved = noise(50, channels=3), 0
    for image, copy in zip(images, tear(images, drawn(50))):
        rows, columns = ((image != copy).any(0)).nonzero().unbind(1)
        if not len(rows):  # copied to where it was
            continue
        moved += 1
        top, left = rows.min(), columns.min()
        height, width = rows.max() - top + 1, columns.max() - left + 1
        assert height == width and round(20 * SMALLEST) <= height <= round(20 * LARGEST)
        patch = copy[:, top : top + height, left : left + width]
        places = image.unfold(1, int(height), 1).unfold(2, int(width), 1)
        found = (places == patch[:, None, None]).all(-1).all(-1).all(0)
        assert found.sum() == 1  # all channels move together, and every pixel of it is the image's
    assert moved > 45


@pytest.mark.parametrize(("side", "sizes"), [(28, {3, 4, 5, 6}), (20, {2, 3, 4}), (4, {1})])
def test_every_size_and_place_is_drawn(side, sizes):
    images = noise(4000, height=side, width=side + 3)
    changed = (images != tear(images, drawn(4000))).any(1)
    assert changed.any(0).all()  # no place is never covered, corners included
    assert set(changed.any(2).sum(1).tolist()) - {0} == sizes


def test_it_is_taken_from_what_stands_out():
    images = torch.zeros(400, 1, 28, 28)
    images[:, :, 10:18, 12:14] = 1.0  # a stroke of 2 % of the image
    torn = tear(images, drawn(400))
    assert (torn.sum((1, 2, 3)) > images.sum((1, 2, 3))).float().mean() > 0.9
    dark = 1 - tear(1 - images, drawn(400))  # the same on white ground
    torch.testing.assert_close(dark, torn)


def test_an_image_is_torn_by_its_own_numbers_alone():
    images, draws = noise(6), drawn(6)
    together = tear(images, draws)
    for i in range(6):
        assert torch.equal(together[i : i + 1], tear(images[i : i + 1], draws[i : i + 1]))


def test_empty_and_tiny_images_and_the_ends_of_the_draws():
    blank = torch.full((2, 1, 8, 8), 0.5)
    for number in (0.0, 1 - 2**-24):
        draws = torch.full((2, TEARS), number)
        assert torch.equal(tear(blank, draws), blank)
        for side in (1, 2, 3):
            assert tear(noise(2, height=side, width=4), draws).shape == (2, 1, side, 4)
    assert torch.equal(tear(noise(0), drawn(0)), noise(0))
