"""Runs that are killed or interrupted go on and end with the bits of one that was not."""

import dataclasses
import json
import signal
import time
from pathlib import Path

import pytest
import torch

from lkcanet.data.scenes import Scene
from lkcanet.models import load_model_and_extra
from lkcanet.objectives.distillation import Distillation
from lkcanet.training import distill
from lkcanet.training import state as _state

from .training_helpers import at_step, die, ended, in_child, network, options_of, run, split_of

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")

FILES = ("best.safetensors", "last.safetensors", "metrics.csv")


@pytest.fixture(scope="module")
def straight(scene: Scene, tmp_path_factory) -> dict[str, object]:
    """The files of a run without interruption."""
    out = tmp_path_factory.mktemp("straight")
    result = run(scene, out)
    assert result.steps == 11
    assert result.resumed_from is None
    return files(out)


def files(out: Path) -> dict[str, object]:
    """What the files hold, to the bit (safetensors writes metadata in any order)."""
    content: dict[str, object] = {"log": (out / "metrics.csv").read_text()}
    for name in FILES[:2]:
        model, extra = load_model_and_extra(out / name)
        content[name] = (_state.digest(model.state_dict()), model.config, extra)
    return content


def killed_at(scene: Scene, out: Path, step: int, **options: object) -> None:
    def work() -> None:
        at_step(step, die)
        run(scene, out, network(7 if resume else 0), resume=resume, **options)

    resume = (out / "state.safetensors").exists()
    assert ended(in_child(work)) == -signal.SIGKILL


@pytest.mark.parametrize("kills", [[1], [3, 4], [8], [11], [2, 5, 5, 9]])
def test_after_a_kill_the_run_ends_with_the_same_bits(scene: Scene, tmp_path: Path, straight, kills: list[int]) -> None:
    for step in kills:
        killed_at(scene, tmp_path, step)
        assert _state.read(tmp_path / "state.safetensors").step == (step - 1) // 3 * 3
    result = run(scene, tmp_path, network(5), resume=True)  # with other weights: those of the state count
    assert result.steps == 11
    assert result.resumed_from == ((kills[-1] - 1) // 3 * 3 or None)
    assert files(tmp_path) == straight
    assert [entry["step"] for entry in result.history] == [0, 3, 6, 9, 11]


@pytest.mark.parametrize("writes", range(1, 8))
def test_a_kill_between_two_files_loses_nothing(scene: Scene, tmp_path: Path, straight, writes: int) -> None:
    """Killed before the n-th file appears under its name: state, best and last of step 0, state, ... of step 3."""

    def work() -> None:
        original, count = Path.replace, [0]

        def hooked(self: Path, target: Path) -> Path:
            count[0] += 1
            if count[0] == writes:
                die()
            return original(self, target)

        Path.replace = hooked  # type: ignore[method-assign]
        run(scene, tmp_path)

    assert ended(in_child(work)) == -signal.SIGKILL
    if writes == 1:
        with pytest.raises(FileNotFoundError, match="nothing to resume"):
            run(scene, tmp_path, resume=True)
        run(scene, tmp_path)
    else:
        assert [path for path in tmp_path.iterdir() if path.name.startswith(".")]
        before = _state.read(tmp_path / "state.safetensors")
        killed_at(scene, tmp_path, before.step + 1)  # it has but started, and written what was left out
        for name, step in {"best": before.best["step"], "last": before.step}.items():
            assert load_model_and_extra(tmp_path / f"{name}.safetensors")[1]["step"] == step
        run(scene, tmp_path, resume=True)
    assert files(tmp_path) == straight
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, "state.safetensors"])


@pytest.mark.parametrize(
    ("step", "number"),
    [(4, signal.SIGINT), (6, signal.SIGINT), (11, signal.SIGINT), (5, signal.SIGTERM)],
)
def test_after_ctrl_c(scene: Scene, tmp_path: Path, straight, step: int, number: int) -> None:
    from lkcanet.training.module import Module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Module, "on_before_optimizer_step", Module.on_before_optimizer_step)
        at_step(step, lambda: signal.raise_signal(number))
        if step < 11:
            with pytest.raises(KeyboardInterrupt, match=f"holds step {step}"):
                run(scene, tmp_path)
        else:
            run(scene, tmp_path)  # it was the last step anyway
    assert load_model_and_extra(tmp_path / "last.safetensors")[1]["step"] == step
    result = run(scene, tmp_path, network(5), resume=True)
    assert result.resumed_from == step
    assert files(tmp_path) == straight


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16-mixed"},
        {"precision": "64-true"},
        {"precision": "bf16-true"},
        {"workers": 1},
        {"gradient_clip": 0.1, "augment": False, "batch_size": 13, "monitor": "mpsnr"},
    ],
)
def test_other_runs_resume_too(scene: Scene, tmp_path: Path, options: dict) -> None:
    expected = tmp_path / "straight"
    run(scene, expected, steps=5, **options)
    killed_at(scene, tmp_path / "killed", 5, steps=5, **options)
    run(scene, tmp_path / "killed", resume=True, steps=5, **options)
    assert files(tmp_path / "killed") == files(expected)


