"""Tiled inference: how tiles lie, how they are joined, and how far the result is from that of the whole."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet.data import bicubic_downsample, demo_scene
from lkcanet.data.scenes import Scene
from lkcanet.evaluation.metrics import evaluate
from lkcanet.inference import reach, super_resolve, tiles
from lkcanet.models import LKCANet

pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")


def perturbed(model: LKCANet) -> LKCANet:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("length", [1, 7, 16, 17, 31, 40, 97])
@pytest.mark.parametrize(("tile", "overlap"), [(16, 4), (16, 0), (16, 8), (16, 15), (5, 1), (1, 0), (200, 32)])
def test_tiles_cover_and_weights_add_up_exactly(length: int, tile: int, overlap: int) -> None:
    places = tiles.spans(length, tile, overlap)
    assert (places[0][0], places[-1][1]) == (0, length)
    assert all(end - begin == min(tile, length) for begin, end in places)
    for (_, end), (begin, _) in pairwise(places):
        assert end - begin >= overlap
        assert begin > 0
    scale = 3
    weights = tiles.weights(places, scale)
    for total in (torch.zeros(scale * length), torch.zeros(scale * length, dtype=torch.float64)):
        for (begin, end), weight in zip(places, weights, strict=True):
            assert 0 <= weight.min() <= weight.max() <= 1
            assert weight.max() > 0
            total[scale * begin : scale * end] += weight
        assert torch.equal(total, torch.ones_like(total))
    assert weights[0][0] == weights[-1][-1] == 1  # the image's border has no ramp


def test_weights_are_a_smooth_ramp_in_the_middle_half() -> None:
    first, second = tiles.weights([(0, 32), (16, 48)], 2)
    shared = second[:32]
    assert shared[:8].tolist() == [0] * 8
    assert shared[24:].tolist() == [1] * 8
    expected = 0.5 - 0.5 * np.cos(np.pi * (np.arange(16) + 0.5) / 16)
    np.testing.assert_allclose(shared[8:24], expected, atol=2**-13)
    assert torch.equal(first[32:], 1 - shared)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_constant_gates_tiles_give_the_whole(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = perturbed(LKCANet(5, 2, 16, 1, 1, kernel_sizes=(3, 3), dilations=(1, 2), reduction=8)).to(dtype)
    with torch.no_grad():
        model.blocks[0].attention.attention.expand.weight.zero_()
    assert reach(model) == 5
    image = torch.rand(2, 5, 50, 43, dtype=dtype)
    whole = super_resolve(model, image)
    largest = whole.abs().max().item()
    tiled = super_resolve(model, image, tile=(30, 25), overlap=20)
    assert (tiled - whole).abs().max() < 64 * torch.finfo(dtype).eps * largest
    short = super_resolve(model, image, tile=(30, 25), overlap=4)
    assert (short - whole).abs().max() > 1e-4 * largest
    assert torch.equal(super_resolve(model, image[0], tile=(30, 25)), super_resolve(model, image[:1], tile=(30, 25))[0])
    assert torch.equal(super_resolve(model, image, tile=(50, 43)), whole)


def test_tiles_of_a_trained_network_come_close_to_the_whole(tmp_path: Path) -> None:
    """The price of tiles, which grows as they shrink: what `--tile` warns of."""
    scene = demo_scene((128, 128), 6, seed=3)
    lowres = Scene(bicubic_downsample(scene.tensor(), 2)[0].numpy(), scene.peak)
    torch.manual_seed(0)
    model = LKCANet(6, 2, 16, 1, 1, reduction=8, drop_path=0.0)
    optimiser = torch.optim.Adam(model.parameters(), 4e-3)
    for step in range(40):
        row, column = 16 * (step % 3), 16 * (step % 2)
        low = lowres.tensor()[:, :, row : row + 32, column : column + 32]
        high = scene.tensor()[:, :, 2 * row : 2 * row + 64, 2 * column : 2 * column + 64]
        optimiser.zero_grad()
        (model(low) - high).abs().mean().backward()
        optimiser.step()
    whole = super_resolve(model, lowres)
    quality = evaluate(whole.pixels, scene.pixels, 2)["mpsnr"]
    distances = []
    for side in (48, 32, 16):
        tiled = super_resolve(model, lowres, tile=(side, side), out=tmp_path / "sr.npy")
        distances.append(float(np.sqrt(np.square(tiled.pixels - whole.pixels).mean())))
        assert np.array_equal(tiled.pixels, super_resolve(model, lowres, tile=(side, side)).pixels)
        assert abs(evaluate(tiled.pixels, scene.pixels, 2)["mpsnr"] - quality) < 0.3
    assert distances == sorted(distances)
    assert distances[0] > 1e-6
    # small beside what the network adds to the bicubic image
    added = float(np.sqrt(np.square(whole.pixels - super_resolve(LKCANet(6, 2, 16, 0), lowres).pixels).mean()))
    assert distances[-1] < 0.5 * added


def test_dtype_is_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, image = perturbed(LKCANet(3, 2, 16, 1, reduction=8)), torch.rand(1, 3, 20, 12)
    expected = super_resolve(model, image, tile=(12, 8))
    for dtype in (torch.float64, torch.bfloat16):
        result = super_resolve(model, image.to(dtype), tile=(12, 8))
        assert result.dtype is dtype
        torch.testing.assert_close(result.float(), expected, rtol=3e-2, atol=3e-2)


def test_progress_counts_tiles() -> None:
    told: list[tuple[float, str]] = []
    super_resolve(
        LKCANet(3, 2, 16, 1, reduction=8),
        torch.rand(1, 3, 20, 12),
        tile=(12, 12),
        overlap=2,
        progress=lambda share, what: told.append((share, what)),
    )
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert {what for _, what in told} == {"tile 1 of 2", "tile 2 of 2"}


def test_tiles_that_are_none() -> None:
    model, image = LKCANet(3, 2, 16, 1, reduction=8), torch.rand(1, 3, 20, 12)
    for tile in ((0, 4), (4,), (4, 4.0), 4, (True, 4), "44"):
        with pytest.raises(ValueError, match=r"tile must be \(rows, columns\), whole numbers of 1 or more"):
            super_resolve(model, image, tile=tile)  # type: ignore[arg-type]
    for overlap in (-1, 4, 1.0, True):
        with pytest.raises(ValueError, match="overlap must be a whole number from 0 to less than the tile's sides"):
            super_resolve(model, image, tile=(4, 9), overlap=overlap)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="overlap goes with tile only"):
        super_resolve(model, image, overlap=2)
    with pytest.raises(ValueError, match="holds NaN"):
        super_resolve(model, torch.full((1, 3, 9, 9), float("inf")), tile=(4, 4))
