"""A run that is interrupted is validated where it ended, and what its checkpoints are worth is said."""

import dataclasses
import io
import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lkcanet.data.scenes import Scene
from lkcanet.models import load_model_and_extra
from lkcanet.training import TrainResult, state
from lkcanet.training.keeper import Keeper
from lkcanet.training.module import Module

from .training_helpers import at_step, die, ended, in_child, network, run

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")

RARE = {"steps": 9, "validate_every": 9, "learning_rate": 1e-4, "final_learning_rate": 1e-4}


@pytest.fixture(scope="module")
def straight(scene: Scene, tmp_path_factory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("straight")
    run(scene, out, **RARE)
    return files(out)


def files(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = {"log": (out / "metrics.csv").read_text()}
    for name in ("best", "last"):
        model, extra = load_model_and_extra(out / f"{name}.safetensors")
        content[name] = state.digest(model.state_dict()), extra
    return content


def interrupted(scene: Scene, out: Path, step: int, number: int = signal.SIGINT, **options: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Module, "on_before_optimizer_step", Module.on_before_optimizer_step)
        at_step(step, lambda: signal.raise_signal(number))
        with pytest.raises(KeyboardInterrupt, match=f"holds step {step}"):
            run(scene, out, resume=(out / "state.safetensors").exists(), **{**RARE, **options})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_step_that_was_reached_is_validated(scene: Scene, tmp_path: Path, straight, number: int) -> None:
    interrupted(scene, tmp_path, 5, number)
    best, extra = load_model_and_extra(tmp_path / "best.safetensors")
    last, more = load_model_and_extra(tmp_path / "last.safetensors")
    assert extra["step"] == more["step"] == extra["validation"]["step"] == 5
    assert extra["validation"] == more["validation"]
    assert all(torch.equal(a, b) for a, b in zip(best.parameters(), last.parameters(), strict=True))
    assert (tmp_path / "metrics.csv").read_text().splitlines()[-1].startswith("5,")
    # the run that goes on knows nothing of it
    result = run(scene, tmp_path, network(5), resume=True, **RARE)
    assert [entry["step"] for entry in result.history] == [0, 9]
    assert files(tmp_path) == straight


@pytest.mark.parametrize("kill", [6, None])
def test_a_best_that_only_the_interruption_saw_is_given_back(scene: Scene, tmp_path: Path, kill: int | None) -> None:
    """Steps so long that the weights after them are worse than those of the first: the interruption's best would stay
    the best to the end."""
    options = {"steps": 6, "validate_every": 3, "learning_rate": 2e-3, "final_learning_rate": 2e-3}
    expected = tmp_path / "straight"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Keeper, "scores", falling)
        run(scene, expected, **options)
        out = tmp_path / "out"
        interrupted(scene, out, 2, **options)
        assert load_model_and_extra(out / "best.safetensors")[1]["step"] == 2
        interrupted(scene, out, 4, **options)  # and once more, where the best is another
        assert load_model_and_extra(out / "best.safetensors")[1]["step"] == 0
        if kill:

            def work() -> None:
                at_step(kill, die)
                run(scene, out, resume=True, **options)

            assert ended(in_child(work)) == -signal.SIGKILL
        result = run(scene, out, network(5), resume=True, **options)
    assert result.best_step == 0
    assert files(out) == files(expected)


def falling(self: Keeper, trainer: Any, bicubic: bool = False) -> dict[str, float]:
    """Scores by the step alone: the second is the best."""
    loss = {0: 0.5, 2: 0.1}.get(self.state.step, 0.9)
    return {"loss": loss, "l1": loss, "sam_loss": 0.0, "gradient": 0.0, "mpsnr": 30 - loss, "sam": loss}


@pytest.mark.parametrize("writes", range(1, 6))
def test_a_kill_between_the_files_of_an_interruption(scene: Scene, tmp_path: Path, straight, writes: int) -> None:
    """Killed before the n-th file appears: state and last of the step, then state, best and last of its validation."""

    def work() -> None:
        original, count = Path.replace, [0]

        def hooked(self: Path, target: Path) -> Path:
            if stopped:
                count[0] += 1
                if count[0] == writes:
                    die()
            return original(self, target)

        def stop() -> None:
            stopped.append(True)
            signal.raise_signal(signal.SIGINT)

        stopped: list[bool] = []
        Path.replace = hooked  # type: ignore[method-assign]
        at_step(5, stop)
        run(scene, tmp_path, **RARE)

    assert ended(in_child(work)) == -signal.SIGKILL
    result = run(scene, tmp_path, network(5), resume=True, **RARE)
    assert result.resumed_from == (None if writes == 1 else 5)
    assert files(tmp_path) == straight


def test_a_second_ctrl_c_stops_at_once(scene: Scene, tmp_path: Path, straight) -> None:
    original = Keeper.scores

    def scores(self: Keeper, *rest: Any, **more: Any) -> dict[str, float]:
        if self.state.step == 5:
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("it went on")
        return original(self, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Keeper, "scores", scores)
        interrupted(scene, tmp_path, 5)
    assert load_model_and_extra(tmp_path / "last.safetensors")[1]["step"] == 5
    assert load_model_and_extra(tmp_path / "best.safetensors")[1]["step"] == 0
    assert run(scene, tmp_path, network(5), resume=True, **RARE).resumed_from == 5
    assert files(tmp_path) == straight


def test_the_clock_validates_too(scene: Scene, tmp_path: Path, monkeypatch) -> None:
    from lkcanet.training.module import Clock

    monkeypatch.setattr(Clock, "out_of_time", property(lambda self: self.seconds > 0 and stop()))
    count = [0]

    def stop() -> bool:
        count[0] += 1
        return count[0] == 4

    result = run(
        scene, tmp_path, steps=None, max_minutes=60.0, validate_every=1000, learning_rate=1e-4, final_learning_rate=1e-4
    )
    assert (result.steps, result.ended_by) == (4, "time")
    assert load_model_and_extra(result.best)[1]["step"] == result.best_step == 4


def scored(**by_step: tuple[float, float]) -> Callable[..., dict[str, float]]:
    """Scores (loss, MPSNR) by the step; those of step 0 are bicubic's too."""

    def scores(self: Keeper, trainer: Any, bicubic: bool = False) -> dict[str, float]:
        loss, mpsnr = by_step["step0" if bicubic else f"step{self.state.step}"]
        return {"loss": loss, "l1": loss, "sam_loss": 0.0, "gradient": 0.0, "mpsnr": mpsnr, "sam": loss}

    return scores


def warned(scene: Scene, out: Path, capsys: Any, **scores: tuple[float, float]) -> tuple[TrainResult, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Keeper, "scores", scored(**scores))
        result = run(scene, out, steps=2, validate_every=1, progress=True)
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
        again = run(scene, out, resume=True, steps=2, validate_every=1, progress=False)
    assert dataclasses.replace(again, resumed_from=None) == result
    assert told == [f"warning: {line}" for line in result.warnings]
    return result, " | ".join(told)


def test_a_best_that_is_no_good_is_said(scene: Scene, tmp_path: Path, capsys) -> None:
    good, told = warned(scene, tmp_path / "a", capsys, step0=(0.5, 30.0), step1=(0.4, 30.1), step2=(0.6, 29.0))
    assert (good.best_step, good.warnings, told) == (1, (), "")
    fresh, told = warned(scene, tmp_path / "b", capsys, step0=(0.5, 30.0), step1=(0.6, 31.0), step2=(0.7, 31.0))
    assert fresh.best_step == 0
    assert told == (
        "warning: best.safetensors is of step 0, the untrained network: none of 2 later validations had a better loss"
    )
    worse, told = warned(scene, tmp_path / "c", capsys, step0=(0.5, 30.0), step1=(0.4, 29.9), step2=(0.6, 31.0))
    assert worse.best_step == 1
    assert told == (
        "warning: best.safetensors is worse than bicubic on the validation: MPSNR 29.900 dB, bicubic's is 30.000"
    )


def test_the_command_says_it(scene: Scene, tmp_path: Path, monkeypatch) -> None:
    testing = pytest.importorskip("typer.testing", reason="typer is not installed")
    from lkcanet.cli import build_app
    from lkcanet.data import write_scene

    write_scene(tmp_path / "scene.npz", scene)
    small = ["--scale", 2, "--channels", 16, "--blocks", 1, "--patch", 8, "--batch-size", 2, "--validate-every", 1]

    def lkca(name: str, *more: object) -> Any:
        line = [
            "train",
            tmp_path / "scene.npz",
            "--test",
            ":,40:",
            *small,
            "--steps",
            2,
            "--out",
            tmp_path / name,
            *more,
        ]
        return testing.CliRunner().invoke(build_app(), [str(part) for part in line])

    monkeypatch.setattr(Keeper, "scores", scored(step0=(0.5, 30.0), step1=(0.6, 29.0), step2=(0.6, 29.0)))
    result = lkca("fresh")
    assert "best on validation at step 0, the untrained network:" in result.stdout
    assert "warning: best.safetensors is of step 0" in result.stderr
    result = lkca("json", "--json")
    assert json.loads(result.stdout)["warnings"] == [
        "best.safetensors is of step 0, the untrained network: none of 2 later validations had a better loss"
    ]
    monkeypatch.setattr(Keeper, "scores", scored(step0=(0.5, 30.0), step1=(0.4, 29.0), step2=(0.6, 29.0)))
    result = lkca("worse")
    assert "MPSNR 29.000 dB (bicubic 30.000; below it)" in result.stdout
    assert "warning: best.safetensors is worse than bicubic on the validation" in result.stderr


def test_an_interruption_warns(scene: Scene, tmp_path: Path, capsys) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Keeper, "scores", scored(step0=(0.5, 30.0), step3=(0.6, 29.0), step4=(0.4, 29.0)))
        interrupted(scene, tmp_path, 3, progress=True)
        assert "best.safetensors is of step 0, the untrained network: none of 1 later" in capsys.readouterr().err
        interrupted(scene, tmp_path, 4, progress=True)
        assert "best.safetensors is worse than bicubic on the validation" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("options", "shown", "hidden"),
    [
        (
            {"steps": None, "max_minutes": 90.0},
            r"\d steps +0\.\d/90 min .*loss .*MPSNR .*SAM",
            "100000000|poch|day|[1-9]d",
        ),
        ({"steps": 4}, r"4/4 steps", "poch| min"),
        ({"steps": None, "epochs": 1, "batch_size": 64}, r"/\d+ steps .*epoch 1/1", "Epoch|poch 0"),
        ({"steps": 4, "max_minutes": 0.5}, r"4/4 steps +0\.\d/0\.5 min", "poch"),
    ],
)
def test_the_bar(scene: Scene, tmp_path: Path, monkeypatch, options: dict, shown: str, hidden: str) -> None:
    pytest.importorskip("rich", reason="rich is not installed")
    from lkcanet.training.module import Clock

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    if options["steps"] is None and "max_minutes" in options:
        monkeypatch.setattr(Clock, "out_of_time", property(lambda self: next(steps) == 3))
        steps = iter(range(100))
    run(scene, tmp_path, progress=True, **options)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert re.search(shown, text, re.DOTALL), text[-2000:]
    assert "…" not in text
    assert not re.search(hidden, text), text[-2000:]


def test_the_course_in_words() -> None:
    pytest.importorskip("rich", reason="rich is not installed")
    from lkcanet.training.bar import course, duration

    assert course(111, None, 138.0, 2700.0, 138 / 2700) == "111 steps  2.3/45 min  42:42 left"
    assert course(0, None, 0.0, 2700.0, 0.0) == "0 steps  0.0/45 min"
    assert course(50, 200, 30.0, None, 0.25) == "50/200 steps  0:30  1:30 left"
    assert course(50, 200, 30.0, 60.0, 0.5) == "50/200 steps  0.5/1 min  0:30 left"
    assert course(200, 200, 30.0, None, 1.0) == "200/200 steps  0:30"
    assert [duration(seconds) for seconds in (0.4, 61, 3723)] == ["0:00", "1:01", "1:02:03"]


def test_no_bar_counts_what_has_no_end() -> None:
    """Every bar is drawn by rich from shares of a whole; none is Lightning's, which counts its own epochs."""
    root = Path(__file__).parents[3] / "lkcanet"
    for path in root.rglob("*.py"):
        assert not re.search(r"RichProgressBar|TQDMProgressBar|enable_progress_bar=(?!False)|tqdm", path.read_text()), (
            path
        )
