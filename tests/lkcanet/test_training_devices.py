"""Two processes train as one, through gloo."""

import csv
import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lkcanet import _state
from lkcanet.distillation import Distillation
from lkcanet.training import distill

from .training_helpers import network, options_of, run, small_scene, split_of

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")

ROOT = Path(__file__).parents[2]


def rows(out: Path) -> list[dict[str, float]]:
    with (out / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    """With a teacher, so that all there is goes through the processes. After one step Adam's first moment is a tenth of
    the gradient."""
    scene, kd = small_scene(), Distillation(alpha=0.5, on="features")
    teacher = network(3, drop_path=0.0)
    for one in (model := network(drop_path=0.0), teacher):
        with torch.no_grad():
            one.upsample.conv.get_parameter("parametrizations.weight.original0").fill_(0.5)
    start = {key: value.clone() for key, value in model.state_dict().items()}
    states, results = [], []
    for devices in (1, 2):
        model.load_state_dict(start)
        out, options = tmp_path / str(devices), options_of(steps=1, batch_size=6, devices=devices, device="cpu")
        results.append(distill(model, teacher, scene, split_of(scene), options, kd, out))
        states.append(_state.read(out / "state.safetensors"))
        assert any(not torch.equal(start[key], value) for key, value in model.state_dict().items())
        assert all(torch.equal(states[-1].model[key], value) for key, value in model.state_dict().items())
    for index, one in states[0].moments.items():
        two, size = states[1].moments[index]["exp_avg"], one["exp_avg"].norm()
        assert (two - one["exp_avg"]).norm() <= 1e-5 * size + 1e-12, index
        assert size > 0 or index > 0
    assert len(rows(tmp_path / "2")) == 3  # validation, step, validation: written once
    for one, two in zip(rows(tmp_path / "1"), rows(tmp_path / "2"), strict=True):
        assert one.keys() == two.keys()
        for key in one.keys() - {"validation_mpsnr", "validation_sam", "validation_loss"}:
            assert two[key] == pytest.approx(one[key], rel=1e-3 if "validation" in key else 1e-5), key
    assert results[1].history[0] == pytest.approx(results[0].history[0])


@pytest.mark.slow
def test_two_processes_stop_and_resume(tmp_path: Path) -> None:
    """Errors of the others arrive as their own; Ctrl-C at the main process ends all; either can be resumed."""
    scene = small_scene()
    pixels = scene.pixels.copy()
    with pytest.raises(FloatingPointError, match=r"the (loss is|gradient's norm is) .* at step [2-9]"):
        run(
            dataclasses.replace(scene, pixels=pixels),
            tmp_path / "nan",
            network(),
            devices=2,
            device="cpu",
            learning_rate=1e30,
        )
    assert _state.read(tmp_path / "nan" / "state.safetensors").step < 9
    code = (
        "from tests.lkcanet.training_helpers import *\n"
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
        end, log = time.monotonic() + 90, tmp_path / "run" / "metrics.csv"
        while process.poll() is None and time.monotonic() < end:
            if log.exists() and len(log.read_text().splitlines()) > 10:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert "KeyboardInterrupt" in errors.splitlines()[-1], errors
    state = _state.read(tmp_path / "run" / "state.safetensors")
    assert state.step >= 5
    assert errors.splitlines()[-1].endswith(f"last.safetensors holds step {state.step}")


def test_a_batch_must_divide() -> None:
    with pytest.raises(ValueError, match="batch_size must be a multiple of devices, 3, which share a batch; got 4"):
        options_of(devices=3)
    with pytest.raises(ValueError, match="devices must be a whole number, 1 or more, got 0"):
        options_of(devices=0)
