"""A real sshd on the loopback address, a throw-away key, and an environment without torch as the device."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import as_json, zoo
from page_help import embedded
from sshd_help import Sshd, free_port
from zoo.errors import IntegrityError, UnavailableError, UsageError
from zoo.exporter.device import ssh
from zoo.exporter.device.profile import ProfileOptions, profile
from zoo.exporter.device.ssh import LinkError, clean, probe, run_there
from zoo.exporter.device.target import Place, places
from zoo.exporter.package.pack import pack

pytestmark = pytest.mark.enable_socket  # of the loopback address


@pytest.fixture(scope="module")
def packed(exported_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("package with blanks; and 'quotes'") / "a b'c;d.zoo"
    return pack([exported_folders["onnx"]], out).path


def test_a_device_says_what_it_has(sshd: Sshd) -> None:
    here = probe(sshd.place)
    assert here.onnxruntime
    assert here.torch is None
    assert here.free > 0


def test_a_package_runs_there_and_nothing_is_left(sshd: Sshd, packed: Path, few_digits) -> None:
    (row,) = profile(packed, [sshd.place], ProfileOptions((1, 2), per_layer=True), few_digits, 40)
    assert row.error is None, row.error
    assert row.found is not None
    assert [one["batch"] for one in row.found["rows"]] == [1, 2]
    assert row.found["operators"]
    assert row.found["accuracy"][1] == 40
    assert row.found["accuracy"][0] > 20, "the device's own answers are right"
    assert list(sshd.home.rglob("*")) == [], "nothing of a library either"


@pytest.mark.slow
def test_this_machine_and_a_device_that_fails_do_not_stop_each_other(sshd: Sshd, packed: Path) -> None:
    gone = replace(sshd.place, on=f"ssh://127.0.0.1:{free_port()}", name="gone")
    rows = profile(packed, [gone, Place(), sshd.place], ProfileOptions())
    assert [row.place.label for row in rows] == ["gone", "local", "board"]
    assert isinstance(rows[0].error, LinkError)
    assert [row.error for row in rows[1:]] == [None, None]


def test_a_wrong_host_key_is_refused(sshd: Sshd, packed: Path, tmp_path: Path) -> None:
    kind, key = (sshd.folder / "other.pub").read_text().split()[:2]
    (tmp_path / "known").write_text(f"[127.0.0.1]:{sshd.place.port} {kind} {key}\n")
    for known in (tmp_path / "known", tmp_path / "empty"):
        (tmp_path / "empty").touch()
        with pytest.raises(LinkError, match="its host key is not the one that is known"):
            probe(replace(sshd.place, known_hosts=str(known)))


def test_a_wrong_key_and_a_python_that_is_not_there(sshd: Sshd) -> None:
    with pytest.raises(LinkError, match="Permission denied"):
        probe(replace(sshd.place, identity=str(sshd.folder / "other")))
    with pytest.raises(LinkError, match="No such file|not found"):
        probe(replace(sshd.place, python="/none/python"))


def test_a_device_without_onnxruntime_is_said(sshd: Sshd, packed: Path, tmp_path: Path) -> None:
    import venv

    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    bare = replace(sshd.place, python=str(tmp_path / "bare" / "bin" / "python"))
    (row,) = profile(packed, [bare], ProfileOptions())
    assert isinstance(row.error, UnavailableError)
    assert "is not installed" in str(row.error)
    assert sshd.left() == []


def test_a_link_that_is_cut_in_the_middle(sshd: Sshd, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on the device sees it, ends, and removes its folder."""
    real = ssh._ended

    def cut(process: subprocess.Popen[str], text: str | None, patience: float) -> tuple[str, str]:
        if '"profile"' in str(process.args):
            time.sleep(1.5)
            os.killpg(process.pid, signal.SIGKILL)
        return real(process, text, patience)

    monkeypatch.setattr(ssh, "_ended", cut)
    monkeypatch.setattr(ssh, "clean", lambda _place, _folder: None)  # as when the device cannot be reached any more
    with pytest.raises(LinkError):
        run_there(sshd.place, {"package.zoo": packed}, ["profile", "--json", "--batch", "1"])
    for _ in range(100):
        if not sshd.left():
            return
        time.sleep(0.1)
    raise AssertionError(sshd.left())


