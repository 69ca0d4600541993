"""A worker's part, and how what it left comes back: without Ray, which only carries plain values between the two."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fsspec", reason="fsspec comes with the extra ray")
from zoo.errors import IntegrityError
from zoo.exporter.pipeline.cluster import remote
from zoo.exporter.pipeline.cluster.remote import Task, as_mapping, moved, survey, work
from zoo.exporter.pipeline.cluster.store import Store, plain


def task(store: Path, inputs: dict[str, tuple[str, int]], **more: Any) -> dict[str, Any]:
    given = {"arguments": ("list", "models"), "copy": None, "threads": None, "results": (), "kind": "train", "seen": {},
             "folder": "/the/drivers"}  # fmt: skip
    found = as_mapping(Task(store=str(store), attempt="one", inputs=inputs, **{**given, **more}))
    return json.loads(json.dumps(found))  # as it travels


def test_a_command_runs_in_a_fresh_folder_and_its_words_and_json_come_back(tmp_path: Path) -> None:
    before = os.environ.get("OMP_NUM_THREADS")
    done = work(task(tmp_path / "store", {}), "node-1")
    assert done["code"] == 0, done
    assert any("resnet18" in json.dumps(one) for one in done["payload"].values())
    assert (done["place"], done["host"], done["left"]) == ("node-1", os.uname().nodename, {})
    assert os.environ.get("OMP_NUM_THREADS") == before
    assert Store(str(tmp_path / "store")).told("one") == {"place": "node-1", "host": os.uname().nodename}
    wrong = work(task(tmp_path / "store", {}, arguments=("train", "resnet18"), results=("out/runs/x",)), "node-1")
    assert wrong["code"] == 2
    assert wrong["payload"]["error"]["kind"] == "usage"
    assert wrong["log"].startswith("error: ")
    assert wrong["left"] == {}, "an empty folder would be taken for a run"


def test_inputs_lie_where_they_lay_and_results_are_found_by_what_the_command_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, data = tmp_path / "driver", tmp_path / "photos"
    (driver / "out/runs/a").mkdir(parents=True)
    (driver / "out/runs/a/run.json").write_text("{}")
    data.mkdir()
    (data / "1.png").write_text("x")
    store = tmp_path / "store"
    inputs = plain(Store(str(store)).put(driver, ["out/runs/a"]))

    def played(asked: Task, folder: Path, beside: Path) -> tuple[int, dict[str, Any], str]:
        assert (folder / "out/runs/a/run.json").read_text() == "{}"
        assert (folder / "photos/1.png").read_text() == "x"
        made = folder / "out/exports/a/onnx-fp32"
        made.mkdir(parents=True)
        (made / "artifact.json").write_text("made")
        (folder / "out/other").write_text("nobody asked for it")
        return 0, {"artifacts": [{"artifact": str(made)}, {"error": {"kind": "gate"}}]}, f"wrote {made}\n"

    monkeypatch.setattr(remote, "command", played)
    done = work(task(store, inputs, kind="export", seen={"photos": str(data)}), "node-1")
    assert done["payload"]["artifacts"][0] == {"artifact": "/the/drivers/out/exports/a/onnx-fp32"}
    assert done["log"] == "wrote /the/drivers/out/exports/a/onnx-fp32\n"
    assert list(done["left"]) == ["out/exports/a/onnx-fp32"]
    assert list(done["left"]["out/exports/a/onnx-fp32"]) == ["out/exports/a/onnx-fp32/artifact.json"]


def test_data_that_a_node_does_not_see_is_lacking(tmp_path: Path) -> None:
    done = work(task(tmp_path / "store", {}, seen={"photos": str(tmp_path / "absent")}), "node-1")
    assert done["code"] == 3
    assert f"does not see {tmp_path / 'absent'}" in done["payload"]["error"]["message"]


def test_an_input_that_broke_on_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("whole")
    inputs = plain(Store(str(tmp_path / "store")).put(tmp_path, ["a"]))
    (one,) = (path for path in (tmp_path / "store/files").rglob("*") if path.is_file())
    one.write_text("other")
    assert work(task(tmp_path / "store", inputs), "node-1")["code"] == 5


def test_a_node_says_what_it_has_and_whether_it_sees_the_store(tmp_path: Path) -> None:
    Store(str(tmp_path / "store")).tell("here", {})
    found = survey(str(tmp_path / "store"), "here")
    assert found["problem"] == ""
    assert "torch" in found["modules"]
    assert survey(str(tmp_path / "another"), "here")["problem"] == "does not see what was put there"
    assert "s3fs" in survey("s3://bucket/x", "here")["problem"]


def test_paths_are_told_as_the_driver_has_them() -> None:
    value = {"a": ["/w/out/x", 3, None], "b": {"c": "at /w/out: no"}, "d": 1.5}
    assert moved(value, "/w", "/d") == {"a": ["/d/out/x", 3, None], "b": {"c": "at /d/out: no"}, "d": 1.5}


def test_what_was_left_takes_its_place_in_one_step(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is an extra")
    from zoo.exporter.pipeline.cluster.tasks import bring

    store, driver, worker = Store(str(tmp_path / "store")), tmp_path / "driver", tmp_path / "worker"
    (driver / "out/exports/a").mkdir(parents=True)
    (driver / "out/exports/a/old").write_text("an older export")
    for name in ("out/exports/a/deep/new", "out/exports/a.check.json"):
        (worker / name).parent.mkdir(parents=True, exist_ok=True)
        (worker / name).write_text(name)
    for name in ("out/exports/a", "out/exports/a.check.json"):
        bring(store, name, plain(store.put(worker, [name])), driver, "out")
    found = {str(path.relative_to(driver)) for path in driver.rglob("*") if path.is_file()}
    assert found == {"out/exports/a/deep/new", "out/exports/a.check.json"}, "nothing of the older one is left"
    (worker / "out/exports/a/deep/new").write_text("newer")
    tree = plain(store.put(worker, ["out/exports/a"]))
    for path in (tmp_path / "store/files").rglob("*"):
        if path.is_file():
            path.write_text("broken")
    with pytest.raises(IntegrityError, match="is not what was put there"):
        bring(store, "out/exports/a", tree, driver, "out")
    assert (driver / "out/exports/a/deep/new").read_text() == "out/exports/a/deep/new", "the older one stays"
    for name in ("../x", "out", "net.py", "out/../net.py", "/etc/x"):
        with pytest.raises(IntegrityError, match="outside of out"):
            bring(store, name, {}, driver, "out")
