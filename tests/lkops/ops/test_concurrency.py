"""The C++ kernels from several Python threads at once, and in the worker processes of a DataLoader."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from lkops import backends
from lkops.testing import Draw, arguments, cast, examples, run
from tests.lkops.ops.harness import runs

OPERATORS = [operator for operator, backend, _, dtype in runs() if backend == "cpu" and dtype is torch.float32]
if not OPERATORS:
    pytest.skip("no C++ kernels here: see lkops.backends.status()", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("two_threads")


def problem(operator: str, seed: int) -> tuple[dict, dict]:
    """The operator's first case with another image for each seed."""
    tensors, options = arguments(operator, examples(operator)["plain"])
    single = cast(tensors, torch.float32)
    name, image = next(iter(single.items()))
    draw = Draw(seed)
    return {**single, name: draw(*image.shape).float()}, options


def results(operator: str, seed: int) -> list[torch.Tensor]:
    tensors, options = problem(operator, seed)
    return list(run(operator, tensors, options, "cpu").values())


def assert_same_bits(ours: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert len(ours) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


def test_every_operator_is_here() -> None:
    assert set(OPERATORS) == set(backends.operators())


@pytest.mark.parametrize("operator", OPERATORS)
def test_several_python_threads_at_once(operator: str) -> None:
    expected = [results(operator, seed) for seed in range(4)]
    assert not torch.equal(expected[0][0], expected[1][0])
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for ours, right in zip(pool.map(lambda seed: results(operator, seed), range(4)), expected, strict=True):
                assert_same_bits(ours, right)


class Results(Dataset):
    """Item i is what operator i gives, forward and backward, in one row."""

    def __len__(self) -> int:
        return len(OPERATORS)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.cat([result.flatten() for result in results(OPERATORS[index], seed=0)])


def test_in_workers_of_a_data_loader() -> None:
    expected = [Results()[index] for index in range(len(OPERATORS))]  # torch's threads are running before the fork
    loader = DataLoader(Results(), batch_size=None, num_workers=2, timeout=120)
    assert_same_bits(list(loader), expected)
