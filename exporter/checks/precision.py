"""Gate `precision`: did the layers run in the precision that the artifact says?"""

from __future__ import annotations

from ..artifact import Receipt
from .gate import Gate

EMULATED_BY = ("onnx",)  # ONNX Runtime's CPU computes an fp16 graph in fp32; torch runs the types of the graph


def judge_precision(backend: str, precision: str, receipt: Receipt) -> Gate:
    """Judge a receipt: pass when every compute layer ran as planned, skipped where the runtime emulates, else fail."""
    numbers = {"planned": precision, "layers": receipt.layers}
    ran = ", ".join(f"{name} x{count}" for name, count in receipt.layers.items()) or "nothing"
    if set(receipt.layers) == {precision}:
        return Gate("precision", "pass", f"every compute layer ran in {precision} ({ran})", numbers)
    emulated = backend in EMULATED_BY and precision in ("fp16", "bf16") and set(receipt.layers) == {"fp32"}
    if emulated and receipt.device == "cpu":
        reason = f"emulated: {receipt.provider} computes this {precision} graph in fp32 ({ran})"
        return Gate("precision", "skipped", reason, numbers)
    return Gate("precision", "fail", f"planned {precision}, ran {ran}", numbers)
