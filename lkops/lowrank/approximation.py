"""Approximations of a conv: block-diagonal (grouped), and factored into two of a lower rank."""

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from .._core import checks
from .singular_values import checked_weight, rank_at
from .statistics import InputStatistics, moments_and_mean, ridge_of, solve

__all__ = ["SelectChannels", "approximation_error", "suggest_groups", "to_factored", "to_grouped"]


class SelectChannels(nn.Module):
    """x[:, order]: channels in another order.

    Args:
        order: (C,) int64, which channel comes to each place; a buffer, kept in the state dict.
    """

    order: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        self.register_buffer("order", order)

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(-3, self.order)

    def extra_repr(self) -> str:
        return f"{len(self.order)} channels"


def suggest_groups(
    conv: nn.Conv2d, scale: int, share: float = 0.9, *, energy: bool = False, whole_bands: bool = True
) -> int:
    """The most groups whose bound on the rank leaves an upsampler the rank that it has.

        the largest g with  C_in kh kw / g >= rank_at(conv, share),   g divides C_in, C_out and (`whole_bands`) B

    A grouped weight, its blocks stacked, is a (C_out, C_in kh kw / g) matrix, whose rank that bounds.

    Args:
        conv: with one group; before a PixelShuffle by `scale`.
        scale: r; C_out = B r^2.
        share, energy: see `rank_at`.
        whole_bands: no border between groups inside a band's r^2 outputs. The paper's 8 groups are not so for its Pavia
            Center: 102 bands.

    Returns:
        1 or more; 1 where no other fits.

    Raises:
        ValueError: outputs that r^2 does not divide; as `rank_at`.

    Source: LKCA-Net (arXiv 2501.18664), section III-C: 8 groups, rank 144 at the most where about 60 were found.
    """
    scale, whole_bands = checks.positive("scale", scale), checks.flag("whole_bands", whole_bands)
    _dense(conv)
    if conv.out_channels % scale**2:
        raise ValueError(f"conv must have a multiple of scale^2 = {scale**2} outputs, got {conv.out_channels}")
    rank = rank_at(conv, share, energy=energy)
    length = conv.weight[0].numel()
    units = conv.out_channels // scale**2 if whole_bands else conv.out_channels
    fitting = [
        g for g in range(1, conv.in_channels + 1) if not (conv.in_channels % g or units % g or length // g < rank)
    ]
    return max(fitting, default=1)


def to_grouped(
    conv: nn.Conv2d, groups: int, *, permute: bool = False, statistics: InputStatistics | None = None
) -> nn.Conv2d | nn.Sequential:
    """The grouped conv nearest to a conv: g times fewer parameters and multiply-adds.

    Group k keeps the outputs k C_out / g to (k + 1) C_out / g, and of the inputs as many. Without statistics its weight
    is that part of the conv's weight, which is the best in the Frobenius norm. With the covariance S of what the conv
    is fed with, it is what gives the least squared error there, I_k being the group's inputs, J_k the others:

        W'_k = W_k[:, I_k] + W_k[:, J_k] S[J_k, I_k] S[I_k, I_k]^-1,      bias' = bias + (W - W') mean

    Inputs that never vary there keep their weights.

    Args:
        conv: with one group, or with fewer than `groups`.
        groups: g, dividing C_in and C_out.
        permute: choose which inputs each group gets, so that the sum of squares of the weights left out is the least:
            an assignment problem, solved exactly. Outputs keep their order. Needs SciPy.
        statistics: of this conv, see `input_statistics`. A conv without bias stays without one.

    Returns:
        A new conv of the same dtype, device, stride, padding and dilation; with `permute`, `SelectChannels` before it,
        unless the order is the conv's own. A parametrised conv is read, not copied: the weight is a plain one.

    Raises:
        TypeError, ValueError: as `spectrum`; groups that do not divide; statistics of another shape.
        ModuleNotFoundError: `permute` without SciPy.

    Source: LKCA-Net, section III-C, is where the groups come from; it trains them from scratch.
    """
    weight = _expanded(conv)
    groups, permute = checks.positive("groups", groups), checks.flag("permute", permute)
    for what, count in (("inputs", conv.in_channels), ("outputs", conv.out_channels)):
        if count % groups:
            raise ValueError(f"groups must divide the conv's {what}, {count}; got {groups}")
    order = _best_order(weight, groups) if permute else torch.arange(conv.in_channels)
    size, outputs = conv.in_channels // groups, conv.out_channels // groups
    values = weight[0, 0].numel()
    rows, shifts = [], []
    if statistics is not None:
        moments, mean = moments_and_mean(conv, statistics)
    for k in range(groups):
        part = weight[k * outputs : (k + 1) * outputs]
        inputs = order[k * size : (k + 1) * size].to(weight.device)
        if statistics is None:
            rows.append(part[:, inputs])
            continue
        places = (inputs[:, None] * values + torch.arange(values, device=weight.device)).flatten()
        flat = part.flatten(1)
        others = flat.index_fill(1, places, 0)
        scale = (moments.diagonal() + mean.square())[places].sqrt()
        right = (others @ moments[:, places]).T
        near = flat[:, places] + solve(moments[places][:, places], right, scale, ridge_of(conv)).T
        rows.append(near.unflatten(1, (size, *weight.shape[2:])))
        shifts.append(flat @ mean - near @ mean[places])
    new = _like(conv, conv.in_channels, conv.out_channels, conv.kernel_size, groups=groups, bias=conv.bias is not None)
    _fill(new, conv, torch.cat(rows), torch.cat(shifts) if shifts else None)
    if torch.equal(order, torch.arange(len(order))):
        return new
    return nn.Sequential(SelectChannels(order.to(conv.weight.device)), new).train(conv.training)


def to_factored(conv: nn.Conv2d, rank: int, *, statistics: InputStatistics | None = None) -> nn.Sequential:
    """A conv to `rank` channels and a 1x1 conv to the outputs: the best of that rank (Eckart and Young).

        M = weight.reshape(C_out, C_in kh kw) = U diag(s) V^T,   M ~ (U_r diag(s_r)^1/2) (diag(s_r)^1/2 V_r^T)

    With statistics, M' = U_r U_r^T M with U of M S^1/2, S the covariance: the least squared error on what the conv is
    fed with; bias' = bias + (M - M') mean. Parameters: rank (C_in kh kw + C_out) in place of C_out C_in kh kw.

    Args:
        conv: with one group.
        rank: 1 to min(C_out, C_in kh kw).
        statistics: of this conv, see `input_statistics`. A conv without bias stays without one.

    Returns:
        `Sequential(conv kh x kw without bias, conv 1x1)` of the conv's dtype and device; the first has its stride,
        padding and dilation. Both factors have the same singular values, which suits training.

    Raises:
        TypeError, ValueError: as `spectrum`; a conv with groups; a rank out of range; statistics of another shape.

    Source: Eckart and Young, Psychometrika 1 (1936).
    """
    weight = _dense(conv)
    rank = checks.positive("rank", rank)
    matrix = weight.flatten(1)
    if rank > min(matrix.shape):
        raise ValueError(
            f"rank must be at most {min(matrix.shape)} for a weight of shape {tuple(weight.shape)}, got {rank}"
        )
    shift = None
    if statistics is None:
        near = matrix
    else:
        moments, mean = moments_and_mean(conv, statistics)
        noise = ridge_of(conv) * (moments.diagonal() + mean.square())
        if not noise.any():  # nothing is known of the inputs
            noise += 1
        basis = torch.linalg.eigh((matrix @ moments + matrix * noise) @ matrix.T)[1][:, -rank:]
        near = basis @ (basis.T @ matrix)
        shift = (matrix - near) @ mean
    u, s, vt = torch.linalg.svd(near, full_matrices=False)
    root = s[:rank].sqrt()
    first = _like(conv, conv.in_channels, rank, conv.kernel_size, bias=False)
    second = nn.Conv2d(rank, conv.out_channels, 1, bias=conv.bias is not None, device="meta")
    _fill(first, conv, (root[:, None] * vt[:rank]).unflatten(1, weight.shape[1:]), None)
    _fill(second, conv, (u[:, :rank] * root)[:, :, None, None], shift)
    return nn.Sequential(first, second).train(conv.training)


def approximation_error(
    conv: nn.Conv2d, approximation: nn.Module, *, statistics: InputStatistics | None = None
) -> float:
    """How far an approximation's outputs are from a conv's, relative to these.

        |M - M'| / |M|  (Frobenius)      sqrt(E|y - y'|^2 / E|y - E y|^2)  with statistics

    The first is the second for inputs that are uncorrelated and of one variance.

    Args:
        conv: any.
        approximation: what `to_grouped` or `to_factored` made of it.
        statistics: of the conv.

    Returns:
        0 where they are the same; 0 too for a weight of zeros.

    Raises:
        TypeError: another module.
    """
    difference = (_expanded(conv) - _effective(approximation)).flatten(1)
    matrix = _expanded(conv).flatten(1)
    if statistics is None:
        lost, all_of_it = difference.square().sum(), matrix.square().sum()
    else:
        covariance = statistics.covariance
        mean = difference @ statistics.mean + _bias(conv) - _bias(approximation)
        lost = torch.einsum("ij,jk,ik->", difference, covariance, difference) + mean.square().sum()
        all_of_it = torch.einsum("ij,jk,ik->", matrix, covariance, matrix)
    return float((lost.clamp(min=0) / all_of_it).sqrt()) if all_of_it > 0 else 0.0


def _dense(conv: nn.Conv2d) -> Tensor:
    weight, groups = checked_weight(conv, True)
    if groups != 1:
        raise ValueError(f"conv must have one group, got {groups}")
    return weight


def _expanded(conv: nn.Conv2d) -> Tensor:
    """The weight over all inputs, zeros between groups; float64."""
    weight, groups = checked_weight(conv, True)
    full = weight.new_zeros(weight.shape[0], weight.shape[1] * groups, *weight.shape[2:])
    for k, part in enumerate(weight.chunk(groups)):
        full[k * len(part) : (k + 1) * len(part), k * weight.shape[1] : (k + 1) * weight.shape[1]] = part
    return full


def _effective(module: nn.Module) -> Tensor:
    """The weight of one conv that is the same as an approximation."""
    if isinstance(module, nn.Conv2d):
        return _expanded(module)
    parts: list[Any] = list(module) if isinstance(module, nn.Sequential) else []
    if len(parts) == 2 and isinstance(parts[1], nn.Conv2d):
        first, second = parts
        weight = _expanded(second)
        if isinstance(first, SelectChannels):
            full = torch.zeros_like(weight)
            full[:, first.order] = weight
            return full
        if isinstance(first, nn.Conv2d) and tuple(second.kernel_size) == (1, 1):
            return torch.einsum("or,rikl->oikl", weight[:, :, 0, 0], _expanded(first))
    raise TypeError(f"approximation must be of to_grouped or to_factored, got {type(module).__name__}")


def _bias(module: Any) -> Tensor:
    last = module if isinstance(module, nn.Conv2d) else module[-1]
    if last.bias is None:
        return torch.zeros(last.out_channels, dtype=torch.float64, device=last.weight.device)
    return last.bias.detach().double()


def _best_order(weight: Tensor, groups: int) -> Tensor:
    """Input channels, those of the first group first, such that the squares outside of the blocks are the least."""
    try:
        optimize = importlib.import_module("scipy.optimize")
    except ModuleNotFoundError as error:
        message = "permute needs scipy, which is not installed; it comes with `pip install lkops[io]`"
        raise ModuleNotFoundError(message, name="scipy") from error
    outputs, inputs = weight.shape[:2]
    kept = weight.square().sum((2, 3)).unflatten(0, (groups, outputs // groups)).sum(1)  # (groups, inputs)
    places = kept.repeat_interleave(inputs // groups, 0).cpu().numpy()
    chosen = torch.from_numpy(optimize.linear_sum_assignment(places, maximize=True)[1])
    return chosen.unflatten(0, (groups, -1)).sort(1).values.flatten()


def _like(conv: nn.Conv2d, inputs: int, outputs: int, kernel: Any, *, groups: int = 1, bias: bool) -> nn.Conv2d:
    """A conv with the same geometry, yet without values."""
    names = ("stride", "padding", "dilation", "padding_mode")
    geometry: dict[str, Any] = {name: getattr(conv, name) for name in names}
    return nn.Conv2d(inputs, outputs, kernel, groups=groups, bias=bias, device="meta", **geometry)


def _fill(new: nn.Conv2d, conv: nn.Conv2d, weight: Tensor, shift: Tensor | None) -> None:
    """Give a new conv this weight, and the old one's bias with the shift, dtype and mode."""
    dtype = conv.weight.dtype
    # a normalised weight is no parameter, and under no_grad it seems frozen
    own = [parameter for name, parameter in conv.named_parameters() if "bias" not in name]
    trains = any(parameter.requires_grad for parameter in own)
    new.weight = nn.Parameter(weight.to(dtype).contiguous(), requires_grad=trains)
    if new.bias is not None:
        bias = _bias(conv) if shift is None else _bias(conv) + shift
        new.bias = nn.Parameter(bias.to(dtype), requires_grad=conv.bias.requires_grad)  # type: ignore[union-attr]
    new.train(conv.training)
