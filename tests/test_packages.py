"""One list of packages: what the projects require is what CONTRIBUTING.md explains and what tests may lack."""

import importlib
import importlib.metadata
import importlib.util
import re

import pytest

from tests import packages
from tests.packages import ROOT


def explained() -> list[str]:
    """The first column of CONTRIBUTING.md's table."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## Packages\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", section, re.MULTILINE)
    assert rows[0] == "package"
    return [name for row in rows[1:] for name in row.split(", ")]


def test_the_table_has_every_package_and_no_other() -> None:
    assert sorted(explained()) == sorted(packages.every())


def test_names_without_versions_and_extras() -> None:
    assert packages.names(["dask[array]>=2024.9", "tomli; python_version < '3.11'", "lkops[io]", "netCDF4"]) == {
        *("dask", "tomli", "netCDF4")
    }
    assert {"torch", "setuptools", "pybind11", "auditwheel", "xarray"} <= packages.every()
    assert "torch" not in packages.optional()


@pytest.mark.parametrize("name", sorted(packages.optional()))
def test_what_it_is_imported_as(name: str) -> None:
    """Else its absence would not be recognised; what is no module is a command."""
    try:
        files = importlib.metadata.distribution(name).files or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    if not any(file.suffix == ".py" for file in files):
        pytest.skip(f"{name} is a command")
    assert importlib.util.find_spec(packages.imported_as(name)) is not None


@pytest.mark.parametrize(("folder", "module"), [(".", "lkops/__init__.py"), ("edge", "edge/lkedge/__init__.py")])
def test_a_package_tells_the_version_of_its_project(folder: str, module: str) -> None:
    told = re.findall(r'^__version__ = "(.+)"$', (ROOT / module).read_text(), re.MULTILINE)
    assert told == [packages.project(folder)["project"]["version"]]


def test_the_changelog_begins_with_this_version() -> None:
    version = packages.project()["project"]["version"]
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert re.fullmatch(rf"{re.escape(version)} \(\d{{4}}-\d\d-\d\d\)", released[0])
    assert headings.index(released[0]) <= 1
