"""Whether what a benchmark's provider computes is right: it gets no time otherwise."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from lkops.testing import Policy, WrongResult, share_of_allowed

from .providers import RELAXED, Problem

# times eager's error that a provider may have, beside four roundings; and what bfloat16's roundings may add up to
ALLOWED = {"lkops": 2.0, RELAXED: 2.0, "compile": 10.0, "openvino": 10.0, "onnxruntime": 10.0, "ncnn": 10.0}
NETWORK_ALLOWED = {**ALLOWED, "lkops": 3.0, RELAXED: 3.0}
HALF, SINGLE = 0.05, 1e-4
# beside these, a part of the largest value: convs with so few products that it shows, which is ncnn's default; the
# errors of a network's convs add up
OF_SIZE = {RELAXED: 1e-5, "ncnn": 1e-5}
NETWORK_OF_SIZE = {RELAXED: 1e-4, "ncnn": 1e-4}


class WrongOutput(RuntimeError):
    """A result differs from the reference by more than rounding."""


def _policy(problem: Problem, name: str, *, exact: bool) -> Policy:
    """`exact`: there is float64 to compare with, not only eager float32."""
    base = Policy(kinks=problem.kinks, norms=problem.network)
    if name.endswith("bf16"):
        return replace(base, times=0, roundings=0, of_size=HALF, of_all=HALF)
    if name.startswith("eager") or not exact:
        return replace(base, times=0, roundings=0, of_size=SINGLE, of_all=1e-3)
    # one number, such as a loss, eager may hit by luck
    times, of_size = (NETWORK_ALLOWED, NETWORK_OF_SIZE) if problem.network else (ALLOWED, OF_SIZE)
    return replace(base, times=times[name], of_size=of_size.get(name, 0.0), single=16)


def compare(
    problem: Problem, name: str, results: Sequence[Tensor], plain: Sequence[Tensor], exact: Sequence[Tensor]
) -> float:
    """Raise `WrongOutput` unless all results are right up to rounding; the largest error as a fraction of the allowed.

    `exact` is float64; where it is the very list `plain`, eager float32 is all there is to compare with.
    """
    try:
        return share_of_allowed(results, plain, exact, _policy(problem, name, exact=exact is not plain))
    except WrongResult as wrong:
        raise WrongOutput(str(wrong)) from None
