"""What a step can do: one class a kind, its fields the keys of its table, which are the options of zoo's commands.

`docs/pipeline.md` is made of these classes, and a test holds every flag against the command it is given to.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar, Literal

from ..backends.infos import builds

Many = str | tuple[str, ...]
Values = dict[str, Any]

NUMBER = Literal["fp32", "fp16", "bf16", "int8"]


def key(help: str, default: Any = None, *, flag: str | None = "", file: bool = False) -> Any:  # noqa: A002 - the word of every command-line library
    """A key of a step's table.

    Args:
        help: what it is, for the reference.
        default: None where the command's own is taken.
        flag: of the command; "" for the key's name, None where it becomes something else.
        file: it names a file or folder that the step's result depends on.
    """
    about = {"help": help, "flag": flag, "file": file}
    if isinstance(default, (dict, list)):
        return field(default_factory=type(default), metadata=about)
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class Kind:
    """What all kinds share.

    Class attributes:
        command: of zoo; "" where nothing runs.
        takes: what it can be given by `from`: models, artifacts, packages; empty for what begins a pipeline.
        gives: what it hands on.
        matrix: keys that may be lists, of which every combination is a step of its own.
    """

    command: ClassVar[str] = ""
    takes: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[str] = ""
    matrix: ClassVar[tuple[str, ...]] = ()

    @property
    def measures(self) -> bool:
        """Whether it times something on this machine, and so has to be alone on it."""
        return False


@dataclass(frozen=True)
class Source(Kind):
    """A model that is there: its weights are taken as they are. Nothing runs."""

    gives: ClassVar[str] = "model"
    matrix: ClassVar[tuple[str, ...]] = ("source",)

    source: Many = key("A name of `zoo list models`, a run folder, torchvision:NAME, timm:NAME or module:factory.", ())
    weights: str | None = key("A run, a file, imagenet or random.", file=True)
    input: str | None = key("CxHxW of a model that does not bring it.")
    spec: str | None = key("spec.toml of your own model.", file=True)
    labels: str | None = key("Class names: a text file with one on each line, or a,b,c.", file=True)


@dataclass(frozen=True)
class Train(Kind):
    """Train a model, or with `from` go on with one: fine-tuning, and with `qat` training with fake quantisation."""

    command: ClassVar[str] = "train"
    takes: ClassVar[tuple[str, ...]] = ("model",)
    gives: ClassVar[str] = "model"
    matrix: ClassVar[tuple[str, ...]] = ("source",)

    source: Many = key("What is trained, where there is no `from`.", ())
    data: str | None = key("What it is trained and judged on.", file=True)
    epochs: int | None = key("Passes over the data.")
    recipe: str | None = key("A name of `zoo list recipes` or a TOML file.", file=True)
    set: Values = key("Values of the recipe, such as {lr = 0.05}.", {})
    weights: str | None = key("A run, a file, or imagenet to start from.", file=True)
    input: str | None = key("CxHxW; else what suits the data.")
    spec: str | None = key("spec.toml of your own model.", file=True)
    labels: str | None = key("Class names: a text file with one on each line, or a,b,c.", file=True)
    stem: Literal["paper", "small"] | None = key("Else small up to 64 pixels.")
    freeze: str | None = key("The last module that stays as the weights have it.")
    qat: str | None = key("Train with fake quantisation for this target.", flag=None)


@dataclass(frozen=True)
class Prune(Kind):
    """Take channels or weights away, and recover."""

    command: ClassVar[str] = "prune"
    takes: ClassVar[tuple[str, ...]] = ("model",)
    gives: ClassVar[str] = "model"

    data: str | None = key("The data it was trained on.", file=True)
    macs: float | None = key("Share of the multiply-accumulates to keep.")
    latency: float | None = key("Instead of macs: share of the measured latency to keep.")
    target: str | None = key("The target whose runtime is timed.", flag="--for")
    criterion: str | None = key("Which channels are removed first.")
    spread: str | None = key("global, uniform or sensitivity.")
    pattern: str | None = key("2:4 or unstructured.")
    sparsity: float | None = key("With unstructured: share of zeros.")
    max_drop: float | None = key("Points of top-1 that pruning may lose.")
    steps: int | None = key("Steps in which channels are removed.")
    epochs: int | None = key("Epochs of the recovery.")
    recipe: str | None = key("Recipe of the recovery.", file=True)
    set: Values = key("Values of the recovery's recipe.", {})
    timed: bool = key("Measure the latency before and after.", True)
    beside: bool = key("Train the same architecture at a smaller width too.", True)

    @property
    def measures(self) -> bool:
        """Latencies before and after, and the layers' for `latency`."""
        return self.timed or self.latency is not None


@dataclass(frozen=True)
class Calibrate(Kind):
    """Collect activation ranges, which later int8 exports of the same model and data find in zoo's cache."""

    command: ClassVar[str] = "calibrate"
    takes: ClassVar[tuple[str, ...]] = ("model",)
    gives: ClassVar[str] = "model"

    data: str | None = key("Its training images are run through the model.", file=True)
    images: int | None = key("How many images.")
    method: str | None = key("minmax, moving_average, percentile, mse or entropy.")


