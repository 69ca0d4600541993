"""Image file -> the model's input, in numpy and Pillow alone, so that a board without torch does the same.

The pixels equal torchvision's transforms on a PIL image: the same filters (Pillow's), the same rounding of sizes
and of the crop's corner.
"""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import UsageError, one_line
from .spec import LARGEST, ModelSpec, Preprocess

Pixels = npt.NDArray[np.uint8]
Batch = npt.NDArray[np.float32]
Images = npt.NDArray[np.float32 | np.uint8]

# Pillow's own limit against files that unpack to fill the memory; it warns at half of it, where honest pictures are.
MOST_PIXELS = 178_956_970
ORIENTATION = 0x0112  # the EXIF tag
_opening = threading.Lock()

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def decode(path: Path) -> Image.Image:
    """Read an image file into memory, as it is stored.

    An EXIF orientation is not applied: torchvision's ImageFolder does not apply it either, so a model sees here what it
    saw in most trainings. `orientation` says whether an image has one.

    Raises:
        UsageError: naming the file, when it is not there, truncated, larger than MOST_PIXELS, or no image.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no regular file", fix="give an image file")
    try:
        with _open_quietly(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height}")
            image.load()
        in_mode(image, "RGB")
        return image
    except FileNotFoundError:
        raise UsageError(f"{path}: no such image") from None
    except UsageError as error:
        raise UsageError(f"{path}: {error.what}", fix=error.fix) from None
    except Image.DecompressionBombError as error:
        raise UsageError(
            f"{path}: an image of more than {MOST_PIXELS:,} pixels is not decoded ({one_line(error)})",
            fix="make it smaller",
        ) from error
    except (Exception, MemoryError) as error:
        raise UsageError(f"{path}: cannot be decoded as an image ({one_line(error)})", fix="replace it") from error


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image: 1 where it is stored upright, 2 to 8 where viewers turn or mirror it."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except (OSError, ValueError, TypeError, LookupError, SyntaxError, struct.error):  # of EXIF that is not whole
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _open_quietly(path: Path) -> Image.Image:
    """Open a file without Pillow's warning at half of its limit; locked, since warnings' filters are of the process."""
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path)


def resized_size(height: int, width: int, resize: int | tuple[int, int] | None) -> tuple[int, int]:
    """The height and width after `resize`; a length keeps the aspect ratio, the longer side truncated.

    >>> resized_size(300, 400, 256)
    (256, 341)
    """
    if resize is None:
        return height, width
    if isinstance(resize, tuple):
        return resize
    if height <= width:
        return resize, int(resize * width / height)
    return int(resize * height / width), resize


def centre_crop(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Crop H x W (x C), or N x H x W (x C) given as such, around the centre; pads with zeros where it is smaller.

    Args:
        pixels: the last two axes before channels are height and width: shape (..., H, W, C).
        size: height and width of the result.
    """
    height, width = pixels.shape[-3:-1]
    want_h, want_w = size
    pad_h, pad_w = max(want_h - height, 0), max(want_w - width, 0)
    if pad_h or pad_w:
        around = [(0, 0)] * (pixels.ndim - 3)
        sides = [(pad_h // 2, (pad_h + 1) // 2), (pad_w // 2, (pad_w + 1) // 2), (0, 0)]
        pixels = np.pad(pixels, around + sides)
        height, width = pixels.shape[-3:-1]
    top, left = round((height - want_h) / 2), round((width - want_w) / 2)
    return pixels[..., top : top + want_h, left : left + want_w, :]


def to_pixels(image: Image.Image, preprocess: Preprocess) -> Pixels:
    """Everything up to the crop: an image -> uint8, C x H x W in the model's channel order."""
    mode = "L" if preprocess.channels == "L" else "RGB"
    file = getattr(image, "filename", "")  # of one that was opened, as long as it is not converted
    image = in_mode(image, mode)
    height, width = resized_size(image.height, image.width, preprocess.resize)
    if max(height, width) > 16 * LARGEST:
        named = f"{file}: " if file else ""
        raise UsageError(
            f"{named}an image of {image.width} x {image.height} would become {width} x {height}", fix="crop it"
        )
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), FILTERS[preprocess.interpolation])
    pixels = np.asarray(image)
    pixels = centre_crop(pixels[..., None] if pixels.ndim == 2 else pixels, preprocess.crop)
    return _channels_first(pixels, preprocess)


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """An image in RGB or L. 16-bit grey by its upper byte: Pillow's own conversion clips all above 255 to white.

    Raises:
        UsageError: 32 bits a pixel.
    """
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UsageError(f"mode {image.mode} (32 bits a pixel) has no agreed brightness", fix="save it as 8 bits")
    return image if image.mode == mode else image.convert(mode)


