"""The yardstick of an artifact: its source computed in torch at the artifact's own precision, on the golden images.

How far it is from the float64 truth is what that precision does to this network. For int8 it is the calibrated module
with its numbers rounded as the plan says (calibration/simulate.py), never what is read from the exported file: a wrong
scale would then agree with itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...errors import UsageError
from ..artifact.folder import Golden
from ..artifact.manifest import Precision
from ..backends.infos import rules_of
from .faithful import RULES, measure_distances

if TYPE_CHECKING:
    from ...calibration.choice import Calibrated, Choice
    from ...models.preprocess import Batch
    from ...models.sources import Model

HOW = {
    "fp32": "the source in float32",
    "fp16": "the source in float16, each operation rounded once",
    "bf16": "the source in bfloat16, each operation rounded once",
    "int8": "the calibrated source with the plan's rounding",
}


def with_yardstick(
    golden: Golden,
    model: Model,
    precision: Precision,
    *,
    target: str = "",
    calibrated: Calibrated | None = None,
    choice: Choice | None = None,
) -> Golden:
    """The golden answers with the yardstick of a precision, or the reason why there is none.

    Args:
        golden: images, the source's answers and the truth.
        model: the source.
        precision: of the artifact.
        target: for int8, whose rules round.
        calibrated: for int8, graph and ranges; None for a graph that the user brings.
        choice: for int8, the plan.
    """
    if golden.truth is None:
        return golden
    if precision == "fp32":
        return replace(golden, yardstick=golden.logits, computed=HOW["fp32"])
    batch = model.prepared(golden.images)
    jitter, layers = 0.0, 0
    try:
        if precision == "int8":
            made, again, layers = _rounded(batch, target, calibrated, choice)
            jitter = jitter_of(golden.truth, made, again)
        else:
            from ...models.arithmetic import logits_in

            made = logits_in(model.module, batch, precision).astype(np.float32)
    except UsageError as error:
        return replace(golden, computed=f"no yardstick: {error.what}")
    if not np.isfinite(made).all():
        return replace(golden, computed=f"no yardstick: {HOW[precision]} gives NaN or infinity")
    return replace(golden, yardstick=made, computed=HOW[precision], jitter=jitter, rounded=layers)


def jitter_of(truth: npt.NDArray[Any], made: npt.NDArray[Any], again: npt.NDArray[Any]) -> float:
    """How far two computations of a yardstick are apart, in the first one's distances to the truth; the median."""
    if not (np.isfinite(made).all() and np.isfinite(again).all()):
        return 0.0
    return measure_distances(truth, made, again).moved(RULES["int8"].floor)


def _rounded(
    batch: Batch, target: str, calibrated: Calibrated | None, choice: Choice | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64], int]:
    from ...calibration.simulate import simulate

    if calibrated is None or choice is None:
        raise UsageError("the plan of a graph that was brought is not known")
    made = simulate(calibrated, choice, rules_of(target), batch)
    return made.logits.astype(np.float32), made.blurred, len(made.layers)
