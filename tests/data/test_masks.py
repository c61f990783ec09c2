"""Rules of masks: found by name, cropped as their image, never guessed."""

import numpy as np
import pytest
from image_files import NOISE, saved
from PIL import Image

from cnsctl.data.buckets import bucket_sizes
from cnsctl.data.images import read_images
from cnsctl.errors import ImageError


def half(width, height):
    """White on the left half."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[:, : width // 2] = 255
    return Image.fromarray(pixels)


@pytest.fixture
def folders(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    saved(tmp_path / "images" / "a.jpg", Image.fromarray(NOISE))
    saved(tmp_path / "images" / "b.png", Image.fromarray(NOISE[:48]))
    return tmp_path / "images", tmp_path / "masks"


def read(folders):
    return read_images(folders[0], sizes=bucket_sizes(32, 4), masks=folders[1])


def test_a_mask_has_the_name_of_its_image_and_is_cropped_as_it_is(folders):
    saved(folders[1] / "a.png", half(64, 64))
    saved(folders[1] / "b.png", half(32, 24))
    found = read(folders)
    assert found.notes == ()
    for image in found.images:
        assert image.mask.shape == image.pixels.shape[:2]
        assert image.mask.dtype == np.float32
        middle = image.mask.shape[1] // 2
        assert (image.mask[:, :middle] == 1).all()
        assert (image.mask[:, middle:] == 0).all()


def test_images_without_a_mask_are_whole_and_named_and_so_are_masks_without_an_image(folders):
    saved(folders[1] / "b.png", half(64, 48))
    saved(folders[1] / "z.png", half(64, 64))
    found = read(folders)
    assert [image.mask is None for image in found.images] == [True, False]
    assert found.notes == (
        "without a mask, trained whole: a.jpg (1 of 2 images)",
        "masks without an image: z.png (1)",
    )


@pytest.mark.parametrize(
    ("mask", "match"),
    [
        (half(64, 48), "another shape than its image: .*64x48 and 64x64"),
        (Image.new("L", (64, 64)), "black where its image is kept"),
    ],
)
def test_a_mask_that_cannot_be_meant_is_refused(folders, mask, match):
    saved(folders[1] / "a.png", mask)
    with pytest.raises(ImageError, match=match) as failure:
        read(folders)
    assert failure.value.hint


def test_the_transparency_of_a_mask_is_used_if_it_has_one(folders):
    mask = Image.new("RGBA", (64, 64), (200, 10, 10, 0))
    mask.paste((200, 10, 10, 255), (0, 0, 32, 64))
    saved(folders[1] / "a.png", mask)
    image = read(folders).images[0]
    assert (image.mask[:, :16] == 1).all()
    assert (image.mask[:, 16:] == 0).all()


def test_a_folder_without_masks_is_refused(folders):
    with pytest.raises(ImageError, match="no images in the folder"):
        read(folders)
