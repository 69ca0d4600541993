"""`zoo prune` from a run to a run that exports, quantises and checks like any other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
from conftest import as_json, zoo
from zoo.errors import IntegrityError, UsageError
from zoo.exporter.backends.options import ExportOptions
from zoo.exporter.checks.run import check
from zoo.exporter.export import export
from zoo.exporter.prune.options import PruneOptions
from zoo.exporter.prune.run import prune
from zoo.exporter.prune.summary import Report, told_beside, told_of
from zoo.exporter.prune.width_baseline import Beside, from_scratch, narrow_like
from zoo.exporter.quantize.options import Int8Options
from zoo.models.fresh import new_model
from zoo.models.runs import newest_run, read_run
from zoo.models.sources import SourceOptions, resolve
from zoo.models.training.loop import train
from zoo.models.training.recipe import load_recipe

ALONE = PruneOptions(0.5, timed=False, beside=False)
RECIPE = load_recipe("prune", ["batch_size=30", "precision=fp32", "shift=1"], epochs=2)


@pytest.fixture(scope="module")
def report(trained_folder: Path, few_digits, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    out = tmp_path_factory.mktemp("pruned") / "run"
    return out, prune(resolve(str(trained_folder)), few_digits, ALONE, RECIPE, out, parent=str(trained_folder))


def test_the_run_says_what_was_removed_and_recovered(report, trained_folder: Path) -> None:
    out, found = report
    run = read_run(out)
    assert run.pruned["macs_after"] / run.pruned["macs_before"] <= 0.5
    assert run.pruned["criterion"] == "magnitude"
    assert run.parent == str(trained_folder)
    assert run.origin.widths
    assert found.run.reached.accuracy > max(found.without, found.before - 0.25), "training brings it back"
    before, after = ((one / "weights.safetensors").stat().st_size for one in (trained_folder, out))
    assert after < 0.8 * before
    assert newest_run(out.parent, run.origin.source) is None, "a pruned run is not what the name alone means"


def test_pruned_then_quantised_then_exported_and_checked(report, few_digits, tmp_path: Path) -> None:
    out, _ = report
    model = resolve(str(out))
    rows = export(model, ["torchscript", "onnx"], out=tmp_path, data=few_digits)
    quick = Int8Options(images=100, never_slower=False)
    rows += export(model, "onnx", ExportOptions("int8"), out=tmp_path, data=few_digits, int8=quick)
    assert [row.error for row in rows] == [None] * 3
    for row in check([row.folder for row in rows], few_digits):
        verdicts = {gate.name: gate.verdict for gate in row.gates}
        assert verdicts["numerics"] == verdicts["precision"] == verdicts["consistency"] == "pass", row


def test_a_pruned_run_is_trained_on_for_other_classes(report, tiny_spec) -> None:
    out, _ = report
    model = new_model(str(out), replace(tiny_spec, labels=("a", "b", "c")), SourceOptions(weights=str(out)))
    assert model.module.fc.out_features == 3
    assert model.fresh == {"fc.weight", "fc.bias"}
    again = resolve(str(out))
    assert again.module.fc.in_features == model.module.fc.in_features


def test_widths_that_were_changed_are_found(report, tmp_path: Path) -> None:
    out, _ = report
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("run.json", "weights.safetensors"):
        (folder / name).write_bytes((out / name).read_bytes())
    data = json.loads((folder / "run.json").read_text())
    layer = next(iter(data["origin"]["widths"]))
    data["origin"]["widths"][layer] = [1, 1, 2]
    (folder / "run.json").write_text(json.dumps(data))
    with pytest.raises(IntegrityError, match="groups wide"):
        resolve(str(folder))


def test_a_slower_result_says_so_first(report) -> None:
    _, found = report
    slow = told_of(replace(found, ratios=(0.6, 0.62, 0.64)), PruneOptions(0.5, round_to=1))
    assert slow.startswith("slower than before: 1.61 of the latency")
    assert "--round-to 8" in slow
    assert told_of(replace(found, ratios=(2.0, 2.0, 2.1)), PruneOptions(0.5)).startswith("0.50 of the latency")
    assert "was not measured" in told_of(found, PruneOptions(0.5))


def test_distillation_is_learned_from(report, trained_folder: Path, few_digits, tmp_path: Path) -> None:
    out, _ = report
    plain = replace(RECIPE, distil=0.0)
    prune(resolve(str(trained_folder)), few_digits, ALONE, plain, tmp_path / "run")
    one, other = (safetensors.torch.load_file(folder / "weights.safetensors") for folder in (out, tmp_path / "run"))
    assert one.keys() == other.keys()
    assert any(not one[name].equal(other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--macs", "0"], "above 0 and below 1"),
        (["--macs", "1e-4"], "cannot be reached"),
        (["--macs", "0.5", "--criterion", "magnitud"], 'did you mean "magnitude"'),
        (["--macs", "0.5", "--spread", "wide"], "none of global, uniform"),
        (["--macs", "0.5", "--keep", "layer9"], "to keep"),
        (["--macs", "0.5", "--set", "lr=-1"], "lr must be positive"),
        (["--macs", "0.5", "--weights", "random"], "has its own weights"),
        (["--macs", "0.5", "--data", "fashion-mnist"], "does not have the classes"),
    ],
)
def test_what_cannot_be_done_is_one_line(trained: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    data = [] if "--data" in arguments else ["--data", "digits"]
    done = zoo("prune", trained, *data, *arguments, "--out", "pruned", "--json", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert words in as_json(done)["error"]["message"]
    assert not (tmp_path / "pruned").exists()


def test_random_weights_and_foreign_classes_are_refused(few_digits, tiny_spec) -> None:
    model = replace(resolve("resnet18", SourceOptions(weights="random")), spec=tiny_spec)
    with pytest.raises(UsageError, match="random"):
        prune(model, few_digits, PruneOptions(0.5), RECIPE, Path("never"))


def test_the_order_of_the_classes_is_the_models(trained_folder: Path, few_digits, tmp_path: Path) -> None:
    """Folders are sorted; the labels of a --spec need not be."""
    model = resolve(str(trained_folder))
    turned = tuple(reversed(few_digits.classes))
    train_, val = (
        replace(split, labels=len(turned) - 1 - split.labels) for split in (few_digits.train, few_digits.val)
    )
    found = prune(model, replace(few_digits, classes=turned, train=train_, val=val), ALONE, RECIPE, tmp_path / "run")
    assert model.reached is not None
    assert found.before == pytest.approx(model.reached.accuracy), "each image is judged by the output of its class"
    assert found.run.spec.labels == model.spec.labels
    assert found.run.reached.accuracy > max(found.without, found.before - 0.25), "and recovered by it"
    some = replace(few_digits, classes=few_digits.classes[:9])
    with pytest.raises(UsageError, match="only 9 of its 10"):
        prune(model, some, ALONE, RECIPE, tmp_path / "never")


def test_a_smaller_width_of_the_same_cost_stands_beside_it(
    report, trained_folder: Path, few_digits, tmp_path: Path
) -> None:
    _, found = report
    model = resolve(str(trained_folder))
    narrow = narrow_like(model, found.pruned.macs, model.spec.input)
    assert not isinstance(narrow, str)
    assert 0.4 * found.pruned.macs < narrow.macs <= found.pruned.macs, "widths of so narrow a network are far apart"
    run = train(narrow.model, few_digits, from_scratch(RECIPE, load_recipe("tiny")), tmp_path / "w")
    assert run.recipe["epochs"] == RECIPE.epochs
    assert run.recipe["distil"] == 0
    beside = Beside("w", narrow.width, narrow.macs, run.reached.accuracy)
    own = found.run.reached.accuracy
    assert "the smaller width is better" in told_beside(replace(found, beside=replace(beside, top1=own + 0.1)), ALONE)
    assert "the pruned one is better" in told_beside(replace(found, beside=replace(beside, top1=own - 0.1)), ALONE)
    foreign = replace(model, origin=replace(model.origin, source="timm:resnet18"))
    assert "no width that could be scaled" in str(narrow_like(foreign, 1e6, foreign.spec.input))


def test_a_run_where_the_smaller_width_would_lie_is_kept(trained: Path, few_digits, tmp_path: Path) -> None:
    trained.rename(tmp_path / "out-width")
    before = (tmp_path / "out-width" / "weights.safetensors").read_bytes()
    with pytest.raises(UsageError, match="out-width is not empty"):
        prune(resolve(str(tmp_path / "out-width")), few_digits, PruneOptions(0.5), RECIPE, tmp_path / "out")
    assert (tmp_path / "out-width" / "weights.safetensors").read_bytes() == before
    assert not (tmp_path / "out").exists(), "said before anything is trained"
