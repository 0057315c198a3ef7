"""What texts name is there: modules and their contents in docstrings, comments, strings and Markdown; files by path."""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.rooms import ROOT

# a run of names after one of the packages'; what follows a slash, a dot or a hyphen is a part of something else
DOTTED = re.compile(r"(?<![\w./-])((?:lkops|lkcanet|bench|tests)(?:\.[a-z_]\w*)+)(?![\w/(]|\.\w)")
IMPORTED = re.compile(r"from ((?:lkops|lkcanet|bench|tests)[\w.]*) import \(?(\w+(?:, \w+)*)")
PATH = re.compile(r"(?<![\w./<-])((?:lkops|lkcanet|bench|tests|csrc)/[\w./]*\w)")
SUFFIXES = {"json", "txt", "md", "csv", "py", "h", "svg"}  # of files, which look like modules
NOT_HERE = {"lkops._C_cpu", "lkops._C_cuda", "lkops.__version__"}  # extensions are there where they were built
TOP = ("README.md", "CONTRIBUTING.md", "Makefile", "setup.py")
FILES = [
    path
    for place in ("lkops", "lkcanet", "bench", "tests", "csrc", "docs", "examples", *TOP)
    for path in ([ROOT / place] if (ROOT / place).is_file() else sorted((ROOT / place).rglob("*")))
    if path.suffix in (".py", ".md", ".h", ".cpp", ".cu", ".cuh", ".mk") or path.name == "Makefile"
    if "results" not in path.parts and path.name != Path(__file__).name
]


def texts(path: Path) -> Iterator[str]:
    """Of a Python file its strings and comments, of others all."""
    whole = path.read_text()
    if path.suffix != ".py":
        yield whole
        return
    for node in ast.walk(ast.parse(whole)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
    yield from (line[line.index("#") :] for line in whole.splitlines() if "#" in line)


@cache
def there(name: str) -> bool:
    """Whether a dotted name is a module or something in one."""
    parts = name.split(".")
    for i in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:i]))
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith(parts[0]):
                return True  # an optional package is missing: nothing can be said
            continue
        except SystemExit:
            return True
        for part in parts[i:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("place", sorted({path.relative_to(ROOT).parts[0] for path in FILES}))
def test_what_texts_name_is_there(place) -> None:
    wrong = []
    for path in FILES:
        where = path.relative_to(ROOT)
        if where.parts[0] != place:
            continue
        names, paths = set(), set()
        for text in texts(path):
            names |= {m[1] for m in DOTTED.finditer(text)}
            names |= {f"{m[1]}.{name}" for m in IMPORTED.finditer(text) for name in m[2].split(", ")}
            paths |= set(PATH.findall(text))
        names = {name for name in names - NOT_HERE if name.rpartition(".")[2] not in SUFFIXES}
        wrong += [f"{where}: {name}" for name in sorted(names) if not there(name)]
        wrong += [f"{where}: {p}" for p in sorted(paths) if not (ROOT / p).exists() and not list(ROOT.glob(f"{p}*"))]
    assert not wrong
