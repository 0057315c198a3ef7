"""Groups of options: a dataclass whose fields are options of the command line, each with its help and default.

    @dataclass(frozen=True, kw_only=True)
    class Reading:
        key: Annotated[str | None, typer.Option(help="The variable of a .mat file.")] = None

    @takes_options
    def info(path: Path, *, reading: Reading, json: Json = False) -> None:

Of the command line, `info` has the options --key and --json; it is called with a `Reading`. A group may hold groups.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeGuard, TypeVar, get_type_hints

Group = TypeVar("Group")


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of each of its parameters that is a group, in place of that parameter."""
    own = list(inspect.signature(command).parameters.values())

    @functools.wraps(command)
    def run(**values: Any) -> None:
        given = {}
        for each in own:
            kind: Any = each.annotation
            given[each.name] = gathered(kind, values) if _is_group(kind) else values[each.name]
        command(**given)

    parameters = [option for each in own for option in _options(each.name, each.annotation, each.default)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def gathered(group: type[Group], values: Mapping[str, Any]) -> Group:
    """The group with its options among `values`, by name; the others have their defaults."""
    given: dict[str, Any] = {}
    for name, kind in _hints(group).items():
        if _is_group(kind):
            given[name] = gathered(kind, values)
        elif name in values:
            given[name] = values[name]
    return group(**given)


def scattered(group: Any) -> dict[str, Any]:
    """The options of a group by name, those of groups in it too: what `gathered` takes."""
    values: dict[str, Any] = {}
    for name in _hints(type(group)):
        value = getattr(group, name)
        values |= scattered(value) if _is_group(type(value)) else {name: value}
    return values


def _is_group(kind: Any) -> TypeGuard[type]:
    return isinstance(kind, type) and is_dataclass(kind)


def _hints(group: type) -> dict[str, Any]:
    hints = get_type_hints(group, include_extras=True)
    return {field.name: hints[field.name] for field in fields(group)}


def _options(name: str, kind: Any, default: Any) -> Iterator[inspect.Parameter]:
    if not _is_group(kind):
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        return
    defaults = {field.name: field.default for field in fields(kind)}
    for each, hint in _hints(kind).items():
        own = inspect.Parameter.empty if defaults[each] is MISSING else defaults[each]
        yield from _options(each, hint, own)
