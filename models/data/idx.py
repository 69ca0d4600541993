"""The IDX format of MNIST and Fashion-MNIST: magic number, sizes, bytes; plain or gzipped.

Format: https://yann.lecun.com/exdb/mnist (big-endian: 0, 0, type code, number of dimensions, one int32 per dimension).
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import IntegrityError, one_line

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes.

    Raises:
        IntegrityError: naming the file, when it is truncated, too long, or not IDX.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise IntegrityError(f"{path}: truncated or corrupt ({one_line(error)})", fix="fetch it again") from error
    header = 4 + 4 * dimensions
    if len(data) < header or data[:4] != bytes((0, 0, _UNSIGNED_BYTE, dimensions)):
        raise IntegrityError(f"{path}: not an IDX file of {dimensions} dimensions", fix="fetch it again")
    shape = tuple(int(size) for size in np.frombuffer(data[4:header], ">u4"))
    if len(data) - header != math.prod(shape):
        raise IntegrityError(
            f"{path}: truncated or too long: {len(data) - header} bytes for shape {shape}", fix="fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
