"""Which batch sizes the gate `consistency` tries: drawn over the whole range that an artifact claims to take.

A graph may be right alone, at five and at eight, and wrong at 2 or from 100 on: where a kernel is chosen by the size,
where a shape was frozen, where a row is read twice. All sizes cannot be tried. Tried are the edges of the range, powers
of two with their neighbours, for kernels are chosen by those, and one size drawn in between each two of them; as many
as fit into a bound on the values that go in, which is what time and memory grow with. What is far slower than others of
its size, such as half precision on a CPU without kernels for it, is tried at fewer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..artifact.manifest import Batch

VALUES = 3_000_000  # of all batches together: 244 images of 64 x 64 in colour, 19 of 224 x 224; a second or two
LONG = 10.0  # seconds that they may take all together
UNTOLD = Batch(1, 8, 1024)  # what an artifact is tried with that takes any: the range that ONNX exports have


@dataclass(frozen=True)
class Sizes:
    """What is tried, and what is not.

    Attributes:
        claimed: the range that the artifact takes.
        tried: sizes, ascending.
        left_out: edges and powers of two of the range that were not tried, ascending.
        why: they were not; "" where none was left out.
    """

    claimed: Batch
    tried: tuple[int, ...]
    left_out: tuple[int, ...]
    why: str = ""

    @property
    def told(self) -> str:
        """In words, as the gate's reason ends."""
        first, last = self.tried[0], self.tried[-1]
        said = f"batches of {len(self.tried)} sizes from {first} to {last}, of {self.claimed.min} to {self.claimed.max}"
        return f"{said}; untried {', '.join(map(str, self.left_out))}: {self.why}" if self.left_out else said


def draw_sizes(claimed: Batch | None, values: int, seed: int = 0, seconds: float = 0.0) -> Sizes:
    """Draw the sizes of an artifact; the same seed gives the same.

    Two thirds of the bound go to the largest batch that fits, so that what is wrong from some size on shows; the rest
    to the smallest sizes, octave by octave, as far as it reaches. The smallest size and the next are always tried.

    Args:
        claimed: sizes that it takes; None for any.
        values: numbers of one image that go in.
        seed: of the draws.
        seconds: that an image takes; what would take more than `LONG` is tried at fewer sizes.
    """
    claimed = claimed or UNTOLD
    images = VALUES // values
    why = f"all together at most {VALUES:,} values go in, {values:,} for an image"
    if images * seconds > LONG:
        images, why = int(LONG / seconds), f"an image takes {seconds:.2g} s, all together at most {LONG:g} s"
    largest = max(min(claimed.max, 2 * images // 3), min(claimed.min + 1, claimed.max))
    tried = {claimed.min, min(claimed.min + 1, claimed.max), largest}
    left = images - sum(tried)
    for size in _wanted(claimed, largest, seed):
        if size not in tried and size <= left:
            tried.add(size)
            left -= size
    expected = {claimed.opt, claimed.max, *_powers(claimed)}
    left_out = tuple(sorted(expected - tried))
    return Sizes(claimed, tuple(sorted(tried)), left_out, why if left_out else "")


def _wanted(claimed: Batch, largest: int, seed: int) -> list[int]:
    """Sizes in the order in which they are tried as far as the bound goes: the usual one, then octave by octave."""
    draw = np.random.default_rng(seed)
    found = [claimed.opt]
    for power in _powers(claimed):
        between = int(draw.integers(power + 1, 2 * power + 1))
        found += [power, power + 1, power - 1, between]
    return [size for size in found if claimed.min <= size <= largest]


def _powers(claimed: Batch) -> list[int]:
    return [1 << k for k in range(claimed.max.bit_length()) if claimed.min <= 1 << k <= claimed.max]
