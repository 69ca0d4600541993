"""cuda-python's way, on a stand-in for the driver whose names and argument counts are those of the real bindings."""

from __future__ import annotations

import ctypes
import importlib
import re
from typing import Any

import numpy as np
import pytest
from conftest import need
from zoo.errors import UnavailableError
from zoo.exporter.backends.tensorrt.cuda import CudaPython, open_cuda

try:
    REAL: Any = importlib.import_module("cuda.bindings.runtime")
except ImportError:
    REAL = None


class FakeRuntime:
    """Device memory is host memory; a name or a number of arguments that the bindings do not have raises."""

    def __init__(self) -> None:
        self.alive: dict[int, Any] = {}
        self.fail: dict[str, int] = {}
        self.capturing = False
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if not hasattr(REAL, name):
            raise AttributeError(f"cuda.bindings.runtime has no {name}")
        if not callable(getattr(REAL, name)) or isinstance(getattr(REAL, name), (int, type)):
            return getattr(REAL, name)
        signature = re.match(rf"{name}\((.*?)\)", getattr(REAL, name).__doc__ or "")
        assert signature, name
        count = len([one for one in signature.group(1).split(",") if one.strip()])

        def call(*given: Any) -> tuple[Any, ...]:
            if len(given) != count:
                raise TypeError(f"{name} takes {count} arguments, got {len(given)}")
            self.calls.append(name)
            error = REAL.cudaError_t(self.fail.get(name, 0))
            if int(error):
                return (error, None)
            return (error, *getattr(self, f"do_{name[4:]}", lambda *_: ())(*given))

        return call

    def _new(self, thing: Any) -> tuple[int]:
        address = 256 * (1 + len(self.calls))
        self.alive[address] = thing
        return (address,)

    def do_StreamCreateWithFlags(self, flags: int) -> tuple[int]:
        assert flags == 1, "non-blocking"
        return self._new("stream")

    def do_Malloc(self, nbytes: int) -> tuple[int]:
        buffer = (ctypes.c_uint8 * (nbytes + 256))()
        address = (ctypes.addressof(buffer) + 255) // 256 * 256
        self.alive[address] = buffer
        return (address,)

    do_MallocHost = do_Malloc

    def do_Free(self, address: int) -> tuple[()]:
        del self.alive[address]
        return ()

    do_FreeHost = do_StreamDestroy = do_EventDestroy = do_GraphExecDestroy = do_Free

    def do_MemcpyAsync(self, to: int, source: int, count: int, kind: Any, stream: int) -> tuple[()]:
        assert self.alive[stream] == "stream"
        ctypes.memmove(to, source, count)
        return ()

    def do_EventCreate(self) -> tuple[int]:
        return self._new("event")

    def do_EventElapsedTime(self, start: int, end: int) -> tuple[float]:
        return (0.5,)

    def do_StreamBeginCapture(self, stream: int, mode: Any) -> tuple[()]:
        assert mode == REAL.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.capturing = True
        return ()

    def do_StreamEndCapture(self, stream: int) -> tuple[str]:
        self.capturing = False
        return ("graph",)

    def do_GraphInstantiate(self, graph: str, flags: int) -> tuple[int]:
        return self._new("executable")

    def do_DriverGetVersion(self) -> tuple[int]:
        return (12060,)

    def do_GetDeviceProperties(self, device: int) -> tuple[Any]:
        class Properties:
            name, major, minor = b"Orin", 8, 7

        return (Properties,)


@pytest.fixture
def runtime() -> FakeRuntime:
    need(REAL is not None, "cuda-bindings, which torch brings on Linux")
    return FakeRuntime()


def test_copies_go_there_and_back_and_memory_is_freed(runtime: FakeRuntime) -> None:
    cuda = CudaPython(runtime)
    assert cuda.gpu().name == "Orin"
    assert cuda.gpu().compute_capability == "8.7"
    memory = cuda.allocate(4096)
    assert memory.address % 256 == 0
    batch = np.arange(512, dtype=np.float32).reshape(2, 256)
    cuda.upload(memory, batch)
    batch[:] = 0  # what was uploaded stays
    back = cuda.download(memory, 2048).view(np.float32)
    assert np.array_equal(back, np.arange(512, dtype=np.float32))
    del memory, back
    cuda.close()
    del cuda
    assert runtime.alive == {}


def test_events_and_graphs(runtime: FakeRuntime) -> None:
    cuda = CudaPython(runtime)
    start, end = cuda.event(), cuda.event()
    assert cuda.elapsed(start, end) == 0.5
    graph = cuda.capture(lambda: runtime.capturing)
    assert graph is not None
    graph.launch()
    assert runtime.calls[-1] == "cudaGraphLaunch"
    assert cuda.capture(lambda: False) is None, "what was not enqueued is no graph"
    assert not runtime.capturing, "a capture that was begun is always ended"
    runtime.fail["cudaStreamEndCapture"] = 900
    assert cuda.capture(lambda: True) is None
    del graph, start, end
    cuda.close()
    assert runtime.alive == {}


def test_an_error_has_cudas_name(runtime: FakeRuntime) -> None:
    cuda = CudaPython(runtime)
    runtime.fail["cudaMalloc"] = 2
    with pytest.raises(UnavailableError, match="cudaErrorMemoryAllocation"):
        cuda.allocate(10)
    with pytest.raises(AttributeError):
        runtime.cudaMallocEverything(3)


def test_without_a_gpu_there_is_no_cuda() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(UnavailableError, match="CUDA: cudaError|needs torch with CUDA"):
        open_cuda()


@pytest.mark.gpu
@pytest.mark.parametrize("which", ["torch", "cuda-python"])
def test_on_a_gpu(which: str) -> None:
    from zoo.exporter.backends.tensorrt.cuda import TorchCuda

    cuda = TorchCuda() if which == "torch" else CudaPython(REAL)
    memory = cuda.allocate(1 << 20)
    assert memory.address % 256 == 0
    data = np.random.default_rng(0).normal(size=1 << 18).astype(np.float32)
    cuda.upload(memory, data)
    start = cuda.event()
    assert np.array_equal(cuda.download(memory, data.nbytes).view(np.float32), data)
    assert cuda.elapsed(start, cuda.event()) > 0
    cuda.close()
