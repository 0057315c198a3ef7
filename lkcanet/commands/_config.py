"""`--config FILE`: options from a YAML or TOML file, and the file that a run leaves beside its result.

Keys are the names of a command's options and arguments, with - or _; a table named after the command holds them, or
they stand at the top, for every command that is given the file; in the table they win. What the command line says wins
over both. Tables of other commands are passed over. Paths are relative to the current folder, as on the command line.
A rectangle that ends in a colon needs quotes in YAML: test: '0:512,:'.
"""

import functools
import inspect
import json
import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from ..common.files import atomic_path
from ..common.optional import require
from ..common.runs import CONFIG, on_begin
from ..common.toml import toml_content

Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Take options from a .yaml or .toml file: a key for each, or a table of them named after the command. "
        "What the command line says wins.",
    ),
]
# of how a run is started, and not of what it does
_NOT_KEPT = frozenset({"config", "help", "json", "overwrite", "resume"})


def configurable(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the option --config, which its parser reads."""
    signature = inspect.signature(command)
    option = inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Config)

    @functools.wraps(command)
    def run(*, config: Path | None = None, **values: Any) -> None:
        command(**values)

    parameters = [*signature.parameters.values(), option]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def defaults(path: Path, ctx: Any) -> dict[str, Any]:
    """What a file says for a command, by parameter, checked: for click's `default_map`.

    Args:
        path: of the file.
        ctx: click's, of the command.

    Raises:
        FileNotFoundError: no such file.
        OSError: not of its format.
        ValueError: another suffix, a key that no option has or that is given twice, or a value of the wrong type; the
            message names file and key.
    """
    signature = inspect.signature(ctx.command.callback)
    kinds = {name: one.annotation for name, one in signature.parameters.items() if name != "config"}
    known = {name.replace("-", "_") for name in ctx.parent.command.commands} if ctx.parent is not None else set()
    own = ctx.info_name.replace("-", "_")
    found: dict[str, Any] = {}
    tables = {}
    content = _normal(_read(path), path)
    for key, value in content.items():
        if isinstance(value, Mapping) and key in {own, *known}:
            tables[key] = value
        else:
            found[key] = _checked(path, key, value, kinds, ctx)
    for key, value in _normal(tables.get(own, {}), path).items():
        found[key] = _checked(path, key, value, kinds, ctx)
    return {key: value for key, value in found.items() if value is not None}


def kept(path: Path) -> dict[str, Any]:
    """What the file that a run leaves says, by the parameters' names; its errors are those of `defaults`."""
    return {key: value for key, value in _normal(_read(path), path).items() if value is not None}


@contextmanager
def written(ctx: Any) -> Iterator[None]:
    """Write the options of a command that makes a run beside its result: `config.yaml` in the folder of train, distill
    (when the run begins) and prepare, NAME.config.yaml beside NAME.safetensors of compress."""
    if ctx.info_name in ("train", "distill"):

        def begun(folder: Path) -> None:
            if not (ctx.params.get("resume") and (folder / CONFIG).exists()):  # it tells how the run began
                _write(folder / CONFIG, ctx)

        with on_begin(begun):
            yield
        return
    yield
    if ctx.info_name in ("prepare", "compress"):
        out = Path(ctx.params.get("to") or ctx.params["out"])
        _write(out / CONFIG if ctx.info_name == "prepare" else out.with_suffix(f".{CONFIG}"), ctx)


def _write(path: Path, ctx: Any) -> None:
    words = shlex.join(["lkca", ctx.info_name, *ctx.meta.get(__package__, ())])
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    lines = [
        f"# lkca {ctx.info_name} --config {shlex.quote(str(path))} repeats this run; --out names another place",
        *(f"# {line}" for line in f"{words}\n{_version()}, {now}, in {Path.cwd()}".splitlines()),
    ]
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name)
        if parameter.name not in _NOT_KEPT and value not in (None, (), []):
            name = "out" if parameter.name == "to" else parameter.name  # of prepare: --out names another place then
            lines.append(f"{name}: {_yaml(value)}")
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", "utf-8", "surrogateescape")


