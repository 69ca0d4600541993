"""One test that every available backend goes through, in every precision that runs here."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_model
from zoo.errors import IntegrityError, UnavailableError, UsageError, ZooError
from zoo.exporter.artifact.folder import Golden, load_artifact
from zoo.exporter.artifact.golden import make_golden
from zoo.exporter.backends.base import Backend
from zoo.exporter.backends.eager.backend import Eager
from zoo.exporter.backends.info import BackendInfo
from zoo.exporter.backends.infos import BACKENDS, backend_info, backend_names, find
from zoo.exporter.backends.options import Available, ExportOptions, Unavailable
from zoo.exporter.backends.registry import get_backend
from zoo.exporter.checks.run import check_golden

AVAILABLE = [name for name in backend_names() if isinstance(get_backend(name).available(), Available)]
# int8 takes a graph with Q/DQ: test_graph.py
CASES = [(name, precision) for name in AVAILABLE for precision in get_backend(name).precisions if precision != "int8"]
RUNS_HERE = [case for case in CASES if case != ("onnx", "bf16")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny, golden) -> dict[tuple[str, str], Path]:
    out = tmp_path_factory.mktemp("contract")
    for name, precision in CASES:
        get_backend(name).export(tiny, golden, ExportOptions(precision), out / f"{name}-{precision}")
    return {case: out / "-".join(case) for case in CASES}


def test_every_backend_is_tested_here_or_says_why_not() -> None:
    for name in backend_names():
        here = get_backend(name).available()
        if isinstance(here, Unavailable):
            assert here.reason, name
            assert here.remedy, name
        else:
            assert name in AVAILABLE
            assert here.version
            assert "cpu" in here.devices
    assert {"eager", "torchscript", "onnx"} <= set(AVAILABLE)


@pytest.mark.parametrize(("name", "precision"), RUNS_HERE)
class TestRunner:
    def batch(self, n: int) -> np.ndarray:
        return np.random.default_rng(n).normal(size=(n, 3, 32, 32)).astype(np.float32)

    def test_answers_as_the_source(self, made, name: str, precision: str) -> None:
        artifact = load_artifact(made[name, precision])
        with get_backend(name).load(artifact) as runner:
            gate = check_golden(artifact, runner)
            assert gate.verdict == "pass", gate.reason

    def test_any_batch(self, made, name: str, precision: str) -> None:
        with get_backend(name).load(made[name, precision]) as runner:
            seven = runner.run(self.batch(7))
            assert seven.shape == (7, 10)
            one = runner.run(self.batch(7)[2:3])
            spread = np.ptp(seven)
            assert np.abs(one - seven[2:3]).max() <= {"fp32": 1e-5, "fp16": 5e-3, "bf16": 5e-2}[precision] * spread

    def test_its_receipt_names_the_precision_of_every_layer(self, made, name: str, precision: str) -> None:
        with get_backend(name).load(made[name, precision]) as runner:
            receipt = runner.receipt()
        emulated = (name, precision) == ("onnx", "fp16")  # ONNX Runtime's CPU computes it in fp32, and zoo says so
        assert receipt.layers == {"fp32" if emulated else precision: 21}
        assert receipt.device == "cpu"
        assert receipt.runtime
        assert receipt.provider

    def test_a_prepared_batch_gives_what_run_gives(self, made, name: str, precision: str) -> None:
        runner = get_backend(name).load(made[name, precision])
        runner.threads = 1
        with runner:
            first, second = self.batch(7)[:3], self.batch(7)[3:6]
            for index, batch in enumerate((first, second)):
                runner.upload(batch) if index else runner.prepare(batch)
                assert len(runner.time_steps(4)) == 4
                np.testing.assert_allclose(runner.fetch(), runner.run(batch), rtol=1e-5, atol=1e-5)

    def test_wrong_inputs_are_named(self, made, name: str, precision: str) -> None:
        runner = get_backend(name).load(made[name, precision])
        with pytest.raises(UsageError, match="not open"):
            runner.run(self.batch(1))
        with runner:
            for wrong, words in (
                (self.batch(1).astype(np.float64), "got float64"),
                (self.batch(1)[:, :2], r"got shape \(1, 2, 32, 32\)"),
                (self.batch(1)[0], r"got shape \(3, 32, 32\)"),
                (self.batch(1)[:0], r"got shape \(0, 3"),
                ([1.0], "got list"),
            ):
                with pytest.raises(UsageError, match=words):
                    runner.run(wrong)
            with pytest.raises(UsageError, match="before prepare"):
                runner.step()
            with pytest.raises(UsageError, match="open already"):
                runner.__enter__()
            for call in (lambda: runner.upload(self.batch(1)), runner.fetch, lambda: runner.time_steps(1)):
                with pytest.raises(UsageError, match="before prepare"):
                    call()
            runner.prepare(self.batch(2))
            runner.step()
            runner.synchronize()
        with pytest.raises(UsageError, match="not open"):
            runner.receipt()


@pytest.mark.parametrize("name", AVAILABLE)
def test_what_a_backend_refuses(name: str, made, tiny, golden, tmp_path: Path) -> None:
    backend = get_backend(name)
    folder = made[name, "fp32"]
    with pytest.raises(UsageError, match="not int8|needs images to calibrate"):
        backend.export(tiny, golden, ExportOptions("int8"), tmp_path / "x")
    other = next(one for one in AVAILABLE if one != name)
    with pytest.raises(UsageError, match=f"is a {other} artifact"):
        backend.load(made[other, "fp32"])
    with pytest.raises(UnavailableError, match="no device tpu"):
        backend.load(folder, "tpu")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("x")
    with pytest.raises(UsageError, match="holds no artifact"):
        backend.export(tiny, golden, ExportOptions(), tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", AVAILABLE)
def test_a_refused_artifact_is_not_written_and_the_old_one_stays(name: str, tiny, golden, tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    get_backend(name).export(tiny, golden, ExportOptions(), folder)
    before = load_artifact(folder).manifest

    def refuse(_artifact: object) -> None:
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        get_backend(name).export(tiny_model("resnet18", width=0.125), golden, ExportOptions(), folder, refuse)
    assert load_artifact(folder).manifest == before
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


def test_an_unavailable_backend_refuses_with_reason_and_remedy(tiny, golden, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        get_backend("trt").export(tiny, golden, ExportOptions(), tmp_path / "x")
    assert caught.value.exit_code == 3
    assert caught.value.fix
    assert not list(tmp_path.iterdir())


def test_unknown_backends_name_near_ones() -> None:
    with pytest.raises(UsageError, match='did you mean "onnx"'):
        get_backend("onx")


def test_third_parties_come_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    import zoo.exporter.backends.infos as infos

    class Entry:
        name, value = "mine", "package:Mine"

        def __init__(self, made: object) -> None:
            self.load = lambda: made

    class Mine(Eager):
        """One whose record is its class's."""

    monkeypatch.setattr(infos, "_foreign", lambda: [Entry(Mine)])
    assert "mine" in backend_names()
    assert isinstance(get_backend("mine"), Mine)
    wrong = BackendInfo(name="mine", precisions=("fp32",), backend="builtins:int")
    for made, words in ((wrong, "no zoo Backend but int"), (replace(wrong, backend="x:y"), "cannot be loaded"),
                        (3, "has no BackendInfo")):  # fmt: skip
        monkeypatch.setattr(infos, "_foreign", lambda made=made: [Entry(made)])
        with pytest.raises(UsageError, match=words):
            get_backend("mine")


