"""The source distribution: all that its README, its Makefile and its tests need."""

import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.lkops.build.building import ROOT, python

pytestmark = pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="no csrc beside these tests")
BUILT = shutil.ignore_patterns("*.egg-info", "*.so", "__pycache__", "_build_facts.json", ".*_cache")


def leave(folder: str, names: list[str]) -> set[str]:
    """What was built or is git's; a folder of sources may be called build, only the top one is what setup.py makes."""
    top = {".git", ".venv", "build", "dist", "out"} if Path(folder) == ROOT else set()
    return {*BUILT(folder, names), *top.intersection(names)}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT, folder / "tree", ignore=leave)
    done = python("setup.py", "-q", "sdist", "-d", str(folder), cwd=folder / "tree", LKOPS_BUILD="0")
    assert done.returncode == 0, done.stderr
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "out", filter="data")
    (top,) = (folder / "out").iterdir()
    return top


def test_holds_every_file_of_the_repository(unpacked: Path) -> None:
    """But what serves git and CI alone."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"git ls-files: {done.stderr.strip()}")
    files = {name for name in done.stdout.split("\0") if name and not name.startswith(".") and (ROOT / name).exists()}
    assert "Makefile" in files
    assert not {name for name in files if not (unpacked / name).exists()}


def test_holds_nothing_that_was_built(unpacked: Path) -> None:
    names = [path.name for path in unpacked.rglob("*")]
    assert not [name for name in names if re.search(r"\.(so|o|pyc)$|^_build_facts\.json$|^__pycache__$", name)]


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"])
def test_links_lead_to_files(unpacked: Path, page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)\)", (unpacked / page).read_text())
    local = [link for link in links if "://" not in link]
    assert local or page != "README.md"
    assert not [link for link in local if not (unpacked / link).exists()]


def test_paths_that_pages_name_are_there(unpacked: Path) -> None:
    """`csrc/common/`, `bench/results/cpu.*`, `python -m bench.cpu.fusion`, and the targets of `make`."""
    text = "".join(page.read_text() for page in (unpacked / "README.md", *(unpacked / "docs").glob("*.md")))
    paths = set(re.findall(r"`((?:bench|csrc|tests|lkops|lkcanet)/[\w/.*]+)`", text))
    assert paths
    assert not {path for path in paths if not list(unpacked.glob(path.rstrip("/")))}
    modules = {name.replace(".", "/") for name in re.findall(r"python -m ((?:bench|lkops|lkcanet)[\w.]*\w)", text)}
    assert modules
    assert not {name for name in modules if not list(unpacked.glob(f"{name}.py")) and not (unpacked / name).is_dir()}
    targets = set(re.findall(r"make ([a-z][a-z-]+)\b", text))
    rules = set(re.findall(r"^([a-z][\w-]*):", (unpacked / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= targets
    assert targets <= rules
