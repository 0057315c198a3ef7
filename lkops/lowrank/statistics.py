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
            few images are enough: every pixel of one is a patch.

    Returns:
        One for each conv, in float64 on its device.

    Raises:
        ValueError: no input, a conv that none of them reaches, padding that is not of zeros in pixels, or NaN or
            infinite values on the way.
    """
    callers = list(convs)
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
    hooks = [caller.register_forward_pre_hook(each) for caller, each in zip(callers, sums, strict=True)]
    try:
        model.eval()
        for given in inputs:
            model(*given) if isinstance(given, tuple) else model(given)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return [each.result() for each in sums]


class _Sums:
    """Sums over the patches that a conv has met so far; a forward pre-hook."""

    def __init__(self, conv: nn.Conv2d) -> None:
        length = conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1]
        self.first = torch.zeros(length, dtype=torch.float64, device=conv.weight.device)
        self.second = torch.zeros(length, length, dtype=torch.float64, device=conv.weight.device)
        self.conv, self.count = conv, 0

    def __call__(self, caller: nn.Module, arguments: tuple[Any, ...]) -> None:
        conv, x = self.conv, arguments[0]
        for image in x if x.dim() == 4 else (x,):
            if not image.isfinite().all():
                raise ValueError("the inputs must give finite features, and a conv was fed with NaN or infinite ones")
            patches = F.unfold(image[None].float(), conv.kernel_size, conv.dilation, _pixels(conv), conv.stride)[0]
            for some in patches.split(PIXELS, dim=1):
                some = some.double()
                self.first += some.sum(1)
                self.second.addmm_(some, some.T)
            self.count += patches.shape[1]

    def result(self) -> InputStatistics:
        if not self.count:
            raise ValueError("inputs must reach every conv, and one of them was fed with nothing")
        mean = self.first / self.count
        return InputStatistics(mean, self.second / self.count - torch.outer(mean, mean), self.count)


def _pixels(conv: nn.Conv2d) -> tuple[int, ...]:
    if isinstance(conv.padding, tuple):
        return conv.padding
    same = zip(conv.dilation, conv.kernel_size, strict=True)
    return (0, 0) if conv.padding == "valid" else tuple(dilation * (side // 2) for dilation, side in same)
