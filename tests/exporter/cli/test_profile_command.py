"""`zoo profile --html`: where a page may go is said before anything is measured, and a failure has a page too."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest
from conftest import as_json, reseal, zoo
from page_help import check_outline, embedded
from zoo.errors import UsageError
from zoo.exporter.cli.profile import asked, refuse_html, write_html
from zoo.exporter.device.profile import ProfileOptions

NOWHERE = ("--on", "ssh://127.0.0.1:1")


def test_one_device_that_fails_has_a_page_and_its_code(exported_folders: dict[str, Path], tmp_path: Path) -> None:
    for _ in range(2):  # an earlier page is replaced
        done = zoo("profile", exported_folders["onnx"], *NOWHERE, "--html", "p.html", "--json", cwd=tmp_path)
        assert done.returncode == 3, done.stderr
        page = (tmp_path / "p.html").read_text(encoding="utf-8")
        check_outline(page)
        held = embedded(page)
        assert held["exit_code"] == 3
        assert held["devices"][0]["error"] == as_json(done)["error"]


@pytest.mark.parametrize(
    ("html", "words"),
    [
        ("folder", "is a folder"),
        ("none/p.html", "no such folder"),
        ("artifact/p.html", "which is sealed"),
        ("site.html", "is there and no report of zoo"),
        ("check.html", "is there and no report of zoo"),
        ("out/p.html", "is inside of --out"),
    ],
)
def test_places_where_no_page_may_go(tmp_path: Path, html: str, words: str) -> None:
    for name in ("folder", "artifact", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "site.html").write_text("<html>mine</html>")
    (tmp_path / "check.html").write_text('<meta name="generator" content="zoo check">')
    with pytest.raises(UsageError, match=words):
        refuse_html(tmp_path / html, tmp_path / "artifact", tmp_path / "out")
    refuse_html(tmp_path / "new.html", tmp_path / "artifact", tmp_path / "out")


def test_it_is_refused_before_anything_is_measured(exported_folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "mine.html").write_text("mine")
    done = zoo("profile", exported_folders["onnx"], "--html", "mine.html", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert as_json(done)["error"]["message"].endswith("is there and no report of zoo")
    assert (tmp_path / "mine.html").read_text() == "mine"


def test_a_page_that_cannot_be_written_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo import atomic

    def full(path: Path, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(atomic, "write_file", full)
    told = write_html({"what": "x", "devices": []}, 0, tmp_path / "p.html")
    assert told == f"{tmp_path / 'p.html'} could not be written: No space left on device"


def test_what_was_asked_for_is_said(tmp_path: Path) -> None:
    told = asked(ProfileOptions((1, 8), 2, "onnx-int8", True), "digits", 500)
    write_html({"what": "x", "devices": [], "options": told}, 0, tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    for words in ("1, 8", ">2<", "onnx-int8", "measured where the runtime reports them", "up to 500 of digits"):
        assert words in page
    assert json.loads(json.dumps(embedded(page)))["options"]["batch sizes"] == [1, 8]


def test_right_answers_of_random_weights_are_not_counted(exported_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported_folders["onnx"], tmp_path / "random"))
    reseal(folder, meaningful=False, weights="random, seed 0")
    done = zoo("profile", folder, "--data", "digits", "--threads", "1", "--json", cwd=tmp_path)
    found = as_json(done)
    assert done.returncode == 0, done.stderr
    assert found["notes"] == ["the weights are random: no right answers are counted"]
    assert found["devices"][0]["accuracy"] is None
