from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
from zoo.errors import UsageError
from zoo.models.factory import call_factory, refuse_foreign

FACTORIES = """
import sys
import torch
from torch import nn

def base(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
def lazy(): return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten())
def half(): return base().half()
def double(): return base().double()
def meta(): return base().to("meta")
def computed():
    made = base()
    made.twice = made[0].weight * 2
    return made
def leaves(): sys.exit(0)
def raises(): raise RuntimeError("boom")
def small(): return nn.Sequential(base(), nn.Linear(4, 2))
def quantised(): return torch.ao.quantization.quantize_dynamic(small(), {nn.Linear})
def observed():
    made = small()
    made.add = torch.ao.nn.quantized.FloatFunctional()
    return made
def parallel(): return nn.DataParallel(base())
def compiled(): return torch.compile(base())
def scripted(): return torch.jit.script(base())
def traced(): return torch.jit.trace(base(), torch.zeros(1, 3, 8, 8))
def exported(): return torch.export.export(base(), (torch.zeros(1, 3, 8, 8),)).module()
def deep(): return torch.zeros(2, 3) @ torch.zeros(2, 3)
def needs(width): return base()
class Stop(BaseException): pass
def stops(): raise Stop
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.startswith("user_")]:
        del sys.modules[name]
    (tmp_path / "user_net.py").write_text(FACTORIES)
    return tmp_path


@pytest.mark.filterwarnings("ignore")  # torch deprecates what it quantised with
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lazy", r"lazy layer: 0\.weight has no shape yet; call the model once"),
        ("half", r"torch\.float16 \(0\.weight\); return model\.float\(\)"),
        ("double", r"torch\.float64 \(0\.weight\); return model\.float\(\)"),
        ("meta", "a module on meta"),
        ("quantised", r"quantised module: 1 is a torch.*dynamic Linear; return the model before it was quantised"),
        ("parallel", r"in DataParallel; return model\.module"),
        ("compiled", r"torch\.compile made of a model; return the model itself, not torch\.compile's"),
        ("scripted", r"TorchScript \(RecursiveScriptModule\).*; return the model itself"),
        ("traced", r"TorchScript \(TopLevelTracedModule\).*; return the model itself"),
        ("exported", r"cannot be put into evaluation mode.*; return the model itself, not what torch\.export"),
        ("leaves", r"SystemExit: 0 \(user_net\.py, line 15\)"),
        ("raises", r"RuntimeError: boom \(user_net\.py, line 16\)"),
        ("deep", r"RuntimeError: .* \(user_net\.py, line 28\)"),
        ("needs", r"TypeError: .*width"),
        ("stops", r"Stop \(user_net\.py, line 31\)"),
    ],
)
def test_what_a_factory_does_wrong_is_one_line(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        call_factory(f"user_net:{name}", {})
    assert "\n" not in str(caught.value)


def test_what_quantisation_observes_is_float() -> None:
    call_factory("user_net:observed", {})


def test_a_module_that_holds_a_computed_tensor_can_be_copied() -> None:
    made = call_factory("user_net:computed", {})
    copied = copy.deepcopy(made).half()
    assert copied.twice.equal(made.twice)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("user_syntax", "def make(:", r"SyntaxError: .* \(user_syntax\.py, line 1\)"),
        ("user_exits", "import sys\n\nsys.exit(3)", r"SystemExit: 3 \(user_exits\.py, line 3\)"),
        (
            "user_needs",
            "\nimport no_such",
            r"No module named 'no_such' \(user_needs\.py, line 2\); pip install no_such",
        ),
        ("user_own", "class Odd(BaseException): pass\nraise Odd('x')", r"Odd: x \(user_own\.py, line 2\)"),
    ],
)
def test_what_a_module_does_wrong_on_import_is_one_line(here: Path, name: str, content: str, words: str) -> None:
    (here / f"{name}.py").write_text(content)
    with pytest.raises(UsageError, match=words):
        call_factory(f"{name}:make", {})


def test_a_function_that_is_not_named_or_not_there_is_answered_with_those_that_are() -> None:
    for source, words in (
        ("user_net:", r"user_net: names no function; user_net has base, lazy, half"),
        ("user_net:bas", r'no callable bas, did you mean "base"\? user_net has base, lazy'),
        ("user_net:nn", r"no callable nn; user_net has base"),
        (":make", r":make names no module; give package\.module:make"),
    ):
        with pytest.raises(UsageError, match=words):
            call_factory(source, {})


def test_a_files_path_is_answered_with_its_modules_name() -> None:
    with pytest.raises(UsageError, match="write the file as a module: nets.mine:make"):
        call_factory("nets/mine.py:make", {})


def test_a_source_file_that_is_not_utf_8_does_not_stop_the_look_for_its_factory(here: Path) -> None:
    (here / "user_latin.py").write_bytes(b"# -*- coding: latin-1 -*-\n# caf\xe9\ndef make(): pass\n")
    refuse_foreign("user_latin:make")
    with pytest.raises(UsageError, match="does not define"):
        refuse_foreign("user_latin:other")
