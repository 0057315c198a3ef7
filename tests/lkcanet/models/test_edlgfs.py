"""EDLGFS: the paper's sizes to the printed digit, the start, folding, attention without its map, the eager network."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import lkops
from lkcanet.benchmark import eager_edlgfs
from lkcanet.models import load_model, save_model
from lkcanet.models.edlgfs import EDLGFS
from lkcanet.models.edlgfs_blocks import CSE, LGFS, LGFSLayer, cosines, primes

# stages: parameters (M) and MACs (G) of table 5 of the paper: 48 bands, x4, 64 x 64 pixels
TABLE_5 = {3: ("6.00", 34.32), 4: ("7.71", 41.52), 5: ("9.43", 48.71), 6: ("11.14", 55.91)}
WITHOUT_MAP = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]


def small(**options) -> EDLGFS:
    torch.manual_seed(0)
    return EDLGFS(
        6, **{"scale": 4, "channels": 16, "stages": 2, "layers": 2, "spectral_heads": 2, "reduction": 4, **options}
    )


def woken(**options) -> EDLGFS:
    """A small network whose branches all do something, as after training."""
    model = small(**options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("stages", TABLE_5)
def test_parameters_and_macs_of_table_5(stages: int) -> None:
    with torch.device("meta"):
        model = EDLGFS(48, 4, stages=stages)
    parameters, macs = TABLE_5[stages]
    assert f"{model.parameter_count() / 1e6:.2f}" == parameters
    assert model.parameter_count() == sum(p.numel() for p in model.fold().parameters())
    assert model.macs(64, 64) / 1e9 == pytest.approx(macs, rel=3e-4)
    assert model.attention_macs(64, 64) > model.macs(64, 64) * 0.9  # what the paper's count leaves out


@pytest.mark.parametrize("local_global", [True, False])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10)])
def test_macs_are_those_that_torch_counts(height: int, width: int, local_global: bool) -> None:
    model, pixels = small(scale=6, kernel_sizes=(7, 1), local_global=local_global).fold(), height * width
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, lkops.backend("reference"):
        model(torch.rand(1, 6, height, width))
    counted = {str(name): flops // 2 for name, flops in counter.get_flop_counts()["Global"].items()}
    convs = counted.pop("aten.convolution")
    norms, softmax, pools = 4 * 2 * pixels * 16, local_global * pixels * (3 * pixels - 1), (pixels + 1) * 16
    assert model.macs(height, width) == convs + 2 * (2 * (norms + softmax) + pools)
    assert model.attention_macs(height, width) == sum(counted.values())


@pytest.mark.parametrize("sizes", [{}, {"scale": 1}, {"scale": 6}, {"channels": 8, "reduction": 2}])
def test_a_fresh_network_returns_the_bicubic_image_and_learns(sizes: dict) -> None:
    model, x = small(**sizes), torch.rand(2, 6, 7, 5)
    torch.testing.assert_close(model(x), lkops.bicubic_upsample(x, scale=model.scale))
    torch.testing.assert_close(model.edge(x)[0], lkops.bicubic_upsample(x, scale=model.scale))
    for stage in model.stages:
        nn.init.ones_(stage.spectral.attention.reduce.bias)  # so that no gate can die of its ReLU
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("edge."), name
        assert parameter.grad is None or (parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0), name


def test_with_more_bands_than_channels_smooth_spectra_pass_the_start() -> None:
    bands = torch.linspace(0, 1, 40)[:, None, None]
    x = (0.5 + 0.3 * torch.sin(3 * bands + torch.rand(5, 6)))[None]
    model = EDLGFS(40, 2, 16, 1, 1, spectral_heads=2)
    expected = lkops.bicubic_upsample(x, scale=2)
    assert (model(x) - expected).abs().max() < 0.02
    assert (model(x) - expected).abs().max() > 1e-5
    basis = cosines(9)
    torch.testing.assert_close(basis @ basis.T, torch.eye(9, dtype=torch.float64))


def test_the_scale_is_made_of_its_prime_factors() -> None:
    assert [primes(n) for n in (1, 2, 3, 4, 6, 7, 8, 12)] == [[], [2], [3], [2, 2], [2, 3], [7], [2, 2, 2], [2, 2, 3]]
    for scale, factors in ((1, 0), (3, 1), (8, 3)):
        model = woken(scale=scale)
        assert len(model.reconstruct.up) == factors
        assert model(torch.rand(1, 6, 3, 4)).shape == (1, 6, 3 * scale, 4 * scale)


def test_selection_is_the_papers_formula() -> None:
    torch.manual_seed(0)
    module, x = LGFS(8, (5, 3), 1.0).double(), torch.randn(2, 8, 4, 6, dtype=torch.float64)
    query, key, value = (conv(x).flatten(2).detach() for conv in (module.query, module.key, module.value))
    expected = torch.empty_like(x)
    for n in range(2):
        for here in range(24):
            weights = torch.tensor([float(query[n, :, here] @ key[n, :, there]) for there in range(24)]).double()
            weights = (weights - weights.max()).exp()
            expected[n, :, here // 6, here % 6] = x[n, :, here // 6, here % 6] + value[n] @ weights / weights.sum()
    torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-5)
    module.scale = None
    halved = LGFS(8, (5, 3), 8**-0.5).double()
    halved.load_state_dict(module.state_dict())
    torch.testing.assert_close(module(x), halved(x))
    assert (module(x) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(4, 6), (5, 3), (1, 1)])
def test_spectral_attention_mixes_channels_within_a_head(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    module, x = CSE(8, 2).double(), torch.randn(1, 8, *size, dtype=torch.float64)
    with torch.no_grad():
        module.temperature.copy_(torch.tensor([3.0, 7.0]).view(2, 1, 1))
    padded = torch.zeros(1, 8, size[0] + size[0] % 2, size[1] + size[1] % 2, dtype=torch.float64)
    padded[..., : size[0], : size[1]] = x
    both = module.reduce(module.mix(padded))[0].flatten(1)
    query, key, value = both[:4], both[4:], module.value(x)[0].flatten(1)
    mixed = torch.zeros_like(value)
    for head in range(2):
        for c in range(2 * head, 2 * head + 2):
            near = torch.stack([F.cosine_similarity(query[c], key[d], dim=0) for d in range(2 * head, 2 * head + 2)])
            mixed[c] = (near * module.temperature[head, 0, 0]).softmax(0) @ value[2 * head : 2 * head + 2]
    torch.testing.assert_close(module(x), module.out(mixed.view(1, 4, *size)))


def test_a_layer_is_as_the_paper_draws_it() -> None:
    torch.manual_seed(0)
    layer, x = LGFSLayer(8, (5, 3), 9, 2, 1.0).double(), torch.randn(2, 8, 4, 5, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))

    def norm(x: torch.Tensor, owner: torch.nn.Module) -> torch.Tensor:
        centred = x - x.mean(1, keepdim=True)
        normed = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
        return normed * owner.weight[:, None, None] + owner.bias[:, None, None]

    u = x + layer.spectral(layer.select(norm(x, layer.norm)))
    expected = u + layer.out(F.gelu(layer.expand.conv(norm(u, layer.expand.norm))))
    torch.testing.assert_close(layer(x), expected)


def test_without_selection_a_layer_is_spectral_attention_and_mlp() -> None:
    """What the paper's tables 6 to 8 take away, and what it costs."""
    model, x = woken(local_global=False), torch.rand(1, 16, 5, 6)
    layer = model.stages[0].layers[0]
    norm = F.layer_norm(x.permute(0, 2, 3, 1), (16,), layer.norm.weight, layer.norm.bias, 1e-6).permute(0, 3, 1, 2)
    between = x + layer.spectral(norm)
    torch.testing.assert_close(layer(x), between + layer.out(layer.expand(between)))
    selections = [layer.select for stage in small().stages for layer in stage.layers]
    assert all(isinstance(select, LGFS) for select in selections)
    assert small().parameter_count() - model.parameter_count() == sum(
        parameter.numel() for select in selections for parameter in select.parameters()
    )
    assert "local_global" not in small().config  # as in older checkpoints
    assert EDLGFS(**model.config).config == model.config == model.fold().config | {"edge_branch": True}
    with pytest.raises(TypeError, match="local_global must be True or False, got 1"):
        small(local_global=1)


