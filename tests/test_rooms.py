"""Imports between rooms run downwards only, as CONTRIBUTING.md has them; no module is longer than a sitting."""

import ast
import re

import pytest

from tests.rooms import ROOT, arrows, modules, room_of

PACKAGES = ("lkops", "lkcanet")
MOST_LINES = 300


def floors(package: str) -> dict[str, int]:
    """Room -> floor, from the line of CONTRIBUTING.md that begins with the package's name."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    line = re.search(rf"^    {package}: (.*)$", text, re.MULTILINE)
    assert line, f"CONTRIBUTING.md has no line of the rooms of {package}"
    return {room: floor for floor, rooms in enumerate(line[1].split(" < ")) for room in rooms.split(", ")}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_downwards(package: str) -> None:
    floor = floors(package)
    rooms = {room_of(module) for module in modules(package)} - {""}
    assert rooms == set(floor), "the line in CONTRIBUTING.md names the rooms that there are"
    wrong = [f"{a} -> {b}" for (room, other), pairs in arrows(package).items() for a, b in pairs
             if floor[room] <= floor[other]]  # fmt: skip
    assert not wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_hides_in_a_string(package: str) -> None:
    """`import_module` takes optional packages and what stands in a registry, not the project's own rooms."""
    hidden = []
    for name, path in modules(package).items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant) and str(first.value).startswith((".", "lkcanet")):
                    hidden.append(f"{name}:{node.lineno}")
    assert not hidden


@pytest.mark.parametrize("package", [*PACKAGES, "bench"])
def test_modules_are_short_or_say_why(package: str) -> None:
    long = []
    for name, path in modules(package).items():
        lines = path.read_text().splitlines()
        if len(lines) > MOST_LINES and not re.search(r"^# long: ", path.read_text(), re.MULTILINE):
            long.append(f"{name}: {len(lines)} lines")
    assert not long