def _version() -> str:
    import lkops

    return f"lkops {lkops.__version__}"


def _yaml(value: Any) -> str:
    """JSON, which is YAML too, but for numbers that JSON has not."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    return json.dumps(value if isinstance(value, (bool, int, float)) else str(value), ensure_ascii=False)


def _read(path: Path) -> Mapping[Any, Any]:
    suffix = path.suffix.lower()
    if suffix not in (".yaml", ".yml", ".toml"):
        raise ValueError(f"--config {path}: unsupported suffix {path.suffix!r}, expected .yaml, .yml or .toml")
    if not path.exists():
        raise FileNotFoundError(f"--config {path}: no such file")
    try:
        text = path.read_text("utf-8-sig")
        content = toml_content(text) if suffix == ".toml" else _yaml_content(text)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # of either library
        reason = " ".join(str(error).split())
        raise OSError(f"--config {path}: cannot be read as {suffix[1:].upper()} ({reason})") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"--config {path}: must hold keys and values, got {type(content).__name__}")
    return content


def _yaml_content(text: str) -> Any:
    """By YAML 1.2's rules for plain words: in 1.1, which PyYAML follows, `on` is true, 2e-3 a text and 1:30 ninety."""
    yaml = require("yaml", extra="io")

    class Loader(yaml.SafeLoader):  # type: ignore[name-defined]
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise ValueError(f"the key {twice[0]!r} stands there twice")
            return super().construct_mapping(node, deep)

        def number(self, node: Any) -> float:
            return float(str(self.construct_scalar(node)).replace(".inf", "inf").replace(".nan", "nan"))

    for tag, pattern, first in (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("int", r"[-+]?[0-9]+", "-+0123456789"),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+0123456789."),
    ):
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))
    Loader.add_constructor("tag:yaml.org,2002:float", Loader.number)
    content = yaml.load(text, Loader)
    return {} if content is None else content


def _normal(content: Mapping[Any, Any], path: Path) -> dict[str, Any]:
    """The keys with _ for -."""
    keys: dict[str, Any] = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name in keys:
            raise ValueError(f"--config {path}: {key} is given twice, with - and with _")
        keys[name] = value
    return keys


def _checked(path: Path, key: str, value: Any, kinds: Mapping[str, Any], ctx: Any) -> Any:
    """The value as the command line's parser would take it."""
    if key not in kinds:
        near = get_close_matches(key, kinds, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"--config {path}: lkca {ctx.info_name} has no option {key}{hint}")
    if value is None:
        return None
    kind, many = _kind(kinds[key])
    if isinstance(value, list) and not many:
        raise ValueError(f"--config {path}: {key} must be one value, got {value!r}")
    taken = [_of_type(path, key, each, kind) for each in (value if isinstance(value, list) else [value])]
    return taken if many else taken[0]


def _kind(annotation: Any) -> tuple[Any, bool]:
    """The type inside Annotated, list and `| None`; whether there was a list."""
    many = False
    while get_origin(annotation) in (Annotated, Union, UnionType, list):
        many = many or get_origin(annotation) is list
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    return annotation, many


def _of_type(path: Path, key: str, value: Any, kind: Any) -> Any:
    truth = isinstance(value, bool)
    if kind is bool:
        good, what = truth, "true or false"
    elif kind is int:
        good, what = isinstance(value, int) and not truth, "a whole number"
    elif kind is float:
        good, what = isinstance(value, (int, float)) and not truth, "a number"
    elif get_origin(kind) is Literal:
        good, what = value in get_args(kind) and not truth, f"one of {', '.join(map(str, get_args(kind)))}"
    else:
        good, what = isinstance(value, (str, int, float)) and not truth and value != "", "a text that is not empty"
    if not good:
        raise ValueError(f"--config {path}: {key} must be {what}, got {value!r}")
    return value if truth else str(value)  # as on the command line, whose parser makes numbers of it
