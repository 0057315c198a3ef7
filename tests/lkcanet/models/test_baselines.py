"""VDSR-LR and 3DFCNN-LR: the sizes of LKCA-Net's tables, exact, and the convs that they stand for."""

import json

import pytest
import torch
from torch import nn

import lkops
from lkcanet.evaluation.reported import reported
from lkcanet.models import load_model, save_model
from lkcanet.models.baselines import CNN3DLR, VDSRLR

SCENES = {128: "chikusei", 48: "houston2018", 102: "pavia_center"}
NETWORKS = [(VDSRLR, "VDSR"), (CNN3DLR, "3DFCNN")]


def spelled_out(model: VDSRLR | CNN3DLR) -> nn.Sequential:
    """The network with plain modules, Conv3d at depth 1 among them, and the weights of `model`."""
    layers: list[nn.Module] = []
    for conv in model.convs:
        layers += [type(conv)(conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding), nn.ReLU()]
        layers[-2].weight, layers[-2].bias = conv.weight, conv.bias
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("bands", SCENES)
@pytest.mark.parametrize("scale", [4, 8])
@pytest.mark.parametrize(("network", "row"), NETWORKS)
def test_parameters_and_macs_of_the_tables(network: type, row: str, bands: int, scale: int) -> None:
    """Table VI prints those of x4 in each other's row; `reported` has them put right."""
    expected = next(entry for entry in reported(SCENES[bands], scale) if entry.method == row)
    with torch.device("meta"):
        model = network(bands, scale)
    assert round(model.parameter_count() / 1e6, 3) == expected.parameters
    assert round(model.macs(16, 16) / 1e9, 3) == expected.macs


def test_parameters_by_the_formulas() -> None:
    assert VDSRLR(128, 4).parameter_count() == 576 * 128 + 18 * 36864 + 576 * 128 * 16 == 1_916_928
    assert CNN3DLR(128, 4).parameter_count() == 3_377_545


@pytest.mark.parametrize(("network", "row"), NETWORKS)
def test_macs_are_those_that_fvcore_counts(network: type, row: str) -> None:
    analysis = pytest.importorskip("fvcore.nn", reason="fvcore is not installed").FlopCountAnalysis
    model = network(7, 3)
    x = torch.zeros(1, 7, *([1] if network is CNN3DLR else []), 5, 6)
    counter = analysis(spelled_out(model), x).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert model.macs(5, 6) == counter.total()


@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize(("network", "row"), NETWORKS)
def test_the_network_is_its_convs(network: type, row: str, bicubic: bool) -> None:
    torch.manual_seed(0)
    model, x = network(7, 3, bicubic=bicubic).double(), torch.rand(2, 7, 12, 5, dtype=torch.float64)
    added = lkops.bicubic_upsample(x, scale=3) if bicubic else torch.zeros(())
    if bicubic:
        torch.testing.assert_close(model(x), added)  # at the start
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    z = spelled_out(model)(x[:, :, None] if network is CNN3DLR else x)
    z = z[:, :, 0] if network is CNN3DLR else z
    torch.testing.assert_close(model(x), nn.functional.pixel_shuffle(z, 3) + added)
    assert z.abs().max() > 1e-3


def test_the_signal_reaches_the_end_of_twenty_layers() -> None:
    model, x = VDSRLR(8, 2, bicubic=False), torch.rand(1, 8, 8, 8)
    assert 0.05 < float(model(x).std()) < 20


def test_the_usual_choice_of_the_bicubic_image() -> None:
    x = torch.rand(1, 4, 5, 5)
    torch.testing.assert_close(VDSRLR(4, 2)(x), lkops.bicubic_upsample(x, scale=2))
    assert (CNN3DLR(4, 2)(x) - lkops.bicubic_upsample(x, scale=2)).abs().max() > 0.1


@pytest.mark.parametrize(("network", "row"), NETWORKS)
def test_folding_copies(network: type, row: str) -> None:
    model, x = network(4, 2, cubic_a=-0.75, border="replicate", bicubic=True), torch.rand(1, 4, 5, 5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    before, folded = model(x), model.fold()
    assert torch.equal(folded(x), before)
    assert not folded.training
    assert folded.config == model.config
    with torch.no_grad():
        next(folded.parameters()).add_(1)
    assert torch.equal(model(x), before)


@pytest.mark.parametrize(("network", "row"), NETWORKS)
def test_checkpoints_round_trip(tmp_path, network: type, row: str) -> None:
    model, x = network(4, 2, bicubic=False), torch.rand(1, 4, 5, 5)
    save_model(model, tmp_path / "net.safetensors")
    loaded = load_model(tmp_path / "net.safetensors")
    assert type(loaded) is network
    assert loaded.config == model.config
    assert torch.equal(loaded(x), model(x))


def test_a_damaged_depth_costs_no_time(tmp_path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    model = VDSRLR(4, 2, 8, 1)
    config = json.dumps({**model.config, "depth": 10**9})
    metadata = {"format": "lkcanet-1", "kind": "vdsr_lr", "config": config}
    safetensors.save_file(model.state_dict(), tmp_path / "net.safetensors", metadata)
    with pytest.raises(ValueError, match="config names 1000000000 depth"):
        load_model(tmp_path / "net.safetensors")


def test_it_learns_and_the_outer_planes_do_not() -> None:
    model, x = CNN3DLR(4, 2), torch.rand(2, 4, 6, 6)
    model(x).square().mean().backward()
    for conv in model.convs:
        middle = conv.weight.grad[:, :, conv.kernel_size[0] // 2]
        assert middle.abs().max() > 0
        torch.testing.assert_close(conv.weight.grad.square().sum(), middle.square().sum())


@pytest.mark.parametrize(
    ("network", "arguments", "message"),
    [
        (VDSRLR, {"bands": 0}, "bands must be a whole number, 1 or more, got 0"),
        (CNN3DLR, {"scale": 2.5}, r"scale must be a whole number, 1 or more, got 2\.5"),
        (VDSRLR, {"depth": -1}, "depth must be a whole number, 0 or more, got -1"),
        (VDSRLR, {"channels": 0}, "channels must be a whole number, 1 or more, got 0"),
        (CNN3DLR, {"bicubic": 1}, "bicubic must be True or False, got 1"),
        (VDSRLR, {"cubic_a": float("nan")}, "cubic_a must be a finite number, got nan"),
        (VDSRLR, {"border": "wrap"}, "border must be 'symmetric' or 'replicate', got 'wrap'"),
    ],
)
def test_arguments_that_do_not_fit(network: type, arguments: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        network(**{"bands": 4, **arguments})


@pytest.mark.parametrize(("network", "row"), NETWORKS)
def test_an_image_with_other_bands_is_refused(network: type, row: str) -> None:
    with pytest.raises(ValueError, match=r"x must be \(N, 4, H, W\) for this network, got \(1, 5, 6, 6\)"):
        network(4)(torch.zeros(1, 5, 6, 6))
