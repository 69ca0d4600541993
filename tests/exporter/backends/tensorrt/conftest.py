"""A machine of each TensorRT version that zoo supports, made of the strict fake."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from zoo.exporter.backends.tensorrt import cuda, machine
from zoo.exporter.backends.tensorrt.cuda import Gpu

sys.path.append(str(Path(__file__).parent))

from fake import VERSIONS, FakeCuda, World, make_fake

ORIN = Gpu("Orin", "8.7", "540.4.0")


@dataclass
class Machine:
    """What a test changes: the version, the GPU, what fails."""

    version: str
    world: World
    trt: Any
    patch: pytest.MonkeyPatch
    cudas: list[FakeCuda]

    def become(self, version: str = "", gpu: Gpu = ORIN) -> None:
        """Another TensorRT, or another GPU."""
        self.version = version or self.version
        self.trt = make_fake(self.version, self.world)
        self.patch.setitem(sys.modules, "tensorrt", self.trt)

        def open_cuda() -> FakeCuda:
            self.cudas.append(FakeCuda(self.world, gpu))
            return self.cudas[-1]

        self.patch.setattr(cuda, "open_cuda", open_cuda)


def make_machine(version: str, patch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    patch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    patch.setattr(machine, "driver_cuda", lambda: 13000)
    patch.setattr(machine, "wheel_cuda", lambda: 13)
    made = Machine(version, World(), None, patch, [])
    made.become(version)
    return made


@pytest.fixture(params=VERSIONS)
def any_machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """Each version in turn."""
    return make_machine(request.param, monkeypatch, tmp_path)


@pytest.fixture
def one_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """TensorRT 10.13; a test may make it another."""
    return make_machine("10.13", monkeypatch, tmp_path)
