"""Networks by name: what is published loads again, with its card; damage and unknown names are said."""

import json
import os
from pathlib import Path

import pytest
import torch
from torch.nn.utils import parametrize

import lkcanet
from lkcanet.models import load_model, load_model_and_extra, pretrained

from .pretrained_helpers import CARD, NANOMETRES, checkpoint, tiny


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own for networks; the package's is another empty one."""
    for name in ("weights", "packaged"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv(pretrained.FOLDERS, str(tmp_path / "weights"))
    monkeypatch.setattr(pretrained, "PACKAGED", tmp_path / "packaged")
    return tmp_path / "weights"


def published(weights: Path, name: str = "tiny-x2", **options) -> Path:
    return pretrained.publish(checkpoint(weights.parent / "best.safetensors"), name, CARD, folder=weights, **options)


def test_a_name_loads_the_folded_network(weights: Path) -> None:
    file = published(weights)
    model = lkcanet.load("tiny-x2")
    assert not model.training
    assert not any(parametrize.is_parametrized(module) for module in model.modules())
    x = torch.rand(1, 6, 9, 7)
    with torch.inference_mode():
        assert torch.equal(model(x), tiny().fold()(x))
        assert torch.equal(lkcanet.load(file)(x), model(x))
    assert pretrained.names() == ["tiny-x2"]
    assert pretrained.path("tiny-x2") == file


def test_bfloat16_is_loaded_to_float32(weights: Path) -> None:
    half = published(weights, dtype="bfloat16")
    whole = published(weights, "whole")
    assert half.stat().st_size < 0.8 * whole.stat().st_size
    own, model = tiny().fold(), lkcanet.load("tiny-x2")
    for key, value in model.state_dict().items():
        assert value.dtype is torch.float32
        expected = own.state_dict()[key]
        assert torch.equal(value, expected.bfloat16().float() if expected.dim() > 1 else expected), key
    assert pretrained.card("tiny-x2").dtype == "bfloat16"


def test_the_card_tells_of_the_checkpoint(weights: Path) -> None:
    published(weights)
    card, model = pretrained.card("tiny-x2"), lkcanet.load("tiny-x2")
    assert (card.bands, card.scale, card.peak, card.wavelengths) == (6, 2, 1000.0, NANOMETRES)
    assert card.network == {"kind": "lkcanet", "config": json.loads(json.dumps(model.config))}
    assert card.parameters == model.parameter_count()
    assert card.macs_16x16 == model.macs(16, 16)
    assert card.scores == CARD["scores"]
    text = card.text()
    for part in ("tiny-x2", "nobody, 2026", "mpsnr 31.5000", "400 to 500 nm", "this one"):
        assert part in text


def test_what_the_card_adds_gets_into_the_record(weights: Path) -> None:
    file = checkpoint(weights.parent / "bare.safetensors", scene=None, peak=None)
    pretrained.publish(file, "tiny-x2", {**CARD, "wavelengths": NANOMETRES, "peak": 255}, folder=weights)
    extra = load_model_and_extra(pretrained.path("tiny-x2"))[1]
    assert extra["scene"]["wavelengths"] == NANOMETRES
    assert extra["peak"] == 255
    assert extra["pretrained"] == "tiny-x2"
    with pytest.raises(ValueError, match=r"card: peak is 255, in the checkpoint 1000\.0"):
        pretrained.publish(checkpoint(file), "other", {**CARD, "peak": 255}, folder=weights)


@pytest.mark.parametrize(
    ("name", "change", "options", "message"),
    [
        ("Tiny", {}, {}, "name must be lower-case letters"),
        ("../x", {}, {}, "name must be lower-case letters"),
        ("tiny", {"data": None}, {}, "data of the card must be dict"),
        ("tiny", {"data": {"name": "x", "terms": "y"}}, {}, "data of the card lacks citation"),
        ("tiny", {"training": {**CARD["training"], "commit": ""}}, {}, "training of the card lacks commit"),
        ("tiny", {"scores": {"mean": {"mpsnr": float("nan")}}}, {}, "scores of the card must be"),
        ("tiny", {"test_looks": 0}, {}, "test_looks of the card must be 1 or more"),
        ("tiny", {"colour": "red"}, {}, "unknown entries colour"),
        ("tiny", {"bands": 6}, {}, "bands follow from the checkpoint"),
        ("tiny", {}, {"dtype": "float16"}, "dtype must be one of float32, bfloat16"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(weights: Path, name, change, options, message) -> None:
    file = checkpoint(weights.parent / "best.safetensors")
    with pytest.raises(ValueError, match=message):
        pretrained.publish(file, name, {**CARD, **change}, folder=weights, **options)
    assert list(weights.iterdir()) == []


def test_a_missing_entry_is_named(weights: Path) -> None:
    file = checkpoint(weights.parent / "best.safetensors")
    with pytest.raises(ValueError, match="the card lacks protocol, test_looks"):
        pretrained.publish(
            file, "tiny", {k: v for k, v in CARD.items() if k not in ("protocol", "test_looks")}, folder=weights
        )


def test_a_failure_leaves_what_was_there(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = published(weights)
    before = {path.name: path.read_bytes() for path in weights.iterdir()}
    with pytest.raises(FileExistsError, match=r"tiny-x2 is in .* already"):
        published(weights)
    monkeypatch.setattr(pretrained, "LIMIT", file.stat().st_size + 4000)  # a second network would be too much
    with pytest.raises(ValueError, match="MB with another, more than"):
        published(weights, "another")
    assert {path.name: path.read_bytes() for path in weights.iterdir()} == before
    assert published(weights, overwrite=True) == file  # in its own place it is not too much
    assert {path.name for path in weights.iterdir()} == before.keys()
    lkcanet.load("tiny-x2")


def test_weights_of_another_card_are_refused(weights: Path) -> None:
    file = published(weights)
    pretrained.publish(checkpoint(weights.parent / "b.safetensors", tiny(seed=1)), "b", CARD, folder=weights)
    (weights / "b.safetensors").replace(file)
    with pytest.raises(ValueError, match=r"is not the file that its card tiny-x2\.json was written for"):
        lkcanet.load("tiny-x2")
    (weights / "tiny-x2.json").write_text("{")
    with pytest.raises(ValueError, match=r"tiny-x2\.json is no card"):
        pretrained.card("tiny-x2")


def test_names_files_and_unknown_names(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at tiny-x2, and .*: none in this installation"):
        lkcanet.load("tiny-x2")
    published(weights)
    published(weights, "tiny-x3")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at tiny-x4, and .* name: tiny-x2, tiny-x3$"):
        lkcanet.load("tiny-x4")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at run/best\.safetensors$"):
        lkcanet.load("run/best.safetensors")
    monkeypatch.chdir(weights.parent)
    other = checkpoint(weights.parent / "other.safetensors", tiny(seed=5))
    other.rename("tiny-x2")  # a file that is there wins
    x = torch.rand(1, 6, 8, 8)
    with torch.inference_mode():
        got = lkcanet.load("tiny-x2")(x)
        assert torch.equal(got, tiny(seed=5)(x))
        assert not torch.equal(got, lkcanet.load("tiny-x3")(x))


def test_the_package_wins_over_folders_in_their_order(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = weights.parent / "second"
    second.mkdir()
    monkeypatch.setenv(pretrained.FOLDERS, os.pathsep.join(["", str(weights), str(second), "/not/there"]))
    published(second)
    assert pretrained.path("tiny-x2").parent == second
    published(weights)
    assert pretrained.path("tiny-x2").parent == weights
    pretrained.publish(weights.parent / "best.safetensors", "tiny-x2", CARD)
    assert pretrained.path("tiny-x2").parent == pretrained.PACKAGED
    (second / "half.safetensors").touch()  # no card: no name
    assert pretrained.names() == ["tiny-x2"]


def test_which_fit(weights: Path) -> None:
    published(weights)
    (weights / "broken.json").write_text("{")
    (weights / "broken.safetensors").touch()
    near = [nm + 9 for nm in NANOMETRES]
    assert pretrained.fitting(6) == pretrained.fitting(6, near, 2) == ["tiny-x2"]
    assert pretrained.fitting(7) == pretrained.fitting(6, scale=4) == []
    assert pretrained.fitting(6, [nm + 11 for nm in NANOMETRES]) == []


def test_what_is_in_the_package() -> None:
    """Every pair is whole and says what it is; 10 MB at most in all."""
    files = list(pretrained.PACKAGED.iterdir())
    assert sum(file.stat().st_size for file in files) <= pretrained.LIMIT == 10_000_000
    stems = {file.stem for file in files if file.suffix in (".safetensors", ".json")}
    pairs = {f"{stem}{suffix}" for stem in stems for suffix in (".safetensors", ".json")}
    assert {file.name for file in files} == {"README.md", *pairs}
    for name in stems:
        card = pretrained.card(name)
        model = load_model(pretrained.path(name))
        assert card.name == name
        assert (card.bands, card.scale, card.parameters) == (model.bands, model.scale, model.parameter_count())


def test_the_folder_is_in_wheel_and_sdist() -> None:
    root = Path(lkcanet.__file__).parents[1]
    if not (root / "pyproject.toml").is_file():
        pytest.skip("not in a checkout")
    assert '"weights/*"' in (root / "pyproject.toml").read_text()
    assert "recursive-include lkcanet/weights *" in (root / "MANIFEST.in").read_text()
