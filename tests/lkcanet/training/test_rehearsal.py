"""What can't be trained fails before the run leaves any trace, and the rehearsal leaves none in what can."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lkcanet.data import Split
from lkcanet.data.scenes import Scene
from lkcanet.models import LKCANet, Network
from lkcanet.models.edlgfs import EDLGFS
from lkcanet.objectives import Batch, HObjective, Objective, objective_for
from lkcanet.training import rehearsal, state, train

from .training_helpers import network, options_of, split_of

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")


@pytest.fixture(scope="module")
def split(scene: Scene) -> Split:
    return split_of(scene)


class Strange(Objective):
    """H, and what a subclass gets wrong."""

    terms = ("l1",)

    def forward(self, model: Network, batch: Batch, passes: float) -> dict[str, Tensor | float]:
        loss = (model(batch.lowres) - batch.target).abs().mean()
        return self.wrong({"loss": loss, "l1": loss.detach()})

    def wrong(self, terms: dict[str, Any]) -> dict[str, Any]:
        return terms


class MoreTerms(Strange):
    def wrong(self, terms: dict[str, Any]) -> dict[str, Any]:
        return {**terms, "extra": 1.0}


class NoLoss(Strange):
    def wrong(self, terms: dict[str, Any]) -> dict[str, Any]:
        return {"l1": terms["l1"]}


class Detached(Strange):
    def wrong(self, terms: dict[str, Any]) -> dict[str, Any]:
        return {**terms, "loss": terms["l1"]}


class NoScalar(Strange):
    def wrong(self, terms: dict[str, Any]) -> dict[str, Any]:
        return {**terms, "loss": terms["loss"].expand(2)}


class Elsewhere(Strange):
    """Learns, but not the network."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.ones(()))

    def wrong(self, terms: dict[str, Any]) -> dict[str, Any]:
        return {**terms, "loss": terms["l1"] * self.own}


class InBackward(Strange):
    def wrong(self, terms: dict[str, Any]) -> dict[str, Any]:
        terms["loss"].register_hook(lambda _: 1 / 0)
        return terms


class NoKey(Strange):
    def wrong(self, terms: dict[str, Any]) -> dict[str, Any]:
        return terms["teacher"]


def frozen() -> LKCANet:
    return network().requires_grad_(False)


def edgeless() -> EDLGFS:
    torch.manual_seed(0)
    return EDLGFS(8, 2, channels=12, stages=1, layers=1, spectral_heads=2, reduction=4, edge_branch=False)


CASES: dict[str, tuple[Any, Any, str]] = {
    "no edge branch": (
        edgeless,
        None,
        r"EdgeDistillation can't train this network \(edlgfs\): model must have its edge",
    ),
    "another network's": (network, lambda: objective_for(edgeless()), r"EdgeDistillation .*model must be an EDLGFS"),
    "frozen": (frozen, HObjective, r"HObjective .*its loss must be a scalar tensor that has a gradient"),
    "more terms": (network, MoreTerms, r"MoreTerms gives extra, which its terms \(l1\) don\'t name"),
    "no loss": (network, NoLoss, r"NoLoss .*its loss must be a scalar"),
    "detached": (network, Detached, r"Detached .*that has a gradient"),
    "no scalar": (network, NoScalar, r"NoScalar .*its loss must be a scalar"),
    "elsewhere": (network, Elsewhere, r"Elsewhere .*no parameter gets a gradient"),
    "in backward": (network, InBackward, r"InBackward .*division by zero"),
    "a missing key": (network, NoKey, r"NoKey .*teacher"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_what_cannot_train_is_refused_before_anything_is_written(
    scene: Scene, split: Split, tmp_path: Path, name: str, batch_size: int
) -> None:
    model, objective, message = CASES[name]
    out = tmp_path / "run"
    out.mkdir()
    for file in ("best.safetensors", "metrics.csv"):
        (out / file).write_text("of another run")
    with pytest.raises(ValueError, match=message):
        train(
            model(),
            scene,
            split,
            options_of(batch_size=batch_size),
            out,
            objective=None if objective is None else objective(),
            overwrite=True,
        )
    assert {path.name: path.read_text() for path in out.iterdir()} == {
        "best.safetensors": "of another run",
        "metrics.csv": "of another run",
    }


def test_memory_that_is_short_stays_what_it_is(scene: Scene, split: Split, tmp_path: Path) -> None:
    class Short(Strange):
        def wrong(self, terms: dict[str, Any]) -> dict[str, Any]:
            raise torch.OutOfMemoryError("of 3 GiB")

    with pytest.raises(torch.OutOfMemoryError, match="of 3 GiB"):
        train(network(), scene, split, options_of(), tmp_path / "run", objective=Short())


class Counting(HObjective):
    """Has what a forward changes: a buffer, a plain attribute, random draws."""

    counted: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("counted", torch.zeros(()))
        self.plain = 0

    def forward(self, model: Network, batch: Batch, passes: float) -> dict[str, Tensor | float]:
        self.counted += 1
        self.plain += 1
        torch.rand(3)
        return super().forward(model, batch, passes)


def test_the_run_is_the_one_without_rehearsal(scene: Scene, split: Split, tmp_path: Path, monkeypatch) -> None:
    results = {}
    for rehearsed in (True, False):
        if not rehearsed:
            monkeypatch.setattr("lkcanet.training.rehearse", lambda *_: None)
        torch.manual_seed(5)
        model, objective = network(), Counting()
        train(model, scene, split, options_of(steps=3), tmp_path / str(rehearsed), objective=objective)
        assert objective.plain == objective.counted == 3
        results[rehearsed] = state.digest(model.state_dict()), torch.rand(())
    assert results[True] == results[False]


def test_it_leaves_no_trace(scene: Scene, split: Split) -> None:
    from lkcanet.training.material import read_material

    model, objective = network().eval(), Counting()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    rehearsal.rehearse(model, objective, read_material(model, [scene], [split], 4), options_of())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.training
    assert torch.equal(random, torch.get_rng_state())
    assert objective.plain == 0


def test_what_cannot_be_copied_is_trained_all_the_same(scene: Scene, split: Split, tmp_path: Path) -> None:
    class Uncopied(Counting):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("not me")

    objective = Uncopied()
    assert train(network(), scene, split, options_of(steps=2), tmp_path / "run", objective=objective).steps == 2
    assert objective.plain == 2


def test_the_command(scene: Scene, tmp_path: Path) -> None:
    testing = pytest.importorskip("typer.testing", reason="typer is not installed")
    from lkcanet.cli import build_app
    from lkcanet.data import write_scene

    write_scene(tmp_path / "scene.npz", scene)
    line = f"train {tmp_path / 'scene.npz'} --test :,40: --scale 2 --patch 8 --model edlgfs --out {tmp_path / 'run'}"
    settings = ("channels=12", "stages=1", "layers=1", "spectral_heads=2", "reduction=4", "edge_branch=false")
    sets = [part for setting in settings for part in ("--set", setting)]
    result = testing.CliRunner().invoke(build_app(), [*line.split(), *sets, "--steps", "1"])
    assert result.exit_code == 1
    assert "can't train this network (edlgfs): model must have its edge branch" in result.stderr
    assert "step 0" not in result.stderr
    assert not (tmp_path / "run").exists()
    # without its own loss it trains
    result = testing.CliRunner().invoke(build_app(), [*line.split(), *sets, "--steps", "1", "--objective", "h"])
    assert result.exit_code == 0, result.stderr
