"""Inference: the network's own output on the whole image, with the scene's facts and the network's state kept."""

import numpy as np
import pytest
import torch

from lkcanet import inference
from lkcanet.data.scenes import Scene
from lkcanet.inference import graphed, super_resolve
from lkcanet.models import LKCANet


@pytest.fixture
def model() -> LKCANet:
    torch.manual_seed(0)
    network = LKCANet(4, 2, 16, 2, 1, reduction=8, drop_path=0.9)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def test_it_is_the_networks_output_in_eval_mode(model: LKCANet) -> None:
    x = torch.rand(2, 4, 9, 7)
    expected = model.eval()(x).detach()
    keys = list(model.state_dict())
    model.train()
    result = super_resolve(model, x)
    assert torch.equal(result, expected)
    assert (model(x) - expected).abs().max() > 1e-3  # drop path acts in training mode
    assert model.training
    assert list(model.state_dict()) == keys  # not folded itself
    assert torch.equal(super_resolve(model, x[0]), super_resolve(model, x[:1])[0])
    assert not result.is_inference()
    assert not result.requires_grad


def test_mixed_modes_of_the_parts_are_kept(model: LKCANet) -> None:
    model.train()
    model.blocks[0].eval()
    super_resolve(model, torch.rand(1, 4, 5, 5))
    assert (model.training, model.blocks[0].training, model.blocks[1].training) == (True, False, True)


def test_a_scene_keeps_its_facts(model: LKCANet) -> None:
    pixels = np.random.default_rng(0).random((4, 6, 5), np.float32)
    scene = Scene(pixels, 4095.0, np.array([450.0, 550, 650, 750]), "field", "field.mat")
    result = super_resolve(model, scene)
    assert result.pixels.shape == (4, 12, 10)
    assert (result.peak, result.name, result.source) == (4095.0, "field", "field.mat")
    assert result.wavelengths is not None
    assert result.wavelengths.tolist() == [450, 550, 650, 750]
    assert np.array_equal(result.pixels, super_resolve(model, pixels))
    assert np.array_equal(result.pixels, super_resolve(model, torch.tensor(pixels)).numpy())


def test_dtype_of_the_image_is_kept(model: LKCANet) -> None:
    x = torch.rand(1, 4, 5, 5)
    for dtype in (torch.float64, torch.bfloat16):
        result = super_resolve(model, x.to(dtype))
        assert result.dtype is dtype
        torch.testing.assert_close(result.float(), super_resolve(model, x), rtol=2e-2, atol=2e-2)


def test_images_that_do_not_fit(model: LKCANet) -> None:
    with pytest.raises(ValueError, match="the network takes 4 bands, the image has 5"):
        super_resolve(model, torch.rand(1, 5, 6, 6))
    with pytest.raises(ValueError, match="holds NaN or infinite"):
        super_resolve(model, torch.full((4, 6, 6), float("nan")))
    with pytest.raises(ValueError, match="with pixels"):
        super_resolve(model, torch.rand(4, 0, 6))
    with pytest.raises(ValueError, match="got shape"):
        super_resolve(model, torch.rand(6, 6))
    with pytest.raises(TypeError, match="must be floating, got uint16"):
        super_resolve(model, np.zeros((4, 6, 6), np.uint16))
    with pytest.raises(TypeError, match=r"must be floating, got torch\.int64"):
        super_resolve(model, torch.zeros(4, 6, 6, dtype=torch.int64))
    with pytest.raises(TypeError, match="a Scene, a tensor or an array, got list"):
        super_resolve(model, [1.0])


def test_a_graph_needs_a_gpu(model: LKCANet) -> None:
    with pytest.raises(ValueError, match="example must be on a CUDA device, got cpu"):
        graphed(model, torch.rand(1, 4, 6, 6))
    with pytest.raises(TypeError, match="example must be a tensor, got ndarray"):
        graphed(model, np.zeros((4, 6, 6), np.float32))


