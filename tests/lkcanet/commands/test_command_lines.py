"""Commands that commands print: every option that matters is in them, and they parse to what was given."""

import inspect
import json
import re
import shlex
import signal
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest

typer = pytest.importorskip("typer", reason="typer is not installed")

from lkcanet.commands._lines import ANOTHER, command_line, evaluation, options_of  # noqa: E402
from lkcanet.commands._options import gathered  # noqa: E402
from lkcanet.commands._training import Given  # noqa: E402

from ..command_line import lkca  # noqa: E402

# a value that is not the default, for options whose type does not tell
VALUES: dict[str, Any] = {
    "set": ["features=32", "mode=a b"],
    "objective": ["h"],
    "axes": "cp",
    "nodata": -9999.0,
    "key": "a 'quoted' key",
    "test": "0:8,:",
    "out": Path("my run"),
    "scene": Path("my scene.mat"),
    "prediction": [Path("a.npy"), Path("b c.npy")],
    "checkpoint": [Path("-odd.safetensors")],
}


def type_of(command: str, name: str) -> Any:
    """The annotation of a parameter, without Annotated, list and None."""
    from lkcanet.commands.app import build

    callback = next(entry.callback for entry in build().registered_commands if entry.name == command)
    assert callback is not None
    kind = inspect.signature(callback).parameters[name].annotation
    while get_origin(kind) in (Annotated, Union, UnionType, list):
        kind = next(part for part in get_args(kind) if part is not type(None))
    return kind


def other(command: str, name: str) -> Any:
    """A value that is not the parameter's default."""
    if name in VALUES:
        return VALUES[name]
    kind, default = type_of(command, name), options_of(command)[name].default
    if get_origin(kind) is Literal:
        return next(choice for choice in get_args(kind) if choice != default)
    if kind is bool:
        return not default
    return {int: 7, float: 0.125, Path: Path("some file"), str: "some text"}[kind]


def parsed(line: str) -> tuple[str, dict[str, Any]]:
    """The command of a line and what its parser makes of the rest."""
    from lkcanet.commands.app import build

    program, command, *words = shlex.split(line)
    assert program == "lkca"
    group: Any = typer.main.get_command(build())
    return command, group.commands[command].make_context(command, words).params


def same(value: Any, expected: Any) -> bool:
    if isinstance(value, (list, tuple)) and not isinstance(expected, list):
        value = value[0] if len(value) == 1 else value  # of an argument that may be given several times
    if isinstance(expected, list):
        return [str(entry) for entry in value] == [str(entry) for entry in expected]
    return str(value) == str(expected)


@pytest.mark.parametrize("command", ["train", "distill", "evaluate"])
def test_every_option_survives_the_line(command: str) -> None:
    parameters = {name: parameter for name, parameter in options_of(command).items() if name != "help"}
    needed = {name: other(command, name) for name, parameter in parameters.items() if parameter.required}
    assert len(parameters) > 15
    for name in parameters:
        values = {**needed, name: other(command, name)}
        told, params = parsed(command_line(command, values))
        assert told == command
        for each, expected in values.items():
            if each == "checkpoint":
                expected = [str(expected[0])]
            assert same(params[each], expected), (name, each, params[each])
        others = {each for each in parameters if each not in values}
        assert all(params[each] == parameters[each].default or not params[each] for each in others), name
    everything = {name: other(command, name) for name, parameter in parameters.items()}
    _, params = parsed(command_line(command, everything))
    assert all(same(params[name], value) for name, value in everything.items())
    assert (
        command_line(command, {name: parameter.default for name, parameter in parameters.items()}) == f"lkca {command}"
    )


def given(**values: Any) -> Given:
    return gathered(Given, {"out": Path("run"), **values})


def test_the_line_to_go_on_with_has_every_option_that_evaluate_shares() -> None:
    """Walks over all: a new option of both commands is in the line, or among those that mean something else there."""
    shared = options_of("train").keys() & options_of("evaluate").keys() - {"scene", "help"}
    assert {"key", "axes", "size", "peak", "nodata", "drop_bad_bands", "msi", "threads"} <= shared
    assert shared >= ANOTHER  # nothing stays listed that is gone
    for name in shared:
        value = other("train" if name in ANOTHER else "evaluate", name)
        command, params = parsed(
            evaluation(given(**{name: value}), [Path("a scene.mat")], Path("run/best.safetensors"))
        )
        assert command == "evaluate"
        assert same(params["scene"], Path("a scene.mat"))
        assert params["checkpoint"] == [Path("run/best.safetensors")]
        default = options_of("evaluate")[name].default
        assert same(params[name], default if name in ANOTHER else value), name
    line = evaluation(given(), [Path("scene.mat")], Path("run/best.safetensors"))
    assert line == "lkca evaluate scene.mat -c run/best.safetensors"


