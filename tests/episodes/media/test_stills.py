from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from posa_vla.episodes.media.stills import decode_still, encode_png
from posa_vla.errors import BadInput

images = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(lambda s: arrays(np.uint8, (*s, 3)))


def pillow_png(image: np.ndarray, mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).convert(mode).save(out, "png")
    return out.getvalue()


@given(images)
def test_what_is_encoded_here_comes_back_and_is_what_pillow_reads(image):
    data = encode_png(image)
    np.testing.assert_array_equal(decode_still(data, *image.shape[:2]), image)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), image)


@given(images)
def test_pngs_of_other_writers_are_read(image):
    np.testing.assert_array_equal(decode_still(pillow_png(image), *image.shape[:2]), image)


def test_a_grey_png_is_read_as_rgb():
    grey = np.full((4, 5, 3), 77, np.uint8)
    np.testing.assert_array_equal(decode_still(pillow_png(grey, "L"), 4, 5), grey)


@given(st.data())
def test_any_flipped_byte_is_an_error_or_harmless(data):
    image = np.arange(6 * 7 * 3, dtype=np.uint8).reshape(6, 7, 3)
    png = bytearray(encode_png(image))
    png[data.draw(st.integers(0, len(png) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        back = decode_still(bytes(png), 6, 7)
    except BadInput:
        return
    np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize("data", [b"", b"GIF89a", encode_png(np.zeros((4, 4, 3), np.uint8))[:50]])
def test_what_is_no_png_is_bad_input(data):
    with pytest.raises(BadInput, match="cannot be decoded"):
        decode_still(data, 4, 4)


def test_another_size_is_refused_with_both_sizes():
    with pytest.raises(BadInput, match="5 x 4 px, expected 4 x 4"):
        decode_still(encode_png(np.zeros((4, 5, 3), np.uint8)), 4, 4)
