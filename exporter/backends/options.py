"""What a backend is asked for and what it answers: options, availability, and what an export wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...calibration.choice import Choice
from ..artifact.manifest import Batch, Layer, Platform, Precision

if TYPE_CHECKING:
    from ...calibration.choice import Calibrated


Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Available:
    """The backend works here, in this version, on these devices."""

    version: str
    devices: tuple[str, ...]  # the fastest last


@dataclass(frozen=True)
class Unavailable:
    """The backend does not work here; why, and how to get it."""

    reason: str
    remedy: str


@dataclass(frozen=True)
class ExportOptions:
    """What an export is asked for.

    Attributes:
        precision: of the graph.
        batch: sizes the artifact takes; None for what suits the backend.
        build_later: leave to `zoo build` on the device what only the device can do.
        graph: an ONNX graph of this model that is exported instead of one written here, such as one with Q/DQ.
        settings: a backend's own options, by its name.
        with_preprocess: put what follows the crop into the graph: it takes uint8 pixels and normalises them itself.
        calibrated: for int8, the float graph and the ranges of its tensors; a graph that the user brings needs none.
        choice: for int8, how ranges are chosen, what is corrected, and which layers stay float.
        record: for int8, how the choice was made; kept in artifact.json.
    """

    precision: Precision = "fp32"
    batch: Batch | None = None
    build_later: bool = False
    graph: Path | None = None
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    with_preprocess: bool = False
    calibrated: Calibrated | None = None
    choice: Choice = field(default_factory=Choice)
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """What a backend's `_export` or `_build` made: its file in the folder, and what the manifest says of it."""

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    batch: Batch | None = None
    plan: tuple[Layer, ...] = ()
    built: bool = True
    platform: Platform | None = None
