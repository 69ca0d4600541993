"""How far an artifact's logits are from its reference's, in the usual measures, and the tolerances that go with them.

The gate `numerics` is judged by truth and yardstick (`faithful.py`). These tolerances judge where there is none:
artifacts of format 1, graphs that a user brings, sources that cannot be computed in float64. A budget's own limits are
judged by these measures too. None of them looks at top answers unless a budget asks for it: of a few images those flip
by chance, and of many the gate `accuracy` judges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..backends.info import Tolerance
from ..backends.infos import known_info
from .answer_statistics import softmax
from .gate import Gate

if TYPE_CHECKING:
    from .budget import NumericsLimits  # reads TOML by msgspec, which a package does not carry

Logits = npt.NDArray[np.float32]


# Chosen by docs/benchmarks/numerics.md, where random weights make the hard case.
TOLERANCES = {
    "fp32": Tolerance(1e-4, 0.99999, "the same arithmetic in another order"),
    "fp16": Tolerance(2e-2, 0.999, "10 bits of mantissa, one rounding a layer"),
    "bf16": Tolerance(1e-1, 0.99, "7 bits of mantissa, one rounding a layer"),
    "int8": Tolerance(2e-1, 0.98, "8 bits a value; whether that is good enough, accuracy says", stragglers=True),
}


# With random weights nothing pulls the logits apart, and squeeze-and-excitation amplifies rounding: top answers are
# near-ties. What passes here is only that the graph computes the same function; trained weights get the table above.
RANDOM_WEIGHTS = {
    "fp16": Tolerance(1e-1, 0.99, "random weights amplify the rounding of 10 bits"),
    "bf16": Tolerance(2.5e-1, 0.95, "random weights amplify the rounding of 7 bits"),
    "int8": Tolerance(5e-1, 0.9, "random weights amplify the rounding of 8-bit integers"),
}


@dataclass(frozen=True)
class Numerics:
    """What was measured over a number of images.

    Attributes:
        images: how many were compared.
        max_abs: the largest difference of a logit.
        spread: largest minus smallest logit of the reference.
        relative: max_abs over spread.
        cosine: of the two logit vectors, the smallest over all images.
        cosine_most: the smallest but for one image in a hundred.
        agreement: share of images with the same top answer; where the reference's first two are closer together than
            the error, either counts.
        variation: the relative error that the best constant answer would have: half the largest range of a logit over
            the images, over spread.
        relative_l2: norm of the difference over the norm of the reference, over all images.
        sqnr_db: signal to quantisation noise, 20 log10 of one over that; None where nothing differs.
        kl: of the reference's probabilities to these, in nats, the mean over the images. It measures the size of a
            change, not its direction, so nothing is judged by it.
        finite: no NaN and no infinity on either side.
    """

    images: int
    max_abs: float
    spread: float
    relative: float
    cosine: float
    cosine_most: float
    agreement: float
    variation: float
    relative_l2: float
    sqnr_db: float | None
    kl: float
    finite: bool


def _nothing(images: int, finite: bool) -> Numerics:
    """What is known where nothing could be compared."""
    return Numerics(images, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, None, 0.0, finite)


def measure_numerics(reference: Logits, got: Logits) -> Numerics:
    """Compare logits N x K. Shapes must agree; N may be 0, which is judged a failure."""
    if reference.shape != got.shape:
        raise ValueError(f"logits of shape {reference.shape} and {got.shape} cannot be compared")
    if reference.size == 0:
        return _nothing(0, finite=True)
    if not (np.isfinite(reference).all() and np.isfinite(got).all()):
        return _nothing(len(reference), finite=False)
    a, b = reference.astype(np.float64), got.astype(np.float64)
    difference = np.abs(a - b)
    max_abs, spread = float(difference.max()), float(np.ptp(a))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = np.divide((a * b).sum(1), norms, out=(difference.max(1) == 0).astype(np.float64), where=norms > 0)
    noise, signal = float(np.linalg.norm(difference)), float(np.linalg.norm(a))
    before, after = softmax(reference), softmax(got)
    tiny = np.finfo(np.float64).tiny
    kl = (before * (np.log(np.maximum(before, tiny)) - np.log(np.maximum(after, tiny)))).sum(1)
    rows = np.arange(len(a))
    # b's answer is as good as a's own when a itself puts it within twice the row's error of its best
    margin = a.max(1) - a[rows, b.argmax(1)]
    same = (a.argmax(1) == b.argmax(1)) | (margin <= np.minimum(2 * difference.max(1), 2e-4 * spread))
    return Numerics(
        images=len(a),
        max_abs=max_abs,
        spread=spread,
        relative=max_abs / spread if spread > 0 else float(max_abs > 0),
        cosine=float(cosines.min()),
        cosine_most=float(np.sort(cosines)[len(cosines) // 100]),
        agreement=float(same.mean()),
        variation=float(np.ptp(a, axis=0).max()) / 2 / spread if spread > 0 else 0.0,
        relative_l2=noise / signal if signal > 0 else float(noise > 0),
        sqnr_db=20 * math.log10(signal / noise) if noise > 0 and signal > 0 else None,
        kl=max(0.0, float(kl.mean())),
        finite=True,
    )


def tolerance_of(
    precision: str, *, backend: str = "", trained: bool = True, limits: NumericsLimits | None = None
) -> Tolerance:
    """The row of the tables that an artifact is judged by, with what a budget says instead.

    Random weights have rows of their own; a backend has where its arithmetic differs.
    """
    info = known_info(backend)
    found = info.tolerances.get(precision, TOLERANCES[precision]) if info is not None else TOLERANCES[precision]
    if not trained:
        found = RANDOM_WEIGHTS.get(precision, found)
    asked: dict[str, Any] = {one.name: getattr(limits, one.name) for one in fields(limits)} if limits else {}
    asked = {name: value for name, value in asked.items() if value is not None}
    if not asked:
        return found
    return replace(found, **asked, reason=f"the budget: {', '.join(asked)}; else {found.reason}")


def judge_numerics(
    measured: Numerics,
    precision: str,
    what: str = "images",
    *,
    trained: bool = True,
    backend: str = "",
    limits: NumericsLimits | None = None,
) -> Gate:
    """Judge a measurement by the table.

    Fails when nothing was compared, on NaN, and beyond the tolerance. Inconclusive when the reference itself gives
    (almost) the same answer to every image: then an artifact that ignores its input would pass too.
    """
    limit = tolerance_of(precision, backend=backend, trained=trained, limits=limits)
    numbers = {
        **{key: value for key, value in vars(measured).items() if key != "finite"},
        "tolerance": limit.relative,
        "tolerance_reason": limit.reason,
    }
    if measured.images == 0:
        return Gate("numerics", "fail", f"nothing was compared: no {what}", numbers)
    if not measured.finite:
        return Gate("numerics", "fail", f"NaN or infinity in the logits of {measured.images} {what}", numbers)
    problems = beyond(measured, limit)
    if problems:
        return Gate("numerics", "fail", f"{'; '.join(problems)}, over {measured.images} {what}", numbers)
    if measured.images == 1 or measured.variation <= limit.relative:
        reason = (
            "one image cannot show that the answer depends on it"
            if measured.images == 1
            else f"the reference hardly tells the {measured.images} {what} apart (variation {measured.variation:.2g})"
        )
        return Gate("numerics", "inconclusive", reason, numbers)
    reason = f"relative error {measured.relative:.2g} <= {limit.relative:g}, over {measured.images} {what}"
    return Gate("numerics", "pass", reason, numbers)


def beyond(measured: Numerics, limit: Tolerance) -> list[str]:
    """Which limits are not kept, in words."""
    cosine = measured.cosine_most if limit.stragglers else measured.cosine
    return [
        f"{name} {value:.3g} {sign} {bound:g}"
        for name, value, sign, bound, bad in (
            ("relative error", measured.relative, ">", limit.relative, measured.relative > limit.relative),
            ("cosine", cosine, "<", limit.cosine, cosine < limit.cosine),
            ("top-1 agreement", measured.agreement, "<", limit.agreement, measured.agreement < limit.agreement),
        )
        if bad
    ]


def judge_asked(measured: Numerics, limits: NumericsLimits, what: str) -> Gate | None:
    """A failure where a limit that a budget asks for is not kept; None where all are, or none was asked for."""
    asked = Tolerance(
        math.inf if limits.relative is None else limits.relative,
        -1.0 if limits.cosine is None else limits.cosine,
        "the budget",
        0.0 if limits.agreement is None else limits.agreement,
    )
    problems = beyond(measured, asked) if measured.finite and measured.images else []
    if not problems:
        return None
    reason = f"{'; '.join(problems)}, over {measured.images} {what}; the budget asks for it"
    return Gate("numerics", "fail", reason, {key: value for key, value in vars(measured).items() if key != "finite"})
