"""What every command shares: how it ends. Exit codes, JSON on stdout, one-line errors, Ctrl-C and SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from ...errors import BUG, DONE, INTERRUPTED, TERMINATED, USAGE, UnavailableError, UsageError, ZooError

Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to run; auto takes a GPU if there is one.")]
Seed = Annotated[int, typer.Option(min=0, help="Of everything that is drawn at random.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object to stdout.")]
DataRoot = Annotated[Path | None, typer.Option(help="Where named data sets lie or are downloaded to; else ZOO_DATA.")]


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        payload: what --json shows, beside ok and exit_code.
        exit_code: of errors.py.
        show: prints the tables for people.
        next: the command a person would most likely run next.
    """

    payload: dict[str, Any] = field(default_factory=dict)
    exit_code: int = DONE
    show: Callable[[], None] = lambda: None
    next: str = ""


class Terminated(BaseException):
    """SIGTERM came."""


def error_mapping(error: ZooError) -> dict[str, str]:
    """An error as --json shows it."""
    return {"kind": error.kind, "message": error.what, "fix": error.fix}


def run(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code; the one place where errors become words and codes."""
    from typer._click.exceptions import ClickException
    from typer._click.exceptions import UsageError as ClickUsageError

    as_json, debug = "--json" in arguments, "--debug" in arguments
    out = _own_stdout() if as_json else None
    signal.signal(signal.SIGTERM, _on_sigterm)
    command = typer.main.get_command(app)
    try:
        result = command.main(list(arguments), prog_name="zoo", standalone_mode=False)
        if isinstance(result, Outcome):
            return _finish(result, out)
        code = result if isinstance(result, int) else DONE
        if out is not None:  # --help
            _print_json(out, {"ok": code == DONE, "exit_code": code})
        return code
    except ZooError as error:
        if debug:
            traceback.print_exc()
        return _fail(out, error.exit_code, error_mapping(error))
    except ClickException as error:
        message = " ".join(error.format_message().split())
        context = getattr(error, "ctx", None)
        where = context.command_path if isinstance(error, ClickUsageError) and context else "zoo"
        return _fail(out, USAGE, {"kind": "usage", "message": message, "fix": f"see {where} --help"})
    except (KeyboardInterrupt, typer.Abort):
        return _fail(out, INTERRUPTED, {"kind": "interrupted", "message": "interrupted", "fix": ""})
    except Terminated:
        return _fail(out, TERMINATED, {"kind": "terminated", "message": "terminated", "fix": ""})
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:  # disk full, no permission: the machine's fault, not a bug
        if debug:
            traceback.print_exc()
        where = f"{error.filename}: " if error.filename else ""
        fix = "free space, or choose another place" if error.errno else ""
        return _fail(out, USAGE, {"kind": "usage", "message": f"{where}{error.strerror or error}", "fix": fix})
    except Exception as error:  # noqa: BLE001 - the last resort: a bug is shown with its traceback
        traceback.print_exc()
        fix = "this is a bug in zoo; please report it with the lines above"
        return _fail(out, BUG, {"kind": "bug", "message": f"{type(error).__name__}: {error}", "fix": fix})


def choose_device(asked: str) -> str:
    """Cpu or cuda.

    Raises:
        UnavailableError: cuda was asked for and there is none.
    """
    if asked == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if asked == "cuda":
        raise UnavailableError(
            "no CUDA device on this machine (or no driver for it)", fix="use --device cpu; see zoo doctor"
        )
    return "cpu"


def parse_input(text: str | None) -> tuple[int, int, int] | None:
    """`3x224x224` as numbers. Raises UsageError."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"--input {text} is not CxHxW", fix="for example --input 3x224x224")
    channels, height, width = map(int, parts)
    return channels, height, width


def need_torch(what: str) -> None:
    """Raise UnavailableError with the install command when torch is missing."""
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise UnavailableError(f"{what} needs torch", fix='pip install "zoo-export[full]"')


def _finish(outcome: Outcome, out: int | None) -> int:
    if out is not None:
        ok = outcome.exit_code == DONE
        _print_json(out, {"ok": ok, "exit_code": outcome.exit_code, **outcome.payload})
    else:
        from ..report.console import say

        outcome.show()
        if outcome.next:
            say(f"next: {outcome.next}", "cyan")
    return outcome.exit_code


def _fail(out: int | None, code: int, error: dict[str, str]) -> int:
    message, fix = error["message"], error["fix"]
    between = " " if message.endswith(("?", ".")) else "; "
    sys.stderr.write(f"error: {message}{between}{fix}\n" if fix else f"error: {message}\n")
    if out is not None:
        _print_json(out, {"ok": False, "exit_code": code, "error": error})
    return code


def _print_json(out: int, value: dict[str, Any]) -> None:
    text = json.dumps(value, allow_nan=False, ensure_ascii=False) + "\n"
    with os.fdopen(os.dup(out), "w", encoding="utf-8") as file:
        file.write(text)


def _own_stdout() -> int:
    """Keep stdout for our JSON alone: whatever libraries print, from Python or C, goes to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    return kept


def _on_sigterm(_signal: int, _frame: object) -> NoReturn:
    raise Terminated
