"""`python -m lkops.bench`: sizes of one's own, outputs checked first; what was measured as table, file and picture."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lkops
from lkops import testing
from lkops.bench import Sizes, operator_speeds
from lkops.bench.__main__ import main

SMALL = ["--batch", "2", "--channels", "16", "--bands", "5", "--rows", "6", "--columns", "7", "--scale", "2"]
TINY = [*SMALL, "--groups", "4", "--seconds", "0.01", "--threads", "1"]


def test_every_operator_takes_the_sizes() -> None:
    sizes = Sizes(batch=2, channels=16, bands=5, rows=6, columns=7, scale=2, groups=4)
    rows = {row.name: row for row in operator_speeds(sizes=sizes, seconds=0.01)}
    assert list(rows) == list(lkops.backends.operators())
    assert rows["upsample_add"].shape == (2, 16, 6, 7)
    assert rows["channel_attention"].shape == (2, 48, 6, 7)
    assert rows["bicubic_upsample"].shape == (2, 5, 6, 7)
    assert rows["spectral_losses"].shape == (2, 5, 12, 14)
    for row in rows.values():
        assert 0 <= row.error <= row.allowed < 1e-3
        assert row.ratio == pytest.approx(row.eager_milliseconds / row.milliseconds)
        assert row.compiled_milliseconds is None


def test_the_upsampler_has_the_bands_scale_and_groups() -> None:
    sizes, known = Sizes(bands=5, channels=16, scale=2, groups=4), testing.examples("upsample_add")
    case = sizes.applied("upsample_add", known["image_64"])
    tensors = known.arguments(case)
    shapes = {name: None if tensor is None else tuple(tensor.shape) for name, tensor in tensors.items()}
    assert shapes["weight"] == (20, 4, 3, 3)
    assert shapes["lowres"] == (1, 5, 64, 64)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rows": 0}, "rows must be 1 or more, got 0"),
        ({"channels": 6}, "channels must be divisible by the attention's 4 groups, got 6"),
        ({"groups": 3}, "groups must divide channels = 128, got 3"),
        ({"bands": 3, "scale": 1, "groups": 2}, r"groups must divide bands \* scale\^2 = 3, got 2"),
    ],
)
def test_sizes_that_make_no_tensors(given: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Sizes(**given)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    line = ["conv2d", "upsample_add", *TINY, "--json", str(tmp_path / "a.json"), "--plot", str(tmp_path / "a.png")]
    assert main(line) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [row.split()[:2] for row in printed[2:]] == [["conv2d", "2x16x6x7"], ["upsample_add", "2x16x6x7"]]
    rows = json.loads((tmp_path / "a.json").read_text())
    assert [row["name"] for row in rows] == ["conv2d", "upsample_add"]
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.png"]


def test_compiled_pytorch_is_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bicubic_upsample", *TINY, "--compile"]) == 0
    head, row = capsys.readouterr().out.splitlines()[1:]
    assert "against compile" in head
    assert row.count("x", row.index("cpu")) == 2  # two ratios


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["nothing"], "names must be of bicubic_upsample"),
        (["--groups", "3"], "groups must divide"),
        (["--seconds", "0"], "--seconds must be above 0"),
        (["--json", "no/such/folder.json"], "the folder no/such does not exist"),
    ],
)
def test_what_is_refused(line: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line) == 1
    assert words in capsys.readouterr().err


def test_what_is_wrong_is_not_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    original = lkops.conv2d

    def wrong(*args, backend=None, **options):
        result = original(*args, backend=backend, **options)
        return result if backend == "reference" else result * (1 + 1e-3)

    monkeypatch.setattr(lkops, "conv2d", wrong)
    assert main(["conv2d", *TINY]) == 1
    assert "conv2d on cpu differs from the reference by" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["channels_last", "compiled"])
def test_plain_pytorch_is_checked_in_every_form(
    form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also in the memory format, and compiled, where lkops and eager PyTorch are right."""
    known = testing.examples("conv2d")

    def eager(input, weight, *args, **options):
        result = known.eager(input, weight, *args, **options)
        last = input.is_contiguous(memory_format=torch.channels_last) and not input.is_contiguous()
        return result * 1.01 if {"channels_last": last, "compiled": torch.compiler.is_compiling()}[form] else result

    monkeypatch.setattr(testing, "examples", lambda name: replace(known, eager=eager))
    assert main(["conv2d", *TINY, *(["--compile"] if form == "compiled" else [])]) == 1
    assert f"conv2d in plain PyTorch, {form}, differs from the reference by" in capsys.readouterr().err
