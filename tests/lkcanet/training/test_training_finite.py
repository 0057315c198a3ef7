"""What is not finite stops the run before it reaches the weights, and the message names the batch."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest
import torch

from lkcanet.data.scenes import Scene
from lkcanet.models import load_model
from lkcanet.training import state
from lkcanet.training.batches import Batches

from .training_helpers import network, run, split_of

pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")


def named(message: str) -> list[tuple[int, int, int]]:
    """The (row, column, orientation) of the patches in a message."""
    return [ast.literal_eval(text) for text in re.findall(r"\(\d+, \d+, \d\)", message)]


def batch_of(scene: Scene, step: int, batch_size: int) -> list[tuple[int, int, int]]:
    origins = split_of(scene).train_origins.tolist()
    batch = Batches(8 * len(origins), batch_size, 100, 0).batch(step - 1)
    return [(*origins[index // 8], index % 8) for index in batch]


def test_a_loss_names_its_batch(scene: Scene, tmp_path: Path) -> None:
    pixels = scene.pixels.copy()
    pixels[:, 3, 4] = 3e38  # finite, but its error is not
    with pytest.raises(FloatingPointError, match=r"the loss is (inf|nan) \(l1 .*\) at step \d+ \(epoch \d\)") as caught:
        run(dataclasses.replace(scene, pixels=pixels), tmp_path, steps=100)
    message = str(caught.value)
    step = int(re.search(r"at step (\d+)", message).group(1))
    assert named(message) == batch_of(scene, step, 4)
    assert any(row <= 3 and column <= 4 for row, column, _ in named(message))
    for earlier in range(1, step):
        assert not any(row <= 3 and column <= 4 for row, column, _ in batch_of(scene, earlier, 4))
    assert f"(epoch {(step - 1) * 4 // (8 * split_of(scene).counts['train'])})" in message
    assert all(value.isfinite().all() for value in load_model(tmp_path / "last.safetensors").state_dict().values())


def test_a_gradient_never_reaches_the_weights(scene: Scene, tmp_path: Path) -> None:
    model = network()
    seen: list[torch.Tensor] = []

    def poison(gradient: torch.Tensor) -> torch.Tensor:
        seen.append(model.head.bias.detach().clone())
        return gradient * float("inf") if len(seen) == 5 else gradient

    model.head.bias.register_hook(poison)
    with pytest.raises(FloatingPointError, match=r"the gradient's norm is (nan|inf) at step 5 \(epoch 0\)") as caught:
        run(scene, tmp_path, model, gradient_clip=1.0)
    assert named(str(caught.value)) == batch_of(scene, 5, 4)
    assert "lower the learning rate" in str(caught.value)
    assert torch.equal(model.head.bias, seen[4])  # of before the step
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert state.read(tmp_path / "state.safetensors").step == 3
    result = run(scene, tmp_path, resume=True, gradient_clip=1.0)  # without the fault it goes on
    assert result.resumed_from == 3


def test_long_batches_are_not_listed_whole(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="and 4 more: lower") as caught:
        run(scene, tmp_path, steps=9, batch_size=20, learning_rate=1e30)
    assert len(named(str(caught.value))) == 16


def test_a_validation_that_is_not_finite(scene: Scene, tmp_path: Path) -> None:
    pixels = scene.pixels.copy()
    block = split_of(scene).validation
    pixels[:, block.top, block.left] = 3e38
    with pytest.raises(FloatingPointError, match=r"the loss of the validation is (nan|inf) after step 0"):
        run(dataclasses.replace(scene, pixels=pixels), tmp_path)
    assert not (tmp_path / "last.safetensors").exists()
