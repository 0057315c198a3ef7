"""Groups of options: in place, in order, with their defaults, and back."""

import inspect
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

typer = pytest.importorskip("typer", reason="typer is not installed")

from lkcanet.commands._options import gathered, scattered, takes_options  # noqa: E402


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: Annotated[int, typer.Option(help="Of the box.")] = 3
    needed: str


@dataclass(frozen=True, kw_only=True)
class Outer:
    first: bool = False
    inner: Inner
    last: list[int] | None = None


def test_a_group_stands_where_its_parameter_stood() -> None:
    got: list[Any] = []

    @takes_options
    def command(path: str, *, before: int = 1, outer: Outer, after: float = 0.5) -> None:
        """What it does."""
        got.append((path, before, outer, after))

    signature = inspect.signature(command)
    assert list(signature.parameters) == ["path", "before", "first", "size", "needed", "last", "after"]
    assert signature.parameters["size"].default == 3
    assert signature.parameters["needed"].default is inspect.Parameter.empty
    assert command.__annotations__["size"].__metadata__[0].help == "Of the box."
    assert (command.__name__, command.__doc__) == ("command", "What it does.")
    values = {"path": "p", "before": 2, "first": True, "size": 4, "needed": "n", "last": [1], "after": 0.25}
    command(**values)
    outer = Outer(first=True, inner=Inner(size=4, needed="n"), last=[1])
    assert got == [("p", 2, outer, 0.25)]
    assert scattered(outer) == {name: values[name] for name in ("first", "size", "needed", "last")}
    assert gathered(Outer, scattered(outer)) == outer
    assert gathered(Outer, {"needed": "x"}) == Outer(inner=Inner(needed="x"))


def test_every_reading_command_reads_alike() -> None:
    """One place for an option that several commands take: the same annotation and default, in all of them."""
    from lkcanet.commands._drawing import Drawing
    from lkcanet.commands._msi import MsiOptions, MsiReading
    from lkcanet.commands._reading import Reading
    from lkcanet.commands.app import build

    commands = {entry.name: inspect.signature(entry.callback).parameters for entry in build().registered_commands}  # type: ignore[arg-type]
    readers = {"view", "report", "info", "degrade", "train", "distill", "evaluate", "super-resolve", "show", "compress"}
    takers = {
        Reading: readers,
        Drawing: {"show", "view", "report"},
        MsiReading: {"train", "distill", "evaluate", "super-resolve"},
        MsiOptions: {"train", "distill", "evaluate"},
    }
    for group, names in takers.items():
        options = inspect.signature(takes_options(_taking(group))).parameters
        for command, parameters in commands.items():
            if command in names:
                for name, option in options.items():
                    assert parameters[name].annotation is option.annotation, (command, name)
                    assert parameters[name].default == option.default
            else:
                assert not options.keys() <= parameters.keys(), command


def _taking(group: type) -> Any:
    def command(*, taken: Any) -> None: ...

    command.__annotations__["taken"] = group
    parameter = inspect.Parameter("taken", inspect.Parameter.KEYWORD_ONLY, annotation=group)
    command.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
    return command
