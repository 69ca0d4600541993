"""Runs a torch module or a loaded TorchScript file, and reads from the dispatcher what really ran."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ....errors import UsageError
from ....models.dispatch import EachOperator
from ....models.preprocess import Images
from ....models.spec import ModelSpec
from ...artifact.manifest import Receipt
from ..runner import Logits, Runner
from .modules import NAMES

# What a layer comes to, before or after torch has taken it apart. Products of two activations count too.
COMPUTE_OPERATORS = frozenset(
    f"aten::{name}" for name in (
        "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution",
        "_convolution", "_convolution_mode", "linear", "addmm", "mm", "matmul", "bmm", "baddbmm",
        "_native_multi_head_attention",
    )
)  # fmt: skip
INTEGER_LAYERS = ("quantized::conv", "quantized::linear")


def devices() -> tuple[str, ...]:
    """Where torch runs on this machine."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def layers_run(run: Callable[[], object]) -> list[str]:
    """Return what each compute layer computes in while `run` is called, in the order in which they run.

    It is read from torch's dispatcher, and not from the module: a ScriptModule has no layers that Python knows, and a
    module may convolve with F.conv2d, or in another type than its weights are kept in.
    """
    watch = _Watch()
    with torch.inference_mode(), watch:
        run()
    return watch.found


class _Watch(EachOperator):
    """Notes the type of convolutions and matrix products as torch dispatches them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note an operator, and call it."""
        name = func._schema.name
        if name.startswith(INTEGER_LAYERS):
            self.found.append("int8")
        elif name in COMPUTE_OPERATORS:
            dtype = next((one.dtype for one in args if isinstance(one, Tensor)), None)
            self.found.append("unknown" if dtype is None else NAMES.get(dtype, str(dtype)))
        if name == "aten::item" and not isinstance(args[0], Tensor):
            return args[0]  # TorchScript's interpreter hands a tensor of one number over as that number
        return func(*args, **(kwargs or {}))


class TorchRunner(Runner):
    """Runs a callable of torch on a device, each time in the context `around`."""

    def __init__(
        self, name: str, spec: ModelSpec, module: nn.Module, device: str,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:  # fmt: skip
        super().__init__(name, spec)
        self._around = around
        self._module = module
        self._device = torch.device(device)
        self._input: Tensor | None = None
        self._kept: Tensor | None = None  # the prepared images, of a model that overwrites them
        self._output: Tensor | None = None

    def _start(self) -> None:
        if self.threads is not None:
            torch.set_num_threads(self.threads)  # of the process: torch has no number for one module
        self._module = self._module.to(self._device)

    def _stop(self) -> None:
        self._input = self._kept = self._output = None

    def _own(self, batch: Images) -> Tensor:
        """The batch on the device, in memory of the runner's own: some models work in place on what they are given."""
        with torch.inference_mode(False):
            return torch.tensor(batch, device=self._device)

    def _run(self, batch: Images) -> Logits:
        with self._around(), torch.inference_mode():
            return self._module(self._own(batch)).cpu().numpy()

    def _prepare(self, batch: Images) -> None:
        self._input, self._kept = self._own(batch), None
        kept, version = self._input.clone(), self._input._version
        self._step()
        if self._input._version != version or not torch.equal(self._input, kept):
            self._kept = kept
        self._output = None

    def _restore(self) -> None:
        """Bring back the prepared images where the model has overwritten them."""
        if self._kept is not None and self._input is not None:
            self._input.copy_(self._kept)

    def _step(self) -> None:
        self._restore()
        self._compute()

    def _compute(self) -> None:
        with self._around(), torch.inference_mode():
            self._output = self._module(self._input)

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _upload(self, batch: Images) -> None:
        assert self._input is not None
        for held in (self._input, self._kept):
            if held is not None:
                held.copy_(torch.from_numpy(batch))

    def _fetch_last(self) -> Logits:
        if self._output is None:
            raise UsageError(f"{self.name}: fetch() before step()", fix="call step() first")
        return self._output.cpu().numpy()

    def _time_steps(self, runs: int) -> list[float]:
        if self._device.type != "cuda":
            return [self._time_compute() for _ in range(runs)]
        marks = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(runs)]
        for begin, end in marks:
            self._restore()  # not timed: it is the runner's work, not the model's
            begin.record()
            self._compute()
            end.record()
        torch.cuda.synchronize(self._device)
        return [begin.elapsed_time(end) for begin, end in marks]

    def _time_compute(self) -> float:
        self._restore()
        begun = time.perf_counter()
        self._compute()
        return 1e3 * (time.perf_counter() - begun)

    def _receipt(self) -> Receipt:
        provider = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "torch CPU kernels"
        return Receipt(f"torch {torch.__version__}", self._device.type, provider, dict(Counter(self._ran())))

    def _ran(self) -> list[str]:
        """What each compute layer runs at, in order."""
        image = np.random.default_rng(0).normal(size=(1, *self.shape)).astype(self.dtype)
        return layers_run(lambda: self._run(image))