def test_calls_of_a_graph_but_for_the_graph(model: LKCANet, monkeypatch) -> None:
    """All of `GraphedNetwork` on the CPU, with a replay that calls the function again."""

    class Replay:
        def __init__(self, run, device) -> None:
            self.run, self.output = run, run()

        def replay(self) -> None:
            with torch.inference_mode():
                self.output.copy_(self.run())

    def capture(run, device):
        graph = Replay(run, device)
        return graph, graph.output

    monkeypatch.setattr(inference.graphs, "capture", capture)
    model.train()
    for shape, dtype in (((2, 4, 9, 7), torch.float32), ((4, 8, 8), torch.float64), ((1, 4, 8, 8), torch.bfloat16)):
        example = torch.rand(shape, dtype=dtype)
        fast = inference.GraphedNetwork(model.fold().eval(), example)
        results = []
        for _ in range(3):
            image = torch.rand(shape, dtype=dtype)
            results.append((fast(image), super_resolve(model, image)))
        for got, expected in results:
            assert torch.equal(got, expected)
            assert not got.is_inference()
        assert fast(image, copy=False) is fast.output
        assert not torch.equal(fast.input, example)
    for wrong, error, message in (
        (torch.rand(1, 4, 8, 9).bfloat16(), ValueError, r"shape of the example, \(1, 4, 8, 8\), got \(1, 4, 8, 9\)"),
        (torch.rand(1, 4, 8, 8), TypeError, r"must be torch\.bfloat16 as the example is, got torch\.float32"),
        (torch.rand(1, 4, 8, 8).bfloat16().to("meta"), ValueError, "must be on cpu as the example is, got meta"),
        ([1.0], TypeError, "image must be a tensor, got list"),
    ):
        with pytest.raises(error, match=message):
            fast(wrong)


class TestGraphsOnCuda:
    """`graphed` on a GPU."""

    pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

    @pytest.mark.parametrize("shape", [(2, 4, 9, 7), (4, 16, 16)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_it_is_the_forward_for_fresh_images(self, model: LKCANet, shape, dtype) -> None:
        model.cuda().to(dtype)
        fast = graphed(model, torch.rand(shape, device="cuda", dtype=dtype))
        results = []
        for _ in range(3):
            image = torch.rand(shape, device="cuda", dtype=dtype)
            results.append((fast(image), super_resolve(model, image)))
        for got, expected in results:  # only now: a result must survive later replays
            torch.testing.assert_close(got, expected)
            assert not got.is_inference()
        assert not torch.equal(results[0][0], results[1][0])
        assert fast(image, copy=False).data_ptr() == fast.output.data_ptr()

    def test_autocast_holds_after_its_block(self, model: LKCANet) -> None:
        image = torch.rand(1, 4, 16, 16, device="cuda")
        with torch.autocast("cuda", dtype=torch.bfloat16):
            fast, expected = graphed(model.cuda(), image), super_resolve(model, image)
        torch.rand(1 << 20, device="cuda")  # where a freed cache of cast weights would lie
        torch.testing.assert_close(fast(image), expected, rtol=1e-2, atol=1e-2)
        assert not torch.equal(fast(image), super_resolve(model, image))

    def test_weights_are_those_of_its_copy(self, model: LKCANet) -> None:
        image = torch.rand(1, 4, 8, 8, device="cuda")
        fast = graphed(model.cuda(), image)
        before = fast(image)
        with torch.no_grad():
            model.head.bias.add_(1)
            assert torch.equal(fast(image), before)
            fast.model.head.bias.add_(1)
        torch.testing.assert_close(fast(image), super_resolve(model, image))
        assert not torch.equal(fast(image), before)

    def test_images_that_do_not_fit(self, model: LKCANet) -> None:
        fast = graphed(model.cuda(), torch.rand(1, 4, 8, 8, device="cuda"))
        with pytest.raises(ValueError, match=r"example, \(1, 4, 8, 8\), got \(1, 4, 8, 9\)"):
            fast(torch.rand(1, 4, 8, 9, device="cuda"))
        with pytest.raises(TypeError, match=r"must be torch\.float32 as the example is, got torch\.float64"):
            fast(torch.rand(1, 4, 8, 8, device="cuda", dtype=torch.float64))
        with pytest.raises(ValueError, match="must be on cuda:0 as the example is, got cpu"):
            fast(torch.rand(1, 4, 8, 8))
        with pytest.raises(ValueError, match="the network takes 4 bands, the example has 5"):
            graphed(model, torch.rand(1, 5, 8, 8, device="cuda"))
        with pytest.raises(ValueError, match="example must be on cpu as the model is, got cuda:0"):
            graphed(model.cpu(), torch.rand(1, 4, 8, 8, device="cuda"))
