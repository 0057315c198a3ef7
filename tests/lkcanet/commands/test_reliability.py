"""Malformed scenes, checkpoints and options: one line that says why, nothing written, no wrong result.

The cases are those of bench/reliability; here is one test for each of their kinds, and that the judge is not blind.
"""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("typer", reason="typer is not installed")
pytest.importorskip("rich", reason="rich is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed")
pytest.importorskip("h5py", reason="h5py is not installed")
pytest.importorskip("imageio", reason="imageio is not installed")
pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("spectral", reason="spectral is not installed")

from bench.reliability import inputs, options
from bench.reliability.__main__ import all_cases, table
from bench.reliability.runner import CHANGED, FAILED, REFUSED, UNAFFECTED, Case, run

CASES = all_cases()
KINDS = tuple(dict.fromkeys(case.kind for case in CASES))


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    inputs.write_all(folder)
    return folder


@pytest.mark.wide(most=24)
@pytest.mark.parametrize("kind", KINDS)
def test_malformed(kind: str, good: Path, tmp_path: Path) -> None:
    outcomes = [run(case, good, tmp_path) for case in CASES if case.kind == kind]
    assert outcomes
    failed = [f"{outcome.case.name}: {outcome.text}" for outcome in outcomes if outcome.end == FAILED]
    assert not failed, "\n".join(failed)
    assert list(tmp_path.iterdir()) == []


def test_there_are_two_hundred_cases_and_none_twice() -> None:
    assert len({(case.kind, case.name) for case in CASES}) == len(CASES) > 500
    reading = (
        "info",
        "degrade",
        "evaluate",
        "super-resolve",
        "show",
        "train",
        "rank",
        "export",
        "distill",
        "view",
        "report",
    )
    for command in (*reading, "prepare", "resume", "bench", "demo"):
        assert any(command in case.kind or case.name.endswith(command) for case in CASES), command


@pytest.mark.parametrize(
    "command",
    ["info", "degrade", "evaluate", "super-resolve", "show", "train", "rank", "export", "distill", "view", "report"],
)
def test_the_good_inputs_work(command: str, good: Path, tmp_path: Path) -> None:
    """So that a refusal is of what is malformed."""
    case = Case("good", command, lambda place: options._good(command, place), lambda _: True, frozenset({UNAFFECTED}))
    assert run(case, good, tmp_path).end == UNAFFECTED


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_the_good_folders_work(number: int, good: Path, tmp_path: Path) -> None:
    def make(place) -> list:
        shutil.copytree(good / "run", place.outputs / "run")
        return [
            ["prepare", "tiny", good / "tiny.npy", "--out", place.outputs / "made", "--columns", "0:16,16:32"],
            ["train", good / "tiny", "--out", place.outputs / "new", *inputs.SMALL[2:6], "--steps", 1],
            ["evaluate", good / "tiny", "-c", good / "net.safetensors"],
            ["train", good / "counts.npz", "--out", place.outputs / "run", *inputs.RUN, "--resume"],
        ][number] + (["--scale", 2] if number == 0 else [])

    assert (
        run(Case("good", f"{number}", make, lambda _: True, frozenset({UNAFFECTED})), good, tmp_path).end == UNAFFECTED
    )


@pytest.mark.parametrize(
    "line",
    [
        ["train", "SCENE", "--test", ":,12:", "--steps", "1", "--out", ""],
        ["distill", "SCENE", "--teacher", "", "--out", "run"],
        ["prepare", "tiny", "SCENE", "--out="],
        ["demo", "--quick", "--out", ""],
        ["rank", ""],
        ["super-resolve", "SCENE", "--fresh", "lkca_lr", "--out-dir", ""],
    ],
)
def test_an_empty_path_is_not_the_current_folder(line: list[str], good: Path, tmp_path: Path, monkeypatch) -> None:
    from typer.testing import CliRunner

    from lkcanet.cli import build_app

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(build_app(), [str(good / "counts.npz") if part == "SCENE" else part for part in line])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: Invalid value for ")
    assert "must not be empty" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_judge_sees_what_goes_wrong(good: Path, tmp_path: Path, monkeypatch) -> None:
    import os
    import sys

    def ends(command, allowed: frozenset[str] = frozenset({REFUSED})) -> str:
        def build():
            import typer

            from lkcanet.commands.app import _Group

            app = typer.Typer(cls=_Group, pretty_exceptions_enable=False)
            app.callback()(lambda: None)
            app.command("x")(command)
            return app

        monkeypatch.setattr("lkcanet.cli.build_app", build)
        outcome = run(Case("judge", "x", make, lambda _: False, allowed), good, tmp_path)
        return outcome.end if outcome.end != FAILED else outcome.text

    places = []

    def make(place) -> list[str]:
        places.append(place)
        (place.inputs / "scene.npy").write_bytes(b"scene")
        return ["x"]

    def refuses() -> None:
        raise ValueError("so it is")

    def unknown() -> None:
        raise KeyError("unknown")

    def twice() -> None:
        print("error: once", file=sys.stderr)
        raise ValueError("twice")

    def talks() -> None:
        print("half a result")
        raise ValueError("x")

    def native() -> None:
        os.write(2, b"libpng error: no")
        raise ValueError("x")

    def leaves() -> None:
        (places[-1].outputs / ".tmp.npy").write_bytes(b"half")
        raise ValueError("x")

    def changes() -> None:
        (places[-1].inputs / "scene.npy").write_bytes(b"other")
        raise ValueError("x")

    assert ends(refuses) == REFUSED
    assert ends(lambda: None, frozenset({REFUSED, CHANGED})) == CHANGED
    assert ends(lambda: None).startswith("succeeded")
    for command, message in (
        *(
            (unknown, "traceback"),
            (twice, "not one error line"),
            (talks, "printed 'half a result"),
            (native, "a library"),
        ),
        *((leaves, "left [('.tmp.npy'"), (changes, "changed its input")),
    ):
        assert message in ends(command), command.__name__


def test_the_table_counts_every_case(good: Path, tmp_path: Path) -> None:
    cases = [case for case in CASES if case.kind in ("checkpoint: truncated", "checkpoint: dtype of the weights")]
    lines = table([run(case, good, tmp_path) for case in cases]).splitlines()
    assert lines[2:] == [
        "| checkpoint: truncated | 8 | 8 | - | - | - |",
        "| checkpoint: dtype of the weights | 2 | - | 2 | - | - |",
        "| **all** | 10 | 8 | 2 | - | - |",
    ]
