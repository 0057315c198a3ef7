"""Whether what a benchmark's provider computes is right: it gets no time otherwise."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .providers import Problem

# times eager's error that a provider may have, beside four roundings; and what bfloat16's roundings may add up to
ALLOWED = {"lkops": 2.0, "compile": 10.0, "openvino": 10.0}
NETWORK_ALLOWED = {**ALLOWED, "lkops": 3.0}
HALF, SINGLE = 0.05, 1e-4


class WrongOutput(RuntimeError):
    """A result differs from the reference by more than rounding."""


def _error(difference: Tensor, problem: Problem) -> float:
    if problem.network:
        return float(difference.norm())
    left_out = int(problem.kinks * difference.numel())
    return float(difference.flatten().abs().topk(left_out + 1).values[-1])


def compare(
    problem: Problem, name: str, results: Sequence[Tensor], plain: Sequence[Tensor], exact: Sequence[Tensor]
) -> float:
    """Raise `WrongOutput` unless all results are right up to rounding; the largest error as a fraction of the allowed.

    `exact` is float64; where it is the very list `plain`, eager float32 is all there is to compare with.
    """
    if len(results) != len(exact):
        raise WrongOutput(f"{len(results)} results, expected {len(exact)}")
    half, worst, norm, floor = name.endswith("bf16"), 0.0, 0.0, 0.0
    if problem.network and len(exact) > 1:
        # some gradients of a network nearly vanish, and their roundings with nothing to be small against: all count
        # together; one that is missing is still seen, by its shape or its zeros
        norm = float(torch.stack([right.norm() for right in exact]).norm())
        if exact is not plain:
            floor = float(torch.stack([(a.double() - b).norm() for a, b in zip(plain, exact, strict=True)]).norm())
    for i, (a, b, right) in enumerate(zip(results, plain, exact, strict=True)):
        where = f"result {i} of shape {tuple(a.shape)}"
        if a.shape != right.shape:
            raise WrongOutput(f"{where}, expected {tuple(right.shape)}")
        if right.numel() == 0:
            continue
        if not a.isfinite().all():
            raise WrongOutput(f"{where} has values that are not finite")
        size = float(right.norm()) if problem.network else float(right.abs().max())
        if size > 0 and not a.abs().max() > 0:
            raise WrongOutput(f"{where} is all zeros")
        eager_error = 0.0 if exact is plain else _error(b.double() - right, problem)
        if name.startswith("eager") or exact is plain or half:
            allowed = (HALF if half else SINGLE) * size + (HALF if half else 1e-3) * norm
        else:
            times = (NETWORK_ALLOWED if problem.network else ALLOWED)[name]
            # one number, such as a loss, eager may hit by luck
            roundings = 4 if right.numel() > 1 else 16
            allowed = times * max(eager_error, floor) + roundings * torch.finfo(torch.float32).eps * size
        difference = a - right if exact is plain else a.double() - right
        error = _error(difference, problem)
        if not error <= allowed:
            raise WrongOutput(f"{where}: error {error:.3g}, allowed {allowed:.3g}")
        if problem.kinks and not (largest := float(difference.abs().max())) <= 4 * size:
            raise WrongOutput(f"{where}: error {largest:.3g} at a kink, largest {size:.3g}")
        worst = max(worst, error / allowed if allowed else 0.0)
    return worst
