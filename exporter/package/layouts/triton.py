"""`--layout triton`: a model repository for NVIDIA Triton, its config.pbtxt written by Triton's own protobuf.

github.com/triton-inference-server/server, docs/user_guide/model_repository.md and model_configuration.md. Triton serves
logits of prepared images; how an image becomes that input is in the config's parameter `zoo.spec`, and in `zoo.outside`
what of it is left where the model normalises by itself.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ....atomic import staged
from ....config import to_json
from ....errors import UnavailableError, UsageError, quoted
from ....models.preprocess import steps_outside
from ...artifact.folder import Artifact, load_artifact
from ...artifact.manifest import Batch
from ...backends.info import Serving
from ...backends.infos import backend_info, backend_infos, known_info

QUEUE_US = 100  # that a request may wait for others
DEFAULT_BATCH = Batch(1, 8, 32)  # of an artifact that takes any


def write_repository(folders: Sequence[str | Path], out: Path) -> list[str]:
    """Write a model repository; the names of the models in it.

    TensorRT plans of one precision for several GPUs become one model, which picks by compute capability.

    Args:
        folders: artifacts of one model.
        out: a folder that is not there, or is empty.

    Raises:
        UsageError: something in the way, artifacts of several models, or of a format that Triton does not take.
        UnavailableError: tritonclient is missing, or an artifact is not built yet.
        IntegrityError: a file of an artifact was changed.
    """
    from ..pack import refuse_strangers

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is in the way", fix="give another --out")
    artifacts = [load_artifact(Path(folder)) for folder in folders]
    infos = {one.manifest.backend: known_info(one.manifest.backend) for one in artifacts}
    for backend, info in infos.items():
        if info is None or info.serving is None:
            able = [one.name for one in backend_infos() if one.serving is not None]
            raise UsageError(f"Triton runs no {backend} artifact", fix=f"one of {', '.join(able)}")
    plans = [one for one in artifacts if serving_of(one).gpu_only]
    refuse_strangers([*(one for one in artifacts if one not in plans), *plans[:1]])
    groups: dict[str, list[Artifact]] = {}
    for one in artifacts:
        manifest = one.manifest
        if not manifest.built:
            raise UnavailableError(
                f"{one.folder} is not built yet", fix=f"zoo build {quoted(one.folder)}, on its device"
            )
        if "engine" in manifest.options:
            raise UsageError(
                f"{one.folder} needs torch's engine {manifest.options['engine']}, which Triton does not set",
                fix="export again without torchscript.engine",
            )
        if manifest.weights_sha256 != artifacts[0].manifest.weights_sha256:
            raise UsageError(f"{one.folder} has other weights than {artifacts[0].folder}")
        groups.setdefault(manifest.form, []).append(one)
    name = artifacts[0].manifest.spec.name
    names = {key: name if len(groups) == 1 else f"{name}-{key}" for key in groups}
    pb2 = model_config_pb2()
    with staged(out) as place:
        for key, group in groups.items():
            folder = place / names[key]
            version = folder / "1"
            version.mkdir(parents=True)
            config, files = config_of(pb2, names[key], group)
            for one, file in zip(group, files, strict=True):
                shutil.copyfile(one.model_path, version / file)
            (folder / "labels.txt").write_text("".join(f"{label}\n" for label in group[0].manifest.spec.labels))
            (folder / "config.pbtxt").write_text(as_text(pb2, config))
    return list(names.values())


def serving_of(artifact: Artifact) -> Serving:
    """How Triton runs an artifact, of a backend that it runs."""
    found = backend_info(artifact.manifest.backend).serving
    assert found is not None
    return found


def config_of(pb2: Any, name: str, group: Sequence[Artifact]) -> tuple[Any, list[str]]:
    """A ModelConfig, and the name of each artifact's file.

    Raises:
        UsageError: two plans for one GPU, or one of an unknown one among several.
    """
    first = group[0].manifest
    serving, file = serving_of(group[0]), backend_info(first.backend).model
    platform, (taken, given) = serving.triton, serving.tensors
    sizes = [one.manifest.batch or DEFAULT_BATCH for one in group]
    config = pb2.ModelConfig(name=name, platform=platform, max_batch_size=min(size.max for size in sizes))
    channels, height, width = first.spec.input
    pixels, dims = (pb2.TYPE_UINT8, [height, width, channels]) if first.pixels else (pb2.TYPE_FP32, first.spec.input)
    config.input.add(name=taken, data_type=pixels, dims=list(dims))
    output = config.output.add(name=given, data_type=pb2.TYPE_FP32, dims=[len(first.spec.labels)])
    output.label_filename = "labels.txt"
    config.version_policy.latest.num_versions = 1
    config.parameters["zoo.spec"].string_value = to_json(first.spec)
    if first.pixels:
        config.parameters["zoo.outside"].string_value = "; ".join(steps_outside(first.spec.preprocess))
    config.parameters["zoo.weights_sha256"].string_value = first.weights_sha256
    if config.max_batch_size > 1:
        usual = min(sizes[0].opt, config.max_batch_size)
        if usual > 1:
            config.dynamic_batching.preferred_batch_size.append(usual)
        config.dynamic_batching.max_queue_delay_microseconds = QUEUE_US
    kinds = pb2.ModelInstanceGroup
    # int8 is written for the CPU's integer kernels by the target onnx, and TorchScript's integers run nowhere else
    cpu = first.precision == "int8" and not serving.gpu_only
    kind = kinds.KIND_CPU if cpu else kinds.KIND_GPU if serving.gpu_only else kinds.KIND_AUTO
    config.instance_group.add(kind=kind, count=1)
    if len(group) == 1:
        return config, [file]
    files: list[str] = []
    for one in group:
        capability = one.manifest.platform.compute_capability if one.manifest.platform else ""
        if not serving.gpu_only or not capability:
            raise UsageError(f"two artifacts are {first.form}", fix="give one of them")
        if capability in config.cc_model_filenames:
            raise UsageError(f"two plans are for compute capability {capability}", fix="give one of them")
        stem, _, suffix = file.partition(".")
        files.append(f"{stem}_cc{capability.replace('.', '')}.{suffix}")
        config.cc_model_filenames[capability] = files[-1]
    config.default_model_filename = files[0]
    return config, files


def as_text(pb2: Any, config: Any) -> str:
    """The message as text, after it was read back and found the same."""
    from google.protobuf import text_format

    text = text_format.MessageToString(config)
    assert text_format.Parse(text, pb2.ModelConfig()) == config
    return text


def model_config_pb2() -> Any:
    """Triton's message types, from tritonclient's file: its package asks for all of grpc on import.

    Raises:
        UnavailableError: tritonclient is missing.
    """
    found = importlib.util.find_spec("tritonclient")
    folder = next(iter(found.submodule_search_locations or ()), None) if found is not None else None
    path = Path(folder) / "grpc" / "model_config_pb2.py" if folder else None
    if path is None or not path.is_file():
        raise UnavailableError("a Triton layout needs tritonclient", fix='pip install "zoo-export[triton]"')
    spec = importlib.util.spec_from_file_location("zoo_triton_model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # protobuf's own classes: a runtime that is older than the file
        raise UnavailableError(
            f"tritonclient does not fit this protobuf ({error})", fix="pip install -U tritonclient"
        ) from error
    return module
