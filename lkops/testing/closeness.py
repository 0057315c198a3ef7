"""What is close enough: results are held to float64, by the error that eager PyTorch makes in their dtype.

    error <= times * (eager's error) + (roundings * eps + of_size) * size

for each result, where errors are the largest differences to float64 and `size` is the largest value; for a whole
network both are norms. A result that is all zeros where the right one is not, has another shape or dtype, or values
that are not finite, is wrong whatever eager does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Distance", "Policy", "WrongResult", "assert_as_good_as_eager", "distances", "share_of_allowed"]

Results = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


class WrongResult(AssertionError):
    """A result differs from the reference by more than rounding."""


@dataclass(frozen=True)
class Policy:
    """How far from float64 a result may be.

    Attributes:
        times: eager's own error.
        roundings: of the result's dtype, of the size of the right result.
        of_size: beside these, a part of this size: for runtimes that compute in another precision than they say.
        of_all: beside these, a part of the norm of all right results together, where `norms`.
        kinks: fraction of values that may be off by up to four times the largest value: rounding decides on which side
            of a kink they lie.
        norms: a whole network: errors and sizes are norms, since its roundings add up in another order; and some
            gradients nearly vanish, with nothing for their roundings to be small against, so that eager's error is at
            least what it is over all results together (`together`).
        together: see `norms`.
        truncated: bfloat16 results are truncated instead of rounded: one rounding more.
        single: roundings of a result of one number, such as a loss, which eager may hit by luck.
        eager_within: eager's own error may be at most this part of the norm of the right results, all together: or
            anything would be allowed.
    """

    times: float = 2.0
    roundings: float = 4.0
    of_size: float = 0.0
    of_all: float = 0.0
    kinks: float = 0.0
    norms: bool = False
    together: bool = True
    truncated: bool = False
    single: float | None = None
    eager_within: float | None = None

    def scaled(self, slack: float) -> "Policy":
        """`slack` times as much: in sweeps of thousands of problems eager is better than its roundings in some, by
        luck."""
        return replace(self, times=slack * self.times, roundings=slack * self.roundings)


EAGER = Policy()


def _named(results: Results) -> dict[str, Tensor]:
    if isinstance(results, Tensor):
        return {"result": results}
    if isinstance(results, Mapping):
        return dict(results)
    return {f"result {i}": result for i, result in enumerate(results)}


def _size(values: Tensor, policy: Policy) -> float:
    """The largest of the absolute values but for those at kinks, or their norm."""
    if policy.norms:
        return float(values.norm())
    if not policy.kinks:
        return float(values.abs().max())
    return float(values.flatten().abs().topk(int(policy.kinks * values.numel()) + 1).values[-1])


def _all_norm(tensors: Sequence[Tensor]) -> float:
    return float(torch.stack([tensor.norm() for tensor in tensors]).norm()) if tensors else 0.0


@dataclass(frozen=True)
class Distance:
    """Of one result to the right one.

    Attributes:
        name: of the result.
        error: the largest difference, or its norm.
        allowed: what it may be.
    """

    name: str
    error: float
    allowed: float

    @property
    def share(self) -> float:
        """Of what is allowed; above 1 the result is wrong."""
        if self.error <= self.allowed:
            return self.error / self.allowed if self.allowed else 0.0
        return self.error / self.allowed if self.allowed else float("inf")


def distances(ours: Results, eager: Results, exact: Results, policy: Policy = EAGER) -> list[Distance]:
    """The error of each result and what `policy` allows; of empty ones none.

    Raises:
        WrongResult: a result is wrong in a way that no error measures, or eager is.
    """
    mine, others, right = _named(ours), _named(eager), _named(exact)
    if len(mine) != len(right):
        raise WrongResult(f"{len(mine)} results, expected {len(right)}")
    if mine.keys() != right.keys() or others.keys() != right.keys():
        raise WrongResult(f"results are {', '.join(mine)}; expected {', '.join(right)}")
    eager_errors = {name: others[name].double().to(truth.device) - truth for name, truth in right.items()}
    if policy.eager_within is not None:
        _hold_eager(eager_errors, right, policy)
    several = policy.norms and len(right) > 1
    largest = _all_norm(list(right.values())) if several else 0.0
    least = _all_norm(list(eager_errors.values())) if several and policy.together else 0.0
    found = []
    for name, truth in right.items():
        value, where = mine[name], f"{name} of shape {tuple(mine[name].shape)}"
        if value.shape != truth.shape:
            raise WrongResult(f"{where}, expected {tuple(truth.shape)}")
        if not truth.numel():
            continue
        if truth.isfinite().all() and not value.isfinite().all():
            raise WrongResult(f"{where} has values that are not finite")
        size = float(truth.norm()) if policy.norms else float(truth.abs().max())
        if size > 0 and not value.abs().max() > 0:
            raise WrongResult(f"{where} is all zeros")
        roundings = policy.roundings if policy.single is None or truth.numel() > 1 else policy.single
        roundings += policy.truncated and value.dtype is torch.bfloat16
        allowed = policy.times * max(_size(eager_errors[name], policy), least) + policy.of_all * largest
        allowed += (roundings * torch.finfo(value.dtype).eps + policy.of_size) * size
        difference = value.double().to(truth.device) - truth
        error = _size(difference, policy)
        if error <= allowed and policy.kinks and not (most := float(difference.abs().max())) <= 4 * size:
            raise WrongResult(f"{where}: error {most:.3g} at a kink, largest {size:.3g}")
        found.append(Distance(where, error, allowed))
    return found


def share_of_allowed(ours: Results, eager: Results, exact: Results, policy: Policy = EAGER) -> float:
    """The largest error of some results as a fraction of what `policy` allows: see `assert_as_good_as_eager`.

    Raises:
        WrongResult: it is more than 1, or what no error measures is wrong.
    """
    worst = 0.0
    for distance in distances(ours, eager, exact, policy):
        if not distance.error <= distance.allowed:
            raise WrongResult(f"{distance.name}: error {distance.error:.3g}, allowed {distance.allowed:.3g}")
        worst = max(worst, distance.share)
    return worst


def _hold_eager(errors: Mapping[str, Tensor], right: Mapping[str, Tensor], policy: Policy) -> None:
    """Eager's errors must be small themselves; those of a network all together."""
    pairs = [([error], [right[name]]) for name, error in errors.items()]
    for error, truth in [(list(errors.values()), list(right.values()))] if policy.norms else pairs:
        off, size = _all_norm(error), _all_norm(truth)
        if not off <= (policy.eager_within or 0.0) * size:
            raise WrongResult(f"eager PyTorch and float64 differ by {off:.2g} of {size:.2g} (norms)")


def assert_as_good_as_eager(ours: Results, eager: Results, exact: Results, policy: Policy = EAGER) -> None:
    """Raise unless results are as good as those of eager PyTorch in the same dtype.

    Args:
        ours, eager, exact: one tensor, several in order, or by name: of the kernel; of plain PyTorch in the dtype of
            the kernel; in float64, of the same inputs, rounded to that dtype.
        policy: by default twice eager's error, plus four roundings of the largest value.

    Raises:
        WrongResult: an AssertionError that names the result, its error and what was allowed.
    """
    check_dtypes(ours, eager)
    share_of_allowed(ours, eager, exact, policy)


def check_dtypes(ours: Results, eager: Results) -> None:
    """Raise WrongResult where a result has another dtype than eager's."""
    for (name, value), other in zip(_named(ours).items(), _named(eager).values(), strict=False):
        if value.dtype != other.dtype:
            raise WrongResult(f"{name} has dtype {value.dtype}, eager {other.dtype}")