def test_levels_are_the_stages_outputs_and_the_image_is_made_of_the_last() -> None:
    model, x = woken(), torch.rand(1, 6, 5, 4)
    image, features = model.levels(x)
    first = model.stages[0](model.head(x))
    second = model.stages[1](first)
    torch.testing.assert_close(features, [first, second])
    torch.testing.assert_close(image, model.reconstruct(second + model.head(x), x))
    assert (first - second).abs().max() > 0.01


def test_the_edge_branch_is_convs_with_residuals() -> None:
    model, edges = woken(), torch.rand(1, 6, 5, 4)
    branch, levels = model.edge, []
    features = branch.head(edges)
    for first, _, second in branch.blocks:
        features = features + second(first(features).clamp_min(0))
        levels.append(features)
    image, ours = branch(edges)
    torch.testing.assert_close(ours, levels)
    torch.testing.assert_close(image, branch.reconstruct(levels[-1] + branch.head(edges), edges))
    large = lkops.bicubic_upsample(edges, scale=4)
    z = branch.reconstruct.body(levels[-1] + branch.head(edges))
    for up in branch.reconstruct.up:
        z = F.pixel_shuffle(up.conv(z), 2)
    torch.testing.assert_close(image, branch.reconstruct.tail(z + branch.reconstruct.skip(large)), rtol=1e-4, atol=1e-4)


