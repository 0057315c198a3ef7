"""The rooms of a package and the arrows between them, from its imports: `python -m tests.rooms lkcanet`."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def room_of(module: str) -> str:
    """ "lkcanet.data.formats.envi" is in "data"; a module at the top is a room of its own; "" is the package's face."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def modules(package: str) -> dict[str, Path]:
    """Every module of a package, by its dotted name."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of the package that this one imports, wherever in it; not under `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text())
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            whole = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{whole}.{a.name}" if f"{whole}.{a.name}" in known else whole for a in node.names}
    return found & known.keys()


def arrows(package: str) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """(room, room that it imports) -> the modules between which this is so."""
    known = modules(package)
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for name, path in known.items():
        for other in imports(name, path, known):
            ends = room_of(name), room_of(other)
            if ends[0] != ends[1] and all(ends):
                found.setdefault(ends, set()).add((name, other))
    return found


if __name__ == "__main__":
    for (room, other), pairs in sorted(arrows(sys.argv[1]).items()):
        print(f"{room} -> {other}: {', '.join(sorted(f'{a} -> {b}' for a, b in pairs)[:3])}")
