"""Runs a typed ONNX graph by ONNX Runtime, and reads from its profile what really ran."""

from __future__ import annotations

import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import IntegrityError, UnavailableError, one_line
from ....models.preprocess import Images
from ....models.processors import limited_cpus
from ....models.spec import ModelSpec
from ...artifact.manifest import Layer, Receipt
from ..graph.graph import INPUT, OUTPUT
from ..graph.layers import list_layers
from ..operators import Operator
from ..runner import Logits, Runner
from .operators import parse_profile, profiled, warm_of

if TYPE_CHECKING:
    import onnx


_FUSED = ("Relu", "Clip", "Sigmoid", "HardSigmoid", "Tanh", "LeakyRelu")  # into the convolution before them
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OrtRunner(Runner):
    """An ONNX Runtime session on exactly one provider (and the CPU for what that one leaves to it).

    Args:
        name: for messages.
        spec: input and labels.
        path: of the graph.
        device: cpu or cuda.
        content: the graph itself, when another than that of the file is to run.
    """

    def __init__(self, name: str, spec: ModelSpec, path: Path, device: str, content: bytes | None = None) -> None:
        super().__init__(name, spec)
        self._path, self._device, self._content = path, device, content
        self._session: Any = None
        self._binding: Any = None
        self._value: Any = None

    def _start(self) -> None:
        self._session = self._make_session()

    def _make_session(self, options: Any = None) -> Any:
        """A session, with options of its own where some are given."""
        import onnxruntime

        if options is None:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
        options.intra_op_num_threads = self.threads or limited_cpus() or 0  # 0: as many as ONNX Runtime counts
        wanted = PROVIDERS[self._device]
        try:
            session = onnxruntime.InferenceSession(self._content or str(self._path), options, providers=[wanted])
        except Exception as error:  # ONNX Runtime has one exception class per status, all outside RuntimeError
            raise IntegrityError(
                f"{self._path}: ONNX Runtime refuses it ({one_line(error)})", fix="export again"
            ) from error
        got = session.get_providers()
        if got[0] != wanted:
            raise UnavailableError(
                f"asked for {wanted}, ONNX Runtime fell back to {got[0]}",
                fix="install the CUDA version it was built for",
            )
        inputs = [(one.name, one.type) for one in session.get_inputs()]
        kind = "tensor(uint8)" if self.pixels else "tensor(float)"
        if inputs != [(INPUT, kind)] or [one.name for one in session.get_outputs()] != [OUTPUT]:
            raise IntegrityError(
                f"{self._path}: expected one input `{INPUT}`, {kind}, and output `{OUTPUT}`, got {inputs}"
            )
        return session

    def _written(self) -> onnx.ModelProto:
        import onnx

        if self._content is not None:
            return onnx.load_from_string(self._content)
        return onnx.load(self._path, load_external_data=False)

    def _stop(self) -> None:
        self._session = self._binding = self._value = None

    def _run(self, batch: Images) -> Logits:
        return self._session.run([OUTPUT], {INPUT: batch})[0]

    def _prepare(self, batch: Images) -> None:
        import onnxruntime

        self._binding = self._session.io_binding()
        self._value = onnxruntime.OrtValue.ortvalue_from_numpy(batch, self._device, 0)
        self._binding.bind_ortvalue_input(INPUT, self._value)
        self._binding.bind_output(OUTPUT, self._device)

    def _step(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def _synchronize(self) -> None:
        if self._binding is not None:
            self._binding.synchronize_outputs()

    def _upload(self, batch: Images) -> None:
        self._value.update_inplace(batch)

    def _fetch_last(self) -> Logits:
        self._binding.synchronize_outputs()
        return self._binding.copy_outputs_to_cpu()[0]

    def _operators(self, runs: int) -> tuple[Operator, ...]:
        warm = warm_of(runs)
        batch = self._value.numpy()
        events = profiled(self._make_session, lambda session: session.run([OUTPUT], {INPUT: batch}), warm + runs)
        found = (Operator(one.name, one.kind, one.usual(warm)) for one in parse_profile(events).values())
        return tuple(sorted(found, key=lambda one: -one.microseconds))

    def _receipt(self) -> Receipt:
        """The compute layers of the graph that ONNX Runtime made of the file, as its profile saw them run."""
        import onnx
        import onnxruntime

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "optimised.onnx"

            def make(options: Any) -> Any:
                options.optimized_model_filepath = str(path)
                return self._make_session(options)

            zeros = np.zeros((1, *self.shape), self.dtype)
            kernels = parse_profile(profiled(make, lambda session: session.run([OUTPUT], {INPUT: zeros}), 1))
            layers = [layer for layer in list_layers(onnx.load(path), ran=True) if layer.name in kernels]
        provider = self._session.get_providers()[0]
        where = {layer.name: kernels[layer.name].provider for layer in layers}
        elsewhere = Counter(other for other in where.values() if other != provider)
        told = "".join(f"; {count} layers on {other}" for other, count in elsewhere.items())
        counted = dict(Counter(layer.precision for layer in layers))
        runtime = f"onnxruntime {onnxruntime.__version__}"
        return Receipt(runtime, self._device, provider + told, counted, _by_name(layers, self._written()))


def _by_name(layers: Iterable[Layer], written: onnx.ModelProto) -> dict[str, str]:
    """Precision by the name a layer had in the file."""
    original = original_names(written)
    return {original(layer.name): layer.precision for layer in layers}


def original_names(written: onnx.ModelProto) -> Callable[[str], str]:
    """A function from the name of a node that ONNX Runtime made to that of the file's node it stands for.

    ONNX Runtime adds `_token_N` to it when it makes an integer kernel of it; a float convolution in its blocked layout
    is named after the tensor that it writes, behind the activation that was fused into it, and `_nchwc`.
    """
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in written.graph.node:
        for name in node.input:
            readers[name].append(node)
    owner: dict[str, str] = {}
    for layer in written.graph.node:
        owner[layer.name] = layer.name
        out = layer.output[0]
        while out not in owner:
            owner[out] = layer.name
            after = readers[out]
            out = after[0].output[0] if len(after) == 1 and after[0].op_type in _FUSED else out

    def original(name: str) -> str:
        plain = re.sub(r"_token_\d+$", "", name.removesuffix("/duplicated")).removeprefix("fused ")
        plain = plain.removesuffix("_nchwc")
        return owner.get(plain, plain)

    return original
