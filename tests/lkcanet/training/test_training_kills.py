"""Fifty kills at random moments: no finished checkpoint is lost, and none is ever half-written."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lkcanet.models import load_model_and_extra
from lkcanet.training import state as _state

from .training_helpers import ended, in_child, network, run, small_scene

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")

KILLS = 50


def written(out: Path) -> int:
    """When the state was written last."""
    try:
        return (out / "state.safetensors").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@pytest.mark.exhaustive
def test_fifty_kills(tmp_path: Path) -> None:
    # in a process of its own: it forks, which the threads and pipes of a busy test process don't always survive
    code = "import sys; from tests.lkcanet.training.test_training_kills import fifty_kills; fifty_kills(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def fifty_kills(folder: str) -> None:
    torch.set_num_threads(1)
    scene, out, draw = small_scene(), Path(folder), random.Random(5)
    names = ("best.safetensors", "last.safetensors", "state.safetensors")
    steps, strays, resumed = dict.fromkeys(names, -1), 0, 0
    given = {"steps": 100_000, "batch_size": 1, "validate_every": 1, "log_every": 1}
    for kill in range(KILLS):
        resume = (out / "state.safetensors").exists()
        resumed += resume

        def work(resume: bool = resume) -> None:
            run(scene, out, network(), resume=resume, **given)

        child = in_child(work)
        if kill % 2:  # soon after it has written its first state, however busy the machine is
            before, end = written(out), time.monotonic() + 120
            while written(out) == before and time.monotonic() < end:
                time.sleep(0.002)
            time.sleep(draw.uniform(0, 0.1))
        else:  # or at any moment since its start
            time.sleep(draw.uniform(0, 0.4))
        os.kill(child, signal.SIGKILL)
        assert ended(child) == -signal.SIGKILL, f"it ended by itself before kill {kill}"
        for name in names:
            path = out / name
            if not path.exists():
                assert steps[name] == -1, f"{name} was there before kill {kill}"
                continue
            state = name == "state.safetensors"
            step = _state.read(path).step if state else load_model_and_extra(path)[1]["step"]
            assert step >= steps[name], f"{name} is older after kill {kill}"
            steps[name] = step
        strays += sum(path.name.startswith(".") for path in out.iterdir()) if out.exists() else 0
    assert steps["last.safetensors"] >= KILLS / 2 - 1  # they got somewhere
    assert steps["state.safetensors"] - steps["last.safetensors"] in (0, 1)
    assert resumed > KILLS / 4
    assert strays > 0  # some were killed while they wrote, or this test would show nothing
    # the next start cleans up, and the log has every step once, up to the state's
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lkcanet.training.lightning.fit", lambda *_: None)
        run(scene, out, network(), resume=True, **given)
    assert sorted(path.name for path in out.iterdir()) == sorted([*names, "metrics.csv"])
    log = (out / "metrics.csv").read_bytes()[: _state.read(out / "state.safetensors").log_bytes].decode()
    rows = [line.split(",")[0] for line in log.splitlines()[1:]]
    assert rows == ["0", *(str(step) for step in range(1, steps["state.safetensors"] + 1) for _ in "tv")]
