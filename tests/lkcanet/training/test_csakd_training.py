"""CSAKD through the trainer: both networks learn and are kept, killed runs end with the same bits, scenes are fused."""

import csv
import signal
from pathlib import Path

import pytest
import torch

from lkcanet.data.degrade import bicubic_downsample
from lkcanet.data.scenes import Scene
from lkcanet.inference import super_resolve
from lkcanet.models import CSAKD, load_model, load_model_and_extra
from lkcanet.objectives.csakd import OnlineDistillation
from lkcanet.training import state

from .training_helpers import at_step, die, ended, in_child

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")

from .msi_helpers import msi_of, run_toy

SIZES = {"features": 8, "growth": 4, "heads": 2, "head_width": 4}
FILES = ("best.safetensors", "teacher.safetensors", "last.safetensors")


def pair(seed: int = 0) -> tuple[CSAKD, OnlineDistillation]:
    torch.manual_seed(seed)
    student = CSAKD(8, 2, 2, (0, 1, 1, 1), h_groups=4, **SIZES)  # type: ignore[arg-type]
    return student, OnlineDistillation(CSAKD(8, 2, 2, (1, 1, 1, 1), **SIZES))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def straight(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    run_toy(scene, out, *pair())
    return out


def content(out: Path) -> list[object]:
    networks = [load_model_and_extra(out / name) for name in FILES]
    held = [(state.digest(model.state_dict()), model.config, extra) for model, extra in networks]
    return [(out / "metrics.csv").read_text(), *held]


def test_student_and_teacher_learn_and_are_kept(straight: Path) -> None:
    with (straight / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["loss"]]
    assert len(rows) == 11
    for name in ("reconstruction", "teacher_reconstruction"):
        assert float(rows[-1][name]) < 0.9 * float(rows[0][name])
    fresh, objective = pair()
    student, teacher = load_model(straight / "last.safetensors"), load_model(straight / "teacher.safetensors")
    assert (student.config, teacher.config) == (fresh.config, objective.teacher.config)
    for trained, before in ((student, fresh), (teacher, objective.teacher)):
        for (name, a), b in zip(trained.named_parameters(), before.parameters(), strict=True):
            assert not torch.equal(a, b), name


def test_a_killed_run_ends_with_the_same_bits(scene: Scene, straight: Path, tmp_path: Path) -> None:
    def work() -> None:
        at_step(6, die)
        run_toy(scene, tmp_path, *pair())

    assert ended(in_child(work)) == -signal.SIGKILL
    assert run_toy(scene, tmp_path, *pair(7), resume=True).resumed_from == 3
    assert content(tmp_path) == content(straight)


def test_a_scene_is_fused(scene: Scene, straight: Path) -> None:
    model = load_model(straight / "best.safetensors")
    lowres, msi = scene.shrunk(bicubic_downsample(scene.tensor(), 2)[0].numpy(), 2), msi_of(scene)
    sharp = super_resolve(model, lowres, msi=msi)
    assert sharp.pixels.shape == scene.pixels.shape
    with torch.no_grad():
        expected = model(lowres.tensor(), msi.tensor())[0]
    assert torch.equal(torch.from_numpy(sharp.pixels), expected)
    assert expected.std() > 1e-3
