"""`--help`: panels, defaults; completion of a shell."""

import os
import subprocess
import sys
from typing import Any

import pytest
import typer

from lkcanet.commands._panels import PANELS, panel_of
from lkcanet.commands.app import build


@pytest.fixture(scope="module")
def commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(build())
    return group.commands


def options(command: Any) -> list[Any]:
    return [parameter for parameter in command.params if parameter.param_type_name == "option"]


@pytest.mark.parametrize("name", ["train", "distill"])
def test_every_option_of_a_training_has_a_panel(commands: dict[str, Any], name: str) -> None:
    assert [option.name for option in options(commands[name]) if option.rich_help_panel is None] == []


def test_panels_name_options_that_there_are(commands: dict[str, Any]) -> None:
    there = {option.name for command in commands.values() for option in options(command)}
    assert {option for listed in PANELS.values() for option in listed.split()} - there == set()
    assert panel_of("key", 64) == "How scenes are read"
    assert panel_of("key", 5) is None


def test_every_option_says_its_default(commands: dict[str, Any]) -> None:
    for command in commands.values():
        for option in options(command):
            if not option.required and not option.is_flag:
                text = (option.help or "").lower()
                told = option.default is not None or isinstance(option.show_default, str)
                assert told or "default" in text or "left out" in text, (command.name, option.name)


def test_the_help_shows_both() -> None:
    testing = pytest.importorskip("typer.testing")
    text = testing.CliRunner().invoke(build(), ["train", "--help"], terminal_width=160).output
    for panel in PANELS:
        assert panel in text or panel == "Distillation"
    assert "(the only image)" in text
    assert "[default: 128]" in text


@pytest.mark.parametrize(("shell", "words"), [("bash", {"COMP_WORDS": "lkca super", "COMP_CWORD": "1"}),
                                              ("zsh", {"_TYPER_COMPLETE_ARGS": "lkca super"})])  # fmt: skip
def test_completion(shell: str, words: dict[str, str]) -> None:
    code = "import sys; sys.argv = ['lkca']; from lkcanet.cli import main; main()"
    environment = {**os.environ, "_LKCA_COMPLETE": f"complete_{shell}", **words}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "super-resolve" in done.stdout, done.stderr
    assert "degrade" not in done.stdout
