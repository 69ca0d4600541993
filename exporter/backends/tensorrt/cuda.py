"""Device memory, one stream, events and captured graphs: through torch where it is, else through cuda-python.

A board that only runs engines has no torch. Both ways do the same: copies go through pinned memory on the runner's own
stream, so that nothing synchronises the device behind our back.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ....errors import UnavailableError
from .machine import driver_version

ALIGNMENT = 256  # bytes, what TensorRT asks of every address
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Gpu:
    """The device that is used.

    Attributes:
        name: such as NVIDIA H200.
        compute_capability: such as 9.0.
        driver: its version, or the newest CUDA it knows where only that can be told.
    """

    name: str
    compute_capability: str
    driver: str


class Memory(Protocol):
    """A piece of device memory; freed with its object."""

    address: int
    nbytes: int


class Captured(Protocol):
    """A CUDA graph."""

    def launch(self) -> None:
        """Enqueue it on the stream it was captured on."""


class Cuda(Protocol):
    """One device and one stream of its own."""

    stream: int

    def gpu(self) -> Gpu:
        """The device."""
        ...

    def allocate(self, nbytes: int) -> Memory:
        """Device memory, aligned to 256 bytes."""
        ...

    def upload(self, memory: Memory, data: npt.NDArray[Any]) -> None:
        """Enqueue a copy to the start of the memory; `data` may be changed when this returns."""
        ...

    def download(self, memory: Memory, nbytes: int) -> Bytes:
        """Copy from the start of the memory, after what is enqueued; waits."""
        ...

    def synchronize(self) -> None:
        """Wait for the stream."""

    def event(self) -> Any:
        """Record an event on the stream."""

    def elapsed(self, start: Any, end: Any) -> float:
        """Milliseconds between two recorded events; waits for the later one."""
        ...

    def capture(self, enqueue: Callable[[], bool]) -> Captured | None:
        """A graph of what `enqueue` enqueues; None when it says False or the capture fails."""
        ...

    def close(self) -> None:
        """Free the stream."""


def open_cuda() -> Cuda:
    """Torch's way where torch sees a GPU, else cuda-python's.

    Raises:
        UnavailableError: there is neither.
    """
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            return TorchCuda()
    try:
        runtime = importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise UnavailableError(
            f"running an engine needs torch with CUDA, or cuda-python ({error})",
            fix='pip install "cuda-bindings>=12.6.1"',
        ) from error
    return CudaPython(runtime)


class TorchCuda:
    """Through torch's allocators: device memory comes from its cache, pinned memory too."""

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self._device = torch.device("cuda", torch.cuda.current_device())
        self._stream = torch.cuda.Stream(self._device)
        self.stream: int = self._stream.cuda_stream

    def gpu(self) -> Gpu:
        """The device."""
        torch = self._torch
        major, minor = torch.cuda.get_device_capability(self._device)
        return Gpu(torch.cuda.get_device_name(self._device), f"{major}.{minor}", driver_version())

    def allocate(self, nbytes: int) -> Memory:
        """A tensor of bytes; torch aligns to 512."""
        with self._torch.cuda.stream(self._stream):  # so that the allocator knows which stream uses it
            return _Tensor(self._torch.empty(nbytes, dtype=self._torch.uint8, device=self._device))

    def upload(self, memory: Memory, data: npt.NDArray[Any]) -> None:
        """Through pinned memory of torch's cache, which holds it until the copy is done."""
        assert isinstance(memory, _Tensor)
        flat = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        pinned = self._torch.empty(flat.nbytes, dtype=self._torch.uint8, pin_memory=True)
        pinned.numpy()[:] = flat
        with self._torch.cuda.stream(self._stream):
            memory.tensor[: flat.nbytes].copy_(pinned, non_blocking=True)

    def download(self, memory: Memory, nbytes: int) -> Bytes:
        """Into pinned memory, then wait."""
        assert isinstance(memory, _Tensor)
        pinned = self._torch.empty(nbytes, dtype=self._torch.uint8, pin_memory=True)
        with self._torch.cuda.stream(self._stream):
            pinned.copy_(memory.tensor[:nbytes], non_blocking=True)
        self._stream.synchronize()
        return pinned.numpy().copy()

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._stream.synchronize()

    def event(self) -> Any:
        """A timing event, recorded."""
        made = self._torch.cuda.Event(enable_timing=True)
        made.record(self._stream)
        return made

    def elapsed(self, start: Any, end: Any) -> float:
        """Milliseconds."""
        end.synchronize()
        return start.elapsed_time(end)

    def capture(self, enqueue: Callable[[], bool]) -> Captured | None:
        """In thread-local mode: other threads of the process may go on using CUDA."""
        graph = self._torch.cuda.CUDAGraph()
        try:
            with self._torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                enqueued = enqueue()
        except RuntimeError:  # torch's name for a capture that CUDA refused
            return None
        return _TorchGraph(graph, self._torch.cuda.stream, self._stream) if enqueued else None

    def close(self) -> None:
        """Torch frees its streams itself."""


class _Tensor:
    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor
        self.address: int = tensor.data_ptr()
        self.nbytes: int = tensor.numel()


