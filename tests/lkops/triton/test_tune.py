"""bench.gpu.tune on a made-up clock: which settings it tries, what it takes, and what it writes."""

import json
import sys

import pytest
import torch

import lkops.triton
from bench.gpu import tune
from bench.gpu.tune import climb
from bench.gpu.tune_clock import Bucket, Site, Timer, equal, neighbours, relative
from bench.launchers import Call
from lkops.testing import Example

START = {"TILE": 1024, "BLOCK": 256, "num_warps": 4}


def test_neighbours_are_one_step_away() -> None:
    found = neighbours({**START, "num_stages": 2, "INTERLEAVED": True, "ROWS": 3})
    assert all(other["INTERLEAVED"] is True and other["ROWS"] == 3 for other in found)
    stepped = [{k: v for k, v in other.items() if k not in ("INTERLEAVED", "ROWS")} for other in found]
    assert {**START, "num_stages": 2} not in stepped
    assert len({json.dumps(other) for other in stepped}) == len(stepped)
    for change in (
        *({"TILE": 512}, {"TILE": 2048}, {"BLOCK": 128}, {"BLOCK": 512}, {"num_warps": 2}, {"num_warps": 8}),
        *({"num_stages": 1}, {"num_stages": 3}, {"num_stages": 4}),
        *({"TILE": 512, "BLOCK": 128}, {"TILE": 2048, "BLOCK": 512, "num_warps": 8}),
    ):
        assert {**START, "num_stages": 2, **change} in stepped
    assert len(stepped) == 13


@pytest.mark.parametrize(("warps", "expected"), [(1, {2}), (16, {8})])
def test_neighbours_stay_within_limits(warps, expected) -> None:
    assert {other["num_warps"] for other in neighbours({"num_warps": warps})} == expected
    assert all(other["BLOCK"] >= 1 for other in neighbours({"BLOCK": 1}))
    assert neighbours({}) == []


def clock(settings) -> float:
    """Fastest at BLOCK 1024 and eight warps, two steps from START; num_warps gains too little on its own."""
    size = abs(settings["BLOCK"].bit_length() - 11) + abs(settings["TILE"].bit_length() - 11)
    return 1 + size + 0.01 * abs(settings["num_warps"].bit_length() - 4)


def test_climbs_to_the_fastest_and_leaves_small_gains() -> None:
    best, least = climb(START, clock)
    assert (best["TILE"], best["BLOCK"]) == (1024, 1024)
    assert least == pytest.approx(1.01)
    assert climb({**START, "BLOCK": 1024}, clock)[0] == {**START, "BLOCK": 1024}


def test_takes_nothing_that_fails_or_is_refused() -> None:
    only_small = climb(START, lambda settings: clock(settings) if settings["BLOCK"] <= 512 else None)[0]
    assert only_small["BLOCK"] == 512
    asked = []
    refused = climb(START, clock, lambda settings: asked.append(settings) or settings["BLOCK"] <= 256)[0]
    assert refused["BLOCK"] == 256
    assert all(settings["BLOCK"] > 256 for settings in asked)
    with pytest.raises(RuntimeError, match="do not run"):
        climb(START, lambda settings: None)


def test_several_sites_count_alike() -> None:
    measure = relative([lambda settings: 10.0 * settings["BLOCK"], lambda settings: 0.1 / settings["BLOCK"] ** 3])
    assert measure({"BLOCK": 2}) == 1
    assert measure({"BLOCK": 4}) == pytest.approx(0.5)
    assert relative([lambda settings: None])({}) is None


def test_equal_knows_rounding_from_error() -> None:
    right = torch.randn(100)
    assert equal(right * (1 + 2e-7), right)
    assert not equal(right * 1.001, right)
    assert not equal(right * float("nan"), right)
    assert not equal(torch.zeros(100), right)


