"""A package's model, opened on a machine without torch: images in, labels out."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...errors import IntegrityError, UnavailableError, UsageError, ZooError, one_line
from ...models.spec import ModelSpec, Preprocess
from ..backends.info import BackendInfo
from ..backends.infos import backend_info, find, known_info
from ..timing.setup import default_threads
from .container import Package
from .safety import refuse_dangerous

if TYPE_CHECKING:
    from ...models.preprocess import Images

Logits = npt.NDArray[np.float32]
INPUT, OUTPUT = "images", "logits"
Run = Callable[["Images"], Any]  # a batch as the model reads it -> logits
AGAIN = "get the package again from who made it"


_STRINGS = ("name", "weights_sha256", "zoo")
_OF_ARTIFACT = ("name", "backend", "precision", "model")


class ProgramError(UsageError):
    """An artifact that is a program is not opened unasked."""


def refuse_odd(manifest: Mapping[str, Any]) -> None:
    """Raise IntegrityError for a manifest that lacks what is read of it, or has it in another type."""
    wrong = [name for name in _STRINGS if not isinstance(manifest.get(name), str)]
    listed = manifest.get("artifacts")
    if not isinstance(manifest.get("meaningful"), bool):
        wrong.append("meaningful")
    if not isinstance(listed, list) or not listed:
        wrong.append("artifacts")
        listed = []
    for index, one in enumerate(listed):
        held = one if isinstance(one, dict) else {}
        wrong += [f"artifacts[{index}].{name}" for name in _OF_ARTIFACT if not isinstance(held.get(name), str)]
    names = [one["name"] for one in listed if isinstance(one, dict) and isinstance(one.get("name"), str)]
    wrong += [f"artifacts: {name} is there twice" for name in sorted(set(names)) if names.count(name) > 1]
    if wrong:
        raise IntegrityError(f"the package's manifest has no right {', '.join(wrong[:4])}", fix="make it again")


def spec_of(manifest: Mapping[str, Any]) -> ModelSpec:
    """What the model takes and what its outputs mean, from a manifest.

    Raises:
        IntegrityError: it cannot be.
    """
    try:
        given = manifest["spec"]
        before = dict(given["preprocess"])
        resize = before.get("resize")
        before |= {name: tuple(before[name]) for name in ("crop", "mean", "std")}
        before["resize"] = tuple(resize) if isinstance(resize, list) else resize
        channels, height, width = given["input"]
        labels = tuple(str(one) for one in given["labels"])
        named = given.get("has_class_names", True) is True
        return ModelSpec(str(given["name"]), (channels, height, width), Preprocess(**before), labels, named)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"the package's spec cannot be: {one_line(error)}", fix="make it again") from error


class Predictor:
    """One of a package's artifacts, ready to answer.

    Args:
        package: opened.
        artifact: its name, such as onnx-int8; None for the first that runs here.
        threads: of the runtime; None for `default_threads()`.
        allow_code: whether artifacts that are programs (TorchScript) may be opened: only those of somebody trusted.

    Raises:
        UsageError: no such artifact.
        UnavailableError: this machine has the runtime of none of them.
        IntegrityError: a file was changed, or is dangerous.
    """

    def __init__(
        self, package: Package, artifact: str | None = None, threads: int | None = None, *, allow_code: bool = False
    ) -> None:
        refuse_odd(package.manifest)
        self.spec = spec_of(package.manifest)
        self.artifact = choose(package.manifest, artifact, allow_code=allow_code)
        self.pixels = self.artifact.get("pixels", False) is True
        self.threads = threads
        content = package.read(self.artifact["model"])
        refuse_dangerous(self.artifact["model"], content, self.artifact["backend"])
        opener = find(backend_info(self.artifact["backend"]).predictor)
        self.run: Run = opener(content, self.artifact, threads)

    def logits(self, batch: Images) -> Logits:
        """Images N x C x H x W, normalised float32 or uint8 pixels -> N x K.

        Raises:
            IntegrityError: the model gives something else.
        """
        from ...models.preprocess import as_input  # Pillow: not before it is needed

        try:
            got = np.asarray(self.run(as_input(batch, self.spec.preprocess, self.pixels)))
        except ZooError:
            raise
        except Exception as error:  # each runtime has its own classes of errors
            _raise_memory(error)
            raise IntegrityError(f"{self.artifact['name']} fails on images: {one_line(error)}", fix=AGAIN) from error
        if got.shape != (len(batch), len(self.spec.labels)) or got.dtype != np.float32:
            raise IntegrityError(f"{self.artifact['name']} gave {got.dtype} {got.shape} for {len(batch)} images")
        return got

    def answers(self, images: Sequence[Any], top: int = 5) -> list[list[dict[str, Any]]]:
        """The most likely labels of decoded images, with their probability and index."""
        from ...models.preprocess import batch_to_pixels

        before = self.spec.preprocess
        logits = np.concatenate([self.logits(batch_to_pixels([image], before)) for image in images])
        if not np.isfinite(logits).all():
            raise IntegrityError(f"{self.artifact['name']} gives NaN or infinity", fix="do not use it")
        raised = np.exp(logits - logits.max(1, keepdims=True))
        probabilities = raised / raised.sum(1, keepdims=True)
        return [
            [
                {"label": self.spec.labels[index], "index": int(index), "probability": float(row[index])}
                for index in np.argsort(-row, kind="stable")[:top]
            ]
            for row in probabilities
        ]


def open_onnx(content: bytes, artifact: Mapping[str, Any], threads: int | None) -> Run:
    """Open an ONNX graph with ONNX Runtime, on the CPU.

    Args:
        content: of the model's file.
        artifact: its entry in the package's manifest.
        threads: of the runtime; None for `default_threads()`, or where threads are the process's own, as torch's, for
            what the process has.

    Raises:
        IntegrityError: the runtime refuses it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or default_threads()
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has one exception class per status, all outside RuntimeError
        _raise_memory(error)
        raise IntegrityError(f"{artifact['model']}: ONNX Runtime refuses it ({one_line(error)})") from error
    return lambda batch: session.run([OUTPUT], {INPUT: batch})[0]


