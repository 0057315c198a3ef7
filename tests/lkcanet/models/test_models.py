"""LKCA-Net: the paper's sizes to the printed digit, folding, the bicubic start, and its checkpoints."""

import json

import pytest
import torch
from torch.nn.utils import parametrize

import lkops
from lkcanet.models import LKCANet, lkca_lr, lkca_net, load_model, load_model_and_extra, save_model

# (bands, scale): (LKCA-Net parameters, MACs, LKCA-LR parameters, MACs) in M and G, as Tables V to VII print them
TABLES = {
    (128, 4): ("3.707", "0.867", "1.643", "0.338"),
    (128, 8): ("10.798", "2.679", "2.540", "0.565"),
    (48, 4): ("2.138", "0.466", "1.364", "0.268"),
    (48, 8): ("4.797", "1.145", "1.700", "0.353"),
    (102, 4): ("3.197", "0.737", "1.552", "0.315"),
    (102, 8): ("8.847", "2.180", "2.267", "0.496"),
}
# blocks: (parameters, MACs) of LKCA-Net on Chikusei x4, Table I
BLOCKS = {
    4: ("2.810", "0.698"),
    8: ("3.109", "0.754"),
    16: ("3.707", "0.867"),
    32: ("4.904", "1.092"),
    48: ("6.100", "1.317"),
    64: ("7.297", "1.543"),
}


def printed(count: int, unit: float) -> str:
    return f"{count / unit:.3f}"


def fvcore_macs(model: LKCANet) -> int:
    analysis = pytest.importorskip("fvcore.nn", reason="fvcore is not installed").FlopCountAnalysis
    x = torch.zeros(1, model.bands, 16, 16)
    with lkops.backend("reference"):
        counter = analysis(model.eval(), x).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return int(counter.total())


@pytest.mark.wide
@pytest.mark.parametrize(("bands", "scale"), TABLES)
@pytest.mark.parametrize("low_rank", [False, True])
def test_parameters_and_macs_of_the_tables(bands: int, scale: int, low_rank: bool) -> None:
    model = (lkca_lr if low_rank else lkca_net)(bands, scale)
    parameters, macs = TABLES[bands, scale][2 * low_rank : 2 * low_rank + 2]
    assert printed(model.parameter_count(), 1e6) == parameters
    counted = fvcore_macs(model)
    assert printed(counted, 1e9) == macs
    assert model.macs(16, 16) == counted


@pytest.mark.wide(most=2)
@pytest.mark.parametrize("blocks", BLOCKS)
def test_parameters_and_macs_by_blocks(blocks: int) -> None:
    model = lkca_net(128, 4, blocks=blocks)
    counted = fvcore_macs(model)
    assert (printed(model.parameter_count(), 1e6), printed(counted, 1e9)) == BLOCKS[blocks]
    assert model.macs(16, 16) == counted


def test_macs_of_other_shapes_than_the_papers() -> None:
    model = LKCANet(6, 3, 24, 2, 2, kernel_sizes=(3, 9), attention_groups=3, reduction=6)
    assert model.macs(16, 16) == fvcore_macs(model)


def small(**options: object) -> LKCANet:
    torch.manual_seed(0)
    return LKCANet(8, 2, 16, 2, 2, **{"reduction": 8, **options})


