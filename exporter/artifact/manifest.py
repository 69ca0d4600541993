"""What artifact.json holds: the manifest of an artifact, and the records in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ...errors import UsageError
from ...models.runs import Origin, Reached
from ...models.spec import ModelSpec

FORMAT = 2
WITHOUT_TRUTH = 1  # the format whose golden images hold the source's float32 answers alone
MAX_BATCH = 65_536
Precision = Literal["fp32", "fp16", "bf16", "int8"]


@dataclass(frozen=True)
class Batch:
    """How many images an artifact takes at once: from `min` to `max`, tuned for `opt` where a runtime is tuned."""

    min: int = 1
    opt: int = 1
    max: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max <= MAX_BATCH:
            raise UsageError(
                f"batch sizes must be 1 <= smallest <= usual <= largest <= {MAX_BATCH}, got {self}",
                fix="for example --batch 1:8:32",
            )

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"

    @classmethod
    def parse(cls, text: str) -> Batch:
        """`1:8:32`, or only the largest: `32` is 1:8:32 too, `4` is 1:4:4. Raises UsageError."""
        parts = text.split(":")
        if not all(part.isascii() and part.isdigit() and len(part) < 9 for part in parts) or len(parts) not in (1, 3):
            raise UsageError(f"--batch {text} is not SMALLEST:USUAL:LARGEST", fix="for example --batch 1:8:32")
        numbers = [int(part) for part in parts]
        return cls(*numbers) if len(numbers) == 3 else cls(1, max(1, min(8, numbers[0])), numbers[0])


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix product of an exported graph, and what it is meant to run at.

    Attributes:
        name: of the node.
        op: its operator.
        precision: what its operands' types make it compute in.
        macs: multiply-accumulates for one image; 0 where the shapes are not known.
        reason: why this precision, where it was chosen for this layer alone.
    """

    name: str
    op: str
    precision: str
    macs: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Platform:
    """Where an engine was built; it runs on no other unless it was built to.

    Attributes:
        runtime: the builder's version, such as 10.13.0.35.
        gpu: the device's name.
        compute_capability: such as 8.7.
        driver: its version, as far as it can be told.
        system: operating system and architecture, such as Linux aarch64.
        seconds: how long the build took.
    """

    runtime: str
    gpu: str
    compute_capability: str
    driver: str
    system: str
    seconds: float = 0.0


@dataclass(frozen=True)
class FileRecord:
    """One file of the folder, by its content."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Receipt:
    """What really runs, read from the runtime.

    Attributes:
        runtime: name and version.
        device: cpu or cuda.
        provider: who executes, as the runtime calls it.
        layers: number of compute layers (convolutions, matrix products) by the precision they run in.
        ran: the precision of each layer of the plan by its name, where the runtime tells; one it does not tell of is
            missing, and counts as not run as planned.
        higher: layers that ran in more bits than planned.
        reformats: layers that only change a tensor's layout or type, where the runtime tells.
        tf32: whether fp32 arithmetic was allowed to drop to TF32's 10 bits of mantissa, where there is that choice.
    """

    runtime: str
    device: str
    provider: str
    layers: dict[str, int]
    ran: dict[str, str] = field(default_factory=dict)
    higher: tuple[str, ...] = ()
    reformats: int | None = None
    tf32: bool | None = None


@dataclass(frozen=True)
class Manifest:
    """The content of artifact.json.

    Attributes:
        backend: whose format the model is in.
        precision: of the exported graph.
        model: the model's file in the folder.
        spec: name, input, preprocessing, labels.
        origin: how the reference module is built again.
        weights: which weights were taken, in words.
        weights_sha256: over the reference's names, types, shapes and bytes.
        meaningful: False for random weights, of which no accuracy is judged.
        created: UTC.
        reached: the accuracy that training measured.
        options: what the export was asked for.
        batch: sizes it takes; None for any.
        pixels: whether the model normalises by itself: its input is uint8 N x H x W x C, the pixels after the crop in
            the order of a decoded image; else float32 N x C x H x W, normalised.
        plan: what each compute layer is meant to run at, where the format tells.
        built: False while the device still has to make `model` of the other files (`zoo build`).
        platform: where `model` was built, if it fits only there.
        receipt: what ran when the golden images were tried at export; None where this machine cannot run it.
        tools: versions.
        notes: what a person should know.
        files: every other file of the folder.
    """

    backend: str
    precision: Precision
    model: str
    spec: ModelSpec
    origin: Origin
    weights: str
    weights_sha256: str
    meaningful: bool
    created: str
    reached: Reached | None = None
    options: dict[str, Any] = field(default_factory=dict)
    batch: Batch | None = None
    pixels: bool = False
    plan: tuple[Layer, ...] = ()
    built: bool = True
    platform: Platform | None = None
    receipt: Receipt | None = None
    tools: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    files: dict[str, FileRecord] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def form(self) -> str:
        """Which of a model's artifacts it is, such as onnx-int8; the last part of its folder's name."""
        return form_of(self.backend, self.precision, self.pixels)

    def __post_init__(self) -> None:
        if not self.meaningful and not self.weights.startswith("random"):
            raise ValueError(f"meaningful is false, which is of random weights, and the weights are {self.weights!r}")


def form_of(backend: str, precision: str, pixels: bool) -> str:
    """onnx-int8, or onnx-int8-pixels where the graph holds the preprocessing."""
    return f"{backend}-{precision}{'-pixels' if pixels else ''}"
