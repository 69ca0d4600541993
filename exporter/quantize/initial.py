"""Where an int8 export starts: the cheapest way that suits the CPU and what training learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...calibration.choice import Choice
from ..backends.infos import backend_info
from ..timing.machine import cpu_flags

if TYPE_CHECKING:
    from ...models.runs import Learned


def starting_choice(backend: str, learned: Learned | None, bits: int | None) -> tuple[Choice, tuple[str, ...]]:
    """The cheapest way: what training with fake quantisation learned for this target, else min-max; and notes."""
    suits = suitable_bits(backend, cpu_flags())
    if learned is None:
        return Choice(weight_bits=bits or suits), ()
    if learned.target != backend:
        note = f"trained with fake quantisation for {learned.target}: ranges for {backend} are calibrated"
        return Choice(weight_bits=bits or suits), (note,)
    bits = bits or learned.bits
    more = () if bits == learned.bits else (f"trained for {learned.bits}-bit weights, exported with {bits}",)
    if bits > suits:
        more = (*more, f"{bits}-bit weights, as trained: on this CPU, which has no VNNI, sums of products may saturate")
    return Choice("learned", weight_bits=bits), more


def suitable_bits(backend: str, flags: frozenset[str]) -> int:
    """7-bit weights where a runtime's kernels would add pairs of products in 16 bits: x86 without VNNI or AMX."""
    rules = backend_info(backend).int8
    vnni = flags & {"avx512_vnni", "avx_vnni", "amx_int8"}
    return 7 if rules is not None and rules.pairs_saturate and "sse2" in flags and not vnni else 8
