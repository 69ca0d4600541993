"""pipeline.toml is validated whole: each mistake is an error that names the key's path."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import typer
from zoo.errors import UsageError
from zoo.exporter.cli.app import app
from zoo.exporter.pipeline.config import read_pipeline
from zoo.exporter.pipeline.kinds import KINDS, Build, flag_of, flags
from zoo.exporter.pipeline.validation import AT_LEAST

SOURCE = '[steps.a]\ndo = "source"\nsource = "resnet18"\nweights = "random"\n'
OUT = '[steps.out]\ndo = "export"\nfrom = "base"\n'
CHECK = '[steps.proof]\ndo = "check"\nfrom = "out"\n'
PRUNE = '[steps.half]\ndo = "prune"\nfrom = "base"\ndata = "digits"\n'
BASE = '[steps.base]\ndo = "train"\nsource = "resnet18"\ndata = "digits"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"no \[steps.NAME\]"),
        ("[steps.base]\n", r"steps.base.do is missing"),
        ('[steps.base]\ndo = "trian"\n', r"steps.base.do is 'trian'"),
        ('[steps.base]\ndo = "train"\ndata = "digits"\n', r"steps.base.source is missing"),
        ('[steps.base]\ndo = "train"\nsource = "resnet18"\n', r"steps.base.data is missing"),
        (f"{BASE}epoch = 3\n", r"steps.base: unknown key `epoch`, did you mean \"epochs\""),
        (f'{BASE}epochs = "many"\n', r"steps.base: .*\$\.epochs"),
        (f"{BASE}cores = 0\n", r"cores must be at least 1"),
        (f'{BASE}device = "tpu"\n', r"device is auto, cpu or cuda"),
        (f'{BASE}from = "base"\n', r"source and from contradict"),
        (f'{BASE}[steps.out]\ndo = "export"\nto = "onnx"\n', r"steps.out.from is missing"),
        (f'{BASE}[steps.out]\ndo = "export"\nfrom = "bsae"\nto = "onnx"\n', r'out.from: no step "bsae", did you mean'),
        (f'{BASE}[steps.out]\ndo = "check"\nfrom = "base"\n', r"out.from: base gives models, and this takes"),
        (f'{BASE}{OUT}', r"steps.out.to is missing"),
        (f'{BASE}{OUT}to = "onnx"\nprecision = "int8"\n', r"int8 needs data"),
        (f'{BASE}{OUT}to = "onnx"\nprecision = "int4"\n', r"steps.out: .*precision"),
        (f'{BASE}{OUT}to = "onnx"\naccelerator = "T4"\n', r"accelerator is of trt"),
        (f'{BASE}[steps.B]\ndo = "check"\nfrom = "base"\n', r"small letters"),
        ('[pipeline]\nouts = "x"\n' + BASE, r"\[pipeline\]: unknown key `outs`, did you mean"),
        ("[pipeline]\ncores = -1\n" + BASE, r"cores must be positive"),
        ("[stps]\n" + BASE, r"unknown key `stps`, did you mean"),
        ("steps = 3\n", r"no \[steps.NAME\]"),
        ("steps.base = 3\n", r"steps.base is no table"),
        (f"{BASE}from = 3\n", r"steps.base.from is the name of a step"),
        ('[steps.a]\ndo = "train"\nfrom = "b"\ndata = "digits"\n[steps.b]\ndo = "train"\nfrom = "a"\ndata = "digits"\n',
         r"a, b wait for each other"),
        ('[steps.a]\ndo = "source"\nsource = "resnet18"\n', r"steps.a.weights is missing"),
        (f'{SOURCE}labels = "names.txt"\n', r"steps.a.labels: no such file, names.txt"),
        (f'{SOURCE}spec = "spec.toml"\n', r"steps.a.spec: no such file, spec.toml"),
        ('[steps.a]\ndo = "train"\nsource = "resnet81"\ndata = "digits"\n', r'no model "resnet81", did you mean'),
        ('[steps.a]\ndo = "train"\nsource = "resnet18"\ndata = "digit"\n', r'a.data: no data set and no folder'),
        (f'{BASE}recipe = "mine.toml"\n', r"steps.base.recipe: no such file, mine.toml"),
        (f'{BASE}{OUT}to = ["onnx", "TensorRT"]\n', 'did you mean "trt"'),
        (f'{BASE}{OUT}to = ["onnx", "tensorflow"]\n', r'out.to: unknown backend "tensorflow"'),
        ("[steps", r"cannot be read as TOML"),
        ("[pipeline]\nmemory = nan\n" + BASE, r"pipeline.memory is nan"),
        ("[pipeline]\nseed = 2147483648\n" + BASE, r"seed must be below"),
        ('[pipeline]\nout = ""\n' + BASE, r"out is empty"),
        ('[pipeline]\nout = "/tmp/results"\n' + BASE, r"out, /tmp/results, is absolute"),
        (f"{BASE}memory = -1.0\n", r"memory must be positive"),
        (f"{BASE}gpus = -1\n", r"gpus must not be negative"),
        (f"{BASE}resources = {{board = -1}}\n", r"resources must not be negative"),
        (f"{BASE}set = {{lr = [inf]}}\n", r"steps.base.set.lr.0 is inf"),
        (f"{BASE}epochs = 0\n", r"steps.base.epochs must be at least 1, got 0"),
        (f'{BASE}input = "3x0x8"\n', r"steps.base.input: numbers are 1 to 8192, got 3x0x8"),
        (f'{BASE}input = "3x8"\n', r"steps.base.input 3x8 cannot be read"),
        (BASE.replace('"resnet18"', '["resnet18", "resnet18"]'), r"steps.base.source has something twice"),
        (f'{BASE}{OUT}to = "onnx"\nprecision = []\n', r"steps.out.precision is an empty list"),
        (f'{BASE}{OUT}to = "onnx"\nimages = 9\n', r"steps.out.images is of int8"),
        (f'{BASE}{OUT}to = "onnx"\nset = {{"trt.a" = 1}}\n', r'out.set: "trt.a" is of no backend in `to`'),
        (f'{BASE}{OUT}to = "trt"\nset = {{"trt.a" = 1}}\n', r"out.set: --set trt: unknown key"),
        (f'{BASE}{OUT}to = "torchscript"\nprecision = ["int8", "fp32"]\ndata = "digits"\n'
         'set = {"torchscript.engine" = "onednn"}\n',
         r"out.set: torchscript.engine is of int8, not fp32"),
        (f'{BASE}{OUT}to = "onnx"\nbatch = "8:1:2"\n', r"steps.out.batch 8:1:2 is not SMALLEST:USUAL:LARGEST"),
        (f'{BASE}{OUT}to = "onnx"\n{CHECK}rounds = 12\n', r"steps.proof.rounds is of the latency"),
        (f'{BASE}{OUT}to = "onnx"\n{CHECK}latency = true\nrounds = 5\n', r"rounds must be at least 10"),
        (f'{BASE}{OUT}to = "onnx"\n{CHECK}latency = true\nbatch_sizes = "0"\n', r"numbers are 1 to 4096, got 0"),
        (f'{BASE}{PRUNE}', r"steps.half: nothing says what is to go"),
        (f'{BASE}{PRUNE}macs = 0.5\nlatency = 0.5\n', r"steps.half: macs and latency contradict"),
        (f'{BASE}{PRUNE}macs = 5.0\n', r"steps.half.macs must be between 0 and 1, got 5.0"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        read_pipeline(path)


@pytest.mark.parametrize("name", [*KINDS, "build"])
def test_every_key_is_an_option_of_its_command(name: str) -> None:
    """A key that the command does not have would fail only after hours of training."""
    kind = KINDS.get(name, Build)
    if not kind.command:
        return
    command = typer.main.get_command(app).commands[kind.command]
    known = {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)}
    for one in fields(kind):
        assert one.metadata["help"].endswith("."), one.name
        flag = flag_of(one)
        if flag is not None and flag not in ("--source", "--to"):
            assert flag in known, f"zoo {kind.command} has no {flag}"
        if isinstance(one.default, bool):  # what is as the class has it is not given: the command must have the same
            (param,) = [param for param in command.params if flag in param.opts]
            assert param.default == one.default, f"{kind.command} {flag}"
        if isinstance(one.default, bool) and one.default:
            assert f"--no-{flag.removeprefix('--')}" in known


def test_flags_leave_out_what_nobody_said() -> None:
    train = KINDS["train"](source="resnet18", data="digits", set={"lr": 0.05, "augment": "none"})
    assert flags(train)[2:] == ["--data", "digits", "--set", "lr=0.05", "--set", "augment=none"]
    assert flags(KINDS["prune"](timed=False, latency=0.5)) == ["--latency", "0.5", "--no-timed"]


def test_results_among_the_data_are_refused(tmp_path: Path) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    path = tmp_path / "pipeline.toml"
    text = f'[pipeline]\nout = "photos/out"\n{BASE}'.replace('"digits"', '"photos"')
    path.write_text(text)
    with pytest.raises(UsageError, match=r"out, photos/out, lies in the data of steps.base, photos"):
        read_pipeline(path)


def test_a_byte_order_mark_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_text(BASE, encoding="utf-8-sig")
    assert [step.name for step in read_pipeline(path).steps] == ["base"]
    with pytest.raises(UsageError, match="is no regular file"):
        read_pipeline(tmp_path)


def test_limits_are_those_of_the_commands() -> None:
    command = typer.main.get_command(app)
    held = 0
    for kind in KINDS.values():
        for one in fields(kind):
            flag = flag_of(one)
            if not kind.command or flag is None or one.name not in AT_LEAST:
                continue
            option = next(param for param in command.commands[kind.command].params if flag in param.opts)
            least = getattr(option, "min", None)
            if least is not None:
                assert AT_LEAST[one.name] == least, (kind.command, one.name)
                held += 1
    assert held >= 6