def test_backends_agree_forward_and_backward() -> None:
    model, x = woken(), torch.rand(2, 6, 9, 7)
    results = {}
    for name, network in (("float64", woken().double()), ("reference", model), ("cpu", model)):
        image = x.to(next(network.parameters()).dtype, copy=True).requires_grad_()
        with lkops.backend("cpu" if name == "cpu" else "reference"):
            network.zero_grad()
            result, features = network.levels(image)
            (result.square().mean() + features[0].square().mean()).backward()
        # of the key's bias it is 0 but for rounding
        names = [key for key, _ in network.named_parameters() if not key.startswith("edge.") and "key.bias" not in key]
        main = [network.get_parameter(key).grad for key in names]
        results[name] = [result.detach(), image.grad, *main]
    for name in ("reference", "cpu"):
        for ours, exact in zip(results[name], results["float64"], strict=True):
            assert exact.abs().max() > 0
            assert (ours - exact).norm() < 1e-4 * exact.norm(), name


@pytest.mark.parametrize("bicubic", [{}, {"cubic_a": -0.75, "border": "replicate"}], ids=["matlab", "torch"])
def test_the_eager_network_is_the_network(bicubic: dict) -> None:
    model, x = woken(**bicubic), torch.rand(2, 6, 9, 11)
    torch.testing.assert_close(eager_edlgfs.Network(model)(x), model(x), rtol=1e-4, atol=1e-4)
    assert (model(x) - lkops.bicubic_upsample(x, scale=4, **bicubic)).abs().max() > 0.1
    _, ours, inputs, plain = eager_edlgfs.benchmark_row(6, 2, 8, channels=16, stages=1, layers=1, spectral_heads=2)
    torch.testing.assert_close(plain(*inputs), ours(*inputs), rtol=1e-4, atol=1e-4)
    assert (ours(*inputs) - lkops.bicubic_upsample(inputs[0], scale=2)).abs().max() > 0.01


def test_no_backend_that_stores_the_map_is_needed() -> None:
    """Forward and backward run where torch may only use kernels that store no map of H W x H W."""
    model, x = woken(), torch.rand(1, 6, 8, 10)
    expected = model(x)
    with sdpa_kernel(WITHOUT_MAP):
        image = model(x)
        image.sum().backward()
    torch.testing.assert_close(image, expected)


