"""Two processes train as one, through gloo."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lkcanet.objectives.distillation import Distillation
from lkcanet.training import TrainResult, distill
from lkcanet.training import state as _state
from lkcanet.training.batches import Batches

from .training_helpers import at_step, network, options_of, run, small_scene, split_of

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")

Module = pytest.importorskip("lkcanet.training.module").Module
Clock = pytest.importorskip("lkcanet.training.module").Clock
ROOT = Path(__file__).parents[3]


def rows(out: Path) -> list[dict[str, float]]:
    with (out / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


@pytest.mark.exhaustive
def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    """One process, then two go on where it was interrupted, against one alone. With a teacher, so that all there is
    goes through the processes. Adam's first moment after two steps holds a tenth of the second gradient."""
    scene, kd, teacher = small_scene(), Distillation(alpha=0.5, on="features"), network(3, drop_path=0.0)
    gain = "parametrizations.weight.original0"
    with torch.no_grad():
        teacher.upsample.conv.get_parameter(gain).fill_(0.5)

    def work(out: Path, **given: Any) -> TrainResult:
        resume, devices = given.pop("resume", False), given.pop("devices", 1)
        model = network(drop_path=0.0)
        with torch.no_grad():
            model.upsample.conv.get_parameter(gain).fill_(0.5)
        options = options_of(steps=2, batch_size=6, validate_every=1, devices=devices, device="cpu")
        result = distill(model, teacher, scene, split_of(scene), options, kd, tmp_path / out, resume=resume)
        state = _state.read(tmp_path / out / "state.safetensors")
        assert all(torch.equal(state.model[key], value) for key, value in model.state_dict().items())
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Module, "on_before_optimizer_step", Module.on_before_optimizer_step)
        at_step(1, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt, match="holds step 1"):
            work(Path("two"))
    before = _state.read(tmp_path / "two" / "state.safetensors")
    assert before.step == 1
    two, one = work(Path("two"), devices=2, resume=True), work(Path("one"))
    assert two.resumed_from == 1
    states = [_state.read(tmp_path / name / "state.safetensors") for name in ("one", "two")]
    for index, moments in states[0].moments.items():
        ours, theirs, first = (m["exp_avg"] for m in (states[1].moments[index], moments, before.moments[index]))
        size = (theirs - 0.9 * first).norm()
        assert size > 0
        assert (ours - theirs).norm() <= 1e-4 * size, index
    assert len(rows(tmp_path / "two")) == 5  # three validations, two steps: written once
    for a, b in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert a.keys() == b.keys()
        for key in a.keys() - {"validation_mpsnr", "validation_sam"}:
            assert b[key] == pytest.approx(a[key], rel=0.02 if "validation" in key else 1e-5), key
    assert two.history[:2] == one.history[:2]


@pytest.mark.exhaustive
def test_two_processes_stop_and_resume(tmp_path: Path) -> None:
    """Errors of the others arrive as their own; Ctrl-C at the main process ends all."""
    scene = small_scene()
    with pytest.raises(FloatingPointError, match=r"the (loss is|gradient's norm is) .* at step [2-9]"):
        run(scene, tmp_path / "nan", devices=2, device="cpu", learning_rate=1e30)
    assert _state.read(tmp_path / "nan" / "state.safetensors").step < 9
    code = (
        "from tests.lkcanet.training.training_helpers import *\n"
        "if __name__ == '__main__':\n"
        f"    run(small_scene(), Path({str(tmp_path / 'run')!r}), devices=2, device='cpu', steps=100000)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, script],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        end, log = time.monotonic() + 240, tmp_path / "run" / "metrics.csv"
        while process.poll() is None and time.monotonic() < end:
            if log.exists() and len(log.read_text().splitlines()) > 10:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=180)[1]
    finally:
        process.kill()
    assert "KeyboardInterrupt" in errors.splitlines()[-1], errors
    state = _state.read(tmp_path / "run" / "state.safetensors")
    assert state.step >= 5
    assert errors.splitlines()[-1].endswith(f"last.safetensors holds step {state.step}")


def test_all_devices_have_the_learning_rate_of_the_first() -> None:
    """With rates of their own, as their clocks have it where time ends a run, the processes' weights would part."""
    options, clock = options_of(max_minutes=1.0), Clock(1000, 1.0)
    module = Module(network(), options, clock, None, Batches(8, 4, 1000, 0, parts=2))
    groups, sent = [{"lr": 0.0}], []

    def broadcast(fraction: float) -> float:
        sent.append(fraction)
        return 0.75  # the first process is this far

    module._trainer = SimpleNamespace(world_size=2, global_rank=1, strategy=SimpleNamespace(broadcast=broadcast))
    module.optimizers = lambda: SimpleNamespace(param_groups=groups)
    clock.start -= 30
    with torch.random.fork_rng():
        module.on_train_batch_start(None, 0)
    assert sent == [pytest.approx(0.5, abs=0.2)]
    assert groups[0]["lr"] == options.rate(0.75)


def test_a_batch_must_divide() -> None:
    with pytest.raises(ValueError, match="batch_size must be a multiple of devices, 3, which share a batch; got 4"):
        options_of(devices=3)
    with pytest.raises(ValueError, match="devices must be a whole number, 1 or more, got 0"):
        options_of(devices=0)
