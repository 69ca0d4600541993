"""Sensitivity: what each layer costs in int8, by itself and as a part of the whole.

Two views, for neither tells all: one layer in integers and the rest float shows the layer's own noise; one layer float
and the rest in integers shows what giving it back would bring. Noise is told as SQNR and as the Kullback-Leibler
divergence of the softmax, both of the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]
MOST_DB = 200.0  # what identical logits are said to have


@dataclass(frozen=True)
class Effect:
    """How far logits are from the float model's.

    Attributes:
        sqnr: signal to quantisation noise, 10 log10 of the power of the logits over that of the difference, in dB.
        kl: the mean over images of sum p log(p / q), p the float model's softmax and q the other's, in nats.
    """

    sqnr: float
    kl: float


@dataclass(frozen=True)
class Cost:
    """What int8 does to one layer.

    Attributes:
        name: of the layer.
        op: its operator.
        macs: for one image.
        alone: the effect when it is the only layer in integers.
        without: the effect when it is the only layer that stays float.
        brought: how much KL falls when it is given back to float, in nats; below zero when it rises.
        saved: microseconds that int8 saves on it, its own Q/DQ counted; None where the target was not timed.
    """

    name: str
    op: str
    macs: int
    alone: Effect
    without: Effect
    brought: float
    saved: float | None = None

    def as_mapping(self) -> dict[str, Any]:
        """As --json and artifact.json show it."""
        return {
            "layer": self.name, "op": self.op, "macs": self.macs, "alone": vars(self.alone),
            "without": vars(self.without), "brought_kl": self.brought, "saved_us": self.saved,
        }  # fmt: skip


def effect(reference: Logits, got: Logits) -> Effect:
    """Compare logits N x K. Raises ValueError for shapes that differ or no images."""
    if reference.shape != got.shape or not len(reference):
        raise ValueError(f"logits of shapes {reference.shape} and {got.shape}")
    true, other = reference.astype(np.float64), got.astype(np.float64)
    noise, power = float(((true - other) ** 2).sum()), float((true**2).sum())
    floor = power * 10 ** (-MOST_DB / 10)
    sqnr = MOST_DB if noise <= floor else 10 * float(np.log10(max(power, np.finfo(float).tiny) / noise))
    log_p, log_q = _log_softmax(true), _log_softmax(other)
    return Effect(sqnr, float((np.exp(log_p) * (log_p - log_q)).sum(1).mean()))


def measure(
    layers: Sequence[tuple[str, str, int]],
    run: Callable[[frozenset[str]], Logits],
    reference: Logits,
    saved: Mapping[str, float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Effect, tuple[Cost, ...]]:
    """All in int8, then each layer alone and each layer left out: 2 L + 1 runs.

    Args:
        layers: name, operator and MACs of those that can be int8.
        run: logits of the model with these layers left float.
        reference: the float model's logits of the same images.
        saved: microseconds by layer, where the target was timed.
        progress: is told runs done, runs in all.

    Returns:
        The effect of int8 everywhere, and the layers, the one that float brings most first.
    """
    told = progress or (lambda _done, _all: None)
    names = frozenset(name for name, _, _ in layers)
    total = 2 * len(layers) + 1
    whole = effect(reference, run(frozenset()))
    told(1, total)
    found: list[Cost] = []
    for index, (name, op, macs) in enumerate(layers):
        alone = effect(reference, run(names - {name}))
        told(2 * index + 2, total)
        without = effect(reference, run(frozenset({name})))
        told(2 * index + 3, total)
        found.append(Cost(name, op, macs, alone, without, whole.kl - without.kl, (saved or {}).get(name)))
    return whole, tuple(sorted(found, key=lambda one: -one.brought))


def give_back_order(costs: Iterable[Cost]) -> tuple[str, ...]:
    """Layers that float helps, by divergence saved per microsecond lost; those that int8 does not even speed up first.

    Where the target was not timed, MACs stand in for microseconds.
    """
    helped = [one for one in costs if one.brought > 0]

    def worth(one: Cost) -> tuple[bool, float]:
        price = one.macs if one.saved is None else one.saved
        return (price > 0, -one.brought / price if price > 0 else -one.brought)

    return tuple(one.name for one in sorted(helped, key=worth))


def _log_softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