def woken(**options: object) -> LKCANet:
    """A small network whose upsampler does something, as after training."""
    model = small(**options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("weight_norm", [True, False])
def test_a_fresh_network_returns_the_bicubic_image_and_learns(weight_norm: bool) -> None:
    model, x = small(weight_norm=weight_norm), torch.rand(2, 8, 7, 5)
    expected = lkops.bicubic_upsample(x, scale=2)
    torch.testing.assert_close(model(x), expected)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    model(x).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_folding_changes_no_bit_and_leaves_the_network_alone(dtype: torch.dtype) -> None:
    model, x = woken().to(dtype).eval(), torch.rand(2, 8, 9, 11).to(dtype)
    before, keys = model(x), list(model.state_dict())
    folded = model.fold()
    assert torch.equal(folded(x), before)
    assert (before - lkops.bicubic_upsample(x, scale=2)).abs().max() > 0
    assert not any(parametrize.is_parametrized(module) for module in folded.modules())
    assert list(model.state_dict()) == keys
    assert torch.equal(model(x), before)
    assert folded.config == {**model.config, "weight_norm": False}
    assert list(folded.state_dict()) == list(small(weight_norm=False).state_dict())


def test_folding_draws_no_random_numbers_and_keeps_what_is_frozen() -> None:
    model = small().requires_grad_(False)
    model.head.requires_grad_()
    state = torch.get_rng_state()
    folded = model.fold()
    assert torch.equal(torch.get_rng_state(), state)
    assert {key for key, p in folded.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}
    with torch.no_grad():
        assert all(p.requires_grad for p in small().fold().parameters())


@pytest.mark.parametrize("folded", [False, True])
def test_checkpoints_round_trip(tmp_path, folded: bool) -> None:
    model = woken(interleave=True, dilations=(2, 3), drop_path=0.25, cubic_a=-0.75, border="replicate").eval()
    model, x = model.fold() if folded else model, torch.rand(1, 8, 6, 6)
    path = tmp_path / "net.safetensors"
    save_model(model, path, extra={"peak": 65535.0})
    loaded, extra = load_model_and_extra(path)
    assert extra == {"peak": 65535.0}
    assert loaded.config == model.config
    assert not loaded.training
    assert torch.equal(loaded(x), model(x))
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoint_metadata_is_plain_json(tmp_path) -> None:
    safetensors = pytest.importorskip("safetensors")
    save_model(small(), tmp_path / "net.safetensors")
    with safetensors.safe_open(tmp_path / "net.safetensors", framework="pt") as file:
        metadata = file.metadata()
        keys = set(file.keys())
    assert json.loads(metadata["config"])["bands"] == 8
    assert "upsample.conv.parametrizations.weight.original0" in keys


def test_checkpoints_that_do_not_load(tmp_path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_model(path)
    save_model(small(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        load_model(path)
    safetensors.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a checkpoint of lkcanet"):
        load_model(path)
    model = small()
    other = {**model.config, "bands": 12}
    safetensors.save_file(model.state_dict(), path, {"format": "lkcanet-1", "config": json.dumps(other), "extra": "{}"})
    with pytest.raises(ValueError, match="size mismatch"):
        load_model(path)
    safetensors.save_file(
        model.state_dict(), path, {"format": "lkcanet-1", "config": json.dumps({"colour": 1}), "extra": "{}"}
    )
    with pytest.raises(ValueError, match="colour"):
        load_model(path)
    with pytest.raises(ValueError, match=r"end in \.safetensors"):
        save_model(small(), tmp_path / "net.pt")


def test_a_checkpoint_that_is_corrupt_or_not_finite_is_refused(tmp_path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    path, model = tmp_path / "net.safetensors", small()
    save_model(model, path, extra={"peak": 1.0})
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[-5] ^= 1  # of a weight: safetensors has no checksum of its own
    path.write_bytes(changed)
    with pytest.raises(ValueError, match="corrupt: its content does not have the checksum"):
        load_model(path)
    path.write_bytes(whole.replace(b'\\"peak\\": 1.0', b'\\"peak\\": 2.0'))
    with pytest.raises(ValueError, match="corrupt"):
        load_model(path)
    config = {"format": "lkcanet-1", "config": json.dumps(model.config)}  # without a checksum, and without extra
    safetensors.save_file({key: tensor.double() for key, tensor in model.state_dict().items()}, path, config)
    loaded, extra = load_model_and_extra(path)
    assert extra == {}
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor)
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in loaded.parameters())
    for key, change, message in (
        ("head.weight", lambda t: t / 0, r"head\.weight holds NaN or infinite values"),
        ("head.weight", lambda t: t.int(), r"head\.weight must be floating, got torch\.int32"),
        (
            "upsample.conv.parametrizations.weight.original1",
            lambda t: t * 0,
            r"upsample\.conv has a direction of zeros",
        ),
    ):
        state = model.state_dict()
        safetensors.save_file({**state, key: change(state[key])}, path, config)
        with pytest.raises(ValueError, match=message):
            load_model(path)
    for changes in ({"bands": 10**9}, {"blocks": 10**9}):  # neither memory nor time
        safetensors.save_file(model.state_dict(), path, {**config, "config": json.dumps({**model.config, **changes})})
        with pytest.raises(ValueError, match="does not hold a network of this version"):
            load_model(path)


def test_drop_path_acts_in_training_only_and_rises_linearly() -> None:
    model = LKCANet(4, 2, 16, 3, 1, reduction=8, drop_path=0.4)
    assert [block.drop_path for block in model.blocks] == [0.0, 0.2, 0.4]
    x = torch.rand(64, 16, 3, 3)
    block = model.blocks[2]
    branch = block.eval()(x) - x
    torch.manual_seed(1)
    factor = ((block.train()(x) - x) / branch).flatten(1).median(1).values
    dropped = factor.abs() < 1e-3
    torch.testing.assert_close(factor[~dropped], torch.full_like(factor[~dropped], 1 / 0.6), rtol=1e-2, atol=0)
    assert 10 < int(dropped.sum()) < 42  # 64 draws at 0.4: within four standard deviations


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bands": 0}, "bands must be a whole number, 1 or more, got 0"),
        ({"bands": 8, "scale": 2.0}, r"scale must be a whole number, 1 or more, got 2\.0"),
        ({"bands": 8, "upsample_groups": 7}, "upsample_groups must divide channels, 128; got 7"),
        ({"bands": 3, "scale": 3, "upsample_groups": 8}, r"upsample_groups must divide bands \* scale\^2, 27; got 8"),
        ({"bands": 8, "attention_groups": 3}, "groups must divide the channels, 128; got 3"),
        ({"bands": 8, "reduction": 7}, "reduction must divide the channels, 384; got 7"),
        ({"bands": 8, "kernel_sizes": (4, 7)}, "kernel_size must be odd, got 4"),
        ({"bands": 8, "dilations": (0, 7)}, "dilations must be a whole number, 1 or more, got 0"),
        ({"bands": 8, "kernel_sizes": (5, 7, 9)}, "kernel_sizes must be two whole numbers"),
        ({"bands": 8, "drop_path": -1.0, "blocks": 1}, r"drop_path must be in \[0, 1\), got -1\.0"),
        ({"bands": 8, "dilations": 5}, "dilations must be two whole numbers, got 5"),
        ({"bands": 8, "drop_path": 1.0}, r"drop_path must be in \[0, 1\)"),
        ({"bands": 8, "eps": float("nan")}, "eps must be a number above 0, got nan"),
        ({"bands": 8, "eps": 0.0}, r"eps must be a number above 0, got 0\.0"),
        ({"bands": 8, "cubic_a": "x"}, "cubic_a must be a finite number, got 'x'"),
        ({"bands": 8, "interleave": "no"}, "interleave must be True or False, got 'no'"),
        ({"bands": 8, "border": "wrap"}, "border must be 'symmetric' or 'replicate', got 'wrap'"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        LKCANet(**{"blocks": 2, **arguments})


def test_an_image_with_other_bands_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x must be \(N, 8, H, W\) for this network, got \(1, 9, 4, 4\)"):
        small()(torch.zeros(1, 9, 4, 4))
