"""Runs an engine: addresses bound once, its own stream, a CUDA graph where it can be captured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....errors import IntegrityError, UnavailableError, UsageError, quoted
from ....models.preprocess import Images
from ....models.spec import ModelSpec
from ...artifact.manifest import Batch, Layer, Receipt
from ..runner import Logits, Runner
from .cuda import ALIGNMENT, Captured, Cuda
from .inspector import make_receipt, parse_engine
from .log import Log


@dataclass(frozen=True)
class Timings:
    """Milliseconds of each run of one batch size.

    Attributes:
        batch: images in a run.
        gpu: between CUDA events around the enqueue (or the graph's launch): what the device took.
        enqueue: what the host took to hand the work over; where it is near `gpu`, the host is the limit.
        total: host clock from the batch in host memory to the logits in host memory, transfers included.
        graph: whether a CUDA graph was launched.
    """

    batch: int
    gpu: tuple[float, ...]
    enqueue: tuple[float, ...]
    total: tuple[float, ...]
    graph: bool


class TensorRTRunner(Runner):
    """An engine with one input and one output, both float32.

    Args:
        name: for messages.
        spec: input and labels.
        batch: sizes of the engine's profile.
        plan: the serialised engine.
        trt: the TensorRT module.
        make_cuda: opens device memory and a stream.
        layers: what was planned, for the receipt.
        tf32: whether it was built with TF32 allowed, for the receipt.
        host_code: whether the plan may run code of its own on this machine, as version-compatible ones do.
    """

    def __init__(
        self,
        name: str,
        spec: ModelSpec,
        batch: Batch,
        plan: Path,
        trt: Any,
        make_cuda: Callable[[], Cuda],
        *,
        layers: Sequence[Layer] = (),
        tf32: bool = False,
        host_code: bool = False,
    ) -> None:
        super().__init__(name, spec, batch)
        self._sizes = batch
        self._plan, self._trt, self._make_cuda = plan, trt, make_cuda
        self._layers, self._tf32, self._host_code = layers, tf32, host_code
        self._images = 0  # the batch size that shapes are set to
        self._graph: Captured | None = None
        self._captured = False  # whether a capture was tried for the present shape

    def _start(self) -> None:
        trt = self._trt
        self._log = Log(trt)
        self._cuda = self._make_cuda()
        try:
            self._runtime = trt.Runtime(self._log.logger)
        except TypeError:
            self._log.check(None, "no runtime could be made", "zoo doctor says what is missing")
        self._runtime.engine_host_code_allowed = self._host_code
        self._engine = self._log.check(
            self._runtime.deserialize_cuda_engine(self._plan.read_bytes()),
            f"{self._plan} cannot be loaded",
            f"zoo build --rebuild {quoted(self._plan.parent)}",
            IntegrityError,
        )
        self._input, self._output = self._names()
        self._context = self._log.check(
            self._engine.create_execution_context(), "no execution context could be made", "free device memory"
        )
        largest = self._sizes.max
        self._in = self._bind(self._input, largest * int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize)
        self._out = self._bind(self._output, largest * len(self.spec.labels) * 4)

    def _stop(self) -> None:
        cuda = getattr(self, "_cuda", None)
        if cuda is not None:
            cuda.synchronize()
        self._graph = None
        for name in ("_context", "_engine", "_runtime", "_in", "_out", "_cuda"):  # in the order TensorRT asks for
            if hasattr(self, name):
                delattr(self, name)
        if cuda is not None:
            cuda.close()
        self._images = 0
        self._captured = False

    def _run(self, batch: Images) -> Logits:
        self._cuda.upload(self._in, batch)
        self._shape(len(batch))
        self._enqueue()
        return self._fetch(len(batch))

    def _prepare(self, batch: Images) -> None:
        """Upload, run once so that TensorRT does what it does lazily, and capture a graph for this batch size."""
        self._cuda.upload(self._in, batch)
        self._shape(len(batch))
        self._enqueue()
        self._cuda.synchronize()
        if not self._captured:
            self._captured = True
            self._graph = self._cuda.capture(self._execute)
            if self._graph is None:
                self.notes.append(
                    f"no CUDA graph could be captured for a batch of {len(batch)}: runs are enqueued one by one"
                )

    def _step(self) -> None:
        if self._graph is not None:
            self._graph.launch()
        else:
            self._enqueue()

    def _synchronize(self) -> None:
        self._cuda.synchronize()

    def _upload(self, batch: Images) -> None:
        self._cuda.upload(self._in, batch)

    def _fetch_last(self) -> Logits:
        return self._fetch(self._images)

    def _time_steps(self, runs: int) -> list[float]:
        marks: list[tuple[Any, Any]] = []
        for _ in range(runs):
            start = self._cuda.event()
            self._step()
            marks.append((start, self._cuda.event()))
        self._cuda.synchronize()
        return [self._cuda.elapsed(start, end) for start, end in marks]

    def _receipt(self) -> Receipt:
        self._shape(self._images or self._sizes.opt)
        inspector = self._log.check(self._engine.create_engine_inspector(), "no engine inspector", "see zoo doctor")
        inspector.execution_context = self._context  # with concrete shapes it tells more
        text = inspector.get_engine_information(self._trt.LayerInformationFormat.JSON)
        return make_receipt(
            parse_engine(text),
            self._layers,
            runtime=f"TensorRT {self._trt.__version__}",
            provider=self._cuda.gpu().name,
            tf32=self._tf32,
        )

    def time(self, batch: Images, runs: int = 100, warm_up: int = 20) -> Timings:
        """Time a batch: the device, the host's enqueue, and all of it with transfers, in three passes of their own.

        Raises:
            UsageError: the batch does not fit, or a count below 1.
        """
        if runs < 1 or warm_up < 0:
            raise UsageError(f"timing needs at least 1 run and 0 to warm up, got {runs} and {warm_up}")
        taken = self.taken(batch)
        self.prepare(taken)
        for _ in range(warm_up):
            self._step()
        self._cuda.synchronize()
        marks: list[tuple[Any, Any]] = []
        enqueue: list[float] = []
        for _ in range(runs):
            start = self._cuda.event()
            before = time.perf_counter()
            self._step()
            enqueue.append(1e3 * (time.perf_counter() - before))
            marks.append((start, self._cuda.event()))
        self._cuda.synchronize()
        gpu = tuple(self._cuda.elapsed(start, end) for start, end in marks)
        total: list[float] = []
        for _ in range(runs):
            before = time.perf_counter()
            self._cuda.upload(self._in, taken)
            self._step()
            self._cuda.download(self._out, len(batch) * len(self.spec.labels) * 4)
            total.append(1e3 * (time.perf_counter() - before))
        return Timings(len(batch), gpu, tuple(enqueue), tuple(total), self._graph is not None)

    def _names(self) -> tuple[str, str]:
        """The input's and output's name; refuses an engine with other tensors or types, which would give garbage."""
        trt, engine = self._trt, self._engine
        found: dict[str, list[str]] = {"in": [], "out": []}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            kind = "in" if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else "out"
            found[kind].append(name)
            wanted = trt.DataType.UINT8 if kind == "in" and self.pixels else trt.DataType.FLOAT
            if engine.get_tensor_dtype(name) != wanted:
                raise IntegrityError(
                    f"{self._plan}: tensor {name} is {engine.get_tensor_dtype(name)}, not {wanted}", fix="export again"
                )
        if len(found["in"]) != 1 or len(found["out"]) != 1:
            raise IntegrityError(f"{self._plan}: expected one input and one output, got {found}", fix="export again")
        low, _, high = engine.get_tensor_profile_shape(found["in"][0], 0)
        shapes = [(self._sizes.min, *self.shape), (self._sizes.max, *self.shape)]
        if [tuple(low), tuple(high)] != shapes:
            raise IntegrityError(
                f"{self._plan}: its profile is {tuple(low)} to {tuple(high)}, artifact.json says {shapes}",
                fix="zoo build --rebuild",
            )
        return found["in"][0], found["out"][0]

    def _bind(self, name: str, nbytes: int) -> Any:
        memory = self._cuda.allocate(nbytes)
        if memory.address % ALIGNMENT:
            raise UnavailableError(f"device memory at {memory.address:#x} is not aligned to {ALIGNMENT} bytes")
        bound = self._context.set_tensor_address(name, memory.address)
        self._log.check(bound, f"the address of {name} is refused", "export again")
        return memory

    def _shape(self, images: int) -> None:
        """Set the input's shape; a captured graph is of one shape, so another one drops it."""
        if images == self._images:
            return
        self._graph, self._captured, self._images = None, False, 0
        shape = (images, *self.shape)
        taken = self._context.set_input_shape(self._input, shape)
        self._log.check(taken, f"the input shape {shape} is refused", "export with another --batch", UsageError)
        missing = self._context.infer_shapes()
        made = tuple(self._context.get_tensor_shape(self._output))
        if missing or made != (images, len(self.spec.labels)):
            raise IntegrityError(
                f"{self._plan}: the output of {images} images is {made} (unknown: {missing}), "
                f"expected {(images, len(self.spec.labels))}",
                fix="export again",
            )
        self._images = images

    def _execute(self) -> bool:
        return bool(self._context.execute_async_v3(self._cuda.stream))

    def _enqueue(self) -> None:
        if not self._execute():
            self._log.check(False, f"a batch of {self._images} could not be enqueued", "see nvidia-smi for memory")

    def _fetch(self, images: int) -> Logits:
        shape = (images, len(self.spec.labels))
        return self._cuda.download(self._out, int(np.prod(shape)) * 4).view(np.float32).reshape(shape)