class _TorchGraph:
    def __init__(self, graph: Any, on: Any, stream: Any) -> None:
        self._graph, self._on, self._stream = graph, on, stream

    def launch(self) -> None:
        """Replay, on the stream it was captured on."""
        with self._on(self._stream):
            self._graph.replay()


class CudaPython:
    """Through cuda-python's runtime bindings, whose every call returns its error first."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        _done(runtime.cudaSetDevice(0))
        self._handle = _done(runtime.cudaStreamCreateWithFlags(runtime.cudaStreamNonBlocking))
        self.stream = int(self._handle)
        self._pinned: _Pinned | None = None

    def gpu(self) -> Gpu:
        """The device."""
        runtime = self._runtime
        properties = _done(runtime.cudaGetDeviceProperties(0))
        name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
        newest = _done(runtime.cudaDriverGetVersion())
        known = driver_version() or f"for CUDA {newest // 1000}.{newest % 1000 // 10}"
        return Gpu(name, f"{properties.major}.{properties.minor}", known)

    def allocate(self, nbytes: int) -> Memory:
        """CudaMalloc aligns to 256 at least."""
        return _Device(self._runtime, nbytes)

    def upload(self, memory: Memory, data: npt.NDArray[Any]) -> None:
        """Through one pinned buffer that grows; the stream is waited for before it is written again."""
        flat = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        self.synchronize()
        staging = self._stage(flat.nbytes)
        staging.view[: flat.nbytes] = flat
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(memory.address, staging.address, flat.nbytes, kind)

    def download(self, memory: Memory, nbytes: int) -> Bytes:
        """Into the pinned buffer, then wait."""
        self.synchronize()
        staging = self._stage(nbytes)
        self._copy(staging.address, memory.address, nbytes, self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost)
        self.synchronize()
        return staging.view[:nbytes].copy()

    def synchronize(self) -> None:
        """Wait for the stream."""
        _done(self._runtime.cudaStreamSynchronize(self._handle))

    def event(self) -> Any:
        """A timing event, recorded."""
        made = _Event(self._runtime)
        _done(self._runtime.cudaEventRecord(made.handle, self._handle))
        return made

    def elapsed(self, start: Any, end: Any) -> float:
        """Milliseconds."""
        _done(self._runtime.cudaEventSynchronize(end.handle))
        return float(_done(self._runtime.cudaEventElapsedTime(start.handle, end.handle)))

    def capture(self, enqueue: Callable[[], bool]) -> Captured | None:
        """In thread-local mode; a capture that was begun is always ended, or the stream would stay unusable."""
        runtime = self._runtime
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        try:
            _done(runtime.cudaStreamBeginCapture(self._handle, mode))
            try:
                enqueued = enqueue()
            finally:
                ended = runtime.cudaStreamEndCapture(self._handle)
            graph = _done(ended)
            if not enqueued:
                return None
            executable = _done(runtime.cudaGraphInstantiate(graph, 0))
        except UnavailableError:
            return None
        _done(runtime.cudaGraphDestroy(graph))
        return _Graph(runtime, executable, self._handle)

    def close(self) -> None:
        """Free the stream and the pinned buffer."""
        self._pinned = None
        if self.stream:
            _done(self._runtime.cudaStreamDestroy(self._handle))
            self.stream = 0

    def _stage(self, nbytes: int) -> _Pinned:
        if self._pinned is None or self._pinned.nbytes < nbytes:
            self._pinned = _Pinned(self._runtime, nbytes)
        return self._pinned

    def _copy(self, to: int, source: int, nbytes: int, kind: Any) -> None:
        _done(self._runtime.cudaMemcpyAsync(to, source, nbytes, kind, self._handle))


class _Device:
    def __init__(self, runtime: Any, nbytes: int) -> None:
        self._free = runtime.cudaFree
        self.nbytes = nbytes
        self.address = int(_done(runtime.cudaMalloc(nbytes)))

    def __del__(self) -> None:
        if getattr(self, "address", 0):
            self._free(self.address)


class _Pinned:
    def __init__(self, runtime: Any, nbytes: int) -> None:
        self._free = runtime.cudaFreeHost
        self.nbytes = nbytes
        self.address = int(_done(runtime.cudaMallocHost(nbytes)))
        self.view: Bytes = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(self.address))

    def __del__(self) -> None:
        if getattr(self, "address", 0):
            self._free(self.address)


class _Event:
    def __init__(self, runtime: Any) -> None:
        self._destroy = runtime.cudaEventDestroy
        self.handle = _done(runtime.cudaEventCreate())

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            self._destroy(self.handle)


class _Graph:
    def __init__(self, runtime: Any, executable: Any, stream: Any) -> None:
        self._runtime, self._executable, self._stream = runtime, executable, stream

    def launch(self) -> None:
        """Enqueue it."""
        _done(self._runtime.cudaGraphLaunch(self._executable, self._stream))

    def __del__(self) -> None:
        self._runtime.cudaGraphExecDestroy(self._executable)


def _done(answer: tuple[Any, ...]) -> Any:
    """The value of a call, or its values; raises UnavailableError with CUDA's name of the error."""
    error, *values = answer
    if int(error) != 0:
        raise UnavailableError(f"CUDA: {getattr(error, 'name', error)}", fix="check nvidia-smi")
    return values[0] if len(values) == 1 else tuple(values) or None