def test_distillation_resumes(scene: Scene, tmp_path: Path) -> None:
    options, kd = options_of(steps=5), Distillation(alpha=1.0, frequency=1, decay=0.5)
    split, teacher = split_of(scene), network(3)
    with torch.no_grad():
        teacher.upsample.conv.get_parameter("parametrizations.weight.original0").fill_(0.5)

    def work() -> None:
        at_step(5, die)
        distill(network(), teacher, scene, split, options, kd, tmp_path / "killed")

    distill(network(), teacher, scene, split, options, kd, tmp_path / "straight")
    assert ended(in_child(work)) == -signal.SIGKILL
    with pytest.raises(ValueError, match=r"teacher is .*, there it was"):
        distill(network(), network(4), scene, split, options, kd, tmp_path / "killed", resume=True)
    with pytest.raises(ValueError, match=r"distillation alpha is 0\.5, there it was 1\.0"):
        distill(
            network(),
            teacher,
            scene,
            split,
            options,
            dataclasses.replace(kd, alpha=0.5),
            tmp_path / "killed",
            resume=True,
        )
    with pytest.raises(ValueError, match="distillation is None"):
        run(scene, tmp_path / "killed", resume=True, steps=5)
    result = distill(network(5), teacher, scene, split, options, kd, tmp_path / "killed", resume=True)
    assert result.resumed_from == 3
    assert files(tmp_path / "killed") == files(tmp_path / "straight")


def test_a_run_that_has_ended_stays_as_it_is(scene: Scene, tmp_path: Path) -> None:
    first = run(scene, tmp_path, steps=4)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    model = network(5)
    again = run(scene, tmp_path, model, resume=True, steps=4)
    assert again.resumed_from == 4
    assert dataclasses.replace(again, resumed_from=None) == first
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    trained, _ = load_model_and_extra(first.last)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), trained.parameters(), strict=True))
    assert not model.training


def test_the_clock_goes_on_where_it_stood(scene: Scene, tmp_path: Path) -> None:
    killed_at(scene, tmp_path, 5, max_minutes=0.5, steps=None)
    state = _state.read(tmp_path / "state.safetensors")
    assert 0 < state.seconds < 30
    state.seconds = 30.0
    _state.write(tmp_path / "state.safetensors", state)
    result = run(scene, tmp_path, resume=True, max_minutes=0.5, steps=None)
    assert result.ended_by == "time"
    assert result.steps == 4  # a step, and no more
    assert result.seconds >= 30
    assert run(scene, tmp_path, resume=True, max_minutes=0.5, steps=None).resumed_from == 4


