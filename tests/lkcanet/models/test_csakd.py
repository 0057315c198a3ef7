"""CSAKD's networks: the paper's sizes to the digit, the formula, and what is refused."""

import json
import math

import pytest
import torch
from torch import Tensor, nn

import lkops
from lkcanet.benchmark import eager_csakd
from lkcanet.models import csakd
from lkcanet.models.csakd import CSAKD
from lkcanet.models.csakd_blocks import CLRA, CrossSelfAttention

# network: (parameters, thop's GMAC at 256 x 256 with 172 and 4 bands); the paper prints 26.8M / 941.77G, 7.44M /
# 144.77G, 37.19M / 1303.3G and 11.34M / 399.9G
TABLE = {
    "csakd_teacher": (26_807_686, "941.774"),
    "csakd_student": (7_449_946, "144.779"),
    "csakd_student_as_described": (8_748_718, "229.844"),
    "csakd_teacher_l": (37_197_862, "1303.303"),
    "csakd_student_l": (11_346_262, "399.975"),
    "csakd_student_l_as_described": (13_943_806, "570.107"),
}


def counted(model: CSAKD, height: int, width: int) -> int:
    """thop's count, by hooks on what the formulas call; on the meta device, where a forward costs nothing."""
    total = 0

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Upsample):
            total += output.numel()
        elif isinstance(module, nn.Softmax):
            total += output.numel() // output.shape[-1] * (3 * output.shape[-1] - 1)

    with torch.device("meta"):
        network = eager_csakd.Network(CSAKD(**model.config))
        lowres = torch.empty(1, model.bands, height, width)
        msi = torch.empty(1, model.msi_bands, height * model.scale, width * model.scale)
    for module in network.modules():
        module.register_forward_hook(hook)
    with torch.no_grad():
        image, z = network.fused(lowres, msi)
    assert image.shape == (1, model.bands, *msi.shape[2:])
    assert z.shape == (1, model.features, *msi.shape[2:])
    return total


@pytest.mark.wide(most=2)
@pytest.mark.parametrize("name", TABLE)
def test_parameters_and_macs_of_the_table(name: str) -> None:
    with torch.device("meta"):
        model = getattr(csakd, name)(172, 4)
    assert (model.parameter_count(), f"{model.macs(64, 64) / 1e9:.3f}") == TABLE[name]
    assert model.macs(64, 64) == counted(model, 64, 64)


def test_thop_counts_the_same() -> None:
    thop = pytest.importorskip("thop", reason="thop is not installed")
    model = small()
    macs, parameters = thop.profile(eager_csakd.Network(model), [x[:1] for x in inputs(model)], verbose=False)
    assert (macs, parameters) == (model.macs(5, 4), model.parameter_count())


