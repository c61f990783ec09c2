"""Image files for the tests that read them."""

import numpy as np
import pytest
from PIL import Image

from cnsctl.data.buckets import bucket_sizes
from cnsctl.data.images import read_images
from cnsctl.errors import ImageError

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
SMOOTH = np.stack([*np.meshgrid(np.arange(0, 256, 4), np.arange(0, 256, 4)), np.full((64, 64), 90)], 2).astype(np.uint8)


def saved(path, image=None, **options):
    image = Image.fromarray(SMOOTH) if image is None else image
    image.save(path, **options)
    return path


def images(source, size=64, **options):
    """The images of a source, in buckets of this area."""
    return read_images(source, sizes=bucket_sizes(size, max(4, size // 8)), **options).images


def one(source, size=64):
    (found,) = images(source, size)
    return found


def refused(source, match):
    with pytest.raises(ImageError, match=match) as read:
        images(source)
    assert read.value.hint
    return read.value