def test_another_run_is_refused_by_name(scene: Scene, tmp_path: Path) -> None:
    killed_at(scene, tmp_path, 4)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    brighter = dataclasses.replace(scene, pixels=scene.pixels * 0.5)
    cases = [
        ({"steps": 12}, "option steps is 12, there it was 11"),
        ({"steps": None, "epochs": 2}, "option steps is None, there it was 11; option epochs is 2, there it was None"),
        ({"max_minutes": 5.0}, r"option max_minutes is 5\.0, there it was None"),
        ({"learning_rate": 1e-3}, r"option learning_rate is 0\.001, there it was 0\.002"),
        ({"seed": 1}, "option seed is 1, there it was 0"),
        ({"batch_size": 2}, "option batch_size is 2, there it was 4"),
        ({"precision": "bf16-mixed"}, "option precision is"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=f"this is not the run to resume: {message}"):
            run(scene, tmp_path, resume=True, **options)
    for other, message in {
        dataclasses.replace(scene, name="x"): "scene name is 'x', there it was 'demo'",
        dataclasses.replace(scene, peak=7.0): r"scene peak is 7\.0",
        brighter: "pixels is",
    }.items():
        with pytest.raises(ValueError, match=message):
            run(other, tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"network drop_path is 0\.1, there it was 0\.4"):
        run(scene, tmp_path, network(drop_path=0.1), resume=True)
    from lkcanet.training import train

    with pytest.raises(ValueError, match="split stride is 4, there it was 8"):
        train(network(), scene, split_of(scene, stride=4), options_of(), tmp_path, resume=True)
    with pytest.raises(ValueError, match="overwrite or resume, not both"):
        train(network(), scene, split_of(scene), options_of(), tmp_path, resume=True, overwrite=True)
    with pytest.raises(FileExistsError, match="choose another folder, overwrite, or resume it"):
        run(scene, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_nothing_to_resume(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing to resume: .*state\.safetensors does not exist"):
        run(scene, tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()


def test_a_damaged_state_is_refused(scene: Scene, tmp_path: Path) -> None:
    killed_at(scene, tmp_path, 4)
    path = tmp_path / "state.safetensors"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-100] ^= 1
    header = int.from_bytes(whole[:8], "little")
    foreign = json.dumps({"__metadata__": {"format": "pt"}}).encode()
    cases = [whole[: len(whole) // 2], whole[:5], b"", bytes(flipped), len(foreign).to_bytes(8, "little") + foreign]
    cases += [whole[: 8 + header]]
    for damaged in cases:
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"state\.safetensors is damaged or not the state of a run"):
            run(scene, tmp_path, resume=True)
        assert path.read_bytes() == damaged
    for change, reason in (
        (lambda state: state.moments.clear(), "moments of Adam"),
        (lambda state: state.moments.pop(3), "moments of Adam"),
        (lambda state: state.moments[3].pop("exp_avg"), "moments of Adam"),
        (lambda state: state.model.clear(), "weights"),
        (lambda state: state.model.pop("head.weight"), "weights"),
        (lambda state: setattr(state, "step", -1), "its step is -1"),
        (lambda state: setattr(state, "step", 12), "its step is 12"),
        (lambda state: setattr(state, "step", "3"), "its step is '3'"),
        (lambda state: state.history.clear(), "its history"),
        (lambda state: state.best.clear(), "its history"),
    ):
        path.write_bytes(whole)
        state = _state.read(path)
        change(state)
        _state.write(path, state)  # whole, with its digest
        damaged = path.read_bytes()
        with pytest.raises(ValueError, match=rf"damaged or not the state of a run, which can't go on: .*{reason}"):
            run(scene, tmp_path, resume=True)
        assert path.read_bytes() == damaged
    path.write_bytes(whole)
    log = tmp_path / "metrics.csv"
    log.write_bytes(log.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"metrics\.csv holds 20 bytes, the interrupted run had written"):
        run(scene, tmp_path, resume=True)


def test_the_command(scene: Scene, tmp_path: Path) -> None:
    testing = pytest.importorskip("typer.testing", reason="typer is not installed")
    from lkcanet.cli import build_app
    from lkcanet.data import write_scene

    def lkca(*args: object):
        return testing.CliRunner().invoke(build_app(), [str(arg) for arg in args])

    write_scene(tmp_path / "scene.npz", scene)
    small = ["--scale", 2, "--channels", 16, "--blocks", 1, "--patch", 8, "--batch-size", 2, "--validate-every", 1]
    command = ["train", tmp_path / "scene.npz", "--test", ":,40:", *small, "--steps", 3, "--out", tmp_path / "run"]
    nothing = lkca(*command, "--resume")
    assert nothing.exit_code == 1
    assert "error: nothing to resume: " in nothing.stderr
    assert not (tmp_path / "run").exists()

    def work() -> None:
        at_step(3, die)
        lkca(*command)

    assert ended(in_child(work)) == -signal.SIGKILL
    result = lkca(*command, "--resume", "--json", "--threads", 1)
    assert result.exit_code == 0, result.stderr
    assert f"note: the run in {tmp_path / 'run'} went on from step 2" in result.stderr
    report = json.loads(result.stdout)
    assert (report["resumed_from"], report["steps"]) == (2, 3)
    again = lkca(*command, "--resume")
    assert f"note: the run in {tmp_path / 'run'} had ended with step 3: nothing was left to do" in again.stderr
    other = lkca(*command, "--resume", "--learning-rate", 1e-3)
    assert "this is not the run to resume: option learning_rate is 0.001, there it was 0.002" in other.stderr
    assert len(other.stderr.splitlines()) == 2  # what trains, and the error


def test_tensorboard_has_every_step_once(scene: Scene, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    killed_at(scene, tmp_path, 6, tensorboard=True)
    time.sleep(1.1)  # TensorBoard reads files in the order of their seconds
    result = run(scene, tmp_path, resume=True, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 12))
    assert [event.step for event in events.Scalars("validation_mpsnr")] == [0, 3, 6, 9, 11]
    values = [event.value for event in events.Scalars("validation_loss")]
    assert values == pytest.approx([entry["loss"] for entry in result.history], rel=1e-6)
