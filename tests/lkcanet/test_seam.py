"""What networks differ in they say themselves: no room above `models` asks for a class or a kind by its name."""

import ast
from pathlib import Path

import pytest

import lkcanet
from lkcanet.models import KINDS
from lkcanet.models.csakd import CSAKD
from lkcanet.models.edlgfs import EDLGFS

ROOT = Path(lkcanet.__file__).parent
CLASSES = {
    kind: KINDS[kind].__name__ for kind in ("lkcanet", "edlgfs", "csakd", "vdsr_lr", "cnn3d_lr", "sspsr", "essaformer")
}
# the objectives that two kinds have of their own check that they got their own network
OWN = {"objectives/csakd.py": CSAKD.__name__, "objectives/edlgfs.py": EDLGFS.__name__}


def asked_for(source: str, allowed: str | None = None) -> list[str]:
    """Lines of a module that ask whether a network is of a class or kind of this package."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        names |= {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
        texts = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
        tests_class = isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass")
        compares = isinstance(node, (ast.Compare, ast.match_case))
        classes = (names & set(CLASSES.values())) - {allowed}
        if ((tests_class or compares) and classes) or (compares and texts & set(CLASSES)):
            found.append(f"{getattr(node, 'lineno', 'case')}: {ast.unparse(node).splitlines()[0]}")
    return found


def test_no_room_asks_for_a_network_by_name() -> None:
    seen = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith("models/") and (found := asked_for(path.read_text(), OWN.get(name))):
            seen[name] = found
    assert not seen


@pytest.mark.parametrize(
    "line",
    [
        "isinstance(model, LKCANet)",
        "isinstance(model, (models.LKCANet, EDLGFS))",
        "type(model) is CSAKD",
        "model.kind == 'lkcanet'",
        "preset.kind != 'edlgfs'",
        "kind in ('csakd', 'other')",
    ],
)
def test_it_would_be_found(line: str) -> None:
    assert asked_for(f"if {line}:\n    pass")
    assert not asked_for("if value.dtype.kind == 'f' and isinstance(model, Network):\n    pass")
