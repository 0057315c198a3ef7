"""Whether two runs give the same but for rounding: the rule of `lkops.fuse`."""

from collections.abc import Callable

import torch
from torch import Tensor

from .report import FusionError
from .running import Results


def unlike(ours: Results, eager: Results) -> list[str]:
    """Names of the results that differ by more than 4 eps max|model|, of gradients plus 4 eps times the largest.

    Up to there |fused - r| <= |fused - model| + |model - r| is within the rule, whatever r is in float64.
    """
    largest, far = _largest(eager), []
    if ours.keys() != eager.keys():
        return list(ours.keys() ^ eager.keys())
    for name, value in eager.items():
        if not value.is_floating_point() or (not value.numel() and ours[name].shape == value.shape):
            continue
        allowed = 4 * torch.finfo(value.dtype).eps * (_top(value) + (largest if "gradient" in name else 0.0))
        if ours[name].shape != value.shape or not distance(ours[name], value) <= allowed:
            far.append(name)
    return far


def compare(ours: Results, eager: Results, exactly: Callable[[list[str]], Results | None], mode: str) -> None:
    """Raise if one differs by more than rounding.

    Args:
        exactly: gives the results of these names in float64 (and may give more), or None; called only where `unlike` is
            not enough, and first for few of them, without what the rule allows for the usual error of all.
    """
    if ours.keys() != eager.keys():
        raise FusionError(f"the fused model has other outputs or gradients in {mode}: {set(ours) ^ set(eager)}")
    for name, value in eager.items():
        if ours[name].shape != value.shape or ours[name].dtype != value.dtype:
            raise FusionError(
                f"{name} is {tuple(ours[name].shape)} {ours[name].dtype} after fusing, and was {tuple(value.shape)} "
                f"{value.dtype}, in {mode}"
            )
    far = unlike(ours, eager)
    for names in (far, list(eager)) if far else ():
        exact = exactly(names)
        if exact is not None and (not exact.keys() >= set(names) or not _same_run(eager, exact)):
            exact = None  # random numbers differ in float64, or something is float32 whatever comes
        usual = _usual(eager, exact) if exact is not None and names is not far else 0.0
        wrong = [said for name in far if (said := _why_wrong(name, ours, eager, exact, usual, mode))]
        if not wrong:
            return
    if far:
        raise FusionError(wrong[0])


def _usual(eager: Results, exact: Results) -> float:
    """The median of the model's own relative errors."""
    errors = []
    for name, value in eager.items():
        if value.is_floating_point() and (top := _top(exact[name])):
            errors.append(_top(value.double() - exact[name]) / top)
    return sorted(errors)[len(errors) // 2] if errors else 0.0


def _why_wrong(name: str, ours: Results, eager: Results, exact: Results | None, usual: float, mode: str) -> str:
    value = eager[name]
    eps = torch.finfo(value.dtype).eps
    truth = value.double() if exact is None else exact[name].double()
    if exact is None:
        allowed = 1000 * eps * _top(truth)
    else:
        allowed = 2 * _top(value.double() - truth) + max(4 * eps, 4 * usual) * _top(truth)
    if "gradient" in name:
        allowed += 4 * eps * _largest(eager)
    finite = value.isfinite()  # where the model gives infinities or no numbers, so must the other
    error = _top((ours[name].double() - truth)[finite])
    if torch.equal(ours[name].isfinite(), finite) and error <= allowed:
        return ""
    return f"{name} differs by {error:.3g} after fusing, in {mode}; rounding allows {allowed:.3g}"


def _same_run(eager: Results, exact: Results) -> bool:
    outputs = [name for name in eager if name.startswith("output") and " of " not in name]
    return all(_top(eager[n].double() - exact[n].double()) <= 0.05 * _top(exact[n]) for n in outputs)


def _largest(results: Results) -> float:
    return max((_top(value) for name, value in results.items() if "gradient" in name), default=0.0)


def distance(a: Tensor, b: Tensor) -> float:
    """max|a - b|; NaN where one is not finite."""
    return (_wide(a) - _wide(b)).abs().max().item()


def _top(value: Tensor) -> float:
    """The largest magnitude of the finite values."""
    if not value.numel():
        return 0.0
    if value.is_floating_point():
        low, high = (bound.item() for bound in torch.aminmax(_wide(value)))
        if abs(low) < float("inf") and abs(high) < float("inf"):
            return max(abs(low), abs(high))
    value = value[value.isfinite()]
    return value.abs().max().item() if value.numel() else 0.0


def _wide(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() and value.itemsize < 4 else value