def test_a_copy_that_breaks_goes_on_where_it_stopped(sshd: Sshd, packed: Path, monkeypatch) -> None:
    real, commands = ssh._run, []

    def half(command, text, place, patience, cwd=None):
        if command[0] == "sftp":
            commands.append(text)
            if len(commands) == 1:
                folder = text.split()[1]
                (sshd.home / folder).mkdir()
                content = packed.read_bytes()
                (sshd.home / folder / "package.zoo").write_bytes(content[: len(content) // 2])
                return subprocess.CompletedProcess(command, 255, "", "Connection reset by peer")
        return real(command, text, place, patience, cwd)

    monkeypatch.setattr(ssh, "_run", half)
    found = run_there(sshd.place, {"package.zoo": packed}, ["verify", "--json"])
    assert found["ok"]
    assert "reput package.zoo" in commands[1]
    assert sshd.left() == []


def test_what_arrives_changed_is_not_run(sshd: Sshd, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ssh.copy

    def spoil(place, files, folder) -> None:
        real(place, files, folder)
        with (sshd.home / folder / "package.zoo").open("r+b") as file:
            file.seek(100)
            file.write(b"X")

    monkeypatch.setattr(ssh, "copy", spoil)
    with pytest.raises(IntegrityError, match="did not arrive as it was sent"):
        run_there(sshd.place, {"package.zoo": packed}, ["verify", "--json"])
    assert sshd.left() == []


def test_a_full_disk(sshd: Sshd, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "SPARE", 1 << 60)
    with pytest.raises(UnavailableError, match="MB free"):
        run_there(sshd.place, {"package.zoo": packed}, ["verify", "--json"])
    monkeypatch.setattr(ssh, "SPARE", 0)
    real = ssh._run

    def full(command, text, place, patience, cwd=None):
        if command[0] == "sftp":
            return subprocess.CompletedProcess(command, 1, "", 'write remote "x": Failure')
        return real(command, text, place, patience, cwd)

    monkeypatch.setattr(ssh, "_run", full)
    with pytest.raises(LinkError, match="copying to board failed"):
        run_there(sshd.place, {"package.zoo": packed}, ["verify", "--json"])
    assert sshd.left() == []


def test_a_device_that_is_slow_to_answer(sshd: Sshd, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.write_text(f'#!/bin/sh\nsleep 2\nexec {sshd.place.python} "$@"\n')
    slow.chmod(0o755)
    assert probe(replace(sshd.place, python=str(slow))).onnxruntime
    with pytest.raises(LinkError, match="did not answer within 1 s"):
        probe(replace(sshd.place, python=str(slow), timeout=1))


def test_what_a_device_prints_first_is_said(sshd: Sshd, tmp_path: Path) -> None:
    chatty = tmp_path / "chatty"
    chatty.write_text("#!/bin/sh\necho hello\n")
    chatty.chmod(0o755)
    with pytest.raises(LinkError, match="answered 'hello"):
        probe(replace(sshd.place, python=str(chatty)))


def test_only_our_own_folders_are_ever_removed(sshd: Sshd) -> None:
    for name in ("", "/", ".zoo-", ".zoo-../x", "home"):
        with pytest.raises(AssertionError):
            clean(sshd.place, name)


def test_the_command_with_a_file_of_devices(sshd: Sshd, packed: Path, tmp_path: Path) -> None:
    one = sshd.place
    (tmp_path / "devices.toml").write_text(
        f'[[device]]\non = "local"\n\n[[device]]\nname = "board"\non = "{one.on}"\npython = "{one.python}"\n'
        f'identity = "{one.identity}"\nknown_hosts = "{one.known_hosts}"\n'
    )
    shutil.copy(packed, tmp_path / "p.zoo")
    done = zoo(
        "profile", "p.zoo", "--on", "devices.toml", "--per-layer", "--out", "o", "--html", "h.html", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    held = embedded((tmp_path / "h.html").read_text(encoding="utf-8"))
    assert held["devices"] == as_json(done)["devices"], "the page holds what was printed"
    assert held["command"] == "zoo profile p.zoo --on devices.toml --per-layer --out o --html h.html --json"
    assert [row["device"] for row in as_json(done)["devices"]] == ["local", "board"]
    assert (tmp_path / "o" / "profile.png").stat().st_size > 5_000
    done = zoo("profile", "p.zoo", "--on", "ssh://127.0.0.1:1", "--json", cwd=tmp_path)
    assert done.returncode == 3


@pytest.mark.parametrize(
    ("on", "words"),
    [("ssh://", "is not ssh"), ("ssh://-oProxyCommand=x", "is not ssh"), ("ssh://a b", "is not ssh"),
     ("ssh://u@h/path", "is not ssh"), ("ssh://u:secret@h", "is not ssh"), ("ssh://h:99999", "ort"),
     ("ssh://u;rm@h", "is not ssh"), ("ssh://$(x)@h", "is not ssh"), ("http://h", "neither local"),
     ("ssh://h:0", "is not ssh"), ("ssh://@h", "is not ssh"), ("ssh://h\n", "is not ssh")],
)  # fmt: skip
def test_hosts_that_could_be_options_or_commands_are_refused(on: str, words: str) -> None:
    from zoo.exporter.device.target import places

    with pytest.raises(UsageError, match=words):
        places(on)


@pytest.mark.parametrize("python", ["-c", "python; rm -rf ~", "$(x)", "a b", ""])
def test_pythons_that_could_be_commands_are_refused(python: str) -> None:
    with pytest.raises(UsageError, match="is no path"):
        Place(python=python)


def test_files_of_devices_that_cannot_be(tmp_path: Path) -> None:
    from zoo.exporter.device.target import places

    file = tmp_path / "d.toml"
    for text, words in (
        ("", "names no device"), ('[[device]]\non = "local"\n[[device]]\non = "local"', "two devices named local"),
        ('[[device]]\nhost = "x"', "host"), ('[[device]]\ntimeout = 0', "timeout"),
    ):  # fmt: skip
        file.write_text(text)
        with pytest.raises(UsageError, match=words):
            places(str(file))


@pytest.mark.parametrize("wrong", [{"batches": ()}, {"batches": (0,)}, {"threads": 0}])
def test_options_that_cannot_be(wrong) -> None:
    with pytest.raises(UsageError):
        ProfileOptions(**wrong)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "board"', "does not say where it is"),
        ('on = "ssh://h"\nidentity = "nope"', "identity of h: no such file, nope"),
        ('on = "ssh://h"\nknown_hosts = "/nope"', "known_hosts of h: no such file, /nope"),
        ('on = "local"\npython = "/opt/python"', "python of local are of a device over ssh"),
    ],
)
def test_a_file_of_devices_says_all_and_nothing_in_vain(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    path.write_text(f"[[device]]\n{text}\n")
    with pytest.raises(UsageError, match=words):
        places(str(path))
