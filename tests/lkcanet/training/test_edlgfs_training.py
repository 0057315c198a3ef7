"""EDLGFS and the baselines train through `train`: logged, resumed to the bit, and used from their checkpoints."""

import csv
import signal
from pathlib import Path

import pytest
import torch

import lkops
from lkcanet.data.scenes import Scene
from lkcanet.inference import super_resolve
from lkcanet.models import Network, load_model, load_model_and_extra
from lkcanet.models.baselines import CNN3DLR, VDSRLR
from lkcanet.models.edlgfs import EDLGFS
from lkcanet.objectives.edlgfs import EdgeDistillation
from lkcanet.training import TrainResult, state, train

from .training_helpers import at_step, die, ended, in_child, options_of, split_of

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")


def network(seed: int = 0) -> EDLGFS:
    torch.manual_seed(seed)
    return EDLGFS(8, 2, 16, 2, 1, spectral_heads=2, reduction=4)


def run(scene: Scene, out: Path, model: Network, resume: bool = False) -> TrainResult:
    objective = EdgeDistillation(edge_weight=0.1) if isinstance(model, EDLGFS) else None
    return train(model, scene, split_of(scene), options_of(), out, objective=objective, resume=resume)


@pytest.fixture(scope="module")
def straight(scene: Scene, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    run(scene, out, network())
    return out


def steps_of(out: Path) -> list[dict[str, float]]:
    with (out / "metrics.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    return [row for row in rows if "loss" in row]


def test_all_terms_are_logged_and_everything_learns(straight: Path) -> None:
    steps = steps_of(straight)
    assert len(steps) == 11
    assert steps[0]["edge_weight"] == pytest.approx(0.1)
    assert 0 < steps[-1]["edge_weight"] < 1
    assert abs(steps[-1]["edge_weight"] - 0.1) > 1e-4
    first, fresh = steps[0], EdgeDistillation(edge_weight=0.1)
    edges = first["edge_features"] + first["edge_image"] + first["edge_branch"]
    total = fresh.total(torch.tensor(first["l1"]), torch.tensor(edges))
    assert first["loss"] == pytest.approx(float(total.detach()), rel=1e-5)
    trained, extra = load_model_and_extra(straight / "last.safetensors")
    assert extra["objective"]["name"] == "EdgeDistillation"
    for key, parameter in network().named_parameters():
        if "key.bias" not in key:  # which has no effect
            assert not torch.equal(trained.get_parameter(key), parameter), key
    assert set(state.read(straight / state.STATE).objective) == {"start", "logits"}


def test_a_killed_run_ends_with_the_same_bits(scene: Scene, straight: Path, tmp_path: Path) -> None:
    def work() -> None:
        at_step(5, die)
        run(scene, tmp_path, network())

    assert ended(in_child(work)) == -signal.SIGKILL
    assert run(scene, tmp_path, network(3), resume=True).resumed_from == 3
    assert (tmp_path / "metrics.csv").read_text() == (straight / "metrics.csv").read_text()
    for name in ("best.safetensors", "last.safetensors"):
        ours, theirs = (load_model(out / name).state_dict() for out in (tmp_path, straight))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_the_checkpoint_enlarges_a_scene_without_its_edge_branch(scene: Scene, straight: Path) -> None:
    model = load_model(straight / "last.safetensors")
    assert isinstance(model, EDLGFS)
    assert model.edge is not None
    result = super_resolve(model, scene).pixels
    pixels = torch.as_tensor(scene.pixels)[None].float()
    with torch.no_grad():
        expected = model.fold()(pixels)[0]
    assert (torch.as_tensor(result) - expected).abs().max() < 1e-5
    assert (expected - lkops.bicubic_upsample(pixels, scale=2)[0]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", [VDSRLR, CNN3DLR])
def test_baselines_train_on_the_h_loss(scene: Scene, tmp_path: Path, kind: type[Network]) -> None:
    torch.manual_seed(0)
    fresh = kind(8, 2)
    run(scene, tmp_path, fresh)
    row = steps_of(tmp_path)[0]
    assert row["loss"] == pytest.approx(row["l1"] + 0.5 * row["sam_loss"] + 0.1 * row["gradient"], rel=1e-5)
    trained = load_model(tmp_path / "last.safetensors")
    assert type(trained) is kind
    torch.manual_seed(0)
    for before, after in zip(kind(8, 2).parameters(), trained.parameters(), strict=True):
        assert not torch.equal(before, after)