def test_settings_that_fail_have_no_time_unless_the_gpu_is_gone(monkeypatch, capsys) -> None:
    class Failing(Timer):
        def __init__(self) -> None:
            pass

        def _run(self, settings):
            raise AssertionError("of a compiler's pass")

    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert Failing()({"BLOCK": 64}) is None
    assert "BLOCK 64: AssertionError: of a compiler's pass" in capsys.readouterr().out

    def gone() -> None:
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(torch.cuda, "synchronize", gone)
    with pytest.raises(RuntimeError, match="CUDA error"):
        Failing()({"BLOCK": 64})


def test_the_table_keeps_an_entry_a_line_and_its_bounds() -> None:
    table = lkops.triton.table()
    assert json.loads(tune.as_text(table)) == table
    entries = [entry for kinds in table.values() for entries in kinds.values() for entry in entries]
    lines = [line.strip().rstrip(",") for line in tune.as_text(table).splitlines()]
    assert [json.loads(line) for line in lines if "up_to" in line] == entries
    bucket = Bucket("channel_attention.planes", "half", 1)
    after = tune.updated(table, bucket, {"BLOCK": 64})
    assert after["channel_attention.planes"]["half"][1] == {**table["channel_attention.planes"]["half"][1], "BLOCK": 64}
    after["channel_attention.planes"]["half"][1] = table["channel_attention.planes"]["half"][1]
    assert after == table


def test_sites_are_the_extremes_and_no_odd_shape() -> None:
    shapes = {"one": (1, 4, 4, 4), "some": (8, 4, 4, 4), "many": (32, 4, 4, 4), "odd": (3, 31, 13, 17)}
    calls = [Call("bicubic_upsample", Example(name, shape, {"scale": 2})) for name, shape in shapes.items()]
    sites = [Site(call, "float32", call.example.shape[2] * call.example.shape[3]) for call in calls]
    assert tune.spread(sites, 2) == [sites[2], sites[0]]
    assert tune.spread(sites, 5) == [sites[2], sites[1], sites[0]]
    assert tune.spread(sites[3:], 2) == sites[3:]


def test_writes_what_it_finds_and_stops_in_time(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(tune, "compiles", lambda *_: True)
    table = lkops.triton.table()
    buckets = {Bucket("channel_attention.planes", "float32", i): [None] for i in range(3)}
    made = []

    def timer(site, bucket, settings):
        made.append(bucket)
        return lambda settings: 1.0 if settings["num_warps"] == 8 else 2.0

    out = tmp_path / "table.json"
    after = tune.tune(buckets, out, 1e9, timer)
    assert made == list(buckets)
    assert json.loads(out.read_text()) == after
    # in each step the warps change once: two warps are two steps from eight, and the first gains nothing
    expected = [
        8 if entry["num_warps"] == 4 else entry["num_warps"] for entry in table["channel_attention.planes"]["float32"]
    ]
    assert [entry["num_warps"] for entry in after["channel_attention.planes"]["float32"]] == expected
    assert after["channel_attention.planes"]["half"] == table["channel_attention.planes"]["half"]
    assert "num_warps 4 -> 8: 50 % less time" in capsys.readouterr().out
    assert tune.tune(buckets, tmp_path / "none.json", -1, timer) == table
    assert not (tmp_path / "none.json").exists()


def test_without_a_gpu_it_says_so_and_lists_what_it_would_try(monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["tune", "--only", "channel_attention.planes"])
    with pytest.raises(SystemExit, match="needs a GPU"):
        tune.main()
    monkeypatch.setattr(sys, "argv", ["tune", "--only", "channel_attention.planes", "--dry-run"])
    tune.main()
    out = capsys.readouterr().out
    assert "channel_attention.planes float32 up to 256: TILE 256" in out
    assert "32x128x16x16" in out
    assert "scale_kernel, sums_kernel" in out
    assert "try num_warps 2 -> 4" in out
    monkeypatch.setattr(sys, "argv", ["tune", "--only", "no.kernel"])
    with pytest.raises(SystemExit):
        tune.main()
    assert "no.kernel not in table.json" in capsys.readouterr().err