@pytest.fixture
def cubes(tmp_path: Path) -> Path:
    """A file of two scenes, bands last, with pixels without data."""
    np = pytest.importorskip("numpy")
    pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")
    pytest.importorskip("lightning", reason="lightning is not installed")
    from lkcanet.data import demo_scene

    pixels = np.moveaxis(1000 * demo_scene((48, 64), 6, seed=1).pixels, 0, -1).copy()
    pixels[:3, :3] = -9999
    np.savez(tmp_path / "two scenes.npz", cube=pixels, other=pixels[:16, :16])
    return tmp_path


OPTIONS = ["--key", "cube", "--axes", "hwc", "--nodata", -9999, "--peak", 900, "--test", ":,40:", "--scale", 2]
SMALL = ["--channels", 16, "--blocks", 1, "--patch", 8, "--batch-size", 2, "--threads", 1]


def test_what_train_and_distill_print_runs(cubes: Path) -> None:
    scene, teacher = cubes / "two scenes.npz", cubes / "my run" / "best.safetensors"
    common = [*OPTIONS, *SMALL, "--steps", 1]
    for command in (
        ["train", scene, *common, "--out", teacher.parent],
        ["distill", scene, "--teacher", teacher, *common, "--out", cubes / "student"],
    ):
        result = lkca(*command)
        assert result.exit_code == 0, result.stderr
        line = result.stdout.splitlines()[-1].removeprefix("next: ")
        assert " --key cube " in f"{line} "
        program, *words = shlex.split(line)
        scored = lkca(*words)
        assert (program, scored.exit_code) == ("lkca", 0), scored.stderr
        assert "40:64" in scored.stdout


