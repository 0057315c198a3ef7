"""`compress`: a model with approximations of low rank in place of its upsamplers."""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils._pytree import tree_leaves

from .. import backends
from .._core import checks
from ..fusion.report import Left
from .approximation import approximation_error, to_factored, to_grouped
from .macs import CountMacs
from .singular_values import checked_share, rank_at
from .statistics import InputStatistics, input_statistics
from .upsamplers import Upsampler, find, weight_normalised

__all__ = ["CompressedUpsampler", "CompressionReport", "compress"]


@dataclass(frozen=True)
class CompressedUpsampler:
    """An upsampler that was replaced.

    Attributes:
        place: of the conv in the model.
        before, after: in words.
        parameters: trainable values, before and after.
        macs: multiply-adds for a pixel of the features, before and after.
        error: expected, see `approximation_error`.
    """

    place: str
    before: str
    after: str
    parameters: tuple[int, int]
    macs: tuple[int, int]
    error: float


@dataclass
class CompressionReport:
    """Result of `compress`; print it for a table.

    Attributes:
        compressed, left: upsamplers that were replaced, and parts that look like one, with the reason.
        parameters: of the model, before and after.
        macs: of the model for the example input, before and after: convs, matrix products and attention. None without
            an example.
        output_error: |y - y'| / |y| for the example input (Frobenius norms, evaluation mode), over all floating tensors
            that the model returns; None without one.
    """

    compressed: list[CompressedUpsampler] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    parameters: tuple[int, int] = (0, 0)
    macs: tuple[int, int] | None = None
    output_error: float | None = None

    def __str__(self) -> str:
        lines = ["compressed:"] if self.compressed else ["nothing was compressed"]
        for part in self.compressed:
            (many, few), (slow, quick) = part.parameters, part.macs
            lines.append(
                f"  {part.place or '(model)'}: {part.before} -> {part.after}; parameters {many:,} -> {few:,}, MACs a "
                f"pixel {slow:,} -> {quick:,}; expected error {part.error:.1%}"
            )
        if self.left:
            lines += ["left:", *(f"  {part.place or '(model)'}: {part.what}: {part.why}" for part in self.left)]
        lines.append("the model: parameters {:,} -> {:,}".format(*self.parameters))
        if self.macs is not None:
            lines[-1] += ", MACs of the example {:,} -> {:,}".format(*self.macs)
        if self.output_error is not None:
            lines.append(f"outputs of the example differ by {self.output_error:.2%}")
        return "\n".join(lines)


@torch.no_grad()
def compress(
    model: nn.Module,
    *,
    share: float | None = None,
    groups: int | None = None,
    rank: int | None = None,
    energy: bool = False,
    permute: bool = False,
    calibration: Iterable[Tensor | tuple[Any, ...]] | None = None,
    example_input: Tensor | tuple[Any, ...] | None = None,
) -> tuple[nn.Module, CompressionReport]:
    """Find every upsampler of a model (conv, then PixelShuffle; `lkops.nn.UpsampleAdd`) and put a cheaper one there.

    Args:
        model: any module; it is not changed. Compress it before `lkops.fuse`, which finds the new convs too.
        share: factor each into two convs of the rank that holds this share of its singular values (`to_factored`,
            `rank_at`). This is the default, with 0.9.
        groups: or: make each a grouped conv (`to_grouped`).
        rank: or: factor each into two convs of this rank.
        energy: `share` is of the squares.
        permute: with `groups`, choose the inputs of each group.
        calibration: inputs of the model, a few: the approximations are then the best on what reaches the upsamplers
            there, instead of the best for the weights alone. Much better, and no training.
        example_input: a tensor, or the tuple of the model's arguments, to count and compare on.

    Returns:
        (compressed, report): a copy of the model, with parameters of its own; state dict keys below an upsampler
        differ. `lkops.fuse` and `distill_upsampler` are the next steps. Weights that were weight-normalised are so
        again. A conv that is used in several places is replaced in all of them.

    Raises:
        TypeError: `model` is no module; `example_input` neither tensor nor tuple; a number of another type.
        ValueError: not one of share, groups and rank; a number out of range; `permute` without groups, `energy` with
            anything but a share; calibration or example can't be run; a lazy module that has not run yet.
        ModuleNotFoundError: `permute` without SciPy.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if example_input is not None and not isinstance(example_input, (Tensor, tuple)):
        raise TypeError(f"example_input must be a tensor or a tuple of arguments, got {type(example_input).__name__}")
    given = [name for name, value in (("share", share), ("groups", groups), ("rank", rank)) if value is not None]
    if len(given) > 1:
        raise ValueError(f"give one of share, groups and rank, got {' and '.join(given)}")
    share = None if share is None else checked_share(share)
    groups = None if groups is None else checks.positive("groups", groups)
    rank = None if rank is None else checks.positive("rank", rank)
    energy, permute = checks.flag("energy", energy), checks.flag("permute", permute)
    if permute and groups is None:
        raise ValueError("permute goes with groups")
    if energy and (groups is not None or rank is not None):
        raise ValueError(f"energy goes with share, got {given[0]}")
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ValueError(f"model must be initialised, run it once: {name} has no shape yet")
    report = CompressionReport()
    result = _copy(model)
    found, report.left = find(result)
    statistics: list[InputStatistics | None] = [None] * len(found)
    if calibration is not None and found:
        callers = [upsampler.inside or upsampler.conv for upsampler in found]
        try:
            statistics = list(input_statistics(result, callers, calibration))
        except (TypeError, ValueError) as error:
            raise type(error)(f"calibration: {error}") from error
    for upsampler, seen in zip(found, statistics, strict=True):
        wanted = rank
        if groups is None and rank is None:
            wanted = rank_at(upsampler.conv, 0.9 if share is None else share, energy=energy)
        if why := _why_not(upsampler.conv, groups, wanted):
            report.left.append(Left(upsampler.place, "upsampler", why))
            continue
        if groups is not None:
            new: nn.Module = to_grouped(upsampler.conv, groups, permute=permute, statistics=seen)
        else:
            assert wanted is not None
            new = to_factored(upsampler.conv, wanted, statistics=seen)
        report.compressed.append(_described(upsampler, new, seen))
        _put(result, upsampler, new)
    report.parameters = _count(model), _count(result)
    if example_input is not None:
        example = (example_input,) if isinstance(example_input, Tensor) else example_input
        before, y = _measured(model, example, "the model can't run example_input")
        after, z = _measured(result, example, "example_input runs through the model, but not once it is compressed")
        report.macs = before, after
        report.output_error = float((y - z).norm() / y.norm()) if y.any() else float((y - z).norm())
    return result, report


def _why_not(conv: nn.Conv2d, groups: int | None, rank: int | None) -> str:
    """Why this upsampler can't be approximated so, or is not worth it."""
    if groups is not None:
        if conv.groups >= groups:
            return f"it has {conv.groups} groups already" if conv.groups > 1 else "one group is what it has"
        for what, count in (("inputs", conv.in_channels), ("outputs", conv.out_channels)):
            if count % groups:
                return f"{groups} groups do not divide its {count} {what}"
        return "its groups would be cut across" if groups % conv.groups else ""
    assert rank is not None
    if conv.groups > 1:
        return f"it has {conv.groups} groups already, and only a conv of one group is factored"
    length = conv.weight[0].numel()
    if rank * (length + conv.out_channels) >= conv.weight.numel():
        most = (conv.weight.numel() - 1) // (length + conv.out_channels)
        return f"factored into rank {rank} it would have more parameters: up to rank {most} saves some"
    return ""


