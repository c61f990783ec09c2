"""Rules of aspect-ratio buckets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnsctl.bases.sdxl.image_sizes import IMAGE_SIZES
from cnsctl.data.buckets import bucket_sizes, fit, multiple_of

BASES = [(512, 64), (768, 64), (1024, 32), (128, 32), (32, 4), (64, 8)]
"""Resolution, and pixels that the coarsest level of the denoiser sees as one."""


@pytest.mark.parametrize(
    ("resolution", "coarsest", "multiple"), [(512, 64, 64), (1024, 32, 64), (128, 32, 32), (32, 4, 4)]
)
def test_sides_are_multiples_of_64_or_of_less_on_small_bases(resolution, coarsest, multiple):
    assert multiple_of(resolution, coarsest) == multiple


@pytest.mark.parametrize(("resolution", "coarsest"), BASES)
def test_buckets_have_the_area_of_the_square_and_at_most_four_times_its_aspect(resolution, coarsest):
    multiple = multiple_of(resolution, coarsest)
    sizes = bucket_sizes(resolution, multiple)
    assert (resolution, resolution) in sizes
    for height, width in sizes:
        assert height % multiple == width % multiple == 0
        assert height % coarsest == width % coarsest == 0
        assert 0.75 * resolution**2 <= height * width <= resolution**2
        assert max(height, width) <= 4 * min(height, width)
        assert (width, height) in sizes


def test_stable_diffusion_has_the_sizes_of_the_field():
    assert {(512, 512), (384, 640), (448, 576), (320, 768), (256, 1024)} <= set(bucket_sizes(512, 64))
    assert {(1024, 1024), (832, 1216), (896, 1152), (1344, 768)} <= set(bucket_sizes(1024, 64))


def test_sdxls_published_sizes_are_about_one_megapixel():
    assert len(set(IMAGE_SIZES)) == len(IMAGE_SIZES) == 40
    for height, width in IMAGE_SIZES:
        assert height % 64 == width % 64 == 0
        assert 0.89 * 1024**2 <= height * width <= 1.01 * 1024**2


SIDES = st.integers(16, 4000)


@given(st.sampled_from(BASES), SIDES, SIDES)
def test_the_kept_part_has_exactly_the_shape_of_its_bucket(base, height, width):
    """So nothing is distorted; and along one side all is kept, so no more than needed is cut off."""
    resolution, coarsest = base
    found = fit((height, width), bucket_sizes(resolution, multiple_of(resolution, coarsest)))
    left, top, right, bottom = found.box
    target_height, target_width = found.frame.target
    assert (right - left) * target_height == pytest.approx((bottom - top) * target_width, rel=1e-9)
    assert 0 <= left <= right <= width
    assert 0 <= top <= bottom <= height
    assert (left, right) == (0, width) or (top, bottom) == (0, height)
    assert left == pytest.approx(width - right, abs=1e-6)
    assert top == pytest.approx(height - bottom, abs=1e-6)


@given(st.sampled_from(BASES), SIDES, SIDES)
def test_no_other_bucket_would_keep_more(base, height, width):
    resolution, coarsest = base
    sizes = bucket_sizes(resolution, multiple_of(resolution, coarsest))
    found = fit((height, width), sizes)
    assert all(found.cut <= fit((height, width), [size]).cut + 1e-6 for size in sizes)


@given(st.sampled_from(BASES), SIDES)
def test_a_square_goes_whole_into_the_square_bucket(base, side):
    resolution, coarsest = base
    found = fit((side, side), bucket_sizes(resolution, multiple_of(resolution, coarsest)))
    assert found.frame.target == (resolution, resolution)
    assert found.box == (0, 0, side, side)
    assert (found.cut, found.frame.crop, found.frame.original) == (0, (0, 0), (side, side))


def test_the_frame_counts_the_crop_in_the_resized_image():
    """As SDXL was trained: the whole image is resized to cover the bucket, and the crop is where the kept part begins."""
    found = fit((1000, 1500), bucket_sizes(512, 64)).frame
    assert (found.original, found.target, found.crop) == ((1000, 1500), (384, 640), (21, 0))
