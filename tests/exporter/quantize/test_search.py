"""int8 from images to a checked artifact: calibrated once, chosen by measuring, kept as a plan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import tiny_model
from onnx import numpy_helper
from zoo.atomic import failed_place
from zoo.calibration.choice import Calibrated, Choice
from zoo.errors import GateError, InconclusiveError, UsageError
from zoo.exporter.artifact.folder import evidence_path, load_artifact, read_manifest
from zoo.exporter.artifact.manifest import Batch, Layer, Receipt
from zoo.exporter.backends.graph.graph import export_graph
from zoo.exporter.backends.graph.layers import list_layers
from zoo.exporter.backends.options import ExportOptions
from zoo.exporter.backends.registry import get_backend
from zoo.exporter.checks.precision import integer_share
from zoo.exporter.checks.run import check
from zoo.exporter.export import export
from zoo.exporter.quantize import candidates as climbing
from zoo.exporter.quantize import partition
from zoo.exporter.quantize.calibrate import calibrate
from zoo.exporter.quantize.candidates import Judge, climb, make_judge, rungs_for
from zoo.exporter.quantize.initial import suitable_bits
from zoo.exporter.quantize.options import Int8Options
from zoo.exporter.quantize.partition import FLOAT, Race, candidates, never_slower
from zoo.exporter.quantize.search import confirm, decide, judged_by
from zoo.exporter.timing.setup import SELECT
from zoo.exporter.timing.statistics import Ratio
from zoo.models.data.dataset import Dataset
from zoo.models.sources import Model, resolve

OPTIONS = ExportOptions("int8", Batch(1, 4, 8), build_later=True)
QUICK = Int8Options(images=100, never_slower=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, trained_folder: Path, few_digits: Dataset) -> dict[str, Path]:
    told: list[str] = []
    rows = export(
        resolve(str(trained_folder)), ["onnx", "torchscript", "trt"], OPTIONS, out=tmp_path_factory.mktemp("int8"),
        data=few_digits, int8=QUICK, tell=told.append,
    )  # fmt: skip
    assert [row.error for row in rows] == [None, None, None]
    assert any(line.startswith("onnx: int8 with minmax") for line in told)
    return {row.backend: row.folder for row in rows}


def test_one_calibration_serves_three_targets(made: dict[str, Path]) -> None:
    records = [load_artifact(folder).manifest for folder in made.values()]
    assert len({json.dumps(one.options["int8"]["calibration"]) for one in records}) == 1
    for one in records:
        assert {layer.precision for layer in one.plan} == {"int8"}
        assert len(one.plan) == 21
        assert one.options["int8"]["climb"], "every rung is kept"
    sizes = {name: (folder / "weights.safetensors").stat().st_size for name, folder in made.items()}
    assert (made["onnx"] / "model.onnx").stat().st_size < 0.4 * sizes["onnx"]


def test_checked_they_pass_with_all_macs_integer(made: dict[str, Path], few_digits: Dataset) -> None:
    for row in check([made["onnx"], made["torchscript"]], few_digits):
        verdicts = {gate.name: gate.verdict for gate in row.gates}
        assert verdicts["numerics"] == "pass", row.gates
        assert verdicts["precision"] == "pass"
        assert verdicts["accuracy"] in ("pass", "inconclusive"), "60 images show little"
        assert row.receipt is not None
        assert row.receipt.layers == {"int8": 21}


def test_a_plan_makes_the_same_export_again(
    made: dict[str, Path], trained_folder: Path, few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    monkeypatch.setattr(climbing, "climb", None)
    monkeypatch.setattr(partition, "measure", None)
    again = Int8Options(images=100, plan=made["onnx"])
    (row,) = export(resolve(str(trained_folder)), "onnx", OPTIONS_ONNX, out=tmp_path, data=few_digits, int8=again)
    assert row.error is None, row.error
    one, two = (onnx.load(folder / "model.onnx") for folder in (made["onnx"], row.folder))
    assert one.graph == two.graph
    for wrong, words in ((tmp_path / "nowhere.json", "no such file"), (trained_folder / "run.json", "no int8 plan")):
        options = Int8Options(images=100, plan=wrong)
        with pytest.raises(UsageError, match=words):
            export(resolve(str(trained_folder)), "onnx", OPTIONS_ONNX, out=tmp_path, data=few_digits, int8=options)


OPTIONS_ONNX = ExportOptions("int8", Batch(1, 4, 8))


def test_without_images_int8_is_refused(trained_folder: Path, tmp_path: Path) -> None:
    (row,) = export(resolve(str(trained_folder)), "onnx", OPTIONS_ONNX, out=tmp_path)
    assert isinstance(row.error, UsageError)
    assert "give --data" in str(row.error)


def test_random_weights_are_not_climbed_with(few_digits: Dataset) -> None:
    from zoo.exporter.backends.registry import get_backend

    model = replace(tiny_model(), meaningful=False, weights="random, seed 0")
    calibrated = calibrate(model, few_digits, images=50)
    assert "fewer than 100" in calibrated.notes[0]
    told: list[str] = []
    decided = decide(get_backend("onnx"), model, few_digits, calibrated, QUICK, told.append)
    assert decided.choice == Choice(weight_bits=decided.choice.weight_bits)
    assert "the weights are random" in told[0]


def test_the_climb_goes_on_until_accuracy_holds() -> None:
    """Answers of a fake runner: the first two rungs flip many, the third none."""
    labels = np.arange(2000) % 10
    reference = np.eye(10, dtype=np.float32)[labels]

    class Fake:
        def __init__(self, choice: Choice) -> None:
            self.flip = 0 if choice.method == "mse" else 400

        def __enter__(self) -> Fake:
            return self

        def __exit__(self, *_: object) -> None: ...

        def run(self, batch: np.ndarray) -> np.ndarray:
            made = reference.copy()
            made[: self.flip] = np.roll(made[: self.flip], 1, axis=1)
            return made

    judge = Judge(lambda: iter([np.zeros((2000, 1), np.float32)]), labels, reference)
    told: list[str] = []
    choice, tried = climb(judge, Fake, rungs_for(Choice(weight_bits=7), ()), told.append)
    assert (choice.method, choice.weight_bits) == ("mse", 7)
    assert [one.gate.verdict for one in tried] == ["fail", "fail", "pass"]
    assert len(told) == 3
    never, all_tried = climb(judge, lambda one: Fake(Choice("minmax")), climbing.RUNGS)
    assert len(all_tried) == len(climbing.RUNGS)
    assert never in [one.choice for one in all_tried]


class Flips:
    """A runner that answers so many of the images that were answered rightly as the next class, and wrong ones well."""

    def __init__(self, reference: np.ndarray, lost: int, gained: int) -> None:
        self.made = reference.copy()
        self.made[:lost] = np.roll(self.made[:lost], 1, axis=1)
        if gained:
            self.made[-gained:] = np.roll(self.made[-gained:], -1, axis=1)

    def __enter__(self) -> Flips:
        return self

    def __exit__(self, *_: object) -> None: ...

    def run(self, _batch: np.ndarray) -> np.ndarray:
        return self.made


def few_images(count: int = 300) -> Judge:
    """The last twenty answers of the float model are wrong: an int8 one may gain there."""
    labels = np.arange(count) % 10
    reference = np.eye(10, dtype=np.float32)[labels]
    reference[-20:] = np.roll(reference[-20:], 1, axis=1)
    return Judge(lambda: iter([np.zeros((count, 1), np.float32)]), labels, reference)


def test_where_images_are_too_few_to_tell_no_luckier_way_is_looked_for() -> None:
    judge = few_images()
    for first in (Choice("minmax"), Choice("learned")):
        choice, tried = climb(judge, lambda _one: Flips(judge.reference, 3, 3), (first, Choice("mse")))
        assert [one.gate.verdict for one in tried] == ["inconclusive"]
        assert choice == first
    losing = {"learned": (3, 2), "minmax": (3, 2), "mse": (0, 12)}
    choice, tried = climb(
        judge, lambda one: Flips(judge.reference, *losing[one.method]), (Choice("minmax"), Choice("mse"))
    )
    assert choice.method == "mse", "what loses is not taken while another may not"
    choice, _ = climb(
        judge, lambda one: Flips(judge.reference, *losing[one.method]), (Choice("learned"), Choice("mse"))
    )
    assert choice.method == "learned", "trained for: it stays unless it fails"
    choice, tried = climb(
        judge, lambda one: Flips(judge.reference, *losing[one.method]), (Choice("learned"), Choice("mse")), limit=0.005
    )
    assert choice.method == "mse", "an asked-for limit has to be shown"


def test_what_was_chosen_among_several_is_judged_on_other_images() -> None:
    judge = few_images(2000)
    told, record = confirm(judge, lambda _one: Flips(judge.reference, 1, 1), Choice("mse"), 3, None)
    assert told.startswith("int8 on 2,000 images that did not choose among the 3 ways: pass")
    assert record is not None
    assert record["images"] == 2000
    told, record = confirm(judge, lambda _one: Flips(judge.reference, 40, 0), Choice("mse"), 3, None)
    assert ": fail: " in told, "said, and kept in artifact.json; zoo check judges it"
    with pytest.raises(GateError, match="did not choose among the 3 ways"):
        confirm(judge, lambda _one: Flips(judge.reference, 40, 0), Choice("mse"), 3, 0.005)
    told, record = confirm("none", lambda _one: Flips(judge.reference, 0, 0), Choice("mse"), 3, None)
    assert (told, record) == ("int8: 3 methods were tried; no separate images are left to confirm the choice", None)


def test_the_two_sets_of_images_are_apart(few_digits: Dataset, trained_folder: Path) -> None:
    model = resolve(str(trained_folder))
    seen: list[np.ndarray] = []

    def run(batch: np.ndarray) -> np.ndarray:
        seen.append(batch)
        return np.zeros((len(batch), 10), np.float32)

    judges = [make_judge(model.spec, few_digits, True, run, 30, after) for after in (0, 30)]
    assert [len(one.labels) for one in judges] == [30, 30]
    rows = np.concatenate(seen).reshape(60, -1)
    assert len(np.unique(rows, axis=0)) == 60
    assert isinstance(make_judge(model.spec, few_digits, True, run, 30, 60), str)
    assert [judged_by(*of) for of in ((10_000, None), (300, None), (10_000, 0.01), (3000, 0.01))] == [
        2000, 300, 5000, 3000,
    ]  # fmt: skip


def test_labels_that_do_not_belong_are_not_judged_by(few_digits: Dataset) -> None:
    spec = tiny_model().spec
    found = make_judge(spec, few_digits, True, lambda batch: batch)
    assert isinstance(found, str)
    assert "no accuracy is judged" in found


def test_seven_bits_where_there_is_no_vnni() -> None:
    old, new = frozenset({"sse2", "avx2"}), frozenset({"sse2", "avx512_vnni"})
    assert [suitable_bits(name, old) for name in ("onnx", "torchscript", "trt")] == [7, 7, 8]
    assert [suitable_bits(name, new) for name in ("onnx", "torchscript", "trt")] == [8, 8, 8]
    assert suitable_bits("onnx", frozenset({"asimd"})) == 8


def test_rungs_keep_what_was_decided_and_half_of_the_macs() -> None:
    base = Choice(weight_bits=7, keep={"b": "slow"})
    layers = [Layer("a", "Conv", "fp32", 10), Layer("b", "Conv", "fp32", 10), Layer("c", "Gemm", "fp32", 10)]
    assert all("b" in one.keep and one.weight_bits == 7 for one in rungs_for(base, layers))
    assert len(rungs_for(base, layers)) == len(climbing.RUNGS) - 2  # without a and c nothing would be left
    more = [*layers, Layer("m", "Conv", "fp32", 100), Layer("z", "Gemm", "fp32", 1)]
    (ends,) = [one for one in rungs_for(base, more) if "first and last layer float" in str(one)]
    assert set(ends.keep) == {"a", "b", "z"}
    last = rungs_for(base, [*more[:3], Layer("d", "Conv", "fp32", 20), *more[3:]], ["d"])[-1]
    assert set(last.keep) == {"a", "b", "d", "z"}
    assert str(last).endswith("first and last layer float, depthwise layers float")
    assert (
        len(rungs_for(base, [*more[:3], Layer("d", "Conv", "fp32", 500), *more[3:]], ["d"])) == len(climbing.RUNGS) - 1
    )


def test_depthwise_layers_are_found_in_the_graph() -> None:
    model = tiny_model("mobilenet_v2")
    graph = export_graph(model.module, model.spec, "fp32", Batch(1, 4, 8))
    assert len(climbing.depthwise_layers(graph)) == 17


def test_what_is_not_integer_is_said_with_its_reason(made: dict[str, Path]) -> None:
    from zoo.exporter.cli.export import not_integer

    plan = (Layer("a", "Conv", "int8", 60), Layer("b", "Conv", "fp32", 30, "slow"), Layer("c", "Gemm", "fp32", 10))
    manifest = replace(load_artifact(made["onnx"]).manifest, plan=plan, receipt=None)
    first, slow, unknown = not_integer(manifest, "here")
    assert "60% of the MACs in int8, 2 of 3 layers" in first
    assert slow == "b (30% of the MACs): slow"
    assert unknown.startswith("c (10% of the MACs): it has no integer kernel")
    receipt = Receipt("r", "cpu", "p", {"fp32": 1}, {"a": "fp32"})
    first, fell = not_integer(replace(manifest, plan=plan[:1], receipt=receipt), "here")
    assert "0% of the MACs in int8" in first
    assert "planned as int8, but it ran in fp32" in fell
    assert integer_share(receipt, plan) == 0
    assert integer_share(replace(receipt, ran={"a": "int8"}), plan) == 0.6
    for folder in made.values():
        assert not_integer(load_artifact(folder).manifest, "here") == []


class TestNeverSlower:
    def test_torchscript_is_timed_too(self, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(partition, "SELECT", replace(SELECT, rounds=1, block_ms=1.0, lead_in_ms=0.0))
        model = tiny_model()
        calibrated = calibrate(model, few_digits, images=100)
        decided = decide(get_backend("torchscript"), model, few_digits, calibrated, Int8Options(images=100))
        timed = decided.record["timed"]
        assert isinstance(timed, list)
        (told,) = timed
        assert told.startswith("all layers int8: ")
        assert "100% of MACs int8" in told

    @pytest.mark.parametrize(("ratio", "batch", "taken"), [
        (1.2, Batch(1, 1, 1), True), (1.01, Batch(1, 1, 1), False), (1.2, Batch(1, 4, 8), False), (1.2, None, False),
    ])  # fmt: skip
    def test_linear_layers_in_blocks_for_one_image_at_a_time_where_that_is_faster(
        self, ratio: float, batch: Batch | None, taken: bool, few_digits: Dataset, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        from zoo.calibration import blocks
        from zoo.exporter.quantize import initial as starting

        def run(_race: Race, names: list[str], against: str = FLOAT) -> dict[str, Ratio]:
            speed = 0.9 if against == FLOAT else ratio
            return dict.fromkeys(names, Ratio(speed, speed, speed))

        monkeypatch.setattr(blocks, "WIDE", 1)
        monkeypatch.setattr(Race, "run", run)
        monkeypatch.setattr(starting, "suitable_bits", lambda *_: 8)
        model = replace(tiny_model("alexnet"), meaningful=False, weights="random, seed 0")
        calibrated = calibrate(model, few_digits, images=100)
        told: list[str] = []
        options = Int8Options(images=100)
        decided = decide(
            get_backend("onnx"), model, few_digits, calibrated, options, told.append, asked=ExportOptions("int8", batch)
        )
        assert decided.choice.blocks is taken
        assert decided.record["blocks"] is taken
        assert any("slower than float" in line for line in told) is not taken, "0.9 times as fast, and 1.2 times that"
        said = [line for line in told if "read in blocks" in line]
        assert len(said) == (batch is not None and batch.max == 1)
        assert ("no other runtime reads the file" in "".join(said)) == taken
        plan = [{"name": layer.name, "precision": "int8", "reason": ""} for layer in list_layers(calibrated.graph)]
        (tmp_path / "plan.json").write_text(json.dumps({"options": {"int8": decided.record}, "plan": plan}))
        options = Int8Options(images=100, plan=tmp_path / "plan.json")
        for backend, sizes, again in (
            ("onnx", Batch(1, 1, 1), taken),
            ("onnx", None, False),
            ("torchscript", None, False),
        ):
            repeated = decide(
                get_backend(backend), model, few_digits, calibrated, options, asked=ExportOptions("int8", sizes)
            )
            assert repeated.choice.blocks is again
            assert any("in blocks" in note for note in repeated.notes) is (taken and backend == "onnx")

    def test_networks_without_islands_have_one_candidate(self) -> None:
        model = tiny_model("resnet18")
        graph = export_graph(model.module, model.spec, "fp32", Batch(1, 4, 8))
        assert list(candidates(graph, list_layers(graph))) == ["all layers int8"]

    def test_candidates_keep_half_of_the_macs_integer_and_differ(self) -> None:
        model = tiny_model("mobilenet_v3_small", width=1.0)
        graph = export_graph(model.module, model.spec, "fp32", Batch(1, 4, 8))
        layers = list_layers(graph)
        found = candidates(graph, layers)
        assert len(found) == len(set(found.values())) >= 3
        total = sum(layer.macs for layer in layers)
        gates = found["all but squeeze-and-excitation int8"]
        assert len(gates) == 18
        for keep in found.values():
            kept = sum(layer.macs for layer in layers if layer.name in keep)
            assert kept <= 0.5 * total or keep == gates

    def test_candidates_are_timed_in_processes_of_their_own(self, few_digits: Dataset) -> None:
        model = tiny_model("resnet18")
        backend = get_backend("onnx")
        calibrated = calibrate(model, few_digits, images=50)
        told: list[str] = []
        found = never_slower(backend, model, calibrated, Choice(), False, told.append, lambda *_: None)
        (line,) = found.lines
        assert line.startswith("all layers int8: ")
        assert line.endswith("100% of MACs int8")
        assert told[0] == f"int8, {line}"


def test_layers_know_why_they_stay_float(few_digits: Dataset, tmp_path: Path) -> None:
    """A mixed graph: the receipt names each layer's precision, and the gate weighs them by MACs."""
    from zoo.exporter.artifact.golden import make_golden
    from zoo.exporter.backends.registry import get_backend

    model = tiny_model("mobilenet_v2")
    calibrated = calibrate(model, few_digits, images=100)
    layers: tuple[Layer, ...] = list_layers(calibrated.graph)
    keep = {layer.name: "measured" for layer in layers[:3]}
    options = ExportOptions("int8", Batch(1, 4, 8), calibrated=calibrated, choice=Choice(keep=keep))
    artifact = get_backend("onnx").export(model, make_golden(model, None), options, tmp_path / "a")
    reasons = {layer.name: layer.reason for layer in artifact.manifest.plan if layer.precision != "int8"}
    assert reasons == keep
    (row,) = check(tmp_path / "a")
    (gate,) = (one for one in row.gates if one.name == "precision")
    assert gate.verdict == "pass", gate.reason
    assert gate.numbers["as_planned"] == {"fp32": 1.0, "int8": 1.0}
    assert 0.5 < gate.numbers["int8_share"] < 1


