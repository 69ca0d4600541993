"""An engine built and timed on a device over a real sshd: its zoo is this one, its TensorRT the strict stand-in."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import as_json, reseal, tiny_model, zoo
from sshd_help import Sshd
from zoo.errors import GateError, IntegrityError, UnavailableError, UsageError, quoted
from zoo.exporter.artifact.folder import load_artifact
from zoo.exporter.artifact.manifest import Batch
from zoo.exporter.backends.options import ExportOptions
from zoo.exporter.cli.profile import engine_lines
from zoo.exporter.device import remote_build as built
from zoo.exporter.device import ssh
from zoo.exporter.device.profile import ProfileOptions, profile
from zoo.exporter.device.remote_build import lacks
from zoo.exporter.device.ssh import Device, LinkError, probe
from zoo.exporter.device.target import Place
from zoo.exporter.export import export
from zoo.exporter.package.pack import pack

pytestmark = pytest.mark.enable_socket  # of the loopback address

TESTS = Path(__file__).parents[2]
STAND_IN = """
import sys
sys.path.append({stand_in!r})
from fake import FakeCuda, World, make_fake
from zoo.exporter.backends.tensorrt import cuda, machine
from zoo.exporter.backends.tensorrt.cuda import Gpu
class Seen(World):
    def __getattribute__(self, name):
        if name == "slow":
            open({begun!r}, "w").close()
        return super().__getattribute__(name)
world = Seen(ran_at={ran_at!r}, slow={slow})
sys.modules["tensorrt"] = make_fake("10.3", world)
cuda.open_cuda = lambda: FakeCuda(world, Gpu({gpu!r}, "8.7", "540.4.0"))
machine.driver_cuda = lambda: 12060
"""
NO_TORCH = """
import sys
for name in ("torch", "torchvision", "sklearn", "matplotlib"):
    sys.modules[name] = None
"""


def board(
    folder: Path,
    *,
    gpu: str = "Orin",
    ran_at: str = "",
    slow: float = 0.0,
    zoo_version: str = "",
    python: str = "",
) -> Path:
    """A Python as a board's: TensorRT and zoo in it, no torch."""
    shim = folder / "site"
    (shim / "tensorrt").mkdir(parents=True)
    stand_in = str(TESTS / "exporter" / "backends" / "tensorrt")
    text = STAND_IN.format(stand_in=stand_in, gpu=gpu, ran_at=ran_at, slow=slow, begun=str(folder / "begun"))
    (shim / "tensorrt" / "__init__.py").write_text(text)
    (shim / "sitecustomize.py").write_text(NO_TORCH)
    about(shim, "tensorrt", "10.3.0.26")
    if zoo_version:
        about(shim, "zoo_export", zoo_version)
    found = [str(shim), *os.environ.get("PYTHONPATH", "").split(os.pathsep)] if not python else [str(shim)]
    script = folder / "python"
    script.write_text(
        f"#!/bin/sh\nexport PYTHONPATH='{os.pathsep.join(filter(None, found))}'\n"
        f'exec {python or sys.executable} "$@"\n'
    )
    script.chmod(0o755)
    return script


def about(site: Path, name: str, number: str) -> None:
    folder = site / f"{name}-{number}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {number}\n")


