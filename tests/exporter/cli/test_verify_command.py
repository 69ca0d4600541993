"""What `zoo verify` says of what it found, and what it recommends next."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, as_json, zoo
from hostile_packages import with_files
from zoo.exporter.checks.gate import Gate
from zoo.exporter.cli.verify import next_of, summary
from zoo.exporter.package.pack import pack
from zoo.exporter.runtime.container import Package


def gates(**verdicts: str) -> list[Gate]:
    return [Gate(name, verdict, "because") for name, verdict in verdicts.items()]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (gates(card="pass", code="pass"), "Proved: 2 gates passed, none failed"),
        (gates(card="pass", signature="skipped"), "Proved: 1 gate passed, none failed; not looked at: signature"),
        (gates(card="fail", code="pass", samples="inconclusive"), "Failed: card"),
        (gates(code="inconclusive", card="pass"), "Not proved: code"),
    ],
)
def test_one_line_says_what_was_found(found: list[Gate], words: str) -> None:
    assert summary(found) == words


def test_nothing_is_recommended_of_what_did_not_prove_itself(tmp_path: Path) -> None:
    package = tmp_path / "a b.zoo"
    runs = f"python '{package}' predict IMAGE.jpg"
    assert next_of(package, gates(code="pass", card="pass"), keyed=False) == runs
    assert "do not use" in next_of(package, gates(code="pass", card="fail"), keyed=True)
    assert "do not run" in next_of(package, gates(code="inconclusive"), keyed=False)
    assert next_of(package, gates(code="skipped"), keyed=True) == runs, "whoever signed it is trusted"
    assert "--allow-code" in next_of(package, gates(code="pass", samples="inconclusive"), keyed=False)
    package.with_name(f"{package.name}.sig").write_text("anything")
    assert "--key PUBLIC_KEY" in next_of(package, gates(code="pass"), keyed=False)


@pytest.fixture(scope="module")
def packed(exported_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack([exported_folders["onnx"]], tmp_path_factory.mktemp("verified") / "p.zoo").path


def test_an_unsigned_package_is_said_to_be_so(packed: Path) -> None:
    done = zoo("verify", packed.name, cwd=packed.parent)
    assert done.returncode == 0, done.stderr
    assert "it is not signed" in done.stderr
    assert "Proved: " in done.stderr
    assert "python p.zoo predict" in done.stderr


def test_code_of_another_zoo_proves_nothing(packed: Path, tmp_path: Path) -> None:
    """Who writes another version into every record keeps its code from being compared: that is no pass."""
    with Package(packed) as opened:
        texts = {name: opened.read(name) for name in ("sbom.cdx.json", "README.md")}
        manifest = {key: value for key, value in opened.manifest.items() if key != "files"}
    version = manifest["zoo"]
    changed = {name: text.replace(version.encode(), b"9.9.9") for name, text in texts.items()}
    changed["zoo/__init__.py"] = b"import os\nos.system('touch written-by-a-model')\n"
    path = with_files(packed, changed, tmp_path / "other.zoo", {**manifest, "zoo": "9.9.9"})
    done = zoo("verify", path.name, "--json", cwd=tmp_path)
    assert done.returncode == 6, done.stderr
    verdicts = {one["name"]: one["verdict"] for one in as_json(done)["gates"]}
    assert verdicts["code"] == "inconclusive"
    done = zoo("verify", path.name, cwd=tmp_path)
    assert "do not run this package" in done.stderr
    assert zoo("profile", path.name, cwd=tmp_path).returncode == 5


def test_limits_are_those_that_were_given(packed: Path) -> None:
    done = zoo("verify", packed.name, "--time-limit", "0.001", cwd=packed.parent)
    assert done.returncode == 5
    assert "took more than 0.001 s" in done.stderr
    assert zoo("verify", packed.name, "--time-limit", "0", cwd=packed.parent).returncode == 2
    done = zoo("verify", packed.name, "--memory-limit", "70", "--json", cwd=packed.parent)
    assert done.returncode == 5
    assert json.loads(done.stdout)["error"]["kind"] == "integrity"


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["artifacts"][0].update(backend=[]),
        lambda manifest: manifest["artifacts"][0].update(backend={}),
        lambda manifest: manifest.update(artifacts=5),
        lambda manifest: manifest.update(artifacts=[5]),
    ],
)
@pytest.mark.parametrize("command", ["verify", "profile"])
def test_odd_manifests_are_one_line(packed: Path, tmp_path: Path, command: str, change) -> None:
    with Package(packed) as opened:
        manifest = {key: value for key, value in opened.manifest.items() if key != "files"}
    change(manifest)
    path = with_files(packed, {}, tmp_path / "odd.zoo", manifest)
    done = zoo(command, path.name, cwd=tmp_path)
    assert done.returncode == 5, done.stderr
    assert done.stderr.count("\n") == 1


def test_words_of_a_stranger_do_not_move_the_cursor(packed: Path, tmp_path: Path) -> None:
    with Package(packed) as opened:
        manifest = {key: value for key, value in opened.manifest.items() if key != "files"}
    path = with_files(packed, {}, tmp_path / "odd.zoo", {**manifest, "zoo": "9\x1b]0;owned\x07[/x]"})
    done = zoo("verify", path.name, cwd=tmp_path)
    assert done.returncode in (4, 5, 6), done.stderr
    assert "\x1b" not in done.stderr


def test_a_path_is_no_markup(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "d[").mkdir()
    (tmp_path / "d[" / "a]").mkdir()
    path = tmp_path / "d[" / "a]" / "o.zoo"
    path.write_bytes(packed.read_bytes())
    assert zoo("verify", str(path), cwd=tmp_path).returncode == 0


def test_standard_streams_may_be_closed(packed: Path) -> None:
    for closed in ("<&-", ">&-", "<&- >&-"):
        script = f"{sys.executable} -m zoo verify {packed.name} {closed}"
        done = subprocess.run(["bash", "-c", script], cwd=packed.parent, env=ENVIRONMENT, check=False,
                              stderr=subprocess.PIPE, text=True)  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_what_is_signed_is_what_is_opened(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is overwritten in place after its signature was checked: the child has a private copy."""
    from zoo.exporter.cli import verify as command

    path = tmp_path / "p.zoo"
    path.write_bytes(packed.read_bytes())

    def judged(package: Path, key: Path | None, copy: Path | None = None) -> Gate:
        package.write_bytes(b"another file")
        assert copy is not None
        assert copy.read_bytes() == packed.read_bytes()
        return Gate("signature", "pass", "by somebody")

    monkeypatch.setattr(command, "judge_signature", judged)
    assert command.verify(path, key=tmp_path / "any.pub").exit_code == 0
