"""Every call that reports failure by False, None or -1 is an error with TensorRT's own words; options arrive."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import onnx
import pytest
from conftest import tiny_model
from zoo.errors import GateError, UnavailableError, UsageError, ZooError
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.backends.graph.graph import export_graph
from zoo.exporter.backends.tensorrt.builder import build
from zoo.exporter.backends.tensorrt.options import BuildOptions

BATCH = Batch(1, 4, 8)


@pytest.fixture(scope="module")
def half() -> bytes:
    model = tiny_model("mobilenet_v2")
    return export_graph(model.module, model.spec, "fp16", BATCH).SerializeToString()


def plan_of(built) -> dict:
    return json.loads(built.plan[4:])


def test_builds_strongly_typed_with_one_profile_over_the_batch(any_machine, half: bytes) -> None:
    steps: list[tuple[str, int, int]] = []
    built = build(any_machine.trt, half, BATCH, BuildOptions(), progress=lambda *step: steps.append(step))
    plan = plan_of(built)
    assert plan["strong"]
    assert plan["profile"] == [[1, 3, 32, 32], [4, 3, 32, 32], [8, 3, 32, 32]]
    assert plan["verbosity"] == "DETAILED", "the receipt is read from it"
    assert plan["flags"] == [], "TF32 is TensorRT's default and not zoo's; nothing else is set"
    assert built.timing_cache.startswith(any_machine.version.encode())
    assert steps[0] == ("TensorRT: Building Engine", 0, 4)
    assert steps[-1] == ("TensorRT: Building Engine", 4, 4)
    assert not any("Tactics" in what for what, _, _ in steps), "inner phases are not shown"


@pytest.mark.parametrize(
    ("options", "key", "expected"),
    [
        (BuildOptions(tf32=True), "flags", ["TF32"]),
        (BuildOptions(sparse_weights=True), "flags", ["SPARSE_WEIGHTS"]),
        (BuildOptions(refit=True), "flags", ["REFIT"]),
        (BuildOptions(version_compatible=True), "flags", ["VERSION_COMPATIBLE"]),
        (BuildOptions(timing_cache=False), "flags", ["DISABLE_TIMING_CACHE"]),
        (BuildOptions(optimization_level=5), "level", 5),
        (BuildOptions(workspace_mib=256), "pools", {"WORKSPACE": 256 << 20}),
        (BuildOptions(hardware_compatibility="ampere_plus"), "hardware", "AMPERE_PLUS"),
    ],
)
def test_options_arrive(any_machine, half: bytes, options: BuildOptions, key: str, expected: object) -> None:
    built = build(any_machine.trt, half, BATCH, options)
    assert plan_of(built)[key] == expected
    assert bool(built.timing_cache) == options.timing_cache


def test_an_option_that_a_version_lacks_is_said(one_machine, half: bytes) -> None:
    options = BuildOptions(hardware_compatibility="same_compute_capability")
    assert plan_of(build(one_machine.trt, half, BATCH, options))["hardware"] == "SAME_COMPUTE_CAPABILITY"
    one_machine.become("10.3")
    with pytest.raises(UsageError, match=r"TensorRT 10\.3\.0\.26 has no hardware compatibility"):
        build(one_machine.trt, half, BATCH, options)


def test_contradictions_are_refused() -> None:
    for wrong in ({"optimization_level": 6}, {"workspace_mib": 0}, {"sparse_weights": True, "refit": True}):
        with pytest.raises(ValueError):
            BuildOptions(**wrong)


@pytest.mark.parametrize(
    ("point", "kind", "words"),
    [
        ("Builder", UnavailableError, "no builder could be made"),
        ("Builder.create_network", UnavailableError, "no network"),
        ("Builder.create_builder_config", UnavailableError, "no builder configuration"),
        ("Builder.create_optimization_profile", UnavailableError, "no profile"),
        ("OnnxParser.parse", GateError, r"refuses the graph: Resize node_17: the reason"),
        ("IOptimizationProfile.set_shape", UsageError, "batch sizes 1:4:8"),
        ("IBuilderConfig.add_optimization_profile", UnavailableError, "batch sizes 1:4:8 are refused"),
        ("Builder.build_serialized_network", UnavailableError, "no engine could be built"),
    ],
)
def test_every_failing_return_is_an_error_with_the_logs_words(
    any_machine, half: bytes, point: str, kind: type[ZooError], words: str
) -> None:
    any_machine.world.fail[point] = "the reason"
    with pytest.raises(kind, match=words) as caught:
        build(any_machine.trt, half, BATCH, BuildOptions())
    assert caught.value.fix
    if point != "IOptimizationProfile.set_shape":
        assert "the reason" in str(caught.value)
    assert "fake.cpp" not in str(caught.value), "TensorRT's source positions are not for users"


@pytest.mark.parametrize("point", ["IBuilderConfig.create_timing_cache", "IBuilderConfig.set_timing_cache"])
def test_a_build_does_without_a_timing_cache_that_cannot_be_had(any_machine, half: bytes, point: str) -> None:
    any_machine.world.fail[point] = "the reason"
    built = build(any_machine.trt, half, BATCH, BuildOptions())
    assert built.plan
    assert built.timing_cache == b""
    assert any("takes no timing cache (the reason)" in note for note in built.notes)


def test_the_timing_cache_is_reused_and_a_stranger_replaced(any_machine, half: bytes) -> None:
    first = build(any_machine.trt, half, BATCH, BuildOptions())
    second = build(any_machine.trt, half, BATCH, BuildOptions(), first.timing_cache)
    assert second.timing_cache.endswith(b"twice")
    third = build(any_machine.trt, half, BATCH, BuildOptions(), b"9.9 timed")
    assert third.timing_cache.endswith(b"timed")
    assert any("does not fit this TensorRT or GPU" in note for note in third.notes)


def test_dynamic_image_sizes_are_refused(any_machine, half: bytes) -> None:
    proto = onnx.load_from_string(half)
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    with pytest.raises(GateError, match="dynamic dimensions beside the batch"):
        build(any_machine.trt, proto.SerializeToString(), BATCH, BuildOptions())


def test_an_interrupt_cancels_the_build_at_its_next_step(one_machine, half: bytes) -> None:
    """Raised inside the monitor it would be swallowed; here the waiting thread sees it."""
    one_machine.world.slow = 0.3
    raised: list[BaseException] = []

    def interrupted_join(self: threading.Thread, timeout: float | None = None) -> None:
        if timeout is not None and not raised:
            time.sleep(0.05)
            raised.append(KeyboardInterrupt())
            raise raised[0]
        plain_join(self, timeout)

    plain_join = threading.Thread.join
    one_machine.patch.setattr(threading.Thread, "join", interrupted_join)
    begun = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        build(one_machine.trt, half, BATCH, BuildOptions())
    assert time.perf_counter() - begun < 20
    assert one_machine.world.logged == ["the build was cancelled"]
    assert not [thread for thread in threading.enumerate() if thread.name == "TensorRT build"]


REMOVED = {
    "a precision flag": ("    _add_profile(", "    config.set_flag(trt.BuilderFlag.FP16)\n    _add_profile("),
    "a calibrator": ("    _add_profile(", "    config.int8_calibrator = None\n    _add_profile("),
    "an implicit flag": ("1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)",
                         "1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)"),
    "a query for fast fp16": ("    _add_profile(", "    builder.platform_has_fast_fp16\n    _add_profile("),
}  # fmt: skip
EVERYWHERE = {
    "a misspelt attribute": ("config.profiling_verbosity =", "config.profile_verbosity ="),
    "a misspelt argument": ("builder.create_network(strongly_typed)", "builder.create_network(flag=strongly_typed)"),
    "an engine built the old way": ("builder.build_serialized_network(", "builder.build_cuda_engine("),
    "a bool for a flag": ("(getattr(trt.BuilderFlag, name))", "(0)"),
}


def mutant(change: tuple[str, str]):
    """The builder with one change in its source."""
    from zoo.exporter.backends.tensorrt import builder as module

    source = Path(module.__file__).read_text(encoding="utf-8")
    assert change[0] in source, "the mutation does not apply any more"
    space = {"__name__": module.__name__ + "_mutant", "__package__": module.__package__}
    import sys
    import types

    made = types.ModuleType(space["__name__"])
    made.__dict__.update(space)
    sys.modules[made.__name__] = made  # dataclasses look their module up
    exec(compile(source.replace(*change), module.__file__, "exec"), made.__dict__)
    return made.build


@pytest.mark.parametrize("name", REMOVED)
def test_using_a_removed_name_is_found_on_11(one_machine, half: bytes, name: str) -> None:
    one_machine.become("11.1")
    with pytest.raises(AttributeError):
        mutant(REMOVED[name])(one_machine.trt, half, BATCH, BuildOptions())


@pytest.mark.parametrize("name", EVERYWHERE)
def test_a_wrong_name_is_found_on_every_version(any_machine, half: bytes, name: str) -> None:
    with pytest.raises((AttributeError, TypeError, NotImplementedError)):
        mutant(EVERYWHERE[name])(any_machine.trt, half, BATCH, BuildOptions())
