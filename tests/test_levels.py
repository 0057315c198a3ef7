"""What `make test` keeps: a few cases of what is wide, and something of every operator, command and network."""

import inspect
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests import levels
from tests.lkops.ops.harness import runs


class Item:
    """What `levels` looks at of a collected test."""

    def __init__(self, test: str, marker: pytest.MarkDecorator | None = None, **given: Any) -> None:
        self.nodeid = f"room/test_it.py::{test}[{'-'.join(map(str, given.values()))}]"
        self.callspec, self.marks = SimpleNamespace(params=given), [] if marker is None else [marker.mark]

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return next((mark for mark in self.marks if mark.name == name), None)

    def add_marker(self, marker: pytest.MarkDecorator) -> None:
        self.marks.append(marker.mark)


def left(items: list[Any], level: str = "exhaustive") -> list[dict[str, Any]]:
    levels.mark(items)
    return [item.callspec.params for item in items if not item.get_closest_marker(level)]


def test_every_value_of_every_parameter_is_covered_by_few_cases() -> None:
    cases = [{"a": a, "b": b, "c": c} for a in range(4) for b in "xyz" for c in (None, 1.5)]
    kept = [cases[index] for index in levels.covering(cases)]
    assert {one["a"] for one in kept} == set(range(4))
    assert {one["b"] for one in kept} == set("xyz")
    assert {one["c"] for one in kept} == {None, 1.5}
    assert len(kept) == 4, "as many as the longest parameter has values"
    assert levels.covering([]) == []


def test_what_is_wide_is_thinned_for_each_backend() -> None:
    wide = pytest.mark.wide("cpu")
    items = [
        Item("test_a", wide, backend=b, size=s, bias=z) for b in ("cpu", "reference") for s in (1, 2) for z in (0, 1)
    ]
    items += [Item("test_b", size=size) for size in range(3)]
    items += [Item("test_c", pytest.mark.wide(most=1), size=size) for size in range(3)]
    kept = left(items)
    assert len([one for one in kept if one.get("backend") == "cpu"]) == 4
    assert [one for one in kept if one.get("backend") == "reference"] == [
        {"backend": "reference", "size": 1, "bias": 0},
        {"backend": "reference", "size": 2, "bias": 1},
    ]
    assert len([one for one in left(items, "slow") if one.get("backend") == "cpu"]) == 2
    assert kept[6:] == [{"size": 0}, {"size": 1}, {"size": 2}, {"size": 0}]


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton's kernels run on the GPU, not in the interpreter")
def test_the_interpreter_runs_every_operator_on_small_cases_and_quick_ones_on_others() -> None:
    single, half = torch.float32, torch.float16
    common = {"backend": "triton", "device": "cpu"}
    items = [
        Item("test_values", operator=operator, dtype=dtype, case=case, **common)
        for operator in ("lk_block", "conv2d")
        for dtype in (single, half)
        for case in ("plain", "one_pixel", "large")
    ]
    items += [Item("test_other", operator=operator, dtype=single, **common) for operator in ("lk_block", "conv2d")]
    kept = left(items)
    blocks = [(one["dtype"], one["case"]) for one in kept if one["operator"] == "lk_block"]
    assert blocks == [(single, "plain"), (half, "one_pixel")]
    assert {one.get("case") for one in kept if one["operator"] == "conv2d"} >= {"plain", "one_pixel", "large"}
    assert kept[-1] == {"operator": "conv2d", "dtype": single, **common}
    assert left(items, "slow") == [], "no second of the interpreter in make check"


def test_what_is_exhaustive_begins_no_later_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    exhaustive, other = Item("test_a", pytest.mark.exhaustive), Item("test_b", pytest.mark.slow)
    monkeypatch.delenv("LKOPS_TEST_MINUTES", raising=False)
    monkeypatch.setattr(levels, "BEGAN", levels.time.monotonic() - 3600)
    assert levels.why_too_late(exhaustive) == ""
    monkeypatch.setenv("LKOPS_TEST_MINUTES", "61")
    assert levels.why_too_late(exhaustive) == ""
    monkeypatch.setenv("LKOPS_TEST_MINUTES", "59.5")
    assert levels.why_too_late(exhaustive) == "exhaustive, and the 59.5 minutes of LKOPS_TEST_MINUTES are over"
    assert levels.why_too_late(other) == ""


def test_pytest_enters_every_room(pytestconfig: pytest.Config) -> None:
    """By default it leaves out folders by the name of build, dist and others, without a word."""
    root = Path(__file__).parent
    rooms = {path.parent.relative_to(root) for path in root.rglob("test_*.py")}
    assert Path("lkops", "build") in rooms
    skipped = pytestconfig.getini("norecursedirs")
    assert [room for room in rooms for part in room.parts for name in skipped if fnmatch(part, name)] == []


@pytest.fixture
def kept(request: pytest.FixtureRequest) -> list[pytest.Item]:
    """The tests of `make test`."""
    items = [item for item in request.session.items if item.get_closest_marker("exhaustive") is None]
    rooms = {item.nodeid.rpartition("/")[0] for item in items}
    if not {"tests", "tests/lkops/ops", "tests/lkcanet/commands", "tests/lkcanet/models"} <= rooms:
        pytest.skip("only where the whole suite is collected")
    return items


@pytest.mark.slow
def test_make_test_runs_every_operator_on_every_backend(kept: list[pytest.Item]) -> None:
    found = {(str(given.get("operator")), str(given.get("backend"))) for given in map(levels.parameters, kept)}
    here = {(operator, backend) for operator, backend, *_ in runs()}
    assert len({operator for operator, _ in here}) > 8
    assert here <= found, here - found


def _sources(items: list[pytest.Item], room: str) -> str:
    functions = {item.function for item in items if item.nodeid.startswith(room)}  # type: ignore[attr-defined]
    return "\n".join(map(inspect.getsource, functions))


@pytest.mark.slow
def test_make_test_runs_every_command(kept: list[pytest.Item]) -> None:
    cli = pytest.importorskip("lkcanet.cli", reason="typer is not installed")
    sources = _sources(kept, "tests/lkcanet/commands/")
    names = [entry.name for entry in cli.build_app().registered_commands]
    assert len(names) > 10
    assert [name for name in names if f'"{name}"' not in sources and f'"{name} ' not in sources] == []


@pytest.mark.slow
def test_make_test_runs_every_network(kept: list[pytest.Item]) -> None:
    from lkcanet.models import KINDS

    files = {item.path for item in kept if item.nodeid.startswith("tests/lkcanet/models/")}
    text = "\n".join(path.read_text() for path in files)
    networks = {network.__name__ for network in KINDS.values() if network.__module__.startswith("lkcanet.")}
    assert len(networks) > 5
    assert [name for name in networks if name not in text] == []
