"""Reading and checking of recipe files; what they hold is described in `lkcanet.reproduce.recipes`."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from ..common.toml import toml_content
from ..data.protocols import Protocol
from ..data.responses import named_response
from ..data.splits import Rect
from ..evaluation.metrics import NAMES, OPTIONAL
from ..training import Distillation, TrainOptions
from .recipes import KINDS, Entry, NetworkRecipe, Paper, Row, SetRecipe

__all__ = ["FOLDER", "load", "names", "read"]

FOLDER = Path(__file__).parent / "papers"
Kind = TypeVar("Kind")


def names() -> list[str]:
    """The papers that there are recipes of."""
    return sorted((file.stem for file in FOLDER.glob("*.toml")), key=lambda name: (name != "lkca-net", name))


def load(paper: str) -> Paper:
    """The recipes of a paper, by its name or as a .toml file of one's own.

    Raises:
        ValueError: an unknown name (lists those that there are), or a mistake in the file, as `read`.
        FileNotFoundError: no such file.
    """
    if paper.lower().endswith(".toml"):
        return read(Path(paper))
    if paper not in names():
        raise ValueError(f"PAPER must be one of {', '.join(names())}, or a .toml file of recipes; got {paper!r}")
    return _packaged(paper)


@cache
def _packaged(paper: str) -> Paper:
    return read(FOLDER / f"{paper}.toml")


def read(file: Path) -> Paper:
    """The recipes in a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no TOML, or an entry that is missing, unknown, of another kind or names nothing: says file, table
            and key.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no such file of recipes")
    try:
        content = toml_content(file.read_text("utf-8-sig"))
    except ValueError as error:  # of TOML or of UTF-8
        raise ValueError(f"{file}: no TOML: {error}") from error
    _known(content, {"title", "source", "training", "recipe", "networks", "protocols", "sets", "entries"}, f"{file}")
    for key in ("title", "source", "entries"):
        if key not in content:
            raise ValueError(f"{file} lacks {key}")
    for key, value in content.items():
        wanted, words = (str, "a text") if key in ("title", "source") else (dict, "a table")
        if not isinstance(value, wanted):
            raise ValueError(f"{file}: {key} must be {words}, got {value!r}")
    told = content.get("recipe", {})
    _known(told, {"place", "ours", "blur", "scores"}, f"{file}: [recipe]")
    scores = tuple(told.get("scores", NAMES))
    if not scores or not set(scores) <= {*NAMES, *OPTIONAL}:
        raise ValueError(f"{file}: [recipe]: scores must be among {', '.join((*NAMES, *OPTIONAL))}; got {list(scores)}")
    training = content.get("training", {})
    _taken(TrainOptions, training, f"{file}: [training]")
    networks = {
        name: _network(table, training, f"{file}: [networks.{name}]")
        for name, table in content.get("networks", {}).items()
    }
    for name, network in networks.items():
        if network.teacher is not None and network.teacher not in networks:
            raise ValueError(f"{file}: [networks.{name}]: teacher must be one of its networks, got {network.teacher!r}")
        if network.teacher is not None and networks[network.teacher].teacher is not None:
            raise ValueError(f"{file}: [networks.{name}]: teacher {network.teacher!r} has a teacher itself")
        if network.init is not None and (network.init not in networks or networks[network.init].init is not None):
            raise ValueError(
                f"{file}: [networks.{name}]: init must be a network of the file without one, got {network.init!r}"
            )
    protocols = {
        name: _protocol(name, table, f"{file}: [protocols.{name}]")
        for name, table in content.get("protocols", {}).items()
    }
    sets = {
        name: _made(SetRecipe, table, f"{file}: [sets.{name}]", name=name)
        for name, table in content.get("sets", {}).items()
    }
    entries = {
        name: _entry(name, table, networks, training, f"{file}: [entries.{name}]")
        for name, table in content["entries"].items()
    }
    return Paper(
        name=file.stem,
        file=file,
        title=content["title"],
        source=content["source"],
        training=training,
        place=told.get("place", ""),
        ours=tuple(told.get("ours", ())),
        blur=told.get("blur"),
        scores=scores,
        networks=networks,
        entries=entries,
        protocols=protocols,
        sets=sets,
    )


def _network(table: Any, training: dict[str, Any], where: str) -> NetworkRecipe:
    made = _made(NetworkRecipe, table, where)
    _taken(TrainOptions, {**training, **made.training}, f"{where}.training")
    if (made.teacher is None) != (not made.distillation):
        raise ValueError(f"{where}: teacher and distillation go together")
    _taken(Distillation, made.distillation, f"{where}.distillation")
    return made


