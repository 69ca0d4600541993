"""Gate `precision`: did the layers run in the precision that the artifact's plan says?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..artifact.manifest import Layer, Receipt
from ..backends.infos import known_info
from .budget import PrecisionLimits
from .gate import Gate

AS_PLANNED = 0.9  # of the MACs planned at a precision must have run at it
INTEGER = 0.5  # of the MACs of an int8 export must have run in int8


def judge_precision(
    backend: str, precision: str, receipt: Receipt, plan: Sequence[Layer] = (), limits: PrecisionLimits | None = None
) -> Gate:
    """Judge a receipt against the plan; a budget may ask for more or less than the usual shares.

    Where the runtime tells what each planned layer ran at: fails when less than 0.9 of the MACs planned at a precision
    ran at it, and when an int8 export ran less than half of its MACs in int8. Where it only counts layers: passes when
    all ran in the one precision. Skipped where the runtime emulates a precision.
    """
    ran = ", ".join(f"{name} x{count}" for name, count in receipt.layers.items()) or "nothing"
    numbers: dict[str, Any] = {"planned": precision, "layers": receipt.layers}
    for name in ("higher", "reformats", "tf32"):
        if getattr(receipt, name) not in (None, ()):
            numbers[name] = getattr(receipt, name)
    info = known_info(backend)
    instead = info.emulates.get(precision) if info is not None and receipt.device == "cpu" else None
    if instead is not None and set(receipt.layers) == {instead}:
        reason = f"emulated: {receipt.provider} computes this {precision} graph in {instead} ({ran})"
        return Gate("precision", "skipped", reason, numbers)
    everything = set(receipt.layers) == {precision} and sum(receipt.layers.values()) >= len(plan)
    if receipt.ran and plan and not everything:
        return _by_macs(precision, receipt, plan, numbers, ran, limits or PrecisionLimits())
    if everything:
        return Gate("precision", "pass", f"every compute layer ran in {precision} ({ran})", numbers)
    return Gate("precision", "fail", f"planned {precision}, ran {ran}", numbers)


def integer_share(receipt: Receipt, plan: Sequence[Layer]) -> float | None:
    """The share of a plan's MACs that ran in int8; None where the runtime does not tell, or the plan has no MACs."""
    total = sum(layer.macs for layer in plan)
    if not receipt.ran or not total:
        return None
    return sum(layer.macs for layer in plan if receipt.ran.get(layer.name) == "int8") / total


def _by_macs(
    precision: str,
    receipt: Receipt,
    plan: Sequence[Layer],
    numbers: dict[str, Any],
    ran: str,
    limits: PrecisionLimits,
) -> Gate:
    as_planned = AS_PLANNED if limits.as_planned is None else limits.as_planned
    least = INTEGER if limits.integer is None else limits.integer
    names = [layer.name for layer in plan]
    if len(set(names)) < len(names):
        return Gate("precision", "fail", f"names of the plan's layers are not unique ({ran})", numbers)
    weigh = all(layer.macs for layer in plan)  # where shapes are missing every layer counts the same
    weight = {layer.name: layer.macs if weigh else 1 for layer in plan}
    shares: dict[str, float] = {}
    for wanted in dict.fromkeys(layer.precision for layer in plan):
        planned = [layer.name for layer in plan if layer.precision == wanted]
        total = sum(weight[name] for name in planned)
        kept = sum(weight[name] for name in planned if receipt.ran.get(name) == wanted)
        shares[wanted] = kept / total if total else 1.0
    everything = sum(weight.values())
    integer = sum(weight[name] for name, found in receipt.ran.items() if found == "int8" and name in weight)
    numbers["as_planned"] = shares
    numbers["int8_share"] = integer / everything if everything else 0.0
    told = ", ".join(f"{share:.0%} of the MACs planned in {name}" for name, share in shares.items())
    missing = [layer.name for layer in plan if receipt.ran.get(layer.name) != layer.precision]
    named = f"; not as planned: {', '.join(missing[:5])}{' and more' if len(missing) > 5 else ''}" if missing else ""
    if any(share < as_planned for share in shares.values()):
        return Gate("precision", "fail", f"only {told} ran so, at least {as_planned:.0%} must ({ran}){named}", numbers)
    if precision == "int8" and numbers["int8_share"] < least:
        reason = f"{numbers['int8_share']:.0%} of the MACs ran in int8, at least {least:.0%} must ({ran})"
        return Gate("precision", "fail", reason, numbers)
    if precision not in shares:
        return Gate("precision", "fail", f"the plan holds no layer in {precision} ({ran})", numbers)
    return Gate("precision", "pass", f"{told} ran so ({ran}){named}", numbers)
