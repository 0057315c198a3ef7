"""A reproduction that is killed goes on: finished rows are kept, the broken one ends as if nothing had happened."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from lkcanet.models import load_model
from lkcanet.reproduce import Budget, reproduce
from lkcanet.reproduce.loader import read

from .conftest import report_of

ROOT = Path(__file__).parents[3]
# dies in step 4 of the run that comes after a finished one
CODE = """
import sys
from pathlib import Path
from lkcanet.cli import main
from tests.lkcanet.training.training_helpers import at_step, die
runs = Path(sys.argv[sys.argv.index("--out") + 1]) / "runs"
at_step(4, lambda: die() if list(runs.glob("*lkca_net*/result.json")) else None)
sys.argv[0] = "lkca"
main()
"""


def test_a_kill(recipe: Callable[..., Path], prepared: Path, tmp_path: Path) -> None:
    file, whole, broken = recipe(), tmp_path / "whole", tmp_path / "broken"
    args = ["reproduce", str(file), "table-1", "--data", str(prepared), "--threads", "1"]
    killed = subprocess.run(
        [sys.executable, "-c", CODE, *args, "--out", str(broken)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (net,) = (broken / "runs").glob("*lkca_net*")
    (student,) = (broken / "runs").glob("*lkca_lr*")
    assert not (student / "result.json").exists()
    assert (student / "state.safetensors").exists()
    partial = {row["row"]: row for row in report_of(broken, "tiny-table-1")["rows"]}  # written after each run
    assert partial["net"]["ours"] is not None
    assert partial["KD"]["why"] == "not run yet"
    finished = {path: path.stat().st_mtime_ns for path in net.iterdir()}

    lines: list[str] = []
    paper, given = read(file), {"data": [str(prepared)], "budget": Budget(threads=1, progress=False)}
    reproduce(paper, paper.entry("table-1"), broken, tell=lines.append, **given)
    assert finished == {path: path.stat().st_mtime_ns for path in net.iterdir()}
    assert any("going on" in line for line in lines)
    reproduce(paper, paper.entry("table-1"), whole, **given)
    for name in (net.name, student.name):
        for checkpoint in ("best.safetensors", "last.safetensors"):
            one, other = (load_model(out / "runs" / name / checkpoint).state_dict() for out in (whole, broken))
            assert all(torch.equal(one[key], other[key]) for key in one)
    rows = [
        [(row["row"], row["ours"], row["why"]) for row in report_of(out, "tiny-table-1")["rows"]]
        for out in (whole, broken)
    ]
    assert rows[0] == rows[1]