def small(**options: object) -> CSAKD:
    """A small network that does something in every part: as published its convs start near zero."""
    torch.manual_seed(0)
    arguments = {"counts": (1, 2, 1, 1), "h_groups": 2, "features": 8, "growth": 4, "heads": 2, "head_width": 3}
    model = CSAKD(7, 3, 2, **{**arguments, **options})  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def inputs(model: CSAKD, h: int = 5, w: int = 4, n: int = 2, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    lowres = torch.rand(n, model.bands, h, w, generator=generator, dtype=dtype)
    msi = torch.rand(n, model.msi_bands, h * model.scale, w * model.scale, generator=generator, dtype=dtype)
    return lowres, msi


def test_counts_of_other_shapes_than_the_papers() -> None:
    for model in (small(), CSAKD(5, 2, 3, (0, 1, 2, 0), features=6, growth=3, h_groups=3)):
        assert model.macs(5, 4) == counted(model, 5, 4)


OPTIONS = [
    {},
    {"upsampling": "bicubic"},
    {"downsampling": "antialiased"},
    {"temperature": 0.5},
    {"legacy_sum": True},
    {"residual": True},
    {"counts": (0, 0, 0, 0)},
]


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_the_network_is_its_formula_with_gradients(option: dict[str, object]) -> None:
    model = small(**option).double()
    lowres, msi = (x.requires_grad_() for x in inputs(model, dtype=torch.float64))
    with lkops.backend("reference"):
        ours = model.fused(lowres, msi)
        exact = eager_csakd.Network(model).fused(lowres, msi)
    over = [*model.parameters(), lowres, msi]
    seed = [torch.randn_like(x) for x in exact]
    for a, b in zip(ours, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
        assert a.std() > 1e-3
    grads = [torch.autograd.grad(x, over, seed, allow_unused=True) for x in (ours, exact)]
    unused = {"attention.query", "attention.key"} if option.get("legacy_sum") else set()
    names = [name for name, _ in model.named_parameters()] + ["lowres", "msi"]
    for name, a, b in zip(names, *grads, strict=True):
        if name.rpartition(".")[0] in unused:
            assert a is None
            assert b is None or b.abs().max() < 1e-9
            continue
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9, msg=name)
        if name != "attention.key.bias":  # with the sum over pixels of q it shifts whole rows: the softmax cancels most
            assert a.abs().max() > 1e-9, name


def test_the_benchmark_compares_one_network() -> None:
    name, model, given, eager = eager_csakd.benchmark_row(6, 3, 2, 5, 2, features=8, growth=4)
    assert name == "CSAKD student x2, 2x6x5x5 + 3 bands"
    assert [parameter.data_ptr() for parameter in model.parameters()] == [p.data_ptr() for p in eager.parameters()]
    with torch.no_grad():
        torch.testing.assert_close(eager(*given), model(*given), rtol=1e-4, atol=1e-5)
    assert model(*given).std() > 1e-3
    assert (model.config["counts"], model.config["h_groups"]) == ([0, 4, 4, 1], 4)


@pytest.mark.parametrize("option", OPTIONS[1:-1], ids=str)
def test_options_change_the_image(option: dict[str, object]) -> None:
    plain, other = small(), small(**option)
    other.load_state_dict(plain.state_dict())
    lowres, msi = inputs(plain)
    assert (plain(lowres, msi) - other(lowres, msi)).abs().max() > 1e-6


def test_inference_without_concatenations_changes_no_bit() -> None:
    torch.manual_seed(0)
    for groups in (1, 2):
        clra, x = CLRA(8, 4, groups), torch.randn(2, 8, 6, 7)
        with torch.no_grad():
            for parameter in clra.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            before = x.clone()
            ours = clra(x)
            assert torch.equal(x, before)
            assert torch.equal(ours, torch.add(x, clra.blocks(x), alpha=0.2))
            assert (ours - x).abs().max() > 0.01
        torch.testing.assert_close(clra(x), ours)  # with gradients: torch's dense convs


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_inference_is_training_up_to_rounding(backend: str) -> None:
    if reason := lkops.backends.why_not("upsample_add", backend, "cpu", [torch.float32]):
        pytest.skip(reason)
    model = small()
    lowres, msi = inputs(model)
    exact = eager_csakd.Network(small().double())(*(x.double() for x in (lowres, msi)))
    copies = lowres.clone(), msi.clone()
    with lkops.backend(backend, "reference"):
        trained = model(lowres, msi)
        with torch.no_grad():
            inferred = model(lowres, msi)
    for image in (trained, inferred):
        torch.testing.assert_close(image.double(), exact, rtol=1e-4, atol=1e-5)
    assert torch.equal(lowres, copies[0])
    assert torch.equal(msi, copies[1])


def test_the_attention_does_not_overwrite_its_inputs() -> None:
    torch.manual_seed(0)
    layer = CrossSelfAttention(8, 2, 3)
    maps = [torch.randn(1, 8, s, s) for s in (3, 6, 3, 6)]
    copies = [x.clone() for x in maps]
    with torch.no_grad():
        layer(*maps)
    assert all(torch.equal(a, b) for a, b in zip(maps, copies, strict=True))


def test_low_precision_runs_and_is_near() -> None:
    model = small().eval()
    lowres, msi = inputs(model)
    expected = model(lowres, msi)
    with torch.autocast("cpu", torch.bfloat16):
        trained = model(lowres, msi)
        with torch.no_grad():
            inferred = model(lowres, msi)
    for image in (trained, inferred):
        torch.testing.assert_close(image.float(), expected, rtol=0.1, atol=0.05 * float(expected.detach().std()) + 0.02)


@pytest.mark.exhaustive
def test_compiled_as_a_whole_graph() -> None:
    model = small(counts=(0, 0, 1, 0)).eval()
    lowres, msi = inputs(model)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(lowres, msi), model(lowres, msi), rtol=1e-4, atol=1e-5)


def test_an_empty_batch_and_a_single_pixel() -> None:
    model = small().eval()
    with torch.no_grad():
        assert model(*inputs(model, n=0)).shape == (0, 7, 10, 8)
        assert model(*inputs(model, 1, 1)).isfinite().all()


def test_a_fresh_residual_network_returns_the_bicubic_image_and_learns() -> None:
    torch.manual_seed(0)
    model = CSAKD(7, 3, 2, (1, 1, 1, 1), features=8, growth=4, residual=True)
    lowres, msi = inputs(model)
    assert torch.equal(model(lowres, msi), lkops.bicubic_upsample(lowres, scale=2))
    model(lowres, msi).square().mean().backward()
    assert model.last.weight.grad is not None
    assert model.last.weight.grad.abs().max() > 0


