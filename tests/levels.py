"""Which tests each level runs: `make check` leaves out `slow` and `exhaustive` ones, `make test` the `exhaustive`,
`make test-all` none. CONTRIBUTING.md, "Tests", says what they hold; conftest.py calls `mark` on what is collected.

Few tests are marked by hand. What repeats one thing over many cases is thinned here:

- A test marked `wide` keeps as many cases as show every value of every parameter once, backends apart; the others are
  exhaustive. `wide("cpu")` keeps all cases of that backend, whose kernels take milliseconds; `wide(most=1)` just one.
- What runs in Triton's interpreter is wide, and beyond that keeps to the operators that the interpreter does not need
  seconds for. Every operator's values and gradients stay, on `SMALL` examples.
- Rooms and files of `SLOW` train, compile, start processes or sweep: they are slow. So is what `wide("cpu")` keeps for
  its argument. Not so on a GPU, whose gate (`make gpu`) runs what is not slow.

Where CI has so much time and no more, LKOPS_TEST_MINUTES ends it: exhaustive tests that would begin later are skipped.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch

from lkops.testing import Example

BEGAN = time.monotonic()

# the interpreter takes under a second for their kernels on a small image, and several for those of the others
QUICK_IN_THE_INTERPRETER = ("channel_attention", "conv2d", "norm_conv1x1_gelu", "spectral_losses")
SMALL = {("plain", torch.float32), ("one_pixel", torch.bfloat16), ("one_pixel", torch.float16)}
SLOW = """
    tests/bench/ tests/docs/ tests/edge/ tests/lkcanet/benchmark/ tests/lkcanet/cluster/ tests/lkcanet/commands/
    tests/lkcanet/deploy/ tests/lkcanet/objectives/ tests/lkcanet/reproduce/ tests/lkcanet/training/
    tests/lkcanet/data/test_prepare_sets.py tests/lkcanet/evaluation/test_figures.py
    tests/lkcanet/inference/test_inference_memory.py tests/lkcanet/models/test_capabilities.py
    tests/lkcanet/models/test_comparators.py tests/lkcanet/models/test_foreign_checkpoints.py
    tests/lkcanet/models/test_models.py tests/lkops/build/ tests/lkops/lowrank/ tests/lkops/triton/
    tests/lkops/fusion/test_fusion_convs.py tests/lkops/fusion/test_fusion_hooks.py
    tests/lkops/fusion/test_fusion_routes.py tests/lkops/ops/test_bits.py tests/lkops/ops/test_compile.py
    tests/lkops/ops/test_conv2d_weights.py tests/lkops/ops/test_cuda_on_the_host.py tests/lkops/ops/test_edges.py
    tests/lkops/ops/test_empty_batches.py tests/lkops/ops/test_every_value.py tests/lkops/ops/test_kernels_to_come.py
    tests/lkops/ops/test_losses_kernel.py tests/lkops/ops/test_memory.py tests/lkops/ops/test_module_options.py
    tests/lkops/ops/test_nan.py tests/lkops/ops/test_options.py tests/lkops/ops/test_projection_kernel.py
    tests/lkops/test_backends.py
"""


def parameters(item: pytest.Item) -> dict[str, Any]:
    """What the case was parametrised with; an example of an operator by its name."""
    spec = getattr(item, "callspec", None)
    values = {} if spec is None else spec.params
    return {name: value.name if isinstance(value, Example) else value for name, value in values.items()}


def interpreted(item: pytest.Item) -> bool:
    """Whether Triton's interpreter runs it."""
    given = parameters(item)
    return not torch.cuda.is_available() and given.get("backend") == "triton" and given.get("device", "cpu") == "cpu"


def _is_small(item: pytest.Item) -> bool:
    given = parameters(item)
    return (given.get("case"), given.get("dtype")) in SMALL


def covering(cases: Iterable[dict[str, Any]]) -> list[int]:
    """Indices of a few cases in which every value of every parameter occurs: each adds as many as any other would."""
    wanted = [{(name, repr(value)) for name, value in case.items()} for case in cases]
    missing, kept = set().union(*wanted), []
    while missing:
        best = max(range(len(wanted)), key=lambda index: len(wanted[index] & missing))
        kept.append(best)
        missing -= wanted[best]
    return kept


def why_too_late(item: pytest.Item) -> str:
    """Why there is no time for a test, or nothing."""
    minutes = os.environ.get("LKOPS_TEST_MINUTES")
    if not minutes or item.get_closest_marker("exhaustive") is None or time.monotonic() < BEGAN + 60 * float(minutes):
        return ""
    return f"exhaustive, and the {minutes} minutes of LKOPS_TEST_MINUTES are over"


def _groups(items: Iterable[pytest.Item], wide: Callable[[pytest.Item], bool]) -> Iterable[list[pytest.Item]]:
    """The cases of each test on each backend, of those that are to be thinned."""
    groups = defaultdict(list)
    for item in items:
        if wide(item):
            groups[item.nodeid.partition("[")[0], parameters(item).get("backend")].append(item)
    return groups.values()


def _is_wide(item: pytest.Item) -> bool:
    return item.get_closest_marker("wide") is not None and not interpreted(item)


def _leave_to_test_all(items: Iterable[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.exhaustive)


def mark(items: Iterable[pytest.Item]) -> None:
    """Mark as slow and exhaustive what the levels leave out."""
    items = list(items)
    for group in _groups(items, _is_wide):
        wide, backend = group[0].get_closest_marker("wide"), parameters(group[0]).get("backend")
        assert wide is not None
        kept = covering(map(parameters, group))[: wide.kwargs.get("most")]
        for index, item in enumerate(group):
            if index not in kept:
                item.add_marker(pytest.mark.slow if backend in wide.args else pytest.mark.exhaustive)
    for group in _groups(items, interpreted):
        quick = [item for item in group if parameters(item).get("operator") in (None, *QUICK_IN_THE_INTERPRETER)]
        kept = {id(quick[index]) for index in covering(map(parameters, quick))} if quick else set()
        kept |= {id(item) for item in group if _is_small(item)}
        _leave_to_test_all(item for item in group if id(item) not in kept)
    for item in items:
        on_gpu = any(isinstance(value, str) and value == "cuda" for value in parameters(item).values())
        if interpreted(item) or (item.nodeid.startswith(tuple(SLOW.split())) and not on_gpu):
            item.add_marker(pytest.mark.slow)
