"""Every command that takes a model source takes --weights, --input, --spec and --labels, declared once."""

from __future__ import annotations

import pytest
import typer
from zoo.exporter.cli import source_options
from zoo.exporter.cli.app import app

COMMANDS = typer.main.get_command(app).commands
DESCRIBING = ("--input", "--spec", "--labels")


def helps(name: str) -> dict[str, str]:
    return {flag: option.help for option in COMMANDS[name].params for flag in option.opts}


@pytest.mark.parametrize("name", ["export", "calibrate", "sensitivity", "prune", "check"])
def test_a_command_that_takes_a_source_takes_what_describes_it(name: str) -> None:
    own = helps(name)
    assert set(DESCRIBING) <= set(own)
    for flag in DESCRIBING:
        declared = getattr(source_options, flag.removeprefix("--").capitalize()).__metadata__[0]
        assert own[flag] == declared.help, "the words of the one declaration"


def test_every_option_is_explained_by_a_sentence() -> None:
    for name in COMMANDS:
        for flag, words in helps(name).items():
            if flag.startswith("--") and flag != "--help":
                assert words, f"zoo {name} {flag}"
                assert not words.startswith("Of "), f"zoo {name} {flag}: {words}"
