"""Whether what another runtime makes of a network is PyTorch's image."""

from collections.abc import Sequence

from torch import Tensor, nn

from lkops import testing

__all__ = ["agreed", "check_finite", "worst_of"]


def check_finite(model: nn.Module) -> None:
    """Raise ValueError for NaN or infinite weights."""
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise ValueError(f"model has NaN or infinite values in {name}")


def agreed(runtime: str, shape: Sequence[int], result: Tensor, eager: Tensor, exact: Tensor) -> testing.Distance:
    """The distance of a runtime's image of a low-resolution one of this shape, by the rule for every result of a dtype.

    Raises:
        RuntimeError: it is larger than allowed, or the image is none.
    """
    try:
        (found,) = testing.distances(result, eager, exact)
    except testing.WrongResult as wrong:
        raise RuntimeError(
            f"{runtime}'s image of {tuple(shape)} is not PyTorch's: {wrong}: nothing was written"
        ) from None
    if not found.error <= found.allowed:
        raise RuntimeError(
            f"{runtime}'s image of {tuple(shape)} differs from PyTorch's by {found.error:.3g}, where "
            f"{found.allowed:.3g} is allowed: nothing was written"
        )
    return found


def worst_of(found: Sequence[testing.Distance]) -> tuple[float, float]:
    """The error, and what is allowed, of the one that came closest to its limit."""
    worst = max(found, key=lambda distance: distance.share)
    return worst.error, worst.allowed
