"""Rank reports: the upsampler's matrix, its part of the paper's networks, the figure and `lkca rank`."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lkcanet.deploy.rank import plot_ranks, rank_report
from lkcanet.models import LKCANet, lkca_lr, lkca_net, save_model
from lkcanet.models.edlgfs import EDLGFS


def low_rank(rank: int = 3, groups: int = 1) -> LKCANet:
    """A network whose upsampler, weight-normalised, has this rank; its parameters are otherwise random."""
    torch.manual_seed(0)
    model = LKCANet(8, 2, 16, 1, groups, reduction=8)
    conv = model.upsample.conv
    rows, columns = conv.weight.shape[0], conv.weight[0].numel()
    matrix = torch.randn(rows, rank) @ torch.randn(rank, columns)
    with torch.no_grad():
        gain, direction = (conv.get_parameter(f"parametrizations.weight.original{i}") for i in (0, 1))
        gain.copy_(matrix.norm(dim=1).view_as(gain))
        direction.copy_(7 * matrix.view_as(direction))
    return model


@pytest.mark.parametrize("groups", [1, 4])
def test_report_of_a_network_of_known_rank(groups: int) -> None:
    model = low_rank(3, groups)
    weight = model.fold().upsample.conv.weight.detach().double().flatten(1)
    values = np.linalg.svd(weight.numpy(), compute_uv=False)
    for network in (model, model.fold()):
        report = rank_report(network)
        assert (report.matrix, report.groups, report.weight) == ((32, 144 // groups), groups, "weight")
        np.testing.assert_allclose(report.singular_values, values, atol=1e-5 * values[0])
        np.testing.assert_allclose(report.cumulative, values.cumsum() / values.sum(), atol=1e-5)
        assert report.rank == 1 + int((values.cumsum() < 0.9 * values.sum()).sum())
        assert report.ranks[0.99] == 3
        squares = values**2
        energy = rank_report(network, 0.7, energy=True)
        assert energy.rank == 1 + int((squares.cumsum() < 0.7 * squares.sum()).sum())
        np.testing.assert_allclose(energy.cumulative, squares.cumsum() / squares.sum(), atol=1e-5)


def test_an_untrained_upsampler_is_its_random_direction() -> None:
    torch.manual_seed(0)
    model = LKCANet(8, 2, 16, 1, reduction=8)
    report = rank_report(model)
    assert report.weight == "direction"
    direction = model.upsample.conv.get_parameter("parametrizations.weight.original1").detach().double().flatten(1)
    expected = np.linalg.svd((direction / direction.norm(dim=1, keepdim=True)).numpy(), compute_uv=False)
    np.testing.assert_allclose(report.singular_values, expected, rtol=1e-6)
    assert 20 < report.rank < 32
    folded = rank_report(model.fold())  # nothing but zeros is left
    assert (folded.weight, folded.rank, set(folded.ranks.values())) == ("weight", 0, {0})


@pytest.mark.parametrize(("bands", "scale"), [(128, 4), (128, 8), (48, 4), (48, 8), (102, 4), (102, 8)])
def test_parts_of_the_papers_networks(bands: int, scale: int, monkeypatch) -> None:
    """The counts of shared/lkca-net.md: 9 C B r^2 / g + 2 B r^2 parameters, and as many products a pixel."""
    monkeypatch.setattr("lkcanet.deploy.rank.spectrum", lambda _: torch.ones(3))  # the true one takes seconds
    for groups, build in ((1, lkca_net), (8, lkca_lr)):
        model = build(bands, scale)
        report = rank_report(model)
        upsampler = 9 * 128 * bands * scale**2 // groups
        assert report.parameters.upsampler == upsampler + 2 * bands * scale**2
        assert report.parameters.backbone == 9 * bands * 128 + 128 + 16 * 74_776
        assert report.macs.upsampler == 256 * upsampler
        assert report.macs.total == 256 * (9 * bands * 128 + 54_528 * 16 + upsampler + 384 * 16) + 18_432 * 16
        assert report.parameters.upsampler_share == report.parameters.upsampler / model.parameter_count()
        if (bands, scale, groups) == (128, 4, 1):
            assert f"{report.parameters.total / 1e6:.3f} {report.parameters.upsampler_share:.3f}" == "3.707 0.637"


def test_the_figure_shows_every_network_and_its_rank() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    reports = {"a/dense.safetensors": rank_report(low_rank(3)), "b/grouped.safetensors": rank_report(low_rank(2, 4))}
    left, right = plot_ranks(reports).axes
    curves = [line for line in left.lines if len(line.get_xdata()) > 2]
    for curve, report in zip(curves, reports.values(), strict=True):
        np.testing.assert_array_equal(curve.get_ydata(), report.cumulative)
        np.testing.assert_array_equal(curve.get_xdata(), np.arange(1, len(report.cumulative) + 1))
    marks = {tuple(map(float, (line.get_xdata()[0], line.get_ydata()[0]))) for line in left.lines if line not in curves}
    assert marks >= {(report.rank, report.cumulative[report.rank - 1]) for report in reports.values()}
    legend = [text.get_text() for text in left.get_legend().get_texts()]
    assert legend[0].startswith(f"a/dense.safetensors (rank {reports['a/dense.safetensors'].rank} of 32")
    widths = [bar.get_width() for bar in right.patches]
    for report in reports.values():
        for parts in (report.parameters, report.macs):
            assert any(width == pytest.approx(100 * parts.upsampler_share) for width in widths)
    with pytest.raises(ValueError, match="expected at least one"):
        plot_ranks({})
    first = next(iter(reports.values()))
    with pytest.raises(ValueError, match="reports must be of one share"):
        plot_ranks({"a": first, "b": replace(first, share=0.8)})


def test_lkca_rank(tmp_path: Path) -> None:
    testing = pytest.importorskip("typer.testing", reason="typer is not installed")
    pytest.importorskip("rich", reason="rich is not installed")
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from lkcanet.cli import build_app

    def lkca(*args: object):
        return testing.CliRunner().invoke(build_app(), ["rank", *map(str, args)])

    model = low_rank(3)
    save_model(model, tmp_path / "net.safetensors")
    save_model(LKCANet(8, 2, 16, 1, 4, reduction=8), tmp_path / "untrained.safetensors")
    result = lkca(tmp_path / "net.safetensors", tmp_path / "untrained.safetensors", "--share", 0.6, "--json")
    assert result.exit_code == 0
    assert "untrained.safetensors is still zero" in result.stderr
    net, untrained = json.loads(result.stdout)["networks"]
    report = rank_report(model, 0.6)
    assert (net["rank"], net["largest_rank"], net["share"]) == (report.rank, 32, 0.6)
    assert net["singular_values"] == list(report.singular_values)
    assert net["ranks"]["0.99"] == 3
    assert net["parameters"]["upsampler"] == report.parameters.upsampler
    assert net["macs"] == {"total": model.macs(16, 16), "backbone": report.macs.backbone, "size": [16, 16],
                           "upsampler": report.macs.upsampler,
                           "upsampler_share": report.macs.upsampler_share}  # fmt: skip
    assert untrained["weight"] == "direction"
    result = lkca(tmp_path / "net.safetensors", "--out", tmp_path / "rank.svg", "--energy", "--size", "8,4")
    assert f"{100 * report.parameters.upsampler_share:.1f} %" in result.stdout
    assert "32x144" in result.stdout
    assert (tmp_path / "rank.svg").stat().st_size > 10_000
    save_model(EDLGFS(6, 4, 24, 1, 1, reduction=4), tmp_path / "steps.safetensors")  # enlarges twice
    steps = json.loads(lkca(tmp_path / "steps.safetensors", "--json").stdout)["networks"]
    assert [each["network"].rpartition(", ")[2] for each in steps] == ["step 1", "step 2"]
    assert [each["matrix"] for each in steps] == [[96, 216]] * 2
    fresh = lkca("--fresh", "lkca_lr", "--bands", 2, "--scale", 2, "--json")
    assert json.loads(fresh.stdout)["networks"][0]["matrix"] == [8, 144]
    for arguments, code, message in (
        ((), 2, "give a checkpoint, or --fresh"),
        ((tmp_path / "none.safetensors",), 1, "no checkpoint at"),
        ((tmp_path / "net.safetensors", "--share", 0), 1, "share must be above 0 and up to 1, got 0"),
        ((tmp_path / "net.safetensors", "--size", "0,4"), 1, "--size must be 1,1 or more"),
        ((tmp_path / "net.safetensors", "--out", tmp_path / "rank.txt"), 1, "unsupported suffix"),
    ):
        result = lkca(*arguments)
        assert (result.exit_code, result.stdout) == (code, "")
        assert result.stderr.startswith("error: ")
        assert message in result.stderr


def test_a_report_as_a_dict_is_json() -> None:
    report = rank_report(low_rank(3), 0.8, size=(4, 6))
    told = json.loads(json.dumps(report.as_dict()))
    assert (told["rank"], told["largest_rank"], told["share"]) == (report.rank, 32, 0.8)
    assert told["ranks"]["0.99"] == report.ranks[0.99] == 3
    assert told["macs"]["size"] == [4, 6]
    parts = told["parameters"]
    assert parts["total"] == parts["backbone"] + parts["upsampler"] == low_rank(3).parameter_count()
    assert parts["upsampler_share"] == parts["upsampler"] / parts["total"]
    assert len(told["singular_values"]) == len(told["cumulative_share"]) == 32
