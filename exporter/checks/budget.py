"""The limits that a user commits: budget.toml, by backend and precision, every one of them optional.

    [default.accuracy]
    max_drop = 0.005            # of top-1, as a share of the images
    [onnx-int8.latency]
    max_p99_ms = 20

A table's name is `default`, a precision, a backend, or both as in `onnx-int8`; the later in this order wins, key by
key. What no table says has the default of its gate. A `latency` table anywhere asks for the gate latency.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args

from ...config import from_mapping, near, read_toml
from ...errors import UsageError
from ..artifact.manifest import Precision
from ..backends.infos import backend_names

DEFAULT = "default"


@dataclass(frozen=True)
class NumericsLimits:
    """Of the gate numerics; None for what its table says.

    Attributes:
        relative: the largest difference of a logit over the spread of the reference's logits.
        cosine: the smallest cosine of the two logit vectors of an image.
        agreement: the smallest share of images with the same top answer.
    """

    relative: float | None = None
    cosine: float | None = None
    agreement: float | None = None

    def __post_init__(self) -> None:
        _within(self, relative=(0, math.inf), cosine=(-1, 1), agreement=(0, 1))


@dataclass(frozen=True)
class AccuracyLimits:
    """Of the gate accuracy, as shares.

    Attributes:
        max_drop: the largest drop of top-1, which has to be shown.
        min_top1: the smallest top-1 on these images.
        max_class_drop: the largest drop of the recall of a class.
    """

    max_drop: float | None = None
    min_top1: float | None = None
    max_class_drop: float | None = None

    def __post_init__(self) -> None:
        _within(self, max_drop=(0, 1), min_top1=(0, 1), max_class_drop=(0, 1))


@dataclass(frozen=True)
class ConsistencyLimits:
    """Of the gate consistency.

    Attributes:
        relative: the largest difference over the spread of the logits, where the runtime does not promise equal bits.
    """

    relative: float | None = None

    def __post_init__(self) -> None:
        _within(self, relative=(0, math.inf))


@dataclass(frozen=True)
class LatencyLimits:
    """Of the gate latency; of runs of one image, or of the smallest batch that the artifact takes.

    Attributes:
        margin: how much slower than the reference still is "not slower": 0.03 is 3 %.
        max_p50_ms, max_p90_ms, max_p95_ms, max_p99_ms: of a run; one with too few samples is inconclusive.
        max_load_ms: from the file to ready.
        max_first_ms: of the first run.
        max_peak_memory_mb: of the process.
    """

    margin: float | None = None
    max_p50_ms: float | None = None
    max_p90_ms: float | None = None
    max_p95_ms: float | None = None
    max_p99_ms: float | None = None
    max_load_ms: float | None = None
    max_first_ms: float | None = None
    max_peak_memory_mb: float | None = None

    def __post_init__(self) -> None:
        _within(self, **{one.name: (0, math.inf) for one in fields(self)})


@dataclass(frozen=True)
class PrecisionLimits:
    """Of the gate precision, as shares of the MACs.

    Attributes:
        as_planned: of those planned at a precision, how many must have run at it.
        integer: of an int8 export's, how many must have run in int8.
    """

    as_planned: float | None = None
    integer: float | None = None

    def __post_init__(self) -> None:
        _within(self, as_planned=(0, 1), integer=(0, 1))


@dataclass(frozen=True)
class Limits:
    """What one artifact is held to, a table a gate."""

    numerics: NumericsLimits = field(default_factory=NumericsLimits)
    accuracy: AccuracyLimits = field(default_factory=AccuracyLimits)
    consistency: ConsistencyLimits = field(default_factory=ConsistencyLimits)
    latency: LatencyLimits = field(default_factory=LatencyLimits)
    precision: PrecisionLimits = field(default_factory=PrecisionLimits)


@dataclass(frozen=True)
class Budget:
    """Limits by table name.

    Attributes:
        tables: `default`, precisions, backends, and both, to what they say.
        latency: whether any of them asks for the gate latency.
    """

    tables: Mapping[str, Limits] = field(default_factory=dict)
    latency: bool = False

    def limits(self, backend: str, precision: str) -> Limits:
        """What an artifact is held to: the more special table wins, key by key."""
        found = Limits()
        for name in (DEFAULT, precision, backend, f"{backend}-{precision}"):
            if name in self.tables:
                found = _over(found, self.tables[name])
        return found


def read_budget(path: Path) -> Budget:
    """Read a budget file. Raises UsageError that names the file and the key's path."""
    data = read_toml(path)
    known = table_names()
    tables: dict[str, Limits] = {}
    for name, content in data.items():
        if name not in known:
            raise UsageError(
                f"{path}: unknown table [{name}]{near(name, known)}",
                fix="known: default, a precision, a backend, or both as in [onnx-int8]",
            )
        if not isinstance(content, dict):
            raise UsageError(f"{path}: `{name}` is no table", fix=f"for example [{name}.accuracy]")
        tables[name] = from_mapping(Limits, content, f"{path}: [{name}]")
    return Budget(tables, latency=any("latency" in content for content in data.values()))


def table_names() -> Collection[str]:
    """The names that a table can have."""
    backends, precisions = backend_names(), get_args(Precision)
    both = [f"{backend}-{precision}" for backend in backends for precision in precisions]
    return [DEFAULT, *precisions, *backends, *both]


def _over(under: Any, over: Any) -> Any:
    """Dataclasses of the same kind, `over` winning wherever it says something."""
    changed: dict[str, Any] = {}
    for one in fields(under):
        mine, others = getattr(under, one.name), getattr(over, one.name)
        if isinstance(mine, float | None):
            changed[one.name] = mine if others is None else others
        else:
            changed[one.name] = _over(mine, others)
    return replace(under, **changed)


def _within(limits: Any, **ranges: tuple[float, float]) -> None:
    for name, (low, high) in ranges.items():
        value = getattr(limits, name)
        if value is not None and not (low <= value <= high and math.isfinite(value)):
            raise ValueError(f"`{name}` is {value}, it must be between {low:g} and {high:g}")