@pytest.fixture
def jetson(sshd: Sshd, tmp_path: Path) -> Place:
    return replace(sshd.place, name="jetson", python=str(board(tmp_path / "jetson")))


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What --build-later writes."""
    options = ExportOptions("fp16", Batch(1, 4, 8), build_later=True)
    (row,) = export(tiny_model(), "trt", options, out=tmp_path_factory.mktemp("later, with 'quotes'; and blanks"))
    assert row.error is None
    return row.folder


@pytest.fixture(scope="module")
def built_elsewhere(later: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan of another GPU than the board's."""
    import subprocess

    folder = tmp_path_factory.mktemp("elsewhere")
    made = Path(shutil.copytree(later, folder / "trt-fp16"))
    python = board(folder / "server", gpu="RTX 4090")
    done = subprocess.run([python, "-P", "-m", "zoo", "build", made, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    return made


def test_the_probe_tells_zoo_and_tensorrt(sshd: Sshd, jetson: Place) -> None:
    here = probe(jetson)
    assert here.tensorrt == "10.3.0.26"
    assert here.zoo == version("zoo-export")
    assert here.torch is None or here.torch, "what is installed, whether it works or not"
    plain = probe(sshd.place)
    assert (plain.tensorrt, plain.zoo) == (None, None)


def test_a_folder_of_that_name_in_the_home_is_no_zoo(sshd: Sshd) -> None:
    for name in ("zoo", "tensorrt"):
        (sshd.home / name).mkdir()
        (sshd.home / name / "__main__.py").touch()
    try:
        found = probe(sshd.place)
        assert (found.tensorrt, found.zoo) == (None, None)
    finally:
        for name in ("zoo", "tensorrt"):
            shutil.rmtree(sshd.home / name)


def test_what_was_left_for_the_device_is_built_and_timed_there(
    sshd: Sshd, jetson: Place, later: Path, tmp_path: Path
) -> None:
    before = sorted(path.name for path in later.rglob("*"))
    (row,) = profile(later, [jetson], ProfileOptions((1, 4)))
    assert row.error is None, row.error
    found = row.found
    assert found is not None
    assert [one["batch"] for one in found["rows"]] == [1, 4]
    for one in found["rows"]:
        assert one["interval"][0] <= one["percentiles"]["p50"] <= one["interval"][1]
        assert one["runs"] >= 100
        assert one["gpu_ms"] > 0
    assert found["artifact"] == "trt-fp16"
    assert found["runtime"] == "TensorRT 10.3.0.26, fp16 x21", "what ran, as the engine tells"
    assert found["machine"].startswith("Orin, ")
    assert found["built"]["golden"] == "pass"
    assert found["telemetry"]["seconds"] > 6
    assert sshd.left() == []
    assert list(sshd.home.rglob("*")) == [], "no cache of the build either"
    assert sorted(path.name for path in later.rglob("*")) == before, "nothing was built here"
    assert not load_artifact(later).manifest.built


def test_the_row_has_the_form_of_a_package(sshd: Sshd, jetson: Place, later: Path, tmp_path: Path, few_digits) -> None:
    from dataclasses import fields

    from zoo.exporter.runtime.profile import Profile, Row

    (tmp_path / "devices.toml").write_text(
        f'[[device]]\nname = "jetson"\non = "{jetson.on}"\npython = "{jetson.python}"\n'
        f'identity = "{jetson.identity}"\nknown_hosts = "{jetson.known_hosts}"\n\n[[device]]\non = "local"\n'
    )
    shutil.copytree(later, tmp_path / "trt-fp16")
    done = zoo("profile", "trt-fp16", "--on", "devices.toml", "--json", cwd=tmp_path)
    assert done.returncode == 3
    there, here = as_json(done)["devices"]
    assert set(there) >= {one.name for one in fields(Profile)}
    assert set(there["rows"][0]) >= {one.name for one in fields(Row)}
    assert here["error"]["message"] == "trt-fp16 is not built yet"
    assert here["error"]["fix"] == "zoo build trt-fp16"
    assert engine_lines(there) == [
        f"built there in {there['built']['seconds']:.0f} s, golden images: pass",
        f"the GPU alone, without transfers: batch 1: {there['rows'][0]['gpu_ms']:.3f} ms",
    ]


def test_right_answers_are_counted_there(
    sshd: Sshd, jetson: Place, trained_folder: Path, few_digits, tmp_path: Path
) -> None:
    from zoo.models.sources import resolve

    options = ExportOptions("fp16", Batch(1, 4, 8), build_later=True)
    (made,) = export(resolve(str(trained_folder)), "trt", options, out=tmp_path, data=few_digits)
    (row,) = profile(made.folder, [jetson], ProfileOptions(), few_digits, 40)
    assert row.error is None, row.error
    assert row.found is not None
    assert row.found["accuracy"][1] == 40
    assert row.found["accuracy"][0] > 20


def test_a_plan_of_another_gpu_is_not_built_again_unasked(sshd: Sshd, jetson: Place, built_elsewhere: Path) -> None:
    (row,) = profile(built_elsewhere, [jetson], ProfileOptions())
    assert isinstance(row.error, UnavailableError)
    assert "built on RTX 4090" in row.error.what
    assert "this machine has Orin" in row.error.what
    assert row.error.fix.startswith("zoo export --build-later")
    assert sshd.left() == []


def test_a_plan_that_fits_is_timed_as_it_is(sshd: Sshd, built_elsewhere: Path, tmp_path: Path) -> None:
    same = replace(sshd.place, name="server", python=str(board(tmp_path / "server", gpu="RTX 4090")))
    (row,) = profile(built_elsewhere, [same], ProfileOptions())
    assert row.error is None, row.error
    assert row.found is not None
    assert row.found["built"] is None
    assert row.found["machine"].startswith("RTX 4090, ")


def test_on_this_machine(built_elsewhere: Path, later: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = profile(later, [Place()], ProfileOptions())
    assert isinstance(row.error, UnavailableError)
    assert row.error.fix == f"zoo build {quoted(later)}"
    (row,) = profile(built_elsewhere, [Place()], ProfileOptions())
    assert isinstance(row.error, UnavailableError), "no TensorRT here"
    assert "TensorRT is not installed" in str(row.error)
    board(tmp_path / "here", gpu="RTX 4090")
    paths = [str(tmp_path / "here" / "site"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    (row,) = profile(built_elsewhere, [Place()], ProfileOptions())
    assert row.error is None, row.error
    assert row.found is not None
    assert row.found["rows"][0]["gpu_ms"] > 0


def test_an_engine_that_runs_in_another_precision_is_no_row(sshd: Sshd, later: Path, tmp_path: Path) -> None:
    """The device's own `zoo build` refuses it, and its word and code come here."""
    place = replace(sshd.place, name="jetson", python=str(board(tmp_path / "jetson", ran_at="fp32")))
    (row,) = profile(later, [place], ProfileOptions())
    assert isinstance(row.error, GateError)
    assert str(row.error).startswith("jetson: trt fp16 was refused: ")
    assert sshd.left() == []


def test_what_a_device_lacks_is_said_before_anything_is_sent(
    sshd: Sshd, later: Path, tmp_path: Path, clean_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "copy", lambda *_given: pytest.fail("something was sent"))
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "trtexec").write_text("#!/bin/sh\n")
    (tools / "trtexec").chmod(0o755)
    only = tmp_path / "only"
    only.write_text(f'#!/bin/sh\nexport PATH="{tools}:$PATH"\nexec {clean_python} "$@"\n')
    only.chmod(0o755)
    cases = {
        str(clean_python): "board has no TensorRT that its Python",
        str(only): f"can import, only {tools}/trtexec, which measures no artifact; on a Jetson an environment made",
        str(board(tmp_path / "no zoo".replace(" ", "-"), python=str(clean_python))): (
            'board has TensorRT 10.3.0.26 and no zoo to build and time an engine with; pip install "zoo-export[cuda]"'
        ),
        str(board(tmp_path / "old", zoo_version="0.0.1")): "board has zoo 0.0.1, here is ",
    }
    for python, words in cases.items():
        (row,) = profile(later, [replace(sshd.place, python=python)], ProfileOptions())
        assert isinstance(row.error, UnavailableError), python
        assert words in str(row.error)
        assert len(str(row.error).splitlines()) == 1
    assert sshd.left() == []


def test_a_python_that_is_too_old_for_zoo() -> None:
    here = Device("3.10.12", "aarch64", "Linux", 1 << 40, tensorrt="10.3.0")
    found = lacks(Place("ssh://board"), here, "0.1.0")
    assert found is not None
    assert "TensorRT 10.3.0 for Python 3.10.12, and zoo needs 3.11" in str(found)
    assert lacks(Place(), replace(here, python="3.12.3", zoo="0.1.0"), "0.1.0") is None


def test_a_file_that_arrives_changed_is_not_built(
    sshd: Sshd, jetson: Place, later: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ssh.copy

    def spoil(place, files, folder) -> None:
        real(place, files, folder)
        with (sshd.home / folder / "f1").open("r+b") as file:
            file.write(b"X")

    monkeypatch.setattr(ssh, "copy", spoil)
    (row,) = profile(later, [jetson], ProfileOptions())
    assert isinstance(row.error, IntegrityError)
    assert "f1 did not arrive as it was sent" in str(row.error)
    assert sshd.left() == []


def test_a_link_that_is_cut_while_it_is_built(
    sshd: Sshd, later: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What builds there ends with it, and the folder goes."""
    place = replace(sshd.place, name="jetson", python=str(board(tmp_path / "jetson", slow=600)))
    real = ssh._ended

    def cut(process, text, patience):
        if "ZOO_CACHE" in str(process.args):
            for _ in range(200):
                time.sleep(0.1)
                if (tmp_path / "jetson" / "begun").exists():
                    break
            else:
                pytest.fail("it was not built")
            assert builds(sshd)
            os.killpg(process.pid, signal.SIGKILL)
        return real(process, text, patience)

    monkeypatch.setattr(ssh, "_ended", cut)
    monkeypatch.setattr(ssh, "clean", lambda _place, _folder: None)  # as when the device cannot be reached any more
    (row,) = profile(later, [place], ProfileOptions())
    assert isinstance(row.error, LinkError)
    for _ in range(100):
        if not sshd.left() and not builds(sshd):
            return
        time.sleep(0.1)
    raise AssertionError((sshd.left(), builds(sshd)))


def builds(sshd: Sshd) -> list[str]:
    """`zoo build` in a folder of the device's, as processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
            where = str((path.parent / "cwd").readlink())
        except OSError:
            continue
        if words[1:5] == [b"-P", b"-m", b"zoo", b"build"] and where.startswith(str(sshd.home)):
            found.append(path.parent.name)
    return found


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (ProfileOptions((1, 9)), "takes 1 to 8 images at once, not 9"),
        (ProfileOptions(threads=2), "--threads is of a runtime on the CPU"),
        (ProfileOptions(artifact="onnx-int8"), "it is trt-fp16"),
    ],
)
def test_options_that_an_engine_has_not(later: Path, options: ProfileOptions, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        profile(later, [Place("ssh://nowhere.invalid")], options)


def test_a_package_of_it_is_whole_and_says_how_it_is_measured(later: Path, tmp_path: Path) -> None:
    packed = pack([later], tmp_path / "p.zoo").path
    (row,) = profile(packed, [Place()], ProfileOptions())
    assert isinstance(row.error, UnavailableError)
    assert row.error.fix == "zoo profile and zoo check take the artifact's own folder"


def test_a_folder_that_was_changed_here_is_not_sent(later: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(later, tmp_path / "trt-fp16"))
    (folder / "model.onnx").write_bytes(b"x")
    with pytest.raises(IntegrityError, match="was changed"):
        profile(folder, [Place("ssh://nowhere.invalid")], ProfileOptions())


def test_names_of_files_are_not_in_the_command(
    sshd: Sshd, jetson: Place, later: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(later, tmp_path / "trt-fp16"))
    odd = "golden/$(touch owned) 'x'.txt"
    (folder / odd).write_text("x")
    data = json.loads((folder / "artifact.json").read_text())
    reseal(folder, files={**data["files"], odd: {}})
    commands = []
    real = ssh._run

    def kept(command, *more, **named):
        commands.append(" ".join(command) + str(more[0]))
        return real(command, *more, **named)

    monkeypatch.setattr(ssh, "_run", kept)
    (row,) = profile(folder, [jetson], ProfileOptions())
    assert row.error is None, row.error
    assert not any("touch owned" in one for one in commands)
    assert not (sshd.home / "owned").exists()
    assert built.opened(folder) is not None