@dataclass(frozen=True)
class Export(Kind):
    """Write artifacts. For trt the graph is written anywhere, and its plan built where TensorRT is, as a step."""

    command: ClassVar[str] = "export"
    takes: ClassVar[tuple[str, ...]] = ("model",)
    gives: ClassVar[str] = "artifact"
    matrix: ClassVar[tuple[str, ...]] = ("to", "precision", "accelerator")

    to: Many = key("Backends: torchscript, onnx, trt.", ())
    precision: NUMBER | tuple[NUMBER, ...] = key("fp32, fp16, bf16, int8.", "fp32", flag=None)
    data: str | None = key("Golden images and calibration images are taken from it.", file=True)
    images: int | None = key("How many int8 calibrates with.")
    max_drop: float | None = key("Points of top-1 that int8 may lose.")
    never_slower: bool = key("Keep in float the layers that make int8 slower here, by measuring.", True)
    with_preprocess: bool = key("Artifacts take uint8 pixels and normalise them themselves.", False)
    batch: str | None = key("Batch sizes SMALLEST:USUAL:LARGEST.")
    set: Values = key('Backends\' own options, such as {"trt.optimization_level" = 5}.', {})
    accelerator: Many = key("GPU types that trt plans are built for, each on a machine of the Ray cluster that has it.",
                            (), flag=None)  # fmt: skip

    def _timed_here(self) -> bool:
        """Whether its int8 is timed where it is exported, not on a device that builds it later."""
        return not builds(str(self.to))

    @property
    def measures(self) -> bool:
        """int8 is held against float, and layers against their cost."""
        return self.precision == "int8" and (self.never_slower or self.max_drop is not None) and self._timed_here()


@dataclass(frozen=True)
class Build(Kind):
    """Build the TensorRT plan of an exported graph; `do = "export"` adds this by itself."""

    command: ClassVar[str] = "build"
    takes: ClassVar[tuple[str, ...]] = ("artifact",)
    gives: ClassVar[str] = "artifact"


@dataclass(frozen=True)
class Check(Kind):
    """Judge artifacts against their reference; hands on those of which no gate failed and none was inconclusive."""

    command: ClassVar[str] = "check"
    takes: ClassVar[tuple[str, ...]] = ("artifact",)
    gives: ClassVar[str] = "artifact"

    data: str | None = key("Labelled data.", file=True)
    limit: int | None = key("Use only the first N images.")
    budget: str | None = key("TOML file with limits.", file=True)
    latency: bool = key("Judge the latency too.", False)
    rounds: int | None = key("Rounds of the latency measurement, each in fresh processes.")
    batch_sizes: str | None = key("Batch sizes to measure the throughput at, such as 1,8.")
    threads: int | None = key("CPU threads of the latency.")

    @property
    def measures(self) -> bool:
        """The latency; where a budget asks for it, the pipeline's reader has set it."""
        return self.latency


@dataclass(frozen=True)
class Package(Kind):
    """One package of each model's artifacts."""

    command: ClassVar[str] = "package"
    takes: ClassVar[tuple[str, ...]] = ("artifact",)
    gives: ClassVar[str] = "package"

    layout: Literal["zoo", "triton", "mlflow"] = key("One file, a Triton repository, or an MLflow model.", "zoo")
    licence: str | None = key("Text file with the licence of the weights.", file=True)
    require_checked: bool = key("Refuse artifacts that no check has passed.", False)
    sign: str | None = key("A private key in PEM.", file=True)


@dataclass(frozen=True)
class Profile(Kind):
    """Measure packages, or single artifacts, on devices."""

    command: ClassVar[str] = "profile"
    takes: ClassVar[tuple[str, ...]] = ("package", "artifact")
    gives: ClassVar[str] = "profile"

    on: str = key("local, ssh://user@host:port, or a .toml file of devices.", "local", file=True)
    batch_sizes: str | None = key("Batch sizes (images at once), such as 1,8.")
    threads: int | None = key("Threads of the runtime.")
    per_layer: bool = key("Measure each operator too.", False)
    data: str | None = key("Count right answers on its validation images too.", file=True)
    images: int | None = key("How many of these images at most.")

    @property
    def measures(self) -> bool:
        """Here, or perhaps here."""
        return not self.on.startswith("ssh://")


KINDS: dict[str, type[Kind]] = {
    "source": Source, "train": Train, "prune": Prune, "calibrate": Calibrate, "export": Export, "check": Check,
    "package": Package, "profile": Profile,
}  # fmt: skip


def flags(options: Kind) -> list[str]:
    """The options as their command takes them; what is as the class has it is left out."""
    found: list[str] = []
    for one in fields(options):
        value, flag = getattr(options, one.name), flag_of(one)
        if flag is None or value == default_of(one):
            continue
        if isinstance(value, bool):
            found.append(flag if value else f"--no-{flag.removeprefix('--')}")
        elif isinstance(value, dict):
            found += [part for name, held in value.items() for part in (flag, f"{name}={as_toml(held)}")]
        else:
            found += [flag, str(value)]
    return found


def flag_of(one: Field[Any]) -> str | None:
    """The command's flag for a key; None where it has none."""
    flag = one.metadata["flag"]
    return f"--{one.name.replace('_', '-')}" if flag == "" else flag


def default_of(one: Field[Any]) -> Any:
    """What a key is where nobody says."""
    return one.default if one.default is not MISSING else one.default_factory()  # pyright: ignore[reportCallIssue]


def as_toml(value: Any) -> str:
    """A value of `set` as --set reads it."""
    return value if isinstance(value, str) else json.dumps(value)


def several(value: Any) -> tuple[str, ...]:
    """A key that may be one value or a list, as a list."""
    return (value,) if isinstance(value, str) else tuple(value)
