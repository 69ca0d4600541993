"""ONNX in, plan out: one code path for TensorRT 10.3 to 11.x, always strongly typed.

The network is created STRONGLY_TYPED, so that the graph alone says what is computed in which type; TensorRT 11 knows
no other kind. No flag asks for a precision: those flags are gone in 11.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ....errors import GateError, UsageError, one_line
from ...artifact.manifest import Batch
from .log import Log
from .options import BuildOptions
from .progress import make_monitor

Progress = Callable[[str, int, int], None]
MIB = 1 << 20


@dataclass(frozen=True)
class Built:
    """An engine.

    Attributes:
        plan: the serialised engine.
        timing_cache: TensorRT's measurements, for the next build on this GPU; empty when none are kept.
        seconds: the build took.
        notes: what a person should know.
    """

    plan: bytes
    timing_cache: bytes
    seconds: float
    notes: tuple[str, ...] = ()


def build(
    trt: Any, onnx: bytes, batch: Batch, options: BuildOptions, cache: bytes = b"", progress: Progress | None = None
) -> Built:
    """Build an engine for an ONNX graph whose first dimension is the batch.

    Args:
        trt: the TensorRT module.
        onnx: the serialised graph.
        batch: smallest, usual and largest batch: the one optimisation profile.
        options: of the engine.
        cache: the timing cache of an earlier build, or nothing.
        progress: is told (phase, steps done, steps in all).

    Raises:
        GateError: TensorRT's parser refuses the graph.
        UnavailableError: TensorRT cannot build it here; the message holds its own words.
        UsageError: an option that this TensorRT does not have.
    """
    log = Log(trt)
    begun = time.perf_counter()
    try:
        builder = trt.Builder(log.logger)
    except TypeError as error:  # pybind11's "factory function returned nullptr"
        log.check(None, f"no builder could be made ({one_line(error)})", "zoo doctor says what is missing")
        raise
    strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = log.check(builder.create_network(strongly_typed), "no network could be made", "see zoo doctor")
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse(onnx):
        raise GateError(
            f"TensorRT {trt.__version__} refuses the graph: {_parser_errors(parser)}",
            fix="zoo lint FILE.onnx names the rule",
        )
    config = log.check(builder.create_builder_config(), "no builder configuration could be made", "see zoo doctor")
    _configure(trt, config, options)
    _add_profile(builder, network, config, batch, log)
    kept, notes = _attach_cache(config, options, cache, log)
    plan = _interruptible(trt, builder, network, config, progress)
    log.check(
        plan,
        "no engine could be built",
        "more workspace (--set trt.workspace_mib=...), a smaller --batch, or another precision",
    )
    timing = bytes(memoryview(config.get_timing_cache().serialize())) if kept is not None else b""
    notes += [f"TensorRT warns: {line}" for line in dict.fromkeys(log.warnings[-5:])]
    return Built(bytes(memoryview(plan)), timing, time.perf_counter() - begun, tuple(notes))


def _configure(trt: Any, config: Any, options: BuildOptions) -> None:
    config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the receipt is read from it
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib * MIB)
    flags = {
        "TF32": options.tf32,
        "SPARSE_WEIGHTS": bool(options.sparse_weights),
        "REFIT": options.refit,
        "VERSION_COMPATIBLE": options.version_compatible,
        "DISABLE_TIMING_CACHE": not options.timing_cache,
    }
    for name, wanted in flags.items():  # by name: the integers differ between versions
        (config.set_flag if wanted else config.clear_flag)(getattr(trt.BuilderFlag, name))
    if options.hardware_compatibility != "none":
        level = options.hardware_compatibility.upper()
        if not hasattr(trt.HardwareCompatibilityLevel, level):
            raise UsageError(
                f"TensorRT {trt.__version__} has no hardware compatibility {options.hardware_compatibility}",
                fix="use ampere_plus, or a newer TensorRT",
            )
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)


def _add_profile(builder: Any, network: Any, config: Any, batch: Batch, log: Log) -> None:
    """One profile: every dynamic input runs over the batch sizes."""
    profile = log.check(builder.create_optimization_profile(), "no profile could be made", "see zoo doctor")
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        rest = tuple(tensor.shape)[1:]
        if any(size < 0 for size in rest):
            raise GateError(
                f"input {tensor.name} has dynamic dimensions beside the batch: {tuple(tensor.shape)}",
                fix="export with a fixed size",
            )
        try:
            profile.set_shape(tensor.name, (batch.min, *rest), (batch.opt, *rest), (batch.max, *rest))
        except RuntimeError as error:
            raise UsageError(
                f"TensorRT refuses the batch sizes {batch}: {one_line(error)}", fix="give another --batch"
            ) from error
    log.check(config.add_optimization_profile(profile), f"the batch sizes {batch} are refused", "give another --batch")


def _attach_cache(config: Any, options: BuildOptions, cache: bytes, log: Log) -> tuple[Any, list[str]]:
    """The timing cache that the build reads and fills; one that does not fit is left, and that is said."""
    if not options.timing_cache:
        return None, []
    for content in dict.fromkeys((cache, b"")):
        made = config.create_timing_cache(content)
        if made is not None and config.set_timing_cache(made, False):
            if content != cache:
                return made, ["the timing cache of an earlier build does not fit this TensorRT or GPU: a new one"]
            return made, []
    return None, [f"TensorRT takes no timing cache ({log.why()}): the build measured everything anew"]


def _interruptible(trt: Any, builder: Any, network: Any, config: Any, progress: Progress | None) -> Any:
    """Build in a thread, so that Ctrl-C is seen here: TensorRT would swallow it in the progress monitor."""
    stop = threading.Event()
    config.progress_monitor = make_monitor(trt, stop, progress)
    made: list[Any] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            made.append(builder.build_serialized_network(network, config))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            failed.append(error)

    worker = threading.Thread(target=work, name="TensorRT build", daemon=True)
    worker.start()
    try:
        while worker.is_alive():
            worker.join(0.1)
    except BaseException:
        stop.set()  # the monitor cancels at the next step
        worker.join()
        raise
    if failed:
        raise failed[0]
    return made[0]


def _parser_errors(parser: Any) -> str:
    lines: list[str] = []
    for index in range(min(parser.num_errors, 5)):
        error = parser.get_error(index)
        where = f"{error.node_operator()} {error.node_name()}".strip()
        lines.append(f"{where}: {error.desc()}" if where else error.desc())
    return "; ".join(" ".join(line.split()) for line in lines) or "it gives no reason"