PEAK = """
import pathlib, torch
from lkcanet.models.edlgfs_blocks import LGFS
torch.set_num_threads(1)
def peak():  # not ru_maxrss, which a child has from its parent
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
module, side = LGFS(8, (5, 3), 1.0), {side}
x = torch.rand(1, 8, side, side)
with torch.no_grad():
    module(x[..., :8, :8])
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = peak()
    module(x)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is there on Linux only")
def test_peak_memory_of_the_attention_does_not_grow_with_the_map() -> None:
    side = 88
    grown = subprocess.run(
        [sys.executable, "-c", PEAK.format(side=side)], capture_output=True, text=True, check=True
    ).stdout
    map_kilobytes = 4 * side**4 / 1024  # 234 MB
    assert int(grown) < map_kilobytes / 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_folding_drops_the_edge_branch_and_changes_no_bit(dtype: torch.dtype) -> None:
    model, x = woken().to(dtype).train(), torch.rand(1, 6, 5, 8).to(dtype)
    model.head.requires_grad_(False)
    before, keys, state = model(x), list(model.state_dict()), torch.get_rng_state()
    folded = model.fold()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(folded(x), before)
    assert folded.edge is None
    assert not folded.training
    assert model.training
    assert list(folded.state_dict()) == [key for key in keys if not key.startswith("edge.")]
    assert any(key.startswith("edge.") for key in keys)
    assert folded.config == {**model.config, "edge_branch": False}
    frozen = {key for key, p in folded.named_parameters() if not p.requires_grad}
    assert frozen == {"head.weight", "head.bias"}
    with torch.no_grad():
        next(folded.parameters()).add_(1)
    assert torch.equal(model(x), before)
    assert list(model.state_dict()) == keys
    rebuilt = EDLGFS(**folded.config)
    rebuilt.to(dtype).load_state_dict(model.fold().state_dict())
    assert torch.equal(rebuilt(x), before)


def test_checkpoints_round_trip_with_and_without_the_edge_branch(tmp_path) -> None:
    model, x = woken(attention_scale=None).eval(), torch.rand(1, 6, 5, 5)
    for network in (model, model.fold()):
        save_model(network, tmp_path / "net.safetensors")
        loaded = load_model(tmp_path / "net.safetensors")
        assert isinstance(loaded, EDLGFS)
        assert (loaded.config, list(loaded.state_dict())) == (network.config, list(network.state_dict()))
        assert torch.equal(loaded(x), model(x))


@pytest.mark.exhaustive
def test_it_compiles_in_one_graph_and_runs_under_autocast() -> None:
    model, x = woken(stages=1, layers=1, scale=2).fold(), torch.rand(1, 6, 8, 8)
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(x), model(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(x)
    assert (half.float() - model(x)).norm() < 0.05 * model(x).norm()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bands": 0}, "bands must be a whole number, 1 or more, got 0"),
        ({"scale": 2.0}, r"scale must be a whole number, 1 or more, got 2\.0"),
        ({"stages": 0}, "stages must be a whole number, 1 or more, got 0"),
        ({"kernel_sizes": (4, 3)}, r"kernel_sizes must be odd, got \[4, 3\]"),
        ({"kernel_sizes": 5}, "kernel_sizes must be two whole numbers, got 5"),
        ({"spectral_heads": 5}, "spectral_heads must divide half of the channels, 96 / 2; got 5"),
        ({"channels": 15, "spectral_heads": 1}, "spectral_heads must divide half of the channels, 15 / 2; got 1"),
        ({"reduction": 7}, "reduction must divide the channels, 96; got 7"),
        ({"mlp_ratio": 0.001}, r"mlp_ratio must give 1 hidden channel or more, 0\.001 of 96 is less"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio must be a finite number, got nan"),
        ({"attention_scale": "x"}, "attention_scale must be a finite number, got 'x'"),
        ({"branch_scale": float("inf")}, "branch_scale must be a finite number, got inf"),
        ({"edge_branch": 1}, "edge_branch must be True or False, got 1"),
        ({"border": "wrap"}, "border must be 'symmetric' or 'replicate', got 'wrap'"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict, message: str) -> None:
    with torch.device("meta"), pytest.raises((ValueError, TypeError), match=message):
        EDLGFS(**{"bands": 8, **arguments})


def test_an_image_with_other_bands_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x must be \(N, 6, H, W\) for this network, got \(1, 7, 4, 4\)"):
        small()(torch.zeros(1, 7, 4, 4))
