"""What every command shares: how it ends. Exit codes, JSON on stdout, one-line errors, Ctrl-C and SIGTERM."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from ...errors import (
    BUG,
    DONE,
    INTERRUPTED,
    TERMINATED,
    USAGE,
    UnavailableError,
    UsageError,
    ZooError,
    printable,
    unwritable,
)
from .streams import keep_stderr, reader_left

ONE_ACT = 0.2  # seconds in which a second signal is the same act of somebody's
SIGNALS = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}

Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to run; auto takes a GPU if there is one.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Random seed.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object to stdout.")]
DataRoot = Annotated[Path | None, typer.Option(help="Folder of named data sets; without it ZOO_DATA.")]


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        payload: what --json shows, beside ok and exit_code.
        exit_code: of errors.py.
        show: prints the tables for people.
        next: the command a person would most likely run next.
        silent: one of several processes, of which another one speaks; nothing is printed.
    """

    payload: dict[str, Any] = field(default_factory=dict)
    exit_code: int = DONE
    show: Callable[[], None] = lambda: None
    next: str = ""
    silent: bool = False


def run(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code; the one place where errors become words and codes."""
    keep_stderr()
    try:
        out = _own_stdout() if "--json" in arguments else None
    except (OSError, AttributeError) as error:  # Python gives a closed stdout no object at all
        why = getattr(error, "strerror", None) or "it is closed"
        sys.stderr.write(f"error: stdout cannot be written ({why}); --json needs it\n")
        return USAGE
    came: list[int] = []
    at = [0.0]

    def stop(number: int, _frame: object) -> None:
        if came and time.monotonic() - at[0] < ONE_ACT:
            return  # timeout(1) signals the process, then its group: the same, once more
        at[0] = time.monotonic()
        came.append(SIGNALS[signal.Signals(number)])
        raise KeyboardInterrupt

    for number in SIGNALS:
        signal.signal(number, stop)
    try:
        code = _run(app, arguments, out, came)
    except KeyboardInterrupt:  # so early that nothing had begun
        code = _stopped(out, came)
    # a library may have swallowed the interrupt and failed in its own way: it still was one
    code = came[0] if came else code
    for number in SIGNALS:
        signal.signal(number, lambda *_: _end_at_once(code))
    return code


def _end_at_once(code: int) -> NoReturn:
    """End a process whose command is over: nobody would handle a KeyboardInterrupt while Python waits for threads."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError, RuntimeError):  # one that is being written to
            stream.flush()
    os._exit(code)


def _run(app: typer.Typer, arguments: Sequence[str], out: int | None, came: list[int]) -> int:
    from typer._click.exceptions import ClickException, NoArgsIsHelpError
    from typer._click.exceptions import UsageError as ClickUsageError

    debug = "--debug" in arguments
    command = typer.main.get_command(app)
    try:
        result = command.main(list(arguments), prog_name="zoo", standalone_mode=False)
        if came:
            raise KeyboardInterrupt
        if isinstance(result, Outcome):
            return _finish(result, out)
        code = result if isinstance(result, int) else DONE
        if out is not None:  # --help
            _print_json(out, {"ok": code == DONE, "exit_code": code})
        return code
    except ZooError as error:
        if came:
            return _stopped(out, came)
        if debug:
            traceback.print_exc()
        return _fail(out, error.exit_code, error.as_mapping())
    except NoArgsIsHelpError as error:
        if (text := error.format_message()).strip():  # with rich the help is printed already
            sys.stderr.write(f"{text}\n")
        return USAGE
    except ClickException as error:
        message = " ".join(error.format_message().split()).removesuffix(".")
        context = getattr(error, "ctx", None)
        where = context.command_path if isinstance(error, ClickUsageError) and context else "zoo"
        return _fail(out, USAGE, {"kind": "usage", "message": message, "fix": f"see {where} --help"})
    except (KeyboardInterrupt, typer.Abort):
        return _stopped(out, came)
    except SystemExit as error:
        if reader_left(error):
            return DONE
        message = f"something called sys.exit({error.code!r}) in the middle of the command"
        return _fail(out, USAGE, {"kind": "usage", "message": message, "fix": "look at the model's own code"})
    except OSError as error:  # disk full, no permission: the machine's fault, not a bug
        if debug:
            traceback.print_exc()
        return _fail(out, USAGE, unwritable(error).as_mapping())
    except Exception as error:  # noqa: BLE001 - the last resort: a bug is shown with its traceback
        traceback.print_exc()
        fix = "this is a bug in zoo; please report it with the lines above"
        return _fail(out, BUG, {"kind": "bug", "message": f"{type(error).__name__}: {error}", "fix": fix})


def choose_device(asked: str) -> str:
    """Return "cpu" or "cuda".

    Raises:
        UnavailableError: cuda was asked for and there is none.
    """
    import importlib.util

    if asked == "cpu":
        return "cpu"
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            return "cuda"
    if asked == "cuda":
        raise UnavailableError(
            "no CUDA device on this machine (or no driver for it)", fix="use --device cpu; see zoo doctor"
        )
    return "cpu"


def own_device(asked: str, environment: Mapping[str, str]) -> str:
    """Return the device of a process that torchrun started: the GPU with its number on this machine."""
    where = choose_device(asked)
    return f"{where}:{environment.get('LOCAL_RANK', '0')}" if where == "cuda" and "RANK" in environment else where


def parse_input(text: str | None, option: str = "--input") -> tuple[int, int, int] | None:
    """Return `3x224x224` as numbers. Raises UsageError."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and 0 < int(part) <= 8192 for part in parts):
        raise UsageError(f"{option} {text} is not CxHxW", fix=f"for example {option} 3x224x224")
    channels, height, width = map(int, parts)
    return channels, height, width


def need_torch(what: str) -> None:
    """Raise UnavailableError with the install command when torch is missing."""
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise UnavailableError(f"{what} needs torch", fix='pip install "zoo-export[full]"')


def _stopped(out: int | None, came: list[int]) -> int:
    for number in SIGNALS:  # a second Ctrl-C would only cut the message
        signal.signal(number, signal.SIG_IGN)
    code = came[0] if came else INTERRUPTED
    word = "terminated" if code == TERMINATED else "interrupted"
    return _fail(out, code, {"kind": word, "message": word, "fix": ""})


def _finish(outcome: Outcome, out: int | None) -> int:
    if outcome.silent:
        return outcome.exit_code
    if out is not None:
        ok = outcome.exit_code == DONE
        if not _print_json(out, {"ok": ok, "exit_code": outcome.exit_code, **outcome.payload}):
            return outcome.exit_code or USAGE  # who waits for the result must not take its absence for success
    else:
        from ..report.console import say

        outcome.show()
        if outcome.next:
            say(f"next: {outcome.next}", "cyan")
    return outcome.exit_code


def _fail(out: int | None, code: int, error: dict[str, str]) -> int:
    error = {key: " ".join(value.splitlines()) for key, value in error.items()}
    message, fix = error["message"], error["fix"]
    between = " " if message.endswith(("?", ".")) else "; "
    rank = os.environ.get("RANK", "0") if "WORLD_SIZE" in os.environ else "0"
    who = "error" if rank == "0" else f"error of process {rank}"  # of those that torchrun started
    told = f"{who}: {message}{between}{fix}" if fix else f"{who}: {message}"
    sys.stderr.write(f"{printable(told)}\n")
    if out is not None and rank == "0" and not _print_json(out, {"ok": False, "exit_code": code, "error": error}):
        return code or USAGE
    return code


def _print_json(out: int, value: dict[str, Any]) -> bool:
    """Write the one object; whether it arrived, or nobody wanted it any more."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False) + "\n"
    try:
        with os.fdopen(os.dup(out), "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except BrokenPipeError:
        pass  # the reader went away; the exit code still says how it ended
    except OSError as error:
        sys.stderr.write(f"error: the JSON could not be written to stdout ({error.strerror})\n")
        return False
    return True


def _own_stdout() -> int:
    """Keep stdout for our JSON alone: whatever libraries print, from Python or C, goes to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    return kept
