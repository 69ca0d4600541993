"""A strict stand-in for `tensorrt`, one profile a version, made from the API data beside this file (VERSION.json).

Strict means: a class, enum member, attribute or argument that the version does not have raises as pybind11 would
(AttributeError, TypeError); enum values are those of the version; attributes that are read-only cannot be set; a
trampoline class whose __init__ was not called is refused. Every return value that means failure can be asked for by
`world.fail`. What it does not imitate raises NotImplementedError, so that no test passes on a name alone.

An engine of it is the ONNX graph with the builder's options; running it runs the graph on ONNX Runtime's CPU, from and
to the memory that addresses were set to. The inspector writes the JSON of the version: "Format/Datatype" in words
(10.3), as a type (10.13, 10.16), split (11.1).

ILogger is not in the data (its bindings were not extracted); its shape is that of TensorRT's documentation.
"""

from __future__ import annotations

import base64
import enum
import json
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from zoo.exporter.backends.graph.layers import list_layers
from zoo.exporter.backends.tensorrt.cuda import Gpu

HERE = Path(__file__).parent
VERSIONS = {"10.3": "10.3.0.26", "10.13": "10.13.3.9", "10.16": "10.16.2.10", "11.1": "11.1.0.106"}
TRAMPOLINES = ("ILogger", "IProgressMonitor", "IProfiler", "IOutputAllocator")
NULLPTR = "pybind11::init(): factory function returned nullptr"
NO_DRIVER = "CUDA initialization failure with error: 35. Please check your CUDA installation"


@dataclass
class World:
    """What the fake machine does: failures asked for, memory, calls.

    Attributes:
        fail: what fails, as "Class.method", with the message it logs.
        ran_at: makes every compute layer of an engine run at this precision, whatever the graph says.
        omit: names of nodes that the inspector says nothing of.
        calls: "Class.method" in order.
        memory: device memory by address.
        slow: seconds that a build step takes.
        loggers: those that builders, runtimes and parsers were made with.
        logged: messages in order.
    """

    fail: dict[str, str] = field(default_factory=dict)
    ran_at: str = ""
    omit: tuple[str, ...] = ()
    calls: list[str] = field(default_factory=list)
    memory: dict[int, bytearray] = field(default_factory=dict)
    slow: float = 0.0
    loggers: list[Any] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)

    def log(self, level: str, message: str) -> None:
        self.logged.append(message)
        for logger in self.loggers[-1:]:
            severity = next(one for one in type(logger).Severity if one.name == level)
            try:
                logger.log(severity, f"[fake.cpp::fake::1] Error Code 1: {message}")
            except Exception as error:  # the bindings print and swallow it
                print("swallowed", error)

    def fails(self, point: str) -> bool:
        if point in self.fail:
            self.log("ERROR", self.fail[point])
            return True
        return False


def make_fake(version: str, world: World) -> types.ModuleType:
    """The module of a version."""
    api = json.loads((HERE / f"{version}.json").read_text(encoding="utf-8"))
    module = types.ModuleType("tensorrt", "a fake")
    module.__version__ = VERSIONS[version]
    module.__file__ = "/fake/tensorrt/__init__.py"
    for name, one in api.items():
        if one["kind"] == "enum":
            setattr(module, name, _make_enum(name, one["members"]))
    behaviours = _Behaviours(module, world, version)
    for name, one in api.items():
        if one["kind"] == "class":
            setattr(module, name, _make_class(name, one["members"], behaviours))
    module.ILogger = _make_class("ILogger", {"__init__": {"overloads": [[]]}}, behaviours)
    module.ILogger.Severity = module.Severity
    return module


def _make_enum(name: str, members: list[str]) -> Any:
    """Like pybind11's: int() and index() work, arithmetic and comparison with integers do not."""
    made = enum.Enum(name, {member: index for index, member in enumerate(members)})
    made.__int__ = made.__index__ = lambda self: self.value
    return made


