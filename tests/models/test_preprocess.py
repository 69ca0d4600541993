"""The pixels equal torchvision's transforms, and bad images are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from zoo.errors import UsageError
from zoo.models import preprocess
from zoo.models.preprocess import (
    as_input,
    batch_to_pixels,
    centre_crop,
    decode,
    from_normalised,
    normalise,
    orientation,
    prepare,
    to_pixels,
)
from zoo.models.spec import ModelSpec, Preprocess


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@settings(deadline=None, max_examples=25)
@given(
    st.integers(20, 90), st.integers(20, 90), st.integers(16, 60), st.integers(10, 70),
    st.sampled_from(["nearest", "bilinear", "bicubic"]),
)  # fmt: skip
def test_equals_torchvision(height: int, width: int, resize: int, crop: int, interpolation: str) -> None:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms._presets import ImageClassification

    image = noise(height, width)
    theirs = ImageClassification(crop_size=crop, resize_size=resize, interpolation=InterpolationMode(interpolation))(
        image
    ).numpy()
    ours = prepare([image], Preprocess((crop, crop), resize, interpolation))[0]
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 2e-6


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))
def test_crop_of_a_batch_equals_crop_of_each(height: int, width: int, crop_h: int, crop_w: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width, 2), np.uint8)
    whole = centre_crop(pixels, (crop_h, crop_w))
    assert whole.shape == (3, crop_h, crop_w, 2)
    assert all(np.array_equal(whole[i], centre_crop(pixels[i], (crop_h, crop_w))) for i in range(3))


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_take_the_same_way_as_images(channels: int) -> None:
    array = np.random.default_rng(0).integers(0, 256, (4, 28, 28, channels), np.uint8)
    preprocess = Preprocess((32, 32))
    images = [Image.fromarray(one.squeeze()) for one in array]
    expected = np.stack([to_pixels(image, preprocess) for image in images])
    assert np.array_equal(batch_to_pixels(array, preprocess), expected)


def test_channel_order() -> None:
    image = noise(8, 8)
    rgb, bgr = (to_pixels(image, Preprocess((8, 8), channels=order)) for order in ("RGB", "BGR"))
    assert np.array_equal(rgb[::-1], bgr)
    assert not np.array_equal(rgb, bgr)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    made = Image.new("I;16", (9, 9), 3000) if mode == "I;16" else noise(9, 9).convert(mode)
    path = tmp_path / f"image.{'tif' if mode in ('CMYK', 'I;16') else 'png'}"
    made.save(path)
    assert to_pixels(decode(path), Preprocess((9, 9))).shape == (3, 9, 9)


def test_sixteen_bits_keep_their_brightness(tmp_path: Path) -> None:
    Image.new("I;16", (4, 4), 32768).save(tmp_path / "grey.png")
    assert to_pixels(decode(tmp_path / "grey.png"), Preprocess((4, 4))).max() in (127, 128)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_bad_images_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"broken\.png.*cannot be decoded"):
        decode(path)


def test_truncated_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "half.jpg"
    noise(64, 64).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(UsageError, match=r"half\.jpg"):
        decode(path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"crop": (0, 3)}, "1 to 8192"),
        ({"crop": (10**6, 3)}, "1 to 8192"),
        ({"crop": (3, 3), "scale": float("nan")}, "finite"),
        ({"crop": (3, 3), "antialias": False}, "antialias"),
        ({"crop": (3, 3), "mean": (0.5,)}, "3 values"),
        ({"crop": (3, 3), "std": (0.0, 1.0, 1.0)}, "std"),
    ],
)
def test_contradictions_are_refused(values: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Preprocess(**values)


def test_spec_refuses_an_input_that_preprocessing_does_not_make() -> None:
    with pytest.raises(ValueError, match="preprocess makes"):
        ModelSpec("m", (3, 32, 32), Preprocess((31, 32)), ("a",))


@st.composite
def preprocesses(draw: st.DrawFn) -> Preprocess:
    order = draw(st.sampled_from(["RGB", "BGR", "L"]))
    numbers = st.floats(0.0625, 2, width=32)
    mean, std = (draw(st.lists(numbers, min_size=len(order), max_size=len(order))) for _ in range(2))
    scale = draw(st.sampled_from([1 / 255, 1.0, 1 / 128]))
    return Preprocess((5, 7), scale=scale, mean=tuple(mean), std=tuple(std), channels=order)


@settings(deadline=None, max_examples=60)
@given(preprocesses(), st.integers(0, 2**32 - 1))
def test_pixels_come_back_exactly_from_what_was_normalised(preprocess: Preprocess, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (2, preprocess.depth, 5, 7), np.uint8)
    batch = normalise(pixels, preprocess)
    assert np.array_equal(from_normalised(batch, preprocess), pixels)
    assert np.array_equal(as_input(pixels, preprocess, pixels=False), batch)
    own = as_input(batch, preprocess, pixels=True)
    assert own.shape == (2, 5, 7, preprocess.depth)
    assert own.dtype == np.uint8
    assert np.array_equal(as_input(pixels, preprocess, pixels=True), own)
    assert as_input(own, preprocess, pixels=True) is own, "what is so already is not copied"
    with pytest.raises(UsageError, match="no image's pixels"):
        from_normalised(batch + np.float32(0.3) * preprocess.scale / max(preprocess.std), preprocess)


def test_a_large_picture_is_decoded_up_to_a_limit_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow warns from half of its limit on, and refuses from the limit on; here with small limits."""
    noise(30, 40).save(tmp_path / "a.png")
    monkeypatch.setattr(preprocess, "MOST_PIXELS", 1200)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    assert decode(tmp_path / "a.png").size == (40, 30)
    noise(30, 41).save(tmp_path / "b.png")
    for most in (600, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(UsageError, match=r"b\.png: an image of more than 1,200 pixels is not .*(41|1230)"):
            decode(tmp_path / "b.png")
    assert preprocess.MOST_PIXELS == 1200 < 178_956_970


def test_an_exif_orientation_is_known_and_not_applied(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[preprocess.ORIENTATION] = 6
    image = noise(8, 12)
    image.save(tmp_path / "turned.png", exif=turned)
    image.save(tmp_path / "upright.png")
    found = decode(tmp_path / "turned.png")
    assert np.array_equal(np.asarray(found), np.asarray(image)), "as torchvision's ImageFolder reads it"
    assert orientation(found) == 6
    assert orientation(decode(tmp_path / "upright.png")) == 1


def test_an_image_that_would_be_too_long_is_named(tmp_path: Path) -> None:
    """Among the thousands of a folder nobody would find it."""
    path, preprocess = tmp_path / "a strip.png", Preprocess(crop=(32, 32), resize=32)
    Image.new("L", (100_000, 1)).save(path)
    with pytest.raises(UsageError, match=r"a strip\.png: an image of 100000 x 1 would become 3200000 x 32"):
        to_pixels(decode(path), preprocess)
    with pytest.raises(UsageError, match="^an image of 100000 x 1 would"):
        to_pixels(Image.new("L", (100_000, 1)), preprocess)
