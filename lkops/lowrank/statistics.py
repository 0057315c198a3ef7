"""What a conv is fed with: mean and covariance of the patches that its kernel meets."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn import UpsampleAdd

__all__ = ["InputStatistics", "input_statistics"]

PIXELS = 1 << 14  # whose patches are laid out at once


@dataclass(frozen=True)
class InputStatistics:
    """Mean and covariance of the patches (C_in kh kw values each) that a conv multiplies with its weight.

        mean_i = E[p_i],   covariance_ij = E[p_i p_j] - mean_i mean_j

    i counts channels first, then rows and columns of the kernel, as `weight.reshape(C_out, -1)` does.

    Attributes:
        mean: (C_in kh kw,) float64.
        covariance: (C_in kh kw, C_in kh kw) float64.
        patches: how many there were.
    """

    mean: Tensor
    covariance: Tensor
    patches: int


@torch.no_grad()
def input_statistics(
    model: nn.Module, convs: Iterable[nn.Conv2d | UpsampleAdd], inputs: Iterable[Tensor | tuple[Any, ...]]
) -> list[InputStatistics]:
    """Run a model on some inputs, in evaluation mode, and look at what reaches some of its convs.

    Args:
        model: holds the convs; left in the mode it was in.
        convs: with zero padding; or `lkops.nn.UpsampleAdd`, whose conv is meant.
        inputs: tensors, or tuples of the model's arguments; as many as the model needs to show what it is used for. A
            few images are enough: every pixel of one is a patch. There should be several times C_in kh kw patches:
            with fewer, approximations fit these better than any others, and the error expected is too low.

    Returns:
        One for each conv, in float64 on its device: 8 (C_in kh kw)^2 bytes of memory for each, 42 MB for 3x3 on 256
        channels and 680 MB on 1024; twice that for a moment.

    Raises:
        TypeError: `inputs` can't be iterated over.
        ValueError: no input, one that the model can't run, a conv that none of them reaches, padding that is not of
            zeros in pixels, or NaN or infinite values on the way.
    """
    if not isinstance(inputs, Iterable):
        raise TypeError(f"inputs must be an iterable of the model's inputs, got {type(inputs).__name__}")
    callers = list(convs)
    if any(isinstance(caller, UpsampleAdd) and caller.first is not None for caller in callers):
        raise ValueError("convs must not be an UpsampleAdd with a first module: it is not fed with the features then")
    inner = [caller.conv if isinstance(caller, UpsampleAdd) else caller for caller in callers]
    for conv in inner:
        if (
            isinstance(conv.padding, str)
            and conv.padding != "valid"
            and any(side % 2 == 0 for side in conv.kernel_size)
        ):
            raise ValueError(
                f"padding of a conv must be in pixels, got {conv.padding!r} with kernel {conv.kernel_size}"
            )
        if conv.padding_mode != "zeros":
            raise ValueError(f"padding_mode of a conv must be 'zeros', got {conv.padding_mode!r}")
    sums = [_Sums(conv) for conv in inner]
    modes = {module: module.training for module in model.modules()}
    hooks = [
        caller.register_forward_pre_hook(each, with_kwargs=True) for caller, each in zip(callers, sums, strict=True)
    ]
    try:
        model.eval()
        for index, given in enumerate(inputs):
            _run(model, given, index)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return [each.result() for each in sums]


def _run(model: nn.Module, given: Any, index: int) -> None:
    try:
        model(*given) if isinstance(given, tuple) else model(given)
    except _NotFinite:
        raise
    except Exception as error:
        what = f"a tensor {tuple(given.shape)}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
        raise ValueError(f"the model can't run input {index}, {what}: {type(error).__name__}: {error}") from error


class _NotFinite(ValueError):
    """Of a conv's features, not of the model that can't run."""


class _Sums:
    """Sums over the patches that a conv has met so far; a forward pre-hook."""

    def __init__(self, conv: nn.Conv2d) -> None:
        length = conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1]
        self.first = torch.zeros(length, dtype=torch.float64, device=conv.weight.device)
        self.second = torch.zeros(length, length, dtype=torch.float64, device=conv.weight.device)
        self.conv, self.count = conv, 0

    def __call__(self, caller: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        conv = self.conv
        x: Tensor = arguments[0] if arguments else named["input" if caller is conv else "features"]
        for image in x if x.dim() == 4 else (x,):
            if not image.isfinite().all():
                raise _NotFinite("the inputs must give finite features, and a conv was fed with NaN or infinite ones")
            image = image if image.dtype is torch.float64 else image.float()
            patches = F.unfold(image[None], conv.kernel_size, conv.dilation, _pixels(conv), conv.stride)[0]
            for some in patches.split(PIXELS, dim=1):
                some = some.double()
                self.first += some.sum(1)
                self.second.addmm_(some, some.T)
            self.count += patches.shape[1]

    def result(self) -> InputStatistics:
        if not self.count:
            raise ValueError("inputs must reach every conv, and one of them was fed with nothing")
        mean = self.first / self.count
        return InputStatistics(mean, self.second.div_(self.count).addr_(mean, mean, alpha=-1), self.count)


def moments_and_mean(conv: nn.Conv2d, statistics: InputStatistics) -> tuple[Tensor, Tensor]:
    """What an error is weighed with, and the mean that a bias can make up for: none where there is no bias."""
    length = conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1]
    if tuple(statistics.covariance.shape) != (length, length):
        shape = tuple(statistics.covariance.shape)
        raise ValueError(f"statistics must be of a conv with {length} values in a patch, got a covariance {shape}")
    mean = statistics.mean
    if conv.bias is None:
        return statistics.covariance + torch.outer(mean, mean), torch.zeros_like(mean)
    return statistics.covariance, mean


def ridge_of(conv: nn.Conv2d) -> float:
    """Share of a feature's mean square that counts as noise: of its rounding in the conv's dtype, or a little more."""
    return max(1e-10, torch.finfo(conv.weight.dtype).eps ** 2)


def solve(matrix: Tensor, right: Tensor, scale: Tensor, ridge: float) -> Tensor:
    """matrix^-1 right for a covariance, which may be singular: a channel may be constant, or there are few patches.
    `scale` is the size of each feature, since they may differ by orders of magnitude."""
    scale = torch.where(scale > 0, scale, 1.0)
    matrix = matrix / scale / scale[:, None]
    matrix.diagonal().add_(ridge)
    return torch.linalg.solve(matrix, right / scale[:, None]) / scale[:, None]


def _pixels(conv: nn.Conv2d) -> tuple[int, ...]:
    if isinstance(conv.padding, tuple):
        return conv.padding
    same = zip(conv.dilation, conv.kernel_size, strict=True)
    return (0, 0) if conv.padding == "valid" else tuple(dilation * (side // 2) for dilation, side in same)