def _make_class(name: str, members: dict[str, Any], behaviours: _Behaviours) -> type:
    space: dict[str, Any] = {"_native": True}
    for member, one in members.items():
        if "property" in one:
            space[member] = _make_property(name, member, one["property"], behaviours)
        elif member == "__init__":
            space[member] = _make_init(name, one["overloads"], behaviours)
        elif not member.startswith("__"):
            space[member] = _make_method(name, member, one["overloads"], behaviours)

    def refuse(self: Any, key: str, value: Any) -> None:
        if type(self).__dict__.get("_native") and key not in members and not key.startswith("f_"):
            raise AttributeError(f"'tensorrt.tensorrt.{name}' object has no attribute '{key}'")
        object.__setattr__(self, key, value)

    space["__setattr__"] = refuse
    if name == "IHostMemory":
        space |= {"__len__": _no_len}
        return type(name, (bytearray,), space)
    if name == "Dims":
        space |= {"__len__": lambda self: len(self.f_sizes), "__getitem__": lambda self, index: self.f_sizes[index]}
    return type(name, (), space)


def _no_len(_self: Any) -> int:
    raise TypeError("object of type 'tensorrt.tensorrt.IHostMemory' has no len()")


def _make_property(owner: str, name: str, access: str, behaviours: _Behaviours) -> property:
    def get(self: Any) -> Any:
        found = getattr(behaviours, f"get_{owner}_{name}", None)
        if found is not None:
            return found(self)
        if f"f_{name}" in self.__dict__:
            return self.__dict__[f"f_{name}"]
        raise NotImplementedError(f"the fake has no {owner}.{name}")

    def put(self: Any, value: Any) -> None:
        behaviours.world.calls.append(f"{owner}.{name}=")
        check = getattr(behaviours, f"set_{owner}_{name}", None)
        if check is not None:
            check(self, value)
        self.__dict__[f"f_{name}"] = value

    return property(get, put if access == "rw" else None)


def _bind(owner: str, name: str, overloads: list[list[str]], given: tuple[Any, ...], named: dict[str, Any]) -> dict:
    for overload in overloads:
        names = [argument.rstrip("=") for argument in overload]
        needed = {argument for argument in overload if not argument.endswith("=")}
        bound = dict(zip(names, given))
        if len(given) <= len(names) and not set(bound) & set(named) and needed <= set(bound) | set(named) <= set(names):
            return bound | named
    raise TypeError(f"{owner}.{name}(): incompatible function arguments: {given} {named}; supported: {overloads}")


def _make_init(owner: str, overloads: list[list[str]], behaviours: _Behaviours) -> Callable[..., None]:
    def init(self: Any, *given: Any, **named: Any) -> None:
        object.__setattr__(self, "f_initialised", True)
        bound = _bind(owner, "__init__", overloads, given, named)
        found = getattr(behaviours, f"init_{owner}", None)
        if found is not None:
            found(self, **bound)
        elif owner not in TRAMPOLINES:
            raise NotImplementedError(f"the fake cannot make a {owner}")

    return init


def _make_method(owner: str, name: str, overloads: list[list[str]], behaviours: _Behaviours) -> Callable[..., Any]:
    def method(self: Any, *given: Any, **named: Any) -> Any:
        bound = _bind(owner, name, overloads, given, named)
        point = f"{owner}.{name}"
        behaviours.world.calls.append(point)
        found = getattr(behaviours, f"do_{owner}_{name}", None)
        if found is None:
            raise NotImplementedError(f"the fake has no {point}")
        return found(self, **bound)

    return method


