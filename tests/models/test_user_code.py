from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from zoo.errors import UnavailableError, UsageError
from zoo.models.user_code import described, users_code

NET = """
import json
import torch
import torch.nn.functional as F

def boom():
    raise ValueError("boom\\nand more")

def in_torch():
    return F.linear(torch.zeros(2, 3), torch.zeros(4, 5))

def in_json():
    json.loads("{")

def silent():
    raise AssertionError

def leave():
    raise SystemExit(0)

class Own(BaseException):
    pass

def own():
    raise Own("odd")

def endless():
    endless()
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    (tmp_path / "user_net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("user_net", tmp_path / "user_net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("boom", r"^doing it: ValueError: boom \(user_net\.py, line 7\); then this$"),
        ("in_torch", r"RuntimeError: .* \(user_net\.py, line 10\)"),
        ("in_json", r"JSONDecodeError: .* \(user_net\.py, line 13\)"),
        ("silent", r"^doing it: AssertionError \(user_net\.py, line 16\)"),
        ("leave", r"SystemExit: 0 \(user_net\.py, line 19\)"),
        ("own", r"Own: odd \(user_net\.py, line 25\)"),
        ("endless", r"RecursionError: .* \(user_net\.py, line 28\)"),
    ],
)
def test_whatever_users_code_raises_is_one_line_with_its_place(net: object, name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught, users_code("doing it", fix="then this"):
        getattr(net, name)()
    assert "\n" not in str(caught.value)


def test_ctrl_c_and_errors_of_zoo_pass() -> None:
    for error in (KeyboardInterrupt(), UnavailableError("no GPU")):
        with pytest.raises(type(error)), users_code("doing it"):
            raise error


def test_a_package_that_is_installed_is_named_before_torch(tmp_path: Path) -> None:
    file = tmp_path / "site-packages" / "their_net.py"
    file.parent.mkdir()
    file.write_text("import torch\ndef make():\n    return torch.nn.Linear(3, 4)(torch.zeros(2, 5))\n")
    spec = importlib.util.spec_from_file_location("their_net", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        module.make()
    except RuntimeError as error:
        error.__traceback__ = error.__traceback__.tb_next  # without this test's own line
        assert re.search(r"site-packages/their_net\.py, line 3\)$", described(error))


def test_with_no_code_of_a_user_the_place_is_the_librarys() -> None:
    try:
        torch.nn.Linear(3, 4)(torch.zeros(2, 5))
    except RuntimeError as error:
        error.__traceback__ = error.__traceback__.tb_next  # without this test's own line
        assert "torch/nn/modules" in described(error)
