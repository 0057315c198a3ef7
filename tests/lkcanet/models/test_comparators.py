"""SSPSR, ESSAformer and MSDformer: the sizes of LKCA-Net's tables, exact, and what every network must do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import lkops
from bench.networks.paired import Paired
from lkcanet.evaluation.reported import reported
from lkcanet.inference import memory, reach, super_resolve
from lkcanet.models import PRESETS, Lacking, load_model, save_model
from lkcanet.models.capabilities import capabilities_of, strips_of, working_memory_of
from lkcanet.models.essaformer import ESSAformer
from lkcanet.models.msdformer import MSDformer
from lkcanet.models.sspsr import SSPSR
from lkops.testing import assert_as_good_as_eager

from .comparators import SMALL, woken
from .test_capabilities import peak_of

SCENES = {128: "chikusei", 48: "houston2018", 102: "pavia_center"}
# rows of the tables, and the options that give the paper's count
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "sspsr": ("SSPSR", {}),
    "essaformer": ("ESSAformer", {}),
    "msdformer": ("MSDformer", {"unused": True}),
}
EXACT = {"sspsr": 13_564_392, "essaformer": 11_640_832, "msdformer": 15_526_788}  # parameters at 128 bands, x4


@pytest.mark.parametrize("bands", SCENES)
@pytest.mark.parametrize("scale", [4, 8])
@pytest.mark.parametrize("name", ROWS)
def test_parameters_and_macs_of_the_tables(name: str, bands: int, scale: int) -> None:
    row, options = ROWS[name]
    expected = next(entry for entry in reported(SCENES[bands], scale) if entry.method == row)
    with torch.device("meta"):
        model = PRESETS[name].make(bands, scale, **options)
    assert round(model.parameter_count() / 1e6, 3) == expected.parameters
    assert round(model.macs(16, 16) / 1e9, 3) == expected.macs
    if (bands, scale) == (128, 4):
        assert model.parameter_count() == EXACT[name]


@pytest.mark.parametrize("size", [(3, 4), (5, 1)])
@pytest.mark.parametrize("scale", [2, 8])
@pytest.mark.parametrize("name", ROWS)
def test_macs_are_those_that_fvcore_counts(name: str, scale: int, size: tuple[int, int]) -> None:
    """Of the plain network, with the bicubic image from outside, which none of the papers counts, and without bilinear
    samples: the public code of MSDformer gathers them by hand, which fvcore does not see."""
    analysis = pytest.importorskip("fvcore.nn", reason="fvcore is not installed").FlopCountAnalysis
    model = woken(name, scale=scale, **ROWS[name][1])
    x = torch.rand(1, model.bands, *size)
    paired = Paired(model)
    counter = analysis(paired.net, paired.inputs(x))
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert model.macs(*size) == counter.set_op_handle("aten::grid_sampler", lambda *_: 0).total()


@pytest.mark.parametrize("name", ROWS)
def test_macs_are_those_of_the_shapes_that_run(name: str) -> None:
    """Torch counts convs and products alone; pools and layer norms are counted by their hooks."""
    model, x = woken(name, scale=4), torch.rand(1, 6, 3, 5)
    with FlopCounterMode(display=False) as counter, lkops.backend("reference"):
        model(x)
    others = []
    for module in model.modules():
        times = {lkops.nn.ChannelAttention: 1, torch.nn.LayerNorm: 5, lkops.nn.NormConv1x1GELU: 5}.get(type(module))
        if times is not None:
            module.register_forward_hook(lambda _, images, __, times=times: others.append(times * images[0].numel()))
    model(x)
    assert model.macs(3, 5) == counter.get_total_flops() // 2 + sum(others)


@pytest.mark.parametrize("size", [(4, 6), (5, 3), (1, 1), (1, 7)])
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("name", ROWS)
def test_it_is_the_network_in_plain_modules(name: str, scale: int, size: tuple[int, int]) -> None:
    model, x = woken(name, 7, scale).double(), torch.rand(2, 7, *size, dtype=torch.float64)
    image = model(x)
    assert image.shape == (2, 7, scale * size[0], scale * size[1])
    torch.testing.assert_close(image, Paired(model)(x))
    assert image.std() > 1e-3


@pytest.mark.parametrize("name", ROWS)
def test_gradients_are_those_of_the_network_in_plain_modules(name: str) -> None:
    model, x = woken(name).double().eval(), torch.rand(2, 6, 4, 5, dtype=torch.float64)
    paired = Paired(model)
    results = []
    for network in (model, paired):
        image = x.clone().requires_grad_()
        network(image).square().mean().backward()
        assert image.grad is not None
        results.append(image.grad)
    torch.testing.assert_close(*results)
    assert results[0].abs().max() > 0
    total = [sum(float(p.grad.square().sum()) for p in network.parameters()) for network in (model, paired)]
    assert total[0] == pytest.approx(total[1], rel=1e-9)
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", ROWS)
def test_every_parameter_takes_part_as_it_says(name: str) -> None:
    model = SMALL[name]().train()
    assert capabilities_of(model).trains_every_parameter
    model(torch.rand(2, 6, 4, 4)).abs().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", ROWS)
def test_float32_is_as_good_as_plain_pytorch(name: str) -> None:
    model, x = woken(name), torch.rand(2, 6, 5, 4)
    with torch.no_grad():
        eager = Paired(model)(x)
        ours = model(x)
        exact = model.double()(x.double())
    assert_as_good_as_eager(ours, eager, exact)


@pytest.mark.parametrize("name", ROWS)
def test_bfloat16_and_autocast(name: str) -> None:
    model, x = woken(name), torch.rand(1, 6, 5, 4)
    with torch.no_grad():
        expected = model(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model(x)
        half = model.bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    for image in (mixed, half):
        assert (image.float() - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("name", ROWS)
def test_no_tensor_is_made_on_another_device(name: str) -> None:
    """At the published size, where nothing is computed: a constant on the CPU would not go with tensors on another."""
    with torch.device("meta"):
        model = PRESETS[name].make(31, 4)
    x = torch.rand(2, 31, 5, 6, device="meta")
    for training in (False, True):
        image = model.train(training)(x)
        assert (image.device.type, image.shape) == ("meta", (2, 31, 20, 24))
        image.mean().backward()


@pytest.mark.parametrize("name", ROWS)
def test_images_of_a_batch_know_nothing_of_each_other(name: str) -> None:
    model, x = woken(name).double(), torch.rand(3, 6, 4, 5, dtype=torch.float64)
    together = model(x)
    for n in range(3):
        torch.testing.assert_close(together[n : n + 1], model(x[n : n + 1]))
    assert model(x[:0]).shape == (0, 6, 8, 10)


@pytest.mark.parametrize("name", ROWS)
def test_folding_copies(name: str) -> None:
    model, x = woken(name).train(), torch.rand(1, 6, 5, 4)
    next(model.parameters()).requires_grad_(False)
    folded = model.fold()
    assert not folded.training
    assert model.training
    assert folded.config == model.config
    assert not next(folded.parameters()).requires_grad
    assert torch.equal(folded(x), model.eval()(x))
    before = model(x)
    with torch.no_grad():
        next(folded.parameters()).add_(1)
    assert torch.equal(model(x), before)


@pytest.mark.parametrize("name", ROWS)
def test_checkpoints_round_trip(name: str, tmp_path: Path) -> None:
    model, x = woken(name, 6, 4), torch.rand(1, 6, 5, 4)
    save_model(model, tmp_path / "net.safetensors")
    loaded = load_model(tmp_path / "net.safetensors")
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert torch.equal(loaded(x), model(x))
    assert type(PRESETS[name].make(6, 4, **{k: v for k, v in model.config.items() if k not in ("bands", "scale")})) is (
        type(model)
    )


@pytest.mark.wide(most=1)
@pytest.mark.parametrize("name", ROWS)
def test_it_compiles_in_one_graph(name: str) -> None:
    model, x = woken(name), torch.rand(1, 6, 4, 5)
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(x), model(x))


@pytest.mark.parametrize("name", ROWS)
def test_a_few_steps_reduce_the_loss(name: str) -> None:
    torch.manual_seed(0)
    model = SMALL[name](channels=16).train()
    rows, columns = torch.linspace(0, 3, 12)[:, None], torch.linspace(0, 4, 10)
    scene = torch.stack([0.5 + 0.3 * torch.sin((1 + 0.2 * b) * rows + columns) for b in range(6)])[None]
    lowres = torch.nn.functional.avg_pool2d(scene, 2)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = (model(lowres) - scene).abs().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("name", ROWS)
def test_what_it_says_of_itself(name: str) -> None:
    model = woken(name)
    if name != "msdformer":
        with pytest.raises(Lacking, match=f"{name} can't be computed in strips: its .*attention .* whole image"):
            strips_of(model)
    with pytest.raises(Lacking, match=f"{name} has no reach: its .*attention .* whole image"):
        reach(model)
    image = torch.rand(1, 6, 4, 5)
    with torch.no_grad():
        assert torch.equal(super_resolve(model, image), model(image))
    assert model.extra_repr() in repr(model)


FORMULAS = [
    (lambda: SSPSR(48, 4, 32, 2, reduction=4), 24, 20),  # the last conv
    (lambda: SSPSR(48, 2, 32, 2, reduction=4), 24, 20),  # all groups at once
    (lambda: SSPSR(18, 2, 32, 2, group=4, overlap=2, reduction=4), 96, 80),  # four of eight groups at once
    (lambda: SSPSR(12, 8, 64, 1, group=4, overlap=1, reduction=4), 12, 20),
    (lambda: SSPSR(30, 8, 32, 1, group=4, overlap=1, reduction=4), 12, 20),  # steps of PixelShuffle in the branch
    (lambda: ESSAformer(16, 4, 32), 16, 20),
    (lambda: ESSAformer(128, 2, 64), 24, 20),
    (lambda: MSDformer(48, 4, 48, 2), 24, 20),
    (lambda: MSDformer(16, 2, 48, 2), 24, 40),  # the deformable conv
    (lambda: MSDformer(48, 2, 48, 2), 24, 20),  # groups of bands
    (lambda: MSDformer(128, 8, 48, 1), 16, 20),
]


@pytest.mark.parametrize(("make", "rows", "columns"), FORMULAS)
def test_working_memory_is_what_torch_allocates(make: Any, rows: int, columns: int) -> None:
    if lkops.backends.choose("upsample_add", None, [torch.rand(1)]) != "cpu":
        pytest.skip("a rough figure where no compiled kernels are built")
    model = make()
    said = working_memory_of(model, (1, model.bands, rows, columns), rows)
    measured = peak_of(model, rows, columns)
    assert 0.85 < max(said) / measured < 1.15, (said, measured)
    assert memory(model, rows, columns).peak > max(said)


@pytest.mark.parametrize("name", ROWS)
def test_onnx(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from lkcanet.deploy.export import export_onnx

    report = export_onnx(woken(name), tmp_path / "net.onnx")
    assert len(report.checked) == 5
    assert 0 < report.error <= report.allowed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bands": 0}, "bands must be a whole number, 1 or more, got 0"),
        ({"scale": 3}, "scale must be 2, 4, 8 or a higher power of two for this network, got 3"),
        ({"scale": 1}, "scale must be 2, 4, 8 or a higher power of two for this network, got 1"),
        ({"scale": 4.0}, r"scale must be a whole number, 1 or more, got 4\.0"),
        ({"channels": 0}, "channels must be a whole number, 1 or more, got 0"),
    ],
)
@pytest.mark.parametrize("name", ROWS)
def test_arguments_that_do_not_fit(name: str, arguments: dict, message: str) -> None:
    with torch.device("meta"), pytest.raises((ValueError, TypeError), match=message):
        PRESETS[name].make(**{"bands": 8, "scale": 4, **arguments})


@pytest.mark.parametrize("name", ROWS)
def test_an_image_with_other_bands_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"x must be \(N, 6, H, W\) for this network, got \(1, 5, 6, 6\)"):
        SMALL[name]()(torch.zeros(1, 5, 6, 6))
