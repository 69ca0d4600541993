"""The fake is strict: what a version does not have raises, as its bindings would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake import VERSIONS, World, make_fake

HERE = Path(__file__).parent


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


def test_names_are_those_of_the_version(version: str) -> None:
    api = json.loads((HERE / f"{version}.json").read_text())
    trt = make_fake(version, World())
    for name, one in api.items():
        if one["kind"] == "enum":
            assert [member.name for member in getattr(trt, name)] == one["members"]
    with pytest.raises(AttributeError):
        _ = trt.Bulider


def test_enum_values_shift_between_versions() -> None:
    old, new = (make_fake(version, World()) for version in ("10.16", "11.1"))
    assert int(old.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 1
    assert int(new.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 0
    assert int(old.BuilderFlag.TF32) != int(new.BuilderFlag.TF32)
    assert old.BuilderFlag.TF32 != new.BuilderFlag.TF32
    with pytest.raises(TypeError):
        _ = old.BuilderFlag.TF32 + 1


def test_removed_names_are_removed() -> None:
    new = make_fake("11.1", World())
    for gone in ("FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"):
        assert not hasattr(new.BuilderFlag, gone)
        assert hasattr(make_fake("10.16", World()).BuilderFlag, gone)
    assert not hasattr(new.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH")
    assert not hasattr(new, "IInt8Calibrator")
    assert not hasattr(new.ICudaEngine, "device_memory_size")


def test_wrong_arguments_and_attributes_raise(version: str) -> None:
    trt = make_fake(version, World())

    class Logger(trt.ILogger):
        def log(self, severity, msg): ...

    logger = Logger()
    builder = trt.Builder(logger)
    config = builder.create_builder_config()
    with pytest.raises(TypeError, match="incompatible"):
        trt.Builder(log=logger)
    with pytest.raises(TypeError, match="incompatible"):
        config.set_timing_cache(cache=None, ignore=True)
    with pytest.raises(TypeError, match="incompatible"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)
    with pytest.raises(AttributeError):
        config.builder_optimisation_level = 3
    with pytest.raises(AttributeError):
        config.num_optimization_profiles = 3
    with pytest.raises(TypeError):
        config.set_flag(0)
    with pytest.raises(NotImplementedError):
        config.reset()
    with pytest.raises(TypeError, match="len"):
        len(config.create_timing_cache(b"").serialize())


def test_a_trampoline_without_its_init_is_refused(version: str) -> None:
    trt = make_fake(version, World())

    class Logger(trt.ILogger):
        def __init__(self) -> None: ...
        def log(self, severity, msg): ...

    with pytest.raises(RuntimeError, match="would crash"):
        trt.Builder(Logger())
