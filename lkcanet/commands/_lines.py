"""Command lines that commands print, for the user to go on with."""

import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.launched import launch
from ._options import scattered

if TYPE_CHECKING:
    from ._training import Given

# what evaluate calls as training does but means another way, or knows from the checkpoint
ANOTHER = frozenset({"scale", "snr", "seed", "json", "response", "psf_sigma", "floor"})


@cache
def options_of(command: str) -> dict[str, Any]:
    """The parameters of a command by name, as its parser has them; not --config, whose options a line spells out."""
    import typer

    from .app import build

    group: Any = typer.main.get_command(build())
    return {parameter.name: parameter for parameter in group.commands[command].params if parameter.name != "config"}


def command_line(command: str, values: Mapping[str, Any]) -> str:
    """`lkca command` with these values of its parameters; those that are its defaults are left out."""
    positional, words = [], []
    for name, parameter in options_of(command).items():
        value = values.get(name, parameter.default)
        if value is None or value == parameter.default or value in ([], ()):
            continue
        each = value if isinstance(value, (list, tuple)) else [value]
        if parameter.param_type_name == "argument":
            positional += [str(Path("." + "/" + str(entry)) if str(entry).startswith("-") else entry) for entry in each]
        elif isinstance(value, bool):
            words.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            option = min(parameter.opts, key=len)
            # joined where the value would look like an option
            words += [
                word
                for entry in map(str, each)
                for word in ([f"{max(parameter.opts, key=len)}={entry}"] if entry.startswith("-") else [option, entry])
            ]
    return shlex.join(["lkca", command, *positional, *words])


def as_started(line: str) -> str:
    """A line of `command_line` as torchrun is to run it, where that started this process."""
    started = launch()
    if started is None:
        return line
    several = f"--nnodes {started.nodes} ... " if started.nodes > 1 else ""  # where they meet, torchrun keeps to itself
    return line.replace("lkca", f"torchrun {several}--nproc-per-node {started.local} -m lkcanet.cli", 1)


def evaluation(given: "Given", scenes: Sequence[Path], best: Path) -> str:
    """The command that scores what a training left, with all options that evaluate needs too."""
    values = scattered(given)
    shared = options_of("evaluate").keys() & values.keys() - ANOTHER
    own = {name: values[name] for name in shared}
    return command_line("evaluate", {**own, "scene": list(scenes), "checkpoint": [best]})