def test_an_interruption_prints_how_to_go_on(cubes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lkcanet.training.module import Module

    from ..training.training_helpers import at_step

    scene, out = cubes / "two scenes.npz", cubes / "run"
    monkeypatch.setattr(Module, "on_before_optimizer_step", Module.on_before_optimizer_step)
    at_step(2, lambda: signal.raise_signal(signal.SIGINT))
    result = lkca("train", scene, *OPTIONS, *SMALL, "--steps", 3, "--out", out, "--overwrite", "--no-augment")
    assert result.exit_code == 130, result.stderr
    assert result.stderr.splitlines()[-1] == f"interrupted: {out / 'last.safetensors'} holds step 2"
    line = result.stderr.splitlines()[-2].removeprefix("note: to go on: ")
    assert "--resume" in line
    assert "--overwrite" not in line
    monkeypatch.undo()
    resumed = lkca(*shlex.split(line)[1:])
    assert resumed.exit_code == 0, resumed.stderr
    assert f"the run in {out} went on from step 2" in resumed.stderr


def test_an_interruption_before_the_run_promises_nothing(cubes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lkcanet import training

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupted)
    result = lkca("train", cubes / "two scenes.npz", *OPTIONS, *SMALL, "--steps", 3, "--out", cubes / "run")
    assert result.stderr.splitlines()[-1] == "interrupted"
    assert "--resume" not in result.stderr


@pytest.mark.parametrize("side", [9, 12, 24, 40])
def test_patches_in_errors_are_in_the_pixels_of_the_option(cubes: Path, side: int) -> None:
    """And the advice is one that works."""
    scene, net = cubes / "two scenes.npz", cubes / "run" / "last.safetensors"
    reading = OPTIONS[:8]
    assert lkca("train", scene, *OPTIONS, *SMALL, "--steps", 1, "--groups", 1, "--out", net.parent).exit_code == 0
    common = ["--test", "0:48,16:", *SMALL[:4], "--patch", side, "--batch-size", 2, "--steps", 1, "--threads", 1]
    lines = {
        "train": ["train", scene, *reading, *common, "--scale", 2, "--out", cubes / "x"],
        "distill": ["distill", scene, "--teacher", net, *reading, *common, "--out", cubes / "x"],
        "compress": ["compress", net, cubes / "x.safetensors", "--rank", 1, "--scene", scene, *reading,
                     "--test", "0:48,16:", "--patch", side],
    }  # fmt: skip
    for name, line in lines.items():
        result = lkca(*line)
        assert result.exit_code == 1, (name, result.stderr)
        size = f"patch of {side} x {side} low-resolution pixels ({2 * side} x {2 * side} of the scene)"
        assert size in result.stderr, name
        if advised := re.search(r"a patch of (\d+) or less fits", result.stderr):
            assert int(advised[1]) < side
            line[line.index("--patch") + 1] = int(advised[1])
            assert lkca(*line).exit_code == 0
    assert not (cubes / "x").exists() or side < 40


def test_compress_says_what_it_can_do_and_knows_the_patch(cubes: Path) -> None:
    scene, run = cubes / "two scenes.npz", cubes / "run"
    common = [*OPTIONS, *SMALL, "--steps", 3, "--learning-rate", 1e-2]
    assert lkca("train", scene, *common, "--out", run, "--scale", 4, "--patch", 4, "--channels", 32).exit_code == 0
    net, out = run / "last.safetensors", cubes / "small.safetensors"
    result = lkca("compress", net, out)
    assert result.exit_code == 1
    assert "it has 8 groups already, and only a conv of one group is factored" in result.stderr
    assert "; --groups 16 makes it 0.0" in result.stderr
    promised = float(result.stderr.partition("--groups 16 makes it ")[2].partition(" M")[0])
    done = lkca("compress", net, out, "--groups", 16, "--scene", scene, *OPTIONS[:6], "--align", 1, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["parameters"][1] == pytest.approx(1e6 * promised, abs=500)
    dense = lkca("train", scene, *common, "--network", "lkca_net", "--out", cubes / "dense")
    assert dense.exit_code == 0, dense.stderr
    result = lkca("compress", cubes / "dense" / "last.safetensors", cubes / "b.safetensors", "--rank", 500)
    assert "--groups 2 makes it 0.0" in result.stderr
    most = int(result.stderr.partition("--rank 1 to ")[2].partition(",")[0])
    last = cubes / "dense" / "last.safetensors"
    assert lkca("compress", last, cubes / "b.safetensors", "--rank", most + 1).exit_code == 1
    assert lkca("compress", last, cubes / "b.safetensors", "--rank", most).exit_code == 0


def test_compress_takes_the_patch_of_the_checkpoint(cubes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lkcanet.data import SuperResolutionPatches

    scene, run = cubes / "two scenes.npz", cubes / "run"
    assert lkca("train", scene, *OPTIONS, *SMALL, "--steps", 1, "--out", run, "--groups", 1).exit_code == 0
    sides: list[int] = []
    original = SuperResolutionPatches.__init__

    def noted(self: Any, *args: Any, **options: Any) -> None:
        sides.append(options["lr_size"])
        original(self, *args, **options)

    monkeypatch.setattr(SuperResolutionPatches, "__init__", noted)
    line = ["compress", run / "last.safetensors", cubes / "a.safetensors", "--rank", 1, "--scene", scene, *OPTIONS[:6]]
    assert lkca(*line).exit_code == 0
    assert lkca(*line, "--patch", 4, "--overwrite").exit_code == 0
    assert sides == [8, 4]


def test_compress_shows_its_alignment(cubes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    from lkcanet.commands import compress

    drawn: list[tuple[float, str]] = []

    @contextmanager
    def bar(title: str) -> Any:
        yield lambda share, what: drawn.append((share, what))

    scene, run = cubes / "two scenes.npz", cubes / "run"
    assert lkca("train", scene, *OPTIONS, *SMALL, "--steps", 1, "--out", run, "--groups", 1).exit_code == 0
    monkeypatch.setattr(compress, "bar", bar)
    line = ["compress", run / "last.safetensors", cubes / "a.safetensors", "--rank", 1, "--scene", scene, *OPTIONS[:6]]
    assert lkca(*line, "--align", 4, "--batch-size", 2).exit_code == 0
    assert [share for share, _ in drawn] == [0.25, 0.5, 0.75, 1.0]
    assert drawn[0][1].startswith("step 1/4, loss 0.")