@pytest.mark.parametrize("name", BACKENDS)
def test_records_import_in_an_empty_environment(name: str) -> None:
    code = (
        "import sys; from zoo.exporter.backends.infos import backend_info\n"
        f"found = backend_info({name!r})\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'tensorrt', 'msgspec', 'numpy'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_record_is_of_its_class(name: str) -> None:
    backend, info = get_backend(name), backend_info(name)
    assert backend.info is info
    assert (backend.name, backend.precisions, backend.builds) == (name, info.precisions, info.builds)
    assert set(info.emulates) | set(info.tolerances) <= set(info.precisions)
    assert (info.int8 is not None) == ("int8" in info.precisions)
    for place in (info.layer_timer, info.layer_times, info.predictor):
        assert not place or callable(find(place))


def test_torchscript_loads_without_zoo(made) -> None:
    code = (
        "import sys, warnings; warnings.simplefilter('ignore'); import torch;"
        "m = torch.jit.load(sys.argv[1]); print(tuple(m(torch.zeros(3, 3, 32, 32)).shape));"
        "assert 'zoo' not in sys.modules"
    )
    path = made["torchscript", "fp32"] / "model.pt"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout) == (3, 10)


def test_bf16_onnx_is_checked_here_and_run_only_on_a_gpu(made) -> None:
    import onnx

    folder = made["onnx", "bf16"]
    graph = onnx.load(folder / "model.onnx")
    floats = [
        one.name for one in graph.graph.initializer if one.data_type == onnx.TensorProto.FLOAT and len(one.dims) > 1
    ]
    assert floats == [], "weights are bfloat16"
    with pytest.raises(UnavailableError, match="no bf16 convolution"):
        get_backend("onnx").load(folder)


@pytest.mark.parametrize("name", AVAILABLE)
def test_a_damaged_model_is_an_integrity_error(name: str, made, tmp_path: Path) -> None:
    import json
    import shutil

    from zoo.exporter.artifact.folder import record

    folder = Path(shutil.copytree(made[name, "fp32"], tmp_path / "copy"))
    manifest = json.loads((folder / "artifact.json").read_text())
    model = folder / manifest["model"]
    model.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    with pytest.raises(IntegrityError, match="was changed"):
        get_backend(name).load(folder)
    manifest["files"][manifest["model"]] = vars(record(model))
    (folder / "artifact.json").write_text(json.dumps(manifest))
    with pytest.raises(ZooError) as caught, get_backend(name).load(folder) as runner:
        runner.run(np.zeros((1, 3, 32, 32), np.float32))
    assert caught.value.exit_code == 5


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "precision"), CASES)
def test_on_a_gpu(name: str, precision: str, made, golden: Golden) -> None:
    artifact = load_artifact(made[name, precision])
    with get_backend(name).load(artifact, "cuda") as runner:
        assert check_golden(artifact, runner).verdict == "pass"
        assert runner.receipt().device == "cuda"
        assert runner.receipt().layers == {precision: 21}


def test_the_base_class_cannot_be_skipped() -> None:
    """A backend writes the underscored methods; the public ones are the base class's."""
    for name in BACKENDS:
        kind = type(get_backend(name))
        assert issubclass(kind, Backend)
        assert not {"export", "load", "require_available"} & set(vars(kind)), name


def test_golden_images_come_from_the_data_one_of_each_class(tiny, few_digits) -> None:
    made = make_golden(tiny, few_digits)
    assert len(made.images) == 8
    assert made.logits.shape == (8, 10)
