"""Two processes that torchrun starts train as one: killed, started again, ended and resumed, with the same bits."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lkcanet.common.launched import launch
from lkcanet.data import write_scene
from lkcanet.training import state as _state

from .training_helpers import options_of, run, small_scene

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")
pytest.importorskip("typer", reason="typer is not installed")
pytest.importorskip("rich", reason="rich is not installed")

ROOT = Path(__file__).parents[3]
# the command, whose second process has something happen to it at steps that PLAN names, once each
SCRIPT = """
import os, signal
from pathlib import Path
from lkcanet.cli import main
from tests.lkcanet.training.training_helpers import at_step, die

def once(mark, act):
    def happen():
        if not mark.exists():
            mark.touch()
            act()
    return happen

acts = {"die": die, "end": lambda: signal.raise_signal(signal.SIGTERM)}
for event in os.environ["PLAN"].split(",") if os.environ["RANK"] == "1" else ():
    step, act = event.split(":")
    at_step(int(step), once(Path(__file__).with_name(event.replace(":", "-")), acts[act]))
main()
"""
OPTIONS = [
    *("--test", ":,40:", "--scale", 2, "--channels", 16, "--blocks", 2, "--groups", 1, "--patch", 8, "--stride", 8),
    *("--batch-size", 4, "--validate-every", 3, "--steps", 11, "--threads", 1, "--device", "cpu"),
]


def python(*words: object, plan: str = "") -> subprocess.CompletedProcess[str]:
    """python -m WORDS, with what it says."""
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "TMPDIR")}
    environment = {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PLAN": plan}
    line = [sys.executable, "-m", *map(str, words)]
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=560, check=False)


def rows(out: Path) -> list[list[str]]:
    with (out / "metrics.csv").open() as file:
        return list(csv.reader(file))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_what_is_lost_is_gone_on_with(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.npy", small_scene())
    (tmp_path / "script.py").write_text(SCRIPT)
    options = ["train", tmp_path / "scene.npy", *OPTIONS]
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    out, alone = tmp_path / "run", tmp_path / "spawned"

    # killed, started again by torchrun, which goes on; killed again
    lost = python(*torchrun, "--max-restarts", 1, tmp_path / "script.py", *options, "--out", out, plan="4:die,7:die")
    assert lost.returncode != 0
    assert (tmp_path / "4-die").exists(), lost.stderr
    assert (tmp_path / "7-die").exists(), lost.stderr
    assert _state.read(out / _state.STATE).step == 6
    assert lost.stderr.count("step 3: ") == 1, "the second of both began behind it"
    # one of the processes is told to end: all do, and the first one keeps what there is
    ended = python(*torchrun, tmp_path / "script.py", *options, "--out", out, "--resume", plan="8:end")
    assert ended.returncode != 0
    assert _state.read(out / _state.STATE).step == 8, ended.stderr
    assert (
        len(re.findall(r"^note: to go on: torchrun --nproc-per-node 2 -m lkcanet.cli train ", ended.stderr, re.M)) == 1
    )
    # by the line that is documented
    whole = python(*torchrun, "-m", "lkcanet.cli", *options, "--out", out, "--resume")
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.count("11 steps in ") == 1, "the first process reports, alone"

    spawned = python("lkcanet.cli", *options, "--out", alone, "--devices", 2)
    assert spawned.returncode == 0, spawned.stderr
    ours, theirs = (_state.read(folder / _state.STATE) for folder in (out, alone))
    assert (ours.step, ours.ended_by) == (11, "steps")
    for name in ("model", "moments"):
        mine, its = getattr(ours, name), getattr(theirs, name)
        assert mine.keys() == its.keys()
        for key in mine:
            pairs = (
                [(mine[key], its[key])] if name == "model" else zip(mine[key].values(), its[key].values(), strict=True)
            )
            assert all(torch.equal(a, b) for a, b in pairs), key
    assert ours.history == theirs.history
    assert rows(out) == rows(alone)
    assert not list(out.glob(".*")), "nothing half-written"


def as_one_of(patch: pytest.MonkeyPatch, rank: int, world: int, local: int, restarts: int = 0) -> None:
    told = {"TORCHELASTIC_RUN_ID": "none", "RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": local}
    for name, value in {**told, "TORCHELASTIC_RESTART_COUNT": restarts}.items():
        patch.setenv(name, str(value))


def test_devices_are_the_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert launch() is None
    as_one_of(monkeypatch, 1, 4, 2, 3)
    started = launch()
    assert started is not None
    assert (started.rank, started.world, started.local, started.restarts, started.nodes) == (1, 4, 2, 3, 2)
    with pytest.raises(
        ValueError, match="devices are the processes that torchrun started, 4: leave devices out, got 2"
    ):
        run(small_scene(), tmp_path / "run", devices=2)
    with pytest.raises(ValueError, match="batch_size must be a multiple of devices, 4, which share a batch; got 6"):
        run(small_scene(), tmp_path / "run", batch_size=6)
    as_one_of(monkeypatch, 0, 3, 2)
    with pytest.raises(ValueError, match="torchrun must start as many processes on each node, got 3 with 2"):
        launch().nodes  # noqa: B018


def test_other_processes_say_and_write_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    """Until they train with the first: what stands in the folder is left to it."""
    from lkcanet.commands import _shared as shared
    from lkcanet.commands._lines import as_started

    (tmp_path / "run").mkdir()
    for name in ("best", "last", "state"):
        (tmp_path / "run" / f"{name}.safetensors").write_bytes(b"of another run")
    as_one_of(monkeypatch, 1, 2, 1)
    shared.note("note: nothing")
    assert capsys.readouterr().err == ""
    assert as_started("lkca train a --out lkca") == (
        "torchrun --nnodes 2 ... --nproc-per-node 1 -m lkcanet.cli train a --out lkca"
    )
    reached = []
    monkeypatch.setattr("lkcanet.training.lightning.fit", lambda *given: reached.append(given))
    from lkcanet.training import train

    from .training_helpers import network, split_of

    train(
        network(), small_scene(), split_of(small_scene()), options_of(progress=True), tmp_path / "run", overwrite=True
    )
    assert reached[0][3].devices == 2
    assert not reached[0][3].progress
    assert len(list((tmp_path / "run").iterdir())) == 3


def test_commands_that_would_run_several_times_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from lkcanet.cli import build_app

    write_scene(tmp_path / "scene.npy", small_scene())
    as_one_of(monkeypatch, 0, 2, 2)
    ran = CliRunner().invoke(build_app(), ["degrade", str(tmp_path / "scene.npy"), str(tmp_path / "lr.npy")])
    assert ran.exit_code == 1
    assert "error: torchrun goes with train and distill: lkca degrade would run several times" in ran.output
    assert not (tmp_path / "lr.npy").exists()
