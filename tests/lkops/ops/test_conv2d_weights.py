"""The weights that conv2d's C++ kernels keep as they compute with them: they follow every change, are bounded, and are
in nothing that is written."""

import copy
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import lkops
from lkops._core.extension import extension_error
from tests.lkops.ops.test_conv2d_kernel import CPU, RELAXED, drawn, module_of

if extension_error("_C_cpu"):
    pytest.skip(extension_error("_C_cpu"), allow_module_level=True)


def changes(conv: torch.nn.Module) -> Iterator[str]:
    """Changes a conv's weight in one way after the other."""
    weight = conv.weight
    yield "nothing"
    weight.data[3, 2, 1, 0] += 1  # no version counter sees it
    yield "data"
    conv.load_state_dict({"weight": torch.randn_like(weight)})
    yield "load_state_dict"
    with torch.no_grad():
        weight.mul_(2)
    yield "in place"
    weight.data = torch.randn_like(weight)  # perhaps where the old one was
    yield "other memory"
    weight.detach().numpy()[0] = 0
    yield "numpy"
    weight.data[-1, -1, -1, -1] = 5  # the last value of all
    yield "the last value"
    optimizer = torch.optim.SGD([weight], lr=0.1)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    yield "a step"


@pytest.mark.parametrize("accuracy", ["exact", "relaxed"])
@pytest.mark.parametrize("channels", [2, 16, 160])
def test_the_result_follows_every_change_of_the_weight(channels, accuracy) -> None:
    """Also of one that takes several pieces to compare, and of one for the direct algorithm."""
    conv = lkops.nn.Conv2d(channels, max(channels, 4), 3, bias=False, accuracy=accuracy)
    x = drawn(0, 1, channels, 9, 10).float()
    if channels == 2:
        conv = lkops.nn.Conv2d(3, 4, 3, bias=False)
        x = drawn(0, 1, 3, 9, 10).float()
    with lkops.backend("cpu"):
        for change in changes(conv):
            for _ in range(2):
                with torch.no_grad():
                    ours, exact = conv(x), F.conv2d(x.double(), conv.weight.double(), padding=1)
                assert (ours.double() - exact).abs().max() < RELAXED * exact.abs().max(), change


def test_weights_of_other_forms_at_one_address() -> None:
    """The same numbers as another weight, of other sizes, groups or accuracy, one after the other and again."""
    memory, x = drawn(0, 96 * 48 * 9).float(), drawn(1, 1, 48, 12, 13).float()
    calls = [
        (memory.view(96, 48, 3, 3), {}),
        (memory.view(48, 96, 3, 3)[:, :48], {}),  # a copy of it is made
        (memory.view(192, 24, 3, 3), {"groups": 2}),
        (memory.view(96, 48, 3, 3), {"accuracy": "relaxed"}),
        (memory.view(864, 48, 1, 1), {}),
        (memory.view(288, 48, 3, 1), {"padding": (1, 0)}),
        (memory.view(288, 48, 1, 3), {"padding": (0, 1)}),
        (memory.view(96, 48, 3, 3), {"dilation": 2}),
    ]
    for _ in range(2):
        for weight, options in calls:
            ours = lkops.conv2d(x, weight, **options, **CPU)
            right = lkops.conv2d(x.double(), weight.double(), **options, backend="reference")
            assert (ours.double() - right).abs().max() <= RELAXED * right.abs().max(), (weight.shape, options)


def test_threads_that_change_and_use_weights_at_once() -> None:
    def work(seed: int) -> float:
        conv, x = module_of(drawn(seed, 16, 16, 3, 3).float()), drawn(seed + 50, 1, 16, 8, 9).float()
        worst = 0.0
        for change in range(30):
            conv.weight.data.fill_(1.0 + change)
            right = F.conv2d(x.double(), conv.weight.double(), padding=1)
            ours = lkops.conv2d(x, conv.weight, **CPU)
            worst = max(worst, float((ours.double() - right).abs().max() / right.abs().max()))
        return worst

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(work, range(8))) < RELAXED


def test_what_is_kept_is_in_no_state_dict_and_no_pickle() -> None:
    conv = lkops.nn.Conv2d(16, 16, 3)
    before, keys = len(pickle.dumps(conv)), set(vars(conv))
    with torch.no_grad(), lkops.backend("cpu"):
        y = conv(torch.ones(1, 16, 8, 8))
        assert len(pickle.dumps(conv)) == before
        assert set(vars(conv)) == keys
        for again in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
            assert torch.equal(again(torch.ones(1, 16, 8, 8)), y)
    assert set(conv.state_dict()) == {"weight", "bias"}
    plain = torch.nn.Conv2d(16, 16, 3, padding=1)
    plain.load_state_dict(conv.state_dict())
    conv.load_state_dict(plain.state_dict())


# megabytes that a process holds more after it has used 200 weights of 2 MiB, which lie one over another
KEPT = """
    import torch, lkops

    def held():
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) >> 10

    memory, count = torch.rand(240 * 240 * 9 + 200 * 16), 240 * 240 * 9
    x = torch.rand(1, 240, 4, 4)
    lkops.conv2d(x, memory[:count].view(240, 240, 3, 3), accuracy="relaxed", backend="cpu")
    before = held()
    for i in range(1, 200):
        weight = memory[16 * i : 16 * i + count].view(240, 240, 3, 3)
        lkops.conv2d(x, weight, accuracy="relaxed", backend="cpu")
        if i == 20:
            few = held() - before
    print(few, held() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_what_is_kept_is_bounded() -> None:
    """Each takes 2 MiB, and 8 as packed: 2 GB in all. The allocator keeps some of what was given back."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KEPT)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    few, all_of_them = map(int, done.stdout.split())
    assert 100 < few < all_of_them <= 512 + 256, done.stdout
