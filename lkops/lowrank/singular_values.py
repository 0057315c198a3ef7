"""The rank of a conv: singular values of its weight as a matrix, and how many of them carry most of it.

Upsamplers of hyperspectral networks are of low rank (LKCA-Net, section III-C): most of a trained weight's singular
values are small.
"""

from typing import Any

import torch
from torch import Tensor, nn

from .._core import checks

__all__ = ["cumulative_share", "rank_at", "spectrum"]


def spectrum(conv_or_weight: nn.Conv2d | Tensor, *, block_diagonal: bool = False) -> Tensor:
    """The singular values of a conv's weight as a matrix, largest first.

        M = weight.reshape(C_out, C_in / g * kh * kw),   M = U diag(s) V^T

    A grouped conv as a map of all inputs to all outputs is block-diagonal: a (C_out, C_in kh kw) matrix with one block
    for each group. M is what remains of it when the blocks are stacked, (C_out, C_in kh kw / g): the groups bound the
    rank of M, whose shorter side they divide, and not that of the block-diagonal matrix. Without groups they are equal.

    Args:
        conv_or_weight: a `torch.nn.Conv2d`, weight-normalised or otherwise parametrized too; or its weight (C_out,
            C_in / g, kh, kw), or any matrix (rows, columns).
        block_diagonal: the singular values of the block-diagonal matrix instead, which are those of its blocks. Takes
            a conv: a weight does not tell its groups.

    Returns:
        (min(rows, columns),) of M, or (C_out or C_in kh kw, the smaller,) of the block-diagonal matrix: float64, on
        the weight's device, computed in float64, without a gradient. All zeros for a weight of zeros.

    Raises:
        TypeError: neither a conv nor a floating tensor, a transposed conv, or a tensor with `block_diagonal`.
        ValueError: no matrix and no conv's weight, an empty one, or NaN or infinite values.

    Source: LKCA-Net (arXiv 2501.18664), eq. 16 and the text before it.
    """
    weight, groups = checked_weight(conv_or_weight, checks.flag("block_diagonal", block_diagonal))
    matrix = weight.reshape(weight.shape[0], -1)
    if not block_diagonal:
        return torch.linalg.svdvals(matrix)
    blocks = matrix.unflatten(0, (groups, -1))
    return torch.linalg.svdvals(blocks).flatten().sort(descending=True).values


def cumulative_share(values: Tensor, *, energy: bool = False) -> Tensor:
    """What part of their sum the largest singular values make up.

        c_i = (s_1 + ... + s_i) / (s_1 + ... + s_p)          (squares of s with `energy`)

    Args:
        values: (p,) singular values, largest first, as `spectrum` gives them.
        energy: squares instead of values.

    Returns:
        (p,) float64, rising to exactly 1; all ones where every value is 0, since nothing is left out then.

    Raises:
        TypeError: `values` is not a floating tensor.
        ValueError: not one axis, empty, not falling, negative, or not finite.

    Source: LKCA-Net, Fig. 4 (of the values; it is their squares that are called energy elsewhere).
    """
    if not isinstance(values, Tensor) or not values.is_floating_point():
        raise TypeError(f"values must be a floating tensor, got {_name(values)}")
    if values.dim() != 1 or values.numel() == 0:
        raise ValueError(f"values must be singular values (p,), at least one, got shape {tuple(values.shape)}")
    energy = checks.flag("energy", energy)
    values = values.detach().double()
    if not values.isfinite().all() or values[-1] < 0 or (values.diff() > 0).any():
        raise ValueError("values must be singular values, finite, 0 or more, largest first")
    if values[0] == 0:
        return torch.ones_like(values)
    values = values / values[0]  # squares of very small or large ones would leave float64
    total = (values.square() if energy else values).cumsum(0)
    return total / total[-1]


def rank_at(
    conv_or_weight: nn.Conv2d | Tensor, share: float = 0.9, *, energy: bool = False, block_diagonal: bool = False
) -> int:
    """The smallest rank whose singular values make up a share of the sum of all.

    Args:
        conv_or_weight, block_diagonal: as `spectrum` takes them; or what it returned, (p,), to spare another SVD.
        share: above 0, up to 1. At 1 this is the numerical rank: singular values below
            max(rows, columns) * eps * the largest, eps of the weight's dtype, count as 0 here (p * eps * the largest
            where only the values are given).
        energy: a share of the sum of squares instead.

    Returns:
        1 to min(rows, columns); 0 for a weight of zeros, such as that of an untrained upsampler.

    Raises:
        TypeError, ValueError: as `spectrum`; `share` not a number above 0 and up to 1.

    Source: LKCA-Net, Fig. 4: about 60 at a share of 0.9 of the values on Chikusei and Houston, 130 on Pavia Center.
    """
    share, energy = checked_share(share), checks.flag("energy", energy)
    block_diagonal = checks.flag("block_diagonal", block_diagonal)
    if isinstance(conv_or_weight, Tensor) and conv_or_weight.dim() == 1 and not block_diagonal:
        values = weight = conv_or_weight
        cumulative_share(values)  # checks them
        longest = len(values)
    else:
        values = spectrum(conv_or_weight, block_diagonal=block_diagonal)
        weight = conv_or_weight if isinstance(conv_or_weight, Tensor) else conv_or_weight.weight
        longest = max(weight.shape[0], weight[0].numel())
    values = values[values > longest * torch.finfo(weight.dtype).eps * values[0]]
    if values.numel() == 0:
        return 0
    # a sum that reaches the share but for its last rounding has reached it
    reached = cumulative_share(values, energy=energy) >= share * (1 - 4 * torch.finfo(torch.float64).eps)
    return int(reached.nonzero()[0]) + 1


def checked_share(share: Any) -> float:
    """A share must be a number above 0, up to 1."""
    real = checks.number("share", share, "above 0 and up to 1")
    if not 0 < real <= 1:
        raise ValueError(f"share must be above 0 and up to 1, got {share!r}")
    return real


def checked_weight(conv_or_weight: nn.Conv2d | Tensor, block_diagonal: bool) -> tuple[Tensor, int]:
    """The weight in float64, and its groups."""
    if isinstance(conv_or_weight, nn.Conv2d):
        weight, groups = conv_or_weight.weight, conv_or_weight.groups
        name = "the conv's weight"
    else:
        weight, groups, name = conv_or_weight, 1, "conv_or_weight"
        if not isinstance(weight, Tensor) or not weight.is_floating_point():
            raise TypeError(f"{name} must be a torch.nn.Conv2d or a floating tensor, got {_name(weight)}")
        if block_diagonal:
            raise TypeError(
                f"{name} must be a torch.nn.Conv2d with block_diagonal, got a tensor: its groups are unknown"
            )
        if weight.dim() not in (2, 4) or weight.numel() == 0:
            raise ValueError(
                f"{name} must be (outputs, inputs / groups, rows, columns) or (rows, columns), none of them 0, got "
                f"shape {tuple(weight.shape)}"
            )
    weight = weight.detach().double()
    if not weight.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinite values")
    return weight, groups


def _name(value: object) -> str:
    return f"a tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