class _Behaviours:
    """What the methods do, the same for all versions; whether a version has them is the data's business."""

    def __init__(self, module: Any, world: World, version: str) -> None:
        self.module, self.world, self.version = module, world, version

    def make(self, kind_name: str, /, **values: Any) -> Any:
        kind = getattr(self.module, kind_name)
        made = kind.__new__(kind)
        for key, value in values.items():
            object.__setattr__(made, f"f_{key}", value)
        return made

    def host(self, content: bytes) -> Any:
        return _host(self.module, content)

    def dims(self, sizes: Any) -> Any:
        return self.make("Dims", sizes=tuple(sizes))

    def _trampoline(self, one: Any, kind: str) -> None:
        if not isinstance(one, getattr(self.module, kind)):
            raise TypeError(f"incompatible function arguments: {one!r} is no {kind}")
        if not getattr(one, "f_initialised", False):
            raise RuntimeError(f"{kind}.__init__ was not called: the bindings would crash")

    # construction

    def init_Builder(self, builder: Any, logger: Any) -> None:
        self._trampoline(logger, "ILogger")
        self.world.loggers.append(logger)
        if self.world.fails("Builder"):
            raise TypeError(NULLPTR)

    def init_Runtime(self, runtime: Any, logger: Any) -> None:
        self._trampoline(logger, "ILogger")
        self.world.loggers.append(logger)
        if self.world.fails("Runtime"):
            raise TypeError(NULLPTR)
        runtime.f_engine_host_code_allowed = False

    def init_OnnxParser(self, parser: Any, network: Any, logger: Any) -> None:
        self._trampoline(logger, "ILogger")
        parser.f_network, parser.f_errors = network, []

    # building

    def do_Builder_create_network(self, _builder: Any, flags: int = 0) -> Any:
        if not isinstance(flags, int):
            raise TypeError("flags is an int")
        if self.world.fails("Builder.create_network"):
            return None
        strong = bool(flags >> int(self.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED) & 1)
        return self.make("INetworkDefinition", strong=strong or self.version.startswith("11"), proto=None)

    def do_Builder_create_builder_config(self, _builder: Any) -> Any:
        if self.world.fails("Builder.create_builder_config"):
            return None
        return self.make("IBuilderConfig", set={self.module.BuilderFlag.TF32}, profiles=[], pools={}, cache=None)

    def do_Builder_create_optimization_profile(self, _builder: Any) -> Any:
        if self.world.fails("Builder.create_optimization_profile"):
            return None
        return self.make("IOptimizationProfile", shapes={})

    def do_OnnxParser_parse(self, parser: Any, model: bytes, path: str | None = None) -> bool:
        if not isinstance(model, bytes):
            raise TypeError("model is bytes")
        if "OnnxParser.parse" in self.world.fail:
            parser.f_errors = [self.world.fail["OnnxParser.parse"]]
            return False
        parser.f_network.f_proto = onnx.load_from_string(model)
        return True

    def get_OnnxParser_num_errors(self, parser: Any) -> int:
        return len(parser.f_errors)

    def do_OnnxParser_get_error(self, parser: Any, index: int) -> Any:
        return self.make("ParserError", text=parser.f_errors[index])

    def do_ParserError_desc(self, error: Any) -> str:
        return error.f_text

    def do_ParserError_node_name(self, _error: Any) -> str:
        return "node_17"

    def do_ParserError_node_operator(self, _error: Any) -> str:
        return "Resize"

    def get_INetworkDefinition_num_inputs(self, network: Any) -> int:
        return len(network.f_proto.graph.input)

    def do_INetworkDefinition_get_input(self, network: Any, index: int) -> Any:
        value = network.f_proto.graph.input[index]
        sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim]
        return self.make("ITensor", name=value.name, shape=self.dims(sizes))

    def do_IOptimizationProfile_set_shape(self, profile: Any, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002 - their names
        if (
            not all(a <= b <= c for a, b, c in zip(min, opt, max))
            or "IOptimizationProfile.set_shape" in self.world.fail
        ):
            raise RuntimeError("Shape provided for min is inconsistent")
        profile.f_shapes[input] = (tuple(min), tuple(opt), tuple(max))

    def do_IBuilderConfig_add_optimization_profile(self, config: Any, profile: Any) -> int:
        if self.world.fails("IBuilderConfig.add_optimization_profile"):
            return -1
        config.f_profiles.append(profile)
        return len(config.f_profiles) - 1

    def _flag(self, flag: Any) -> Any:
        if not isinstance(flag, self.module.BuilderFlag):
            raise TypeError(f"incompatible function arguments: {flag!r}")
        return flag

    def do_IBuilderConfig_set_flag(self, config: Any, flag: Any) -> None:
        config.f_set.add(self._flag(flag))

    def do_IBuilderConfig_clear_flag(self, config: Any, flag: Any) -> None:
        config.f_set.discard(self._flag(flag))

    def do_IBuilderConfig_set_memory_pool_limit(self, config: Any, pool: Any, pool_size: int) -> None:
        if not isinstance(pool, self.module.MemoryPoolType):
            raise TypeError("pool")
        config.f_pools[pool.name] = pool_size

    def set_IBuilderConfig_builder_optimization_level(self, _config: Any, value: Any) -> None:
        assert 0 <= value <= 5

    def set_IBuilderConfig_profiling_verbosity(self, _config: Any, value: Any) -> None:
        assert isinstance(value, self.module.ProfilingVerbosity)

    def set_IBuilderConfig_hardware_compatibility_level(self, _config: Any, value: Any) -> None:
        assert isinstance(value, self.module.HardwareCompatibilityLevel)

    def set_IBuilderConfig_progress_monitor(self, _config: Any, value: Any) -> None:
        self._trampoline(value, "IProgressMonitor")

    def do_IBuilderConfig_create_timing_cache(self, _config: Any, serialized_timing_cache: bytes) -> Any:
        if self.world.fails("IBuilderConfig.create_timing_cache"):
            return None
        return self.make("ITimingCache", content=serialized_timing_cache)

    def do_IBuilderConfig_set_timing_cache(self, config: Any, cache: Any, ignore_mismatch: bool) -> bool:
        stale = cache.f_content and not cache.f_content.startswith(self.version.encode())
        if self.world.fails("IBuilderConfig.set_timing_cache") or (stale and not ignore_mismatch):
            self.world.log("WARNING", "the timing cache was made by another version")
            return False
        config.f_cache = cache
        return True

    def do_IBuilderConfig_get_timing_cache(self, config: Any) -> Any:
        return config.f_cache

    def do_ITimingCache_serialize(self, cache: Any) -> Any:
        return _host(self.module, self.version.encode() + b" timed" + (b" twice" if cache.f_content else b""))

    def do_Builder_build_serialized_network(self, _builder: Any, network: Any, config: Any) -> Any:
        monitor = config.__dict__.get("f_progress_monitor")
        going = True
        if monitor is not None:
            for phase, parent, steps in (("Building Engine", None, 4), ("Tactics", "Building Engine", 100)):
                _swallow(monitor.phase_start, phase, parent, steps)
            for step in range(4):
                time.sleep(self.world.slow)
                going = going and _swallow(monitor.step_complete, "Building Engine", step) is not False
            _swallow(monitor.phase_finish, "Building Engine")
        if not going:
            self.world.log("ERROR", "the build was cancelled")
            return None
        dynamic = any(
            not dim.HasField("dim_value") for dim in network.f_proto.graph.input[0].type.tensor_type.shape.dim
        )
        if self.world.fails("Builder.build_serialized_network") or (dynamic and not config.f_profiles):
            return None
        flags = sorted(flag.name for flag in config.f_set)
        plan = {
            "version": self.module.__version__,
            "strong": network.f_strong,
            "flags": flags,
            "level": config.f_builder_optimization_level,
            "verbosity": config.f_profiling_verbosity.name,
            "pools": config.f_pools,
            "hardware": getattr(config.__dict__.get("f_hardware_compatibility_level"), "name", "NONE"),
            "profile": [list(shape) for shape in config.f_profiles[0].f_shapes[network.f_proto.graph.input[0].name]],
            "onnx": base64.b64encode(network.f_proto.SerializeToString()).decode(),
        }
        return _host(self.module, b"ftrt" + json.dumps(plan).encode())

    # running

    def do_Runtime_deserialize_cuda_engine(self, runtime: Any, serialized_engine: bytes) -> Any:
        if self.world.fails("Runtime.deserialize_cuda_engine"):
            return None
        try:
            assert serialized_engine[:4] == b"ftrt"
            plan = json.loads(serialized_engine[4:])
        except (AssertionError, ValueError):
            self.world.log("ERROR", "Serialization (Magic tag does not match)")
            return None
        compatible = "VERSION_COMPATIBLE" in plan["flags"]
        if compatible and not runtime.f_engine_host_code_allowed:
            self.world.log("ERROR", "Plan contains host code, which is not allowed")
            return None
        if plan["version"] != self.module.__version__ and not compatible:
            self.world.log("ERROR", "Serialization (Version tag does not match)")
            return None
        proto = onnx.load_from_string(base64.b64decode(plan["onnx"]))
        return self.make("ICudaEngine", plan=plan, proto=proto)

    def get_ICudaEngine_num_io_tensors(self, engine: Any) -> int:
        return 2

    def do_ICudaEngine_get_tensor_name(self, engine: Any, index: int) -> str:
        return (engine.f_proto.graph.input[0], engine.f_proto.graph.output[0])[index].name

    def do_ICudaEngine_get_tensor_mode(self, engine: Any, name: str) -> Any:
        modes = self.module.TensorIOMode
        return modes.INPUT if name == engine.f_proto.graph.input[0].name else modes.OUTPUT

    def do_ICudaEngine_get_tensor_dtype(self, engine: Any, name: str) -> Any:
        types = {onnx.TensorProto.FLOAT: "FLOAT", onnx.TensorProto.FLOAT16: "HALF",
                 onnx.TensorProto.UINT8: "UINT8"}  # fmt: skip
        value = next(one for one in (*engine.f_proto.graph.input, *engine.f_proto.graph.output) if one.name == name)
        return getattr(self.module.DataType, types[value.type.tensor_type.elem_type])

    def do_ICudaEngine_get_tensor_profile_shape(self, engine: Any, name: str, profile_index: int) -> list[Any]:
        assert profile_index == 0
        return [self.dims(shape) for shape in engine.f_plan["profile"]]

    def do_ICudaEngine_create_execution_context(self, engine: Any) -> Any:
        if self.world.fails("ICudaEngine.create_execution_context"):
            return None
        return self.make("IExecutionContext", of=engine, shape=None, addresses={}, session=None)

    def do_IExecutionContext_set_input_shape(self, context: Any, name: str, shape: Any) -> bool:
        low, _, high = context.f_of.f_plan["profile"]
        fits = all(a <= b <= c for a, b, c in zip(low, tuple(shape), high)) and len(shape) == len(low)
        if self.world.fails("IExecutionContext.set_input_shape") or not fits:
            self.world.log("ERROR", f"shape {tuple(shape)} is outside of profile 0")
            return False
        context.f_shape = tuple(shape)
        return True

    def do_IExecutionContext_infer_shapes(self, context: Any) -> list[str]:
        return ["images"] if "IExecutionContext.infer_shapes" in self.world.fail else []

    def do_IExecutionContext_get_tensor_shape(self, context: Any, name: str) -> Any:
        classes = context.f_of.f_proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value
        return self.dims((context.f_shape[0], classes))

    def do_IExecutionContext_set_tensor_address(self, context: Any, name: str, memory: int) -> bool:
        if self.world.fails("IExecutionContext.set_tensor_address"):
            return False
        if memory % 256 or memory not in self.world.memory:
            raise AssertionError(f"address {memory} is no aligned device memory")
        context.f_addresses[name] = memory
        return True

    def do_IExecutionContext_execute_async_v3(self, context: Any, stream_handle: int) -> bool:
        assert stream_handle, "stream 0 synchronises"
        if self.world.fails("IExecutionContext.execute_async_v3"):
            return False
        if context.f_session is None:
            import onnxruntime

            content = context.f_of.f_proto.SerializeToString()
            context.f_session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        name_in, name_out = (self.do_ICudaEngine_get_tensor_name(context.f_of, index) for index in (0, 1))
        count = int(np.prod(context.f_shape))
        read = self.world.memory[context.f_addresses[name_in]]
        kind = context.f_of.f_proto.graph.input[0].type.tensor_type.elem_type
        dtype = np.dtype(np.uint8 if kind == onnx.TensorProto.UINT8 else np.float32)
        batch = np.frombuffer(bytes(read[: count * dtype.itemsize]), dtype).reshape(context.f_shape)
        logits = context.f_session.run([name_out], {name_in: batch})[0].astype(np.float32)
        written = self.world.memory[context.f_addresses[name_out]]
        assert len(written) >= logits.nbytes, "the output does not fit into the memory bound to it"
        written[: logits.nbytes] = logits.tobytes()
        return True

    # inspecting

    def do_ICudaEngine_create_engine_inspector(self, engine: Any) -> Any:
        if self.world.fails("ICudaEngine.create_engine_inspector"):
            return None
        return self.make("EngineInspector", engine=engine)

    def do_EngineInspector_get_engine_information(self, inspector: Any, format: Any) -> str:  # noqa: A002
        assert format == self.module.LayerInformationFormat.JSON
        engine = inspector.f_engine
        context = inspector.__dict__.get("f_execution_context")
        concrete = context is not None and context.f_shape is not None
        layers = _inspect(engine, self.world, self.version, concrete)
        if engine.f_plan["verbosity"] != "DETAILED":
            layers = [layer["Name"] for layer in layers]
        names = [engine.f_proto.graph.input[0].name, engine.f_proto.graph.output[0].name]
        key = "I/O Tensors" if self.version.startswith("11") else "Bindings"
        ends = [{"Name": name} for name in names] if key == "I/O Tensors" else names
        return json.dumps({"Layers": layers, key: ends})


WORDS = {"fp32": ("Row major linear FP32", "Float"),
         "fp16": ("Channel major FP16 format where channel % 8 == 0", "Half"),
         "bf16": ("Row major linear BFloat16 format", "BFloat16"),
         "int8": ("Thirty-two wide channel vectorized row major Int8 format", "Int8")}  # fmt: skip


def _inspect(engine: Any, world: World, version: str, concrete: bool) -> list[dict[str, Any]]:
    """Layers as the inspector of a version writes them: each compute node fused with the Relu after it."""
    layers: list[dict[str, Any]] = []
    readers = {name: node for node in engine.f_proto.graph.node for name in node.input}
    for one in list_layers(engine.f_proto):
        if one.name in world.omit:
            continue
        ran = world.ran_at or (one.precision if engine.f_plan["strong"] else "fp32")
        node = next(node for node in engine.f_proto.graph.node if node.name == one.name)
        after = readers.get(node.output[0])
        names = [one.name, *([after.name] if after is not None and after.op_type == "Relu" else [])]
        words, type_ = WORDS[ran]
        tensor: dict[str, Any] = {"Name": "t", "Dimensions": [1, 8]}
        if version.startswith("11"):
            tensor |= {"Format": words, "Datatype": type_}
        else:
            tensor["Format/Datatype"] = (
                (words if version == "10.3" else type_) if concrete else "N/A due to dynamic shapes"
            )
        layer: dict[str, Any] = {
            "Name": " + ".join(names),
            "LayerType": "CaskConvolution" if "Conv" in one.op else "gemm",
            "Inputs": [tensor],
            "Outputs": [tensor],
            "TacticName": "sm80_xmma",
            "Metadata": "\x1e".join(f"[ONNX Layer: {name}]" for name in names),
        }
        if "Conv" in one.op:
            layer["Weights"] = {"Type": type_, "Count": 9}
        layers.append(layer)
    layers.insert(0, {"Name": "Reformatting CopyNode for Input Tensor 0", "LayerType": "Reformat", "Inputs": [],
                      "Outputs": [], "Metadata": ""})  # fmt: skip
    return layers


def _host(module: Any, content: bytes) -> Any:
    made = bytearray.__new__(module.IHostMemory)
    bytearray.__init__(made, content)
    return made


def _swallow(call: Callable[..., Any], *given: Any) -> Any:
    try:
        return call(*given)
    except BaseException as error:  # the bindings print and swallow it
        print("swallowed", type(error).__name__, error)
        return True


class FakeMemory:
    def __init__(self, world: World, nbytes: int) -> None:
        self.address = 256 * (1 + sum(len(one) for one in world.memory.values()) // 256 + len(world.memory))
        self.nbytes = nbytes
        world.memory[self.address] = bytearray(nbytes)


class FakeGraph:
    def __init__(self, enqueue: Callable[[], bool]) -> None:
        self.launches = 0
        self._enqueue = enqueue

    def launch(self) -> None:
        self.launches += 1
        self._enqueue()


class FakeCuda:
    """Device memory of the fake world; "capturing" keeps what was enqueued and does it again."""

    def __init__(self, world: World, gpu: Gpu) -> None:
        self.world, self._gpu, self.stream, self.graphs = world, gpu, 7, []

    def gpu(self) -> Gpu:
        return self._gpu

    def allocate(self, nbytes: int) -> FakeMemory:
        return FakeMemory(self.world, nbytes)

    def upload(self, memory: FakeMemory, data: np.ndarray) -> None:
        raw = np.ascontiguousarray(data).tobytes()
        assert len(raw) <= memory.nbytes
        self.world.memory[memory.address][: len(raw)] = raw

    def download(self, memory: FakeMemory, nbytes: int) -> np.ndarray:
        assert nbytes <= memory.nbytes
        return np.frombuffer(bytes(self.world.memory[memory.address][:nbytes]), np.uint8)

    def synchronize(self) -> None:
        pass

    def event(self) -> float:
        return time.perf_counter()

    def elapsed(self, start: float, end: float) -> float:
        return 1e3 * (end - start)

    def capture(self, enqueue: Callable[[], bool]) -> FakeGraph | None:
        if "capture" in self.world.fail or not enqueue():
            return None
        self.graphs.append(FakeGraph(enqueue))
        return self.graphs[-1]

    def close(self) -> None:
        self.stream = 0
