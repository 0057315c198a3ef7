"""The workflow that builds wheels elsewhere: it can't run here, but what it says can be held to what there is."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest

from tests.packages import ROOT, every, imported_as, project

yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
FILE = ROOT / ".github" / "workflows" / "wheels.yml"
pytestmark = pytest.mark.skipif(not FILE.exists(), reason="no .github beside these tests: a source distribution")
needs_cibuildwheel = pytest.mark.skipif(
    importlib.util.find_spec("cibuildwheel") is None, reason="cibuildwheel is not installed"
)


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    return yaml.safe_load(FILE.read_text())


@pytest.fixture(scope="module")
def options() -> dict[str, Any]:
    return project()["tool"]["cibuildwheel"]


def test_it_does_not_run_unasked(workflow: dict[Any, Any]) -> None:
    asked = workflow[True]  # YAML's word for `on`
    assert set(asked) == {"workflow_dispatch", "push"}
    assert asked["push"] == {"tags": ["v*"]}
    assert workflow["permissions"] == {"contents": "read"}


def test_every_command_is_there(workflow: dict[Any, Any]) -> None:
    """A module is pip, or of a package that the job has installed; a script is a file."""
    for name, job in workflow["jobs"].items():
        installed = {"pip"}
        commands = [shlex.split(step["run"]) for step in job["steps"] if "run" in step]
        assert len(commands) >= 3, name
        for python, *words in commands:
            assert python == "python"
            if words[:3] == ["-m", "pip", "install"]:
                packages = {word.partition("==")[0] for word in words[3:]}
                assert packages <= every(), "a package that no extra names"
                installed |= {imported_as(package) for package in packages}
            elif words[0] == "-m":
                assert words[1] in installed
            else:
                assert (ROOT / words[0]).is_file()


def test_wheels_are_checked_as_make_wheel_checks_them(workflow: dict[Any, Any], options: dict[str, Any]) -> None:
    here = (ROOT / "tests" / "wheel.py").read_text()
    runs = [step["run"] for step in workflow["jobs"]["wheel"]["steps"] if "run" in step]
    for command in ("twine check --strict", "check_wheel_contents --ignore W009"):
        assert [run for run in runs if command in run]
        assert all(f'"{word}"' in here for word in command.split())
    pytest.importorskip("packaging")
    from tests.wheel import SMOKE, TORCHS

    excluded = re.findall(r"--exclude (\S+)", options["repair-wheel-command"])
    assert tuple(excluded) == TORCHS
    assert options["test-command"] == f"python -I {{project}}/{SMOKE.relative_to(ROOT)}"
    assert SMOKE.is_file()


def test_it_builds_with_the_torch_of_the_makefile(options: dict[str, Any]) -> None:
    pinned = re.search(r"^TORCH \?= (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert pinned
    words = shlex.split(options["before-build"])
    assert words[:2] == ["pip", "install"]
    assert set(words[2:]) == {pinned[1], *project()["build-system"]["requires"]}, (
        "all that a build without isolation has"
    )


def test_no_host_is_named() -> None:
    section = (ROOT / "pyproject.toml").read_text().partition("[tool.cibuildwheel]")[2].partition("\n[tool.ruff]")[0]
    assert len(section) > 500
    assert not re.findall(r"https?:|\w\.(?:org|io|com|net)\b", FILE.read_text() + section)


@needs_cibuildwheel
def test_cibuildwheel_takes_the_options(workflow: dict[Any, Any], options: dict[str, Any]) -> None:
    """For each processor the Python of the wheel's tag comes first: it builds, those after it find its wheel."""
    (line,) = [step["run"] for step in workflow["jobs"]["wheel"]["steps"] if " cibuildwheel " in step.get("run", "")]
    env = {name: value for name, value in os.environ.items() if not name.startswith("CIBW_")}
    for archs in ("x86_64", "aarch64"):
        ask = ["--print-build-identifiers", "--platform", "linux", "--archs", archs]
        command = [sys.executable, *shlex.split(line)[1:], *ask]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [f"cp3{minor}-manylinux_{archs}" for minor in range(10, 14)]
    assert '"py_limited_api": "cp310"' in (ROOT / "setup.py").read_text()


@needs_cibuildwheel
def test_the_options_are_of_its_schema(options: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    (folder,) = importlib.util.find_spec("cibuildwheel").submodule_search_locations or ()  # type: ignore[union-attr]
    schema = json.loads((ROOT / folder / "resources" / "cibuildwheel.schema.json").read_text())
    jsonschema.validate(options, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**options, "test-commands": "true"}, schema)
