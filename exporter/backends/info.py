"""What the rest of zoo knows of a backend, as data: a record that imports in an empty environment.

Each backend's folder has an `info.py` with its record. Whatever differs from backend to backend is asked of it: which
precisions, which file, which packages, how numbers may differ, where integers go, how it is served. No other file
compares the names of backends or the suffixes of their files; a test walks the sources for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...calibration.rules import Rules


@dataclass(frozen=True)
class Tolerance:
    """The largest error that passes, as a share of the spread of the reference's logits, and why that much.

    Attributes:
        relative: largest difference of a logit over the spread.
        cosine: the smallest that passes.
        reason: why that much.
        agreement: share of images whose top answer must be the same, where a budget asks for it.
        stragglers: whether one image in a hundred may have a smaller cosine: that of many images falls with their
            number.
    """

    relative: float
    cosine: float
    reason: str
    agreement: float = 0.0
    stragglers: bool = False


@dataclass(frozen=True, kw_only=True)
class Int8Rules:
    """How a backend's integers are made, and what they are held against.

    Attributes:
        rules: where integers go and which formats they have, for calibration, training and simulation alike.
        pairs_saturate: the runtime's kernels add pairs of products in 16 bits on x86 CPUs without VNNI or AMX, where
            7-bit weights keep them whole.
        device: where an int8 file is timed against the fastest float one: the file is written for that.
        fastest_float: the precision of that one.
        reads_blocks: the target can read wide linear layers in blocks of weights, for one image at a time.
        engine: the name of a runtime's engine that a file may need (`--set NAME.engine=...`); "" for none.
    """

    rules: Rules = field(default_factory=Rules)
    pairs_saturate: bool = False
    device: str = "cpu"
    fastest_float: str = "fp32"
    reads_blocks: bool = False
    engine: str = ""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How servers load a backend's file.

    Attributes:
        triton: the platform in Triton's model configuration.
        tensors: names of the input and the output there.
        gpu_only: whether Triton runs it on GPUs alone; one model may then hold a file for each compute capability.
        mlflow: whether MLflow's layout serves it.
    """

    triton: str
    tensors: tuple[str, str] = ("images", "logits")
    gpu_only: bool = False
    mlflow: bool = False


@dataclass(frozen=True, kw_only=True)
class BackendInfo:
    """A backend, as data.

    Attributes:
        name: as in `--to`.
        backend: `module:Class` of its Backend, imported on use; "" where the class itself brings the record.
        title: what `zoo list backends` says.
        model: the name of the file in an artifact.
        graph: the name of the ONNX graph in an artifact; "" where it has none.
        runtime: what runs it, for people.
        module: that is imported to run it.
        wheels: distributions that bring the module, the usual one first.
        extra: of zoo, that brings one.
        packages: distributions whose versions an export's evidence names, by the name that people know.
        export_modules: that an export imports beside torch.
        aliases: what people call it elsewhere: only ever suggested, never taken.
        precisions: of the graphs it takes.
        emulates: precisions that its CPU computes in another type, each with that type.
        tolerances: where its own arithmetic explains more or less than a precision alone does.
        builds: whether the last step needs the device (`--build-later`, `zoo build`).
        is_program: whether opening the file can run code.
        lint: the target of `zoo lint` for its graphs; "" for none.
        int8: how its integers are made; None where it has none.
        layer_timer: the opener of a single layer (timing/layer_models.py); "" where layers are not timed one by one.
        shares_threads: files in one process share the runtime's threads, so that they do not disturb each other.
        layer_times: `module:function` from a profile's operators and the written graph to the layers' times; "" where
            the runtime does not tell.
        serving: how servers load it; None where none does.
        predictor: `module:function` that opens it from a package's bytes (runtime/predictor.py); "" where a package
            cannot run it.
    """

    name: str
    precisions: tuple[str, ...]
    backend: str = ""
    title: str = ""
    model: str = ""
    graph: str = ""
    runtime: str = ""
    module: str = ""
    wheels: tuple[str, ...] = ()
    extra: str = "full"
    packages: Mapping[str, str] = field(default_factory=dict)
    export_modules: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    emulates: Mapping[str, str] = field(default_factory=dict)
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    builds: bool = False
    is_program: bool = False
    lint: str = ""
    int8: Int8Rules | None = None
    layer_timer: str = ""
    layer_times: str = ""
    shares_threads: bool = False
    serving: Serving | None = None
    predictor: str = ""

    @property
    def suffix(self) -> str:
        """Of the model's file: .onnx."""
        return self.model[self.model.rfind(".") :] if "." in self.model else ""