def batch_to_pixels(images: Sequence[Image.Image] | Pixels, preprocess: Preprocess) -> Pixels:
    """Many images -> uint8 N x C x H x W; an N x H x W x C array that needs no resize is done in one step."""
    if isinstance(images, np.ndarray):
        if resized_size(images.shape[1], images.shape[2], preprocess.resize) == images.shape[1:3]:
            if images.shape[-1] == 1 and preprocess.channels != "L":
                cropped = centre_crop(images, preprocess.crop)
                return np.broadcast_to(np.moveaxis(cropped, -1, 1), (len(images), 3, *preprocess.crop))
            if images.shape[-1] == preprocess.depth:
                return _channels_first(centre_crop(images, preprocess.crop), preprocess)
        images = [as_image(one) for one in images]
    return np.stack([to_pixels(image, preprocess) for image in images])


def as_image(pixels: Pixels) -> Image.Image:
    """H x W x 1 or H x W x 3 in uint8 as a Pillow image."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def normalise(pixels: Images, preprocess: Preprocess) -> Batch:
    """uint8 ... x C x H x W -> float32: (pixel * scale - mean) / std, per channel."""
    mean = np.asarray(preprocess.mean, np.float32)[:, None, None]
    std = np.asarray(preprocess.std, np.float32)[:, None, None]
    made = np.multiply(pixels, np.float32(preprocess.scale), dtype=np.float32, order="C")
    made -= mean  # in place: a new array for each operation takes three times as long
    made /= std
    return made


def from_normalised(batch: Images, preprocess: Preprocess) -> Pixels:
    """The uint8 pixels that `normalise` made a batch of, ... x C x H x W, exactly.

    Raises:
        UsageError: no pixels give these values.
    """
    mean = np.asarray(preprocess.mean, np.float32)[:, None, None]
    std = np.asarray(preprocess.std, np.float32)[:, None, None]
    with np.errstate(invalid="ignore", over="ignore"):
        pixels = np.rint((batch * std + mean) / np.float32(preprocess.scale)).clip(0, 255).astype(np.uint8)
    if not np.array_equal(normalise(pixels, preprocess), batch):
        raise UsageError("these values are of no image's pixels", fix="give what prepare() makes, or uint8 pixels")
    return pixels


def as_input(batch: Images, preprocess: Preprocess, pixels: bool) -> Images:
    """A batch as a model reads it, contiguous.

    Args:
        batch: normalised float32 or uint8 pixels, N x C x H x W in the model's channel order; or already as it is read.
        preprocess: the model's.
        pixels: the model normalises by itself: it reads uint8 N x H x W x C in the order of a decoded image (RGB, or
            grey). Else float32 N x C x H x W.

    Raises:
        UsageError: float32 of no image's pixels for a model that reads pixels.
    """
    if not pixels:
        return np.ascontiguousarray(batch if batch.dtype == np.float32 else normalise(batch, preprocess))
    if batch.dtype == np.uint8 and batch.shape[1:] == (*preprocess.crop, preprocess.depth):
        return np.ascontiguousarray(batch)
    made = from_normalised(batch, preprocess) if batch.dtype == np.float32 else batch
    return np.ascontiguousarray(np.moveaxis(made[:, ::-1] if preprocess.channels == "BGR" else made, 1, -1))


def prepare(images: Sequence[Image.Image] | Pixels, preprocess: Preprocess) -> Batch:
    """Images -> the model's input, float32 N x C x H x W."""
    return normalise(batch_to_pixels(images, preprocess), preprocess)


def _channels_first(pixels: Pixels, preprocess: Preprocess) -> Pixels:
    if preprocess.channels == "BGR":
        pixels = pixels[..., ::-1]
    return np.ascontiguousarray(np.moveaxis(pixels, -1, -3))


def outside(spec: ModelSpec) -> tuple[str, ...]:
    """What the user of such an artifact still has to do, in a line."""
    return (f"reads uint8 {shape_of(spec.preprocess)}; left outside: {', '.join(steps_outside(spec.preprocess))}",)


def shape_of(preprocess: Preprocess) -> str:
    """The input, in words."""
    order = "grey" if preprocess.channels == "L" else "RGB"
    return f"N x {preprocess.crop[0]} x {preprocess.crop[1]} x {preprocess.depth} ({order})"


def steps_outside(preprocess: Preprocess) -> list[str]:
    """In the order in which they are done."""
    height, width = preprocess.crop
    how = f"{preprocess.interpolation}, antialiased as Pillow does it"
    found = [f"decode to {'grey' if preprocess.channels == 'L' else 'RGB'}"]
    if isinstance(preprocess.resize, int):
        found.append(f"resize the shorter side to {preprocess.resize} ({how})")
    elif preprocess.resize is not None:
        found.append(f"resize to {preprocess.resize[0]} x {preprocess.resize[1]} ({how})")
    if preprocess.resize != preprocess.crop:
        found.append(f"crop the centre {height} x {width}")
    return found