def _entry(name: str, table: Any, networks: Mapping[str, NetworkRecipe], training: dict[str, Any], where: str) -> Entry:
    rows = table.get("rows", []) if isinstance(table, dict) else []
    if not isinstance(rows, list):
        raise ValueError(f"{where}: rows must be a list, got {rows!r}")
    named = [{"name": row, "network": row} if isinstance(row, str) else row for row in rows]
    made = [_row(row, networks, training, f"{where}: row {number + 1}") for number, row in enumerate(named)]
    entry = _made(Entry, table, where, name=name, rows=tuple(made))
    if entry.why:
        return entry
    if entry.kind not in KINDS:
        raise ValueError(f"{where}: kind must be one of {', '.join(KINDS)}; got {entry.kind!r}")
    if not entry.scales or not all(type(scale) is int and scale > 0 for scale in entry.scales):
        raise ValueError(f"{where}: scales must be whole numbers above 0, got {list(entry.scales)}")
    if entry.kind != "weights":
        if not entry.rows:
            raise ValueError(f"{where} lacks rows")
        for row in entry.rows:
            if not row.why and row.data is None and entry.data is None:
                raise ValueError(f"{where}: row {row.name!r} lacks data, and so does the table")
    if len({row.name for row in entry.rows}) < len(entry.rows):
        raise ValueError(f"{where}: two rows have one name")
    _fusion(entry, where)
    if entry.bands is not None and (len(entry.bands) != 3 or min(entry.bands) < 1):
        raise ValueError(f"{where}: bands must be three numbers, counted from 1; got {list(entry.bands)}")
    return entry


def _fusion(entry: Entry, where: str) -> None:
    """What an entry says of MSIs and noise."""
    try:
        for response in entry.responses:
            named_response(response)
    except (ValueError, OSError) as error:
        raise ValueError(f"{where}: responses: {error}") from error
    numbers = [snr for snr in entry.snrs if isinstance(snr, (int, float)) and not isinstance(snr, bool)]
    if len(numbers) < len(entry.snrs) or entry.noise_on not in ("both", "lowres"):
        raise ValueError(
            f"{where}: snrs must be numbers of dB and noise_on 'both' or 'lowres', got {list(entry.snrs)} and "
            f"{entry.noise_on!r}"
        )


def _row(table: Any, networks: Mapping[str, NetworkRecipe], training: dict[str, Any], where: str) -> Row:
    row = _made(Row, table, where)
    if row.why:
        return row
    if row.network is None or row.network not in networks:
        raise ValueError(f"{where}: network must be one of {', '.join(networks)}; got {row.network!r}")
    network = networks[row.network]
    _known(row.tested, {"snr", "impulses"}, f"{where}.tested")
    if row.along and row.along not in network.along:
        raise ValueError(f"{where}: along must be among {list(network.along)} of {row.network}, got {row.along!r}")
    _taken(TrainOptions, {**training, **network.training, **row.training}, f"{where}.training")
    if row.distillation and network.teacher is None:
        raise ValueError(f"{where}: distillation goes with a network that has a teacher, {row.network} has none")
    _taken(Distillation, {**network.distillation, **row.distillation}, f"{where}.distillation")
    return row


def _made(kind: type[Kind], table: Any, where: str, **given: Any) -> Kind:
    """A dataclass of a TOML table, in which `given` stands above the table; lists become tuples."""
    hints = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]
    _known(table, set(hints), where)
    values = {**table, **given}
    for name, value in values.items():
        wanted = str(hints[name].type)
        kinds = {
            "dict": (dict, "a table"),
            "tuple": ((list, tuple), "a list"),
            "<class 'int'>": (int, "a whole number"),
            "<class 'float'>": ((int, float), "a number"),
        }
        good, words = kinds.get(wanted.partition("[")[0], (str, "a text"))
        if not isinstance(value, good) or isinstance(value, bool):  # type: ignore[arg-type]
            raise ValueError(f"{where}: {name} must be {words}, got {value!r}")
    try:
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


def _known(table: Any, known: set[str], where: str) -> None:
    if not isinstance(table, dict):
        raise ValueError(f"{where} must be a table, got {table!r}")
    if unknown := [key for key in table if key not in known]:
        raise ValueError(f"{where} has an unknown key {unknown[0]!r}, expected one of {', '.join(sorted(known))}")


def _taken(kind: type, table: Any, where: str) -> None:
    """Raises where a table holds what a dataclass of options does not take."""
    _known(table, {each.name for each in fields(kind)}, where)
    try:
        kind(**table)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error


def _protocol(name: str, table: Any, where: str) -> Protocol:
    """Regions are "rows,columns" ranges such as [0, 512, 0, 1024]: top, bottom, left, right."""
    _known(table, {"title", "bands", "shape", "crop", "test", "test_size", "train", "patch", "stride", "scales",
                   "source", "key", "transposable", "file_bands"}, where)  # fmt: skip
    try:
        given = dict(table)
        patches = dict.fromkeys(given.pop("scales"), (given["patch"], given["stride"]))
        del given["patch"], given["stride"]
        for region in ("crop", "test", "train"):
            given[region] = Rect(*given[region])
        return Protocol(name=name, patches=patches, **{**given, **_tuples(given, "shape", "file_bands")})
    except KeyError as error:
        raise ValueError(f"{where} lacks {error.args[0]}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error


def _tuples(given: Mapping[str, Any], *names: str) -> dict[str, tuple[int, ...]]:
    return {name: tuple(given[name]) for name in names if name in given}
