"""Out of memory: a batch is computed in more and smaller parts, until a step passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from ...errors import UnavailableError

T = TypeVar("T")


class Parts:
    """In how many parts batches are computed; remembered, so that what did not fit once is not tried again.

    Args:
        count: to begin with.
        told: is given what was changed, in words.
        alone: whether this process may change it by itself: others would wait for gradients that never come.
    """

    def __init__(self, count: int, told: Callable[[str], None] = lambda _text: None, *, alone: bool = True) -> None:
        self.count, self._told, self._alone = count, told, alone

    def run(self, images: int, compute: Callable[[int], T]) -> T:
        """What `compute` gives for a number of parts of a batch of `images`; it must be able to begin anew.

        Raises:
            UnavailableError: two images do not fit, or this is one of several processes.
        """
        while True:
            try:
                return compute(self.count)
            except RuntimeError as error:  # torch.OutOfMemoryError is one; a CPU's allocator raises it plainly
                if not out_of_memory(error):
                    raise
            # outside of the handler, whose traceback holds on to the tensors of the step
            if not self._alone:
                raise UnavailableError(
                    f"out of memory with {images} images in {self.count} parts, in one of several processes",
                    fix=f"--set accumulate={self.count * 2}, or a smaller batch_size",
                )
            if self.count * 2 > images // 2:
                raise UnavailableError(
                    f"out of memory with {images} images in {self.count} parts", fix="use a smaller input or model"
                )
            self.count *= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._told(
                f"out of memory: batches of {images} images are computed in {self.count} parts from here on, "
                f"and batch norms see a part (--set accumulate={self.count} begins so)"
            )


def out_of_memory(error: RuntimeError) -> bool:
    """Whether memory was what lacked, of a GPU or of this machine."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error)