def open_torchscript(content: bytes, artifact: Mapping[str, Any], threads: int | None) -> Run:
    """Open a TorchScript file with torch, on the CPU; see `open_onnx`."""
    import torch

    from ...calibration.engine import ONEDNN, count_fused, quantised_engine

    engine = artifact.get("engine")  # of the process: set for as long as it is needed
    around = partial(quantised_engine, engine) if engine is not None else nullcontext
    if engine not in (None, ONEDNN):
        raise IntegrityError(f"{artifact['name']} asks for torch's engine {engine!r}", fix=AGAIN)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        with warnings.catch_warnings(), around():
            warnings.simplefilter("ignore")  # that it is deprecated
            module = torch.jit.load(io.BytesIO(content), map_location="cpu")
        fused = count_fused(module)
    except Exception as error:  # torch's loader and graphs raise whatever C++ does
        _raise_memory(error)
        raise IntegrityError(f"{artifact['model']}: torch refuses it ({one_line(error)})") from error
    if fused and engine is None:
        raise IntegrityError(f"{artifact['model']} needs torch's engine onednn, and no engine is named", fix=AGAIN)

    def run(batch: Images) -> Logits:
        with around(), torch.inference_mode():
            return module(torch.from_numpy(batch.copy())).numpy()  # it may work in place on it

    return run


def _raise_memory(error: Exception) -> None:
    """Raise MemoryError where a runtime's own error says that memory was refused to it."""
    if any(words in str(error) for words in ("bad_alloc", "Failed to allocate memory", "can't allocate memory")):
        raise MemoryError(one_line(error)) from error


def choose(manifest: Mapping[str, Any], name: str | None, *, allow_code: bool = True) -> dict[str, Any]:
    """The artifact of that name, or the first that this machine has a runtime for.

    Raises:
        UsageError: no such artifact.
        UnavailableError: its runtime, or that of each of them, is not here.
        ProgramError: it is a program, and none is allowed.
        IntegrityError: the manifest's list cannot be.
    """
    refuse_odd(manifest)
    found = {one["name"]: one for one in manifest["artifacts"]}
    wanted = [found[name]] if name in found else sorted(found.values(), key=_rank) if name is None else []
    if not wanted:
        raise UsageError(f'no artifact "{name}" in it', fix=f"one of {', '.join(found)}")
    infos = {one["name"]: known_info(one["backend"]) for one in wanted}
    runs = [one for one in wanted if (info := infos[one["name"]]) is not None and info.predictor]
    for one in runs:
        info = infos[one["name"]]
        if info is not None and _installed(info) and (allow_code or not info.is_program):
            return one
    programs = [one["name"] for one in wanted if (info := infos[one["name"]]) is not None and info.is_program]
    if not allow_code and programs:
        raise ProgramError(
            f"{', '.join(programs)} is a program, which could do whatever its maker likes: it is not opened",
            fix="--allow-code, if you trust who made the package" + ("" if name is None else "; or another artifact"),
        )
    needs = ", ".join(f"{one['backend']} ({_missing(infos[one['name']])})" for one in wanted)
    wheels = [info.wheels[0] for one in runs if (info := infos[one["name"]]) is not None and info.wheels]
    fix = f"pip install {wheels[0]}" if wheels else "zoo profile and zoo check take the artifact's own folder"
    raise UnavailableError(f"nothing here runs {needs}", fix=fix)


def _rank(one: Mapping[str, Any]) -> int:
    """Files before programs, and those that no package runs last."""
    info = known_info(one["backend"])
    return 2 if info is None or not info.predictor else int(info.is_program)


def _missing(info: BackendInfo | None) -> str:
    if info is None or not info.predictor:
        return "use zoo, or the package's Triton layout"
    return f"{info.module} is not installed"


def _installed(info: BackendInfo) -> bool:
    from importlib.util import find_spec

    return find_spec(info.module) is not None


def golden_of(package: Package) -> tuple[list[Any], Logits]:
    """The golden images and the logits that the source gave them.

    Raises:
        IntegrityError: they do not belong together.
    """
    from PIL import Image

    try:
        logits = json.loads(package.read("golden/logits.json"))
        images = []
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            for name in logits:
                with Image.open(io.BytesIO(package.read(f"golden/{name}")), formats=["PNG"]) as image:
                    image.load()
                images.append(image)
        values = np.asarray(list(logits.values()), np.float32)
    except IntegrityError:
        raise
    except Exception as error:  # what Pillow raises of a broken image has no common class
        raise IntegrityError(f"the golden samples are corrupt ({one_line(error)})", fix="make it again") from error
    if not images or values.ndim != 2:
        raise IntegrityError("the package has no golden samples", fix="make it again")
    return images, values
