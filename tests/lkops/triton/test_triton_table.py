"""lkops/triton/table.json: that every entry can be launched, how one is chosen, and how one is overridden."""

import pytest
import torch

import lkops.triton
from lkops.triton import Choice, config, override, watch

ENTRIES = [(kernel, kind, entries) for kernel, kinds in lkops.triton.table().items() for kind, entries in kinds.items()]


@pytest.mark.parametrize("kernel", lkops.triton.table())
def test_a_kernel_has_entries_by_class_with_the_same_settings(kernel) -> None:
    kinds = lkops.triton.table()[kernel]
    assert list(kinds) in (["float32", "half"], ["float32"])  # what only sees partial sums has no half
    names = [set(entry) - {"num_stages", "maxnreg"} for entries in kinds.values() for entry in entries]
    assert all(entry == names[0] for entry in names)
    room, _, name = kernel.partition(".")
    assert (lkops.triton.TABLE.parents[1] / "ops" / room / "reference.py").exists()
    assert name


@pytest.mark.parametrize(("kernel", "kind", "entries"), ENTRIES, ids=lambda value: value if type(value) is str else "")
def test_entries_cover_all_work_with_launchable_settings(kernel, kind, entries) -> None:
    bounds = [entry["up_to"] for entry in entries]
    assert bounds[-1] is None
    assert bounds[:-1] == sorted(set(bounds[:-1]))
    assert all(type(bound) is int and bound > 0 for bound in bounds[:-1])
    for entry in entries:
        for name, value in entry.items():
            if "BLOCK" in name or "TILE" in name:
                assert type(value) is int
                assert value > 0, name
                assert not value & (value - 1), f"{name} must be a power of two"
        assert entry.get("num_warps", 4) in (1, 2, 4, 8, 16)
        assert entry.get("num_stages", 3) in range(1, 9)
        assert entry.get("maxnreg", 1) * 32 * entry.get("num_warps", 4) <= 1 << 16, "registers of a multiprocessor"


def test_the_first_entry_that_is_large_enough_is_taken(monkeypatch) -> None:
    entries = [{"up_to": 10, "BLOCK": 16}, {"up_to": 100, "BLOCK": 32}, {"up_to": None, "BLOCK": 64}]
    monkeypatch.setitem(lkops.triton.table(), "room.made_up", {"float32": entries, "half": entries[2:]})
    taken = {work: config("room.made_up", torch.float32, work)["BLOCK"] for work in (1, 10, 11, 100, 101, 10**9)}
    assert taken == {1: 16, 10: 16, 11: 32, 100: 32, 101: 64, 10**9: 64}
    assert config("room.made_up", torch.bfloat16, 1) == {"BLOCK": 64}
    assert [Choice("room.made_up", "float32", work).entry for work in (10, 11, 101)] == [0, 1, 2]
    lkops.triton._config.cache_clear()


KERNEL = "channel_attention.planes"


def test_override_replaces_what_it_names_and_ends_with_its_block() -> None:
    before = config(KERNEL, torch.float32, 1)
    with override({KERNEL: {"BLOCK": 32}}):
        assert config(KERNEL, torch.float32, 1) == {**before, "BLOCK": 32}
        with override({KERNEL: {"num_warps": 8}}):
            assert config(KERNEL, torch.float32, 1) == {**before, "num_warps": 8}
        assert config(KERNEL, torch.float16, 1)["BLOCK"] == 32
    assert config(KERNEL, torch.float32, 1) == before


@pytest.mark.parametrize(
    "configurations", [{"channel_attention.unknown": {}}, {KERNEL: {"BLOKC": 1}}, {KERNEL: {"up_to": 1}}], ids=str
)
def test_override_refuses_what_the_table_does_not_have(configurations) -> None:
    with pytest.raises(KeyError), override(configurations):
        pass


@pytest.mark.skipif(lkops.backends.INTERPRETED is False and not torch.cuda.is_available(), reason="no Triton here")
def test_a_kernel_runs_with_what_overrides_the_table() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, w1, w2 = (torch.ones(shape, device=device) for shape in ((1, 2, 6, 7), (1, 2, 1, 1), (2, 1, 1, 1)))
    launches, choices = [], []
    with watch(launches.append, choices=choices.append), override({KERNEL: {"TILE": 16, "BLOCK": 16}}):
        y = lkops.channel_attention(x, w1, None, w2, None, backend="triton")
    torch.testing.assert_close(y, lkops.channel_attention(x, w1, None, w2, None, backend="reference"))
    assert {launch.constants["TILE"] for launch in launches} == {16}
    assert set(choices) == {Choice(KERNEL, "float32", 42)}
