"""Checkpoints that came by way of wrappers and of torch.save: read as what they are, or refused with what to do."""

import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lkcanet.models import LKCANet, Network, load_model, load_model_and_extra, register, save_model
from lkcanet.models.edlgfs import EDLGFS

safetensors_torch = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
safetensors = pytest.importorskip("safetensors")


def network() -> LKCANet:
    torch.manual_seed(0)
    model = LKCANet(3, 2, 8, 1, 1, reduction=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model.eval()


def same(model: nn.Module, other: nn.Module) -> bool:
    x = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(1))
    return torch.equal(model(x), other(x))


def renamed(source: Path, path: Path, name: Callable[[str], str], *, checksum: bool) -> None:
    """The checkpoint with other keys, as a tool would write it that keeps its metadata."""
    with safetensors.safe_open(source, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name(key): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    if not checksum:
        del metadata["sha256"]
    safetensors_torch.save_file(tensors, path, metadata)


def inside(key: str) -> str:
    """As of a network whose upsampler is compiled."""
    return key.replace("upsample.", "upsample._orig_mod.")


PREFIXES: list[Callable[[str], str]] = [
    *(lambda key, prefix=prefix: prefix + key for prefix in ("module.", "_orig_mod.", "module._orig_mod.")),
    lambda key: f"_orig_mod.module.module.{key}",
    inside,
    lambda key: f"module.{inside(key)}",
]


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_names_of_wrappers_are_left_out_and_said(tmp_path: Path, prefix: Callable[[str], str], checksum: bool) -> None:
    save_model(network(), tmp_path / "net.safetensors", extra={"peak": 7.0})
    renamed(tmp_path / "net.safetensors", tmp_path / "wrapped.safetensors", prefix, checksum=checksum)
    wrapper = r"module\. \(DataParallel" if "module." in prefix("head.weight") else r"_orig_mod\. \(torch\.compile\)"
    with pytest.warns(UserWarning, match=rf"wrapped\.safetensors: its keys name wrappers of the network, .*{wrapper}"):
        model, extra = load_model_and_extra(tmp_path / "wrapped.safetensors")
    assert same(model, network())
    assert extra == {"peak": 7.0}
    assert list(model.state_dict()) == list(network().state_dict())


def test_one_tensor_under_two_names_is_refused(tmp_path: Path) -> None:
    save_model(network(), tmp_path / "net.safetensors")
    with safetensors.safe_open(tmp_path / "net.safetensors", framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    tensors["module.head.bias"] = tensors["head.bias"] + 1
    del metadata["sha256"]
    safetensors_torch.save_file(tensors, tmp_path / "both.safetensors", metadata)
    with pytest.raises(ValueError, match=r"holds both head\.bias and module\.head\.bias"):
        load_model(tmp_path / "both.safetensors")


class Wrapping(Network):
    """A network that has a part of a wrapper's name itself, and no other."""

    kind = "wrapping"

    def __init__(self, bands: int, scale: int = 2) -> None:
        super().__init__()
        self.bands, self.scale, self.config = bands, scale, {"bands": bands, "scale": scale}
        self.module = nn.Conv2d(bands, bands * scale**2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.pixel_shuffle(self.module(x), self.scale)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_a_part_called_module_stays(tmp_path: Path, prefix: str) -> None:
    register("wrapping", Wrapping)
    model = Wrapping(3)
    save_model(model, tmp_path / "net.safetensors")
    renamed(tmp_path / "net.safetensors", tmp_path / "x.safetensors", lambda key: prefix + key, checksum=False)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert same(load_model(tmp_path / "x.safetensors"), model)
    assert len(told) == bool(prefix)


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda model: nn.DataParallel(torch.compile(model))])
def test_wrapped_networks_are_saved_as_what_is_in_them(tmp_path: Path, wrap: Any) -> None:
    save_model(wrap(network()), tmp_path / "net.safetensors")
    model = network()
    model.upsample = torch.compile(model.upsample)  # type: ignore[assignment]
    model.config  # noqa: B018 - reads the upsampler through its wrapper
    save_model(model, tmp_path / "part.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("net", "part"):
            assert same(load_model(tmp_path / f"{name}.safetensors"), network())


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_file_of_torch_save_that_names_its_network(tmp_path: Path, suffix: str, prefix: str) -> None:
    model = network()
    state = {prefix + key: tensor for key, tensor in model.state_dict().items()}
    path = tmp_path / f"net{suffix}"
    torch.save({"config": model.config, "state_dict": state, "extra": {"peak": 7.0}, "epoch": 3}, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if prefix else "error")
        loaded, extra = load_model_and_extra(path)
    assert same(loaded, model)
    assert extra == {"peak": 7.0}
    other = EDLGFS(3, 2, channels=12, stages=1, layers=1, spectral_heads=2, reduction=4)
    torch.save({"kind": "edlgfs", "config": other.config, "model": other.state_dict()}, path)
    assert isinstance(load_model(path), EDLGFS)


class Bomb:
    """Runs code where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def contents(tmp_path: Path) -> dict[str, tuple[Any, str]]:
    model = network()
    state, config = dict(model.state_dict()), model.config
    weights = r"holds 25 tensors and does not say of which network .*save_model"
    plain = LKCANet(3, 2, 16, 1, 1, weight_norm=False)  # torch pickles no parametrised module
    damaged = {**state, "head.weight": state["head.weight"] * torch.nan}
    return {
        "bare": (state, weights),
        "nested": ({"state_dict": state, "epoch": 3}, weights),
        "module": (plain, r"needs lkcanet\.models\.lkcanet\.LKCANet to be unpickled, .*save_model"),
        "bomb": (
            {"config": config, "state_dict": state, "x": Bomb(tmp_path / "ran")},
            r"needs \w+\.mkdir to be unpickled",
        ),
        "empty": ({"config": config}, r"no weights .*save_model"),
        "two": ({"config": config, "model": state, "weights": state}, r"weights in model and weights, expected one"),
        "tensor": (torch.zeros(3), r"holds Tensor, not the weights"),
        "kind": ({"kind": "unet", "config": config, "model": state}, r"its kind is 'unet', known are"),
        "config": ({"config": {**config, "channels": 16}, "model": state}, r"does not hold a network of this version"),
        "keys": ({"config": config, "model": {"a": state["head.bias"]}}, r"names|does not hold a network"),
        "NaN": ({"config": config, "model": damaged}, r"head\.weight holds NaN"),
    }


NAMES = ("bare", "nested", "module", "bomb", "empty", "two", "tensor", "kind", "config", "keys", "NaN")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_refused_says_what_to_do(tmp_path: Path, name: str) -> None:
    content, message = contents(tmp_path)[name]
    path = tmp_path / "net.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=rf"net\.pth .*{message}"):
        load_model(path)
    assert not (tmp_path / "ran").exists()


def test_damaged_files_of_torch_save(tmp_path: Path) -> None:
    torch.save({"config": network().config, "state_dict": network().state_dict()}, tmp_path / "net.pth")
    whole = (tmp_path / "net.pth").read_bytes()
    for data in (b"", whole[:10], whole[: len(whole) // 2], b"text", pickle.dumps({"a": 1})):
        (tmp_path / "cut.pth").write_bytes(data)
        with pytest.raises(ValueError, match=r"cut\.pth "):
            load_model(tmp_path / "cut.pth")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A scene, and the network as a wrapped checkpoint, as .pth that names it and as weights alone."""
    pytest.importorskip("scipy", reason="scipy is not installed: it makes the demo scene")
    from lkcanet.data import demo_scene, write_scene

    write_scene(tmp_path / "scene.npz", demo_scene((48, 48), 3, seed=1))
    model = network()
    save_model(model, tmp_path / "net.safetensors")
    renamed(tmp_path / "net.safetensors", tmp_path / "wrapped.safetensors", PREFIXES[0], checksum=True)
    torch.save({"config": model.config, "state_dict": model.state_dict()}, tmp_path / "net.pth")
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    return tmp_path


COMMANDS = {
    "info": "info {net}",
    "evaluate": "evaluate {folder}/scene.npz -c {net}",
    "super-resolve": "super-resolve {folder}/scene.npz {folder}/sr.npy -c {net}",
    "show": "show {folder}/scene.npz -c {net} --out {folder}/show.svg",
    "rank": "rank {net}",
    "compress": "compress {net} {folder}/small.safetensors --rank 2",
    "export": "export {net} {folder}/net.onnx --no-check",
    "distill": "distill {folder}/scene.npz --teacher {net} --test :,32: --patch 4 --channels 16 --blocks 1 --groups 1 "
    "--batch-size 2 --steps 1 --out {folder}/run --threads 1",
}  # fmt: skip
NEEDS = {"show": ["matplotlib"], "export": ["onnx"], "distill": ["lightning"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_reads_them(files: Path, command: str) -> None:
    testing = pytest.importorskip("typer.testing", reason="typer is not installed")
    for package in NEEDS.get(command, []):
        pytest.importorskip(package, reason=f"{package} is not installed")
    from lkcanet.cli import build_app

    def lkca(net: str) -> Any:
        line = COMMANDS[command].format(net=files / net, folder=files).split()
        return testing.CliRunner().invoke(build_app(), line)

    refused = lkca("weights.pth")
    assert refused.exit_code == 1
    assert "weights.pth holds 25 tensors and does not say of which network" in refused.stderr
    named = lkca("net.pth")
    assert named.exit_code == 0, named.stderr
    if command == "super-resolve":
        (files / "sr.npy").unlink()
    for left in ("small.safetensors", "net.onnx"):
        (files / left).unlink(missing_ok=True)
    wrapped = lkca("wrapped.safetensors") if command != "distill" else None
    if wrapped is not None:
        assert wrapped.exit_code == 0, wrapped.stderr
        assert "wrapped.safetensors: its keys name wrappers of the network, module. (DataParallel" in wrapped.stderr