def test_direct_fusion() -> None:
    """The paper's eq. 6 in place of the attention: the plain sum of the four maps, and nothing that weighs them."""
    model = small(fusion="sum")
    lowres, msi = inputs(model)
    image, z = model.fused(lowres, msi)
    hm = model.hm(torch.cat((model.upsampled(lowres), msi), 1))
    mh = model.mh(torch.cat((lowres, model.downsampled(msi)), 1))
    enlarged = [x.repeat_interleave(model.scale, 2).repeat_interleave(model.scale, 3) for x in (model.h(lowres), mh)]
    torch.testing.assert_close(z, hm + model.m(msi) + sum(enlarged))
    torch.testing.assert_close(image, model.last(model.head(z)))
    attention = sum(parameter.numel() for parameter in small().attention.parameters())
    assert small().parameter_count() - model.parameter_count() == attention
    convs = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda it, _, out, name=name: convs.update({name: out[0].numel() * it.weight[0].numel()})
            )
    model.train()(lowres, msi)
    nearest = 2 * z[0].numel()
    h, w = lowres.shape[2:]
    assert model.macs(h, w) == sum(convs.values()) + nearest
    again = CSAKD(**json.loads(json.dumps(model.config)))
    assert again.config == model.config
    assert "fusion" not in small().config  # as in older checkpoints
    with pytest.raises(ValueError, match="fusion must be one of attention, sum; got 'mean'"):
        small(fusion="mean")


def test_folding_copies() -> None:
    model = small()
    lowres, msi = inputs(model)
    folded = model.fold()
    assert not folded.training
    assert folded.config == model.config
    assert torch.equal(folded(lowres, msi), model(lowres, msi))
    with torch.no_grad():
        folded.last.weight.zero_()
    assert model(lowres, msi).abs().max() > 0


def test_its_config_builds_it_again() -> None:
    model = small(upsampling="bicubic", temperature=2.0, residual=True)
    again = CSAKD(**json.loads(json.dumps(model.config)))
    again.load_state_dict(model.state_dict())
    assert again.config == model.config
    assert torch.equal(again(*inputs(model)), model(*inputs(model)))
    assert (model.kind, model.bands, model.msi_bands, model.scale) == ("csakd", 7, 3, 2)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"bands": 0}, "bands must be a whole number, 1 or more, got 0"),
        ({"msi_bands": 0}, "msi_bands must be"),
        ({"scale": 1.5}, "scale must be"),
        ({"counts": (1, 2, 3)}, r"counts must be four whole numbers \(hm, mh, h, m\), each 0 to 64, got \(1, 2, 3\)"),
        ({"counts": (1, 2, 3, -1)}, "counts must be four"),
        ({"counts": (1, 2, 3, 1000000)}, "counts must be four"),
        ({"counts": "1234"}, "counts must be four"),
        ({"h_groups": 3}, "h_groups must divide features, 8; got 3"),
        ({"features": 12, "growth": 5, "h_groups": 2}, "h_groups must divide growth, 5; got 2"),
        ({"upsampling": "nearest"}, "upsampling must be one of bilinear, bicubic; got 'nearest'"),
        ({"downsampling": "area"}, "downsampling must be one of bicubic, antialiased; got 'area'"),
        ({"temperature": 0}, "temperature must be"),
        ({"temperature": math.inf}, "temperature must be"),
        ({"temperature": math.nan}, "temperature must be"),
        ({"residual": 1}, "residual must be True or False, got 1"),
        ({"legacy_sum": None}, "legacy_sum must be True or False, got None"),
    ],
)
def test_arguments_out_of_range(option: dict[str, object], message: str) -> None:
    arguments = {"bands": 7, "msi_bands": 3, "scale": 2, "features": 8, "growth": 4, **option}
    with pytest.raises((ValueError, TypeError), match=message):
        CSAKD(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 6, 5, 4), (2, 3, 10, 8)), r"lowres must have the 7 bands of this network, got \(2, 6, 5, 4\)"),
        (((2, 7, 5, 4), (2, 4, 10, 8)), r"msi must be \(2, 3, 10, 8\), 3 bands and 2 times the sides of lowres"),
        (((2, 7, 5, 4), (2, 3, 10, 9)), r"got \(2, 3, 10, 9\)"),
        (((2, 7, 5, 4), (1, 3, 10, 8)), r"msi must be \(2, 3, 10, 8\)"),
        (((7, 5, 4), (3, 10, 8)), r"lowres must be \(N, C, H, W\)"),
    ],
)
def test_images_that_do_not_fit(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small()(*(torch.rand(shape) for shape in shapes))


def test_images_of_another_dtype() -> None:
    lowres, msi = inputs(small())
    with pytest.raises(TypeError, match=r"msi must be torch.float32 as lowres is, got torch.float64"):
        small()(lowres, msi.double())
