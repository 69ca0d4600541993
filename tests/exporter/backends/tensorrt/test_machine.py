"""Why TensorRT cannot be used: each cause is told apart from the others, with what to do."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo.exporter.artifact.manifest import Platform
from zoo.exporter.backends.options import Unavailable
from zoo.exporter.backends.registry import get_backend
from zoo.exporter.backends.tensorrt import machine
from zoo.exporter.backends.tensorrt.log import tidy
from zoo.exporter.backends.tensorrt.machine import Facts, diagnose
from zoo.exporter.backends.tensorrt.options import BuildOptions
from zoo.exporter.backends.tensorrt.plan import misfit

FINE = Facts(
    imported=True, version="10.13.3.9", place="/env/tensorrt", builder=True, cuda=12, driver_cuda=13000,
    driver="580.1", created=True,
)  # fmt: skip
JETPACK = "/usr/lib/python3.10/dist-packages/tensorrt"
ERROR_35 = "CUDA initialization failure with error: 35. Please check your CUDA installation"


@pytest.mark.parametrize(
    ("facts", "reason", "remedy"),
    [
        (Facts(), "not installed", "--build-later"),
        (Facts(import_error="libnvdla_compiler.so: cannot open"), "cannot be imported .libnvdla", "JetPack"),
        (replace(FINE, builder=False), "only stubs", "pip uninstall tensorrt-stubs"),
        (replace(FINE, version="8.6.1"), "8.6.1 is not one that zoo knows", "tensorrt>=10.3"),
        (replace(FINE, version="10.2.0"), "10.2.0 is not one", "tensorrt>=10.3"),
        (replace(FINE, version="12.0.1"), "12.0.1 is not one", "update zoo"),
        (replace(FINE, version="?"), "is not one that zoo knows", ""),
        (replace(FINE, created=False, driver_cuda=0, log=ERROR_35), "no NVIDIA driver .CUDA error 35", "--gpus all"),
        (
            replace(FINE, created=False, cuda=13, driver_cuda=12080, driver="570.195.03", log=ERROR_35),
            r"built for CUDA 13, the driver 570.195.03 only knows CUDA 12\.8",
            "580 or later, or pip install tensorrt-cu12",
        ),
        (
            replace(FINE, created=False, log="CUDA initialization failure with error 100"),
            "sees no GPU", "CUDA_VISIBLE_DEVICES",
        ),
        (
            replace(FINE, created=False, jetson=True, jetpack=JETPACK, log=ERROR_35),
            "at /env/tensorrt shadows JetPack's own at /usr/lib", "pip uninstall tensorrt",
        ),
        (replace(FINE, created=False, log="something new"), r"cannot start on driver 580.1 .something", "nvidia-smi"),
    ],
)  # fmt: skip
def test_each_cause_has_its_words(facts: Facts, reason: str, remedy: str) -> None:
    import re

    found = diagnose(facts)
    assert isinstance(found, Unavailable)
    assert re.search(reason, found.reason), found.reason
    assert remedy in found.remedy


def test_what_works_is_available() -> None:
    assert diagnose(FINE) is None
    assert diagnose(replace(FINE, version="11.4.1")) is None
    assert diagnose(replace(FINE, version="10.3.0")) is None
    jetpack = replace(FINE, jetson=True, place="/usr/lib/python3.10/dist-packages/tensorrt/__init__.py",
                      jetpack="/usr/lib/python3.10/dist-packages/tensorrt")  # fmt: skip
    assert diagnose(jetpack) is None


def test_jetpacks_own_that_fails_is_not_called_shadowed() -> None:
    facts = replace(FINE, created=False, jetson=True, place="/usr/lib/python3.10/dist-packages/tensorrt/__init__.py",
                    jetpack="/usr/lib/python3.10/dist-packages/tensorrt", log=ERROR_35, driver_cuda=12060)  # fmt: skip
    found = diagnose(facts)
    assert found is not None
    assert "shadows" not in found.reason


def test_this_machine_says_what_is_missing() -> None:
    found = get_backend("trt").available()
    if isinstance(found, Unavailable):
        assert "TensorRT" in found.reason or "tensorrt" in found.reason


def test_the_log_tells_why_no_runtime_could_be_made(one_machine) -> None:
    one_machine.world.fail["Runtime"] = ERROR_35
    one_machine.patch.setattr(machine, "driver_cuda", lambda: 0)
    found = get_backend("trt").available()
    assert isinstance(found, Unavailable)
    assert "no NVIDIA driver (CUDA error 35)" in found.reason


def test_stubs_alone_are_not_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    stubs = types.ModuleType("tensorrt")
    stubs.__path__ = ["/env/tensorrt-stubs"]
    monkeypatch.setitem(sys.modules, "tensorrt", stubs)
    found = get_backend("trt").available()
    assert isinstance(found, Unavailable)
    assert "only stubs" in found.reason


def test_an_import_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(machine.importlib, "import_module", broken)
    _, facts = machine.look()
    assert "libcudart" in facts.import_error
    assert diagnose(facts) is not None


def test_messages_lose_their_source_positions() -> None:
    raw = "[runtime.cpp::load::88] Error Code 1: Serialization (Version tag does not match. In f at runtime.cpp:88)"
    assert tidy(raw) == "Serialization (Version tag does not match.)"


HERE = Platform("10.13.3.9", "Orin", "8.7", "540", "Linux aarch64")


@pytest.mark.parametrize(
    ("built", "options", "words"),
    [
        (HERE, {}, ""),
        (replace(HERE, runtime="10.3.0.26"), {}, "TensorRT 10.3.0.26, this machine has 10.13.3.9"),
        (replace(HERE, runtime="10.3.0.26"), {"version_compatible": True}, ""),
        (replace(HERE, runtime="11.1.0.1"), {"version_compatible": True}, "TensorRT 11.1.0.1"),
        (replace(HERE, gpu="H200", compute_capability="9.0"), {}, "on H200 (compute capability 9.0)"),
        (replace(HERE, gpu="A100", compute_capability="8.0"), {"hardware_compatibility": "ampere_plus"}, ""),
        (replace(HERE, gpu="RTX"), {"hardware_compatibility": "same_compute_capability"}, ""),
        (replace(HERE, gpu="RTX"), {}, "on RTX"),
        (replace(HERE, system="Linux x86_64"), {}, "on Linux x86_64, this is Linux aarch64"),
    ],
)  # fmt: skip
def test_does_a_plan_fit(built: Platform, options: dict, words: str) -> None:
    found = misfit(built, HERE, BuildOptions(**options))
    assert (found == "") == (words == "")
    assert words in found


def test_a_version_compatible_plan_reaches_the_next_major_and_no_further() -> None:
    options = BuildOptions(version_compatible=True)
    assert not misfit(HERE, replace(HERE, runtime="11.1.0.1"), options)
    assert misfit(HERE, replace(HERE, runtime="12.0.0.1"), options)


@given(
    st.builds(
        Platform,
        st.from_regex(r"1[01]\.\d{1,2}\.\d", fullmatch=True),
        st.sampled_from(["Orin", "H200"]),
        st.sampled_from(["7.5", "8.7", "9.0"]),
        st.just("1"),
        st.sampled_from(["Linux x86_64", "Linux aarch64"]),
    )
)
def test_a_plan_always_fits_where_it_was_built(platform: Platform) -> None:
    assert misfit(platform, platform, BuildOptions()) == ""
    other = replace(platform, gpu="another")
    assert misfit(platform, other, BuildOptions()) != ""