def possible_groups(conv: nn.Conv2d) -> list[int]:
    """How many groups it could be given in place of its own."""
    most = math.gcd(conv.in_channels, conv.out_channels)
    return [groups for groups in range(2 * conv.groups, most + 1, conv.groups) if most % groups == 0]


def _described(upsampler: Upsampler, new: nn.Module, seen: InputStatistics | None) -> CompressedUpsampler:
    conv = upsampler.conv
    convs = [module for module in new.modules() if isinstance(module, nn.Conv2d)]
    sides = "x".join(map(str, conv.kernel_size))
    if len(convs) == 2:
        after = f"{sides} to rank {convs[0].out_channels}, 1x1"
    else:
        chosen = ", inputs chosen" if isinstance(new, nn.Sequential) else ""
        after = f"{sides} of {convs[0].groups} groups{chosen}"
    weights = sum(each.weight.numel() for each in convs)
    biases = 0 if conv.bias is None else conv.bias.numel()
    return CompressedUpsampler(
        place=upsampler.place,
        before=f"{conv.in_channels} -> {conv.out_channels}, {sides}" + f" of {conv.groups} groups" * (conv.groups > 1),
        after=after,
        parameters=(conv.weight.numel() + biases, weights + biases),
        macs=(conv.weight.numel(), weights),
        error=approximation_error(conv, new, statistics=seen),
    )


def _put(model: nn.Module, upsampler: Upsampler, new: nn.Module) -> None:
    """In place of the conv, wherever the model holds it; normalised if it was."""
    axis = weight_normalised(upsampler.conv)
    if axis is not None:
        for conv in [module for module in new.modules() if isinstance(module, nn.Conv2d)]:
            _normalise(conv, axis)
            for name in ("original0", "original1"):  # gain or direction alone may be frozen
                name = f"parametrizations.weight.{name}"
                conv.get_parameter(name).requires_grad_(upsampler.conv.get_parameter(name).requires_grad)
    if upsampler.inside is not None:
        inside = upsampler.inside
        inside.first, inside.conv = (new[0], new[1]) if isinstance(new, nn.Sequential) else (None, new)  # type: ignore[assignment]
        return
    for path in upsampler.paths:
        parent, _, name = path.rpartition(".")
        if path:
            model.get_submodule(parent)._modules[name] = new


def _normalise(conv: nn.Conv2d, axis: int) -> None:
    weight_norm(conv, dim=axis)
    gain = conv.get_parameter("parametrizations.weight.original0")
    direction = conv.get_parameter("parametrizations.weight.original1")
    dead = (gain == 0).expand_as(direction)
    direction[dead] = 1.0  # a direction of zeros would give NaN; the gain of 0 keeps the weight 0


def _copy(model: nn.Module) -> nn.Module:
    """A deep copy, of a model too that keeps what it computed, as the weight of an old weight norm or of pruning."""
    computed = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                computed[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(model, computed)
    except Exception as error:
        raise TypeError(f"model can't be copied: {type(error).__name__}: {error}") from error


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _measured(model: nn.Module, example: tuple[Any, ...], else_: str) -> tuple[int, Tensor]:
    """Multiply-adds, and all outputs in a row, in evaluation mode."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with backends.backend("reference"), CountMacs() as counter:
            y = model(*example)
    except Exception as error:
        raise ValueError(f"{else_}: {type(error).__name__}: {error}") from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    outputs = [item for item in tree_leaves(y) if isinstance(item, Tensor) and item.is_floating_point()]
    if not outputs:
        raise ValueError(f"the model must return tensors to be compared on example_input, got {type(y).__name__}")
    return counter.total, torch.cat([item.double().flatten() for item in outputs])