def test_a_drop_that_the_images_could_never_show_is_told_before_anything_is_searched(
    few_digits: Dataset, trained_folder: Path, tmp_path: Path
) -> None:
    """60 images cannot show half a point, whatever they answer: it took minutes, and ended with 4."""
    model = resolve(str(trained_folder))
    told: list[str] = []
    asked = Int8Options(max_drop=0.005)
    with pytest.raises(InconclusiveError, match="at least 598 images") as raised:
        export(model, "onnx", OPTIONS_ONNX, out=tmp_path, data=few_digits, int8=asked, tell=told.append)
    assert raised.value.exit_code == 6
    assert "60 of the 60 validation images" in str(raised.value)
    assert not told and not any(tmp_path.iterdir())


def test_a_file_that_does_not_compute_its_plan_is_refused_before_timing_and_kept(
    few_digits: Dataset, trained_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One layer's scales in the written graph are wrong; the yardstick is not read from it."""
    from zoo.exporter.backends.onnx import backend

    right = backend._render

    def wrong(calibrated: Calibrated, choice: Choice) -> onnx.ModelProto:
        graph = right(calibrated, choice)
        scales = [one for one in graph.graph.initializer if one.name.endswith("_weight_scale")]
        one = scales[len(scales) // 2]
        one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one) * np.float32(1.5), one.name))
        return graph

    model = resolve(str(trained_folder))
    (before,) = export(model, "onnx", OPTIONS_ONNX, out=tmp_path, data=few_digits, int8=QUICK)
    assert before.error is None
    written = read_manifest(before.folder).created
    monkeypatch.setattr(backend, "_recent", wrong)
    told: list[str] = []
    timed = Int8Options(images=100)
    (row,) = export(model, "onnx", OPTIONS_ONNX, out=tmp_path, data=few_digits, int8=timed, tell=told.append)
    assert isinstance(row.error, GateError), row
    assert "unfaithful" in str(row.error) and "first diverges at" in str(row.error)
    assert any("neither timed nor searched" in line for line in told)
    failed = failed_place(before.folder)
    assert str(failed) in str(row.error)
    assert read_manifest(before.folder).created == written, "what was there stays"
    evidence = json.loads(evidence_path(failed).read_text())
    assert evidence["gates"][-1]["verdict"] == "fail"
    (checked,) = check([failed])
    assert [gate.verdict for gate in checked.gates if gate.name == "numerics"] == ["fail"]
    monkeypatch.setattr(backend, "_recent", right)
    (after,) = export(model, "onnx", OPTIONS_ONNX, out=tmp_path, data=few_digits, int8=QUICK)
    assert after.error is None
    assert not failed.exists() and not evidence_path(failed).exists(), "a success removes what failed before"


def test_one_backends_failure_does_not_stop_the_others(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.exporter.backends.torchscript.backend import TorchScript

    def broken(*_: object, **__: object) -> None:
        raise SystemError("error return without exception set")

    monkeypatch.setattr(TorchScript, "_export", broken)
    rows = export(tiny, ["torchscript", "eager"], out=tmp_path)
    assert "SystemError: error return without exception set" in str(rows[0].error)
    assert rows[0].exit_code == 1
    assert rows[1].error is None
