"""Good and bad values of every kind of option. What is good comes with the value that it means."""

import inspect
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import torch

BAD_WHOLE = [0, -1, True, False, 2.0, "2", None, [2], np.float64(2), np.bool_(True), np.array([2, 2]), 1 << 70]
BAD_WHOLE += [torch.tensor(2.0), torch.tensor(True), torch.tensor([2, 2]), 2 + 0j]
BAD_NUMBER = [True, "1", None, [1.0], math.nan, math.inf, -math.inf, 1 + 0j, np.bool_(True), torch.tensor(1.0), 10**400]
BAD_FLAG = [0, 1, None, "no", np.bool_(True), 1.0, [], torch.tensor(True)]

# kind -> (good values with what they mean, bad ones)
KINDS: dict[str, tuple[list[tuple[Any, Any]], list[Any]]] = {
    "whole": ([(2, 2), (np.int64(2), 2), (np.uint8(2), 2), (torch.tensor(2), 2), (np.array(2), 2)], BAD_WHOLE),
    "pair": (
        [((2, 3), (2, 3)), ([2, 3], (2, 3)), ((np.int32(2), np.int64(3)), (2, 3)), (torch.Size([2, 3]), (2, 3))],
        [5, "23", None, (5,), (2, 3, 4), (), {2: 3, 3: 2}, np.array([2, 3]), torch.tensor([2, 3])]
        + [(2, bad) for bad in BAD_WHOLE]
        + [(bad, 3) for bad in BAD_WHOLE],
    ),
    "above zero": (
        [
            (0.5, 0.5),
            (1, 1.0),
            (np.float32(0.5), 0.5),
            (np.float64(0.5), 0.5),
            (np.int64(1), 1.0),
            (Fraction(1, 2), 0.5),
        ],
        [*BAD_NUMBER, 0, 0.0, -1, -0.5, -0.0],
    ),
    "0 or more": ([(0.5, 0.5), (0, 0.0), (np.float32(0.5), 0.5), (np.int64(1), 1.0)], [*BAD_NUMBER, -1, -0.5]),
    "number": ([(-0.75, -0.75), (-1, -1.0), (np.float16(-0.5), -0.5), (np.int8(-1), -1.0)], BAD_NUMBER),
    "flag": ([(True, True), (False, False)], BAD_FLAG),
    "one or two": (
        [(2, 2), ((2, 1), (2, 1)), ([1, 2], (1, 2)), (np.int64(2), 2), (torch.tensor(2), 2), (torch.Size([2, 2]), 2)],
        [*BAD_WHOLE, (1, 2, 3), (), (1, 0), (True, 1), {1: 2}, b"11"],
    ),
    "padding": (
        [("same", 1), ("valid", 0), (0, 0), ((1, 2), (1, 2)), ([0, 1], (0, 1)), (np.int64(2), 2), (torch.tensor(2), 2)],
        [*BAD_WHOLE[1:], "full", "", (1, 2, 3), (), (1, -1), (True, 1), b"11"],
    ),
    "activation": (
        [(None, None), ("relu", "relu"), (np.str_("gelu"), "gelu"), ("silu", "silu"), ("sigmoid", "sigmoid")],
        ["none", "", "ReLU", 1, True, ["relu"], torch.relu],
    ),
    "accuracy": (
        [("exact", "exact"), (np.str_("relaxed"), "relaxed")],
        ["", "fast", None, 1, True, ["exact"]],
    ),
    "keep": ([("faster", "faster"), (np.str_("all"), "all")], ["", "some", None, 1, True, ["all"]]),
    "memory_format": (
        [(None, None), (torch.contiguous_format, torch.contiguous_format), (torch.channels_last, torch.channels_last)],
        ["channels_last", 1, True, torch.preserve_format, torch.channels_last_3d, torch.strided],
    ),
    "border": ([("replicate", "replicate"), (np.str_("symmetric"), "symmetric")], ["wrap", "", None, 1, ["symmetric"]]),
}

# option -> kind; those of `lkops.nn`, `fuse`, `compress` and `lkops.lowrank` too
OF = {
    **dict.fromkeys(("scale", "dilation", "channels", "kernel_size", "groups", "reduction", "rank", "bands"), "whole"),
    **dict.fromkeys(("in_channels", "out_channels", "steps"), "whole"),
    **dict.fromkeys(("dilations", "kernel_sizes"), "pair"),
    **dict.fromkeys(("eps", "learning_rate", "frequency"), "above zero"),
    **dict.fromkeys(("floor", "alpha", "cosine_weight", "sam_weight", "gradient_weight"), "0 or more"),
    **dict.fromkeys(("final_learning_rate", "drop_path"), "0 or more"),
    **dict.fromkeys(("decay", "share"), "above zero"),
    **dict.fromkeys(("cubic_a", "slope", "residual_scale"), "number"),
    **{"stride": "one or two", "padding": "padding", "activation": "activation", "accuracy": "accuracy"},
    **{"border": "border", "memory_format": "memory_format", "keep": "keep"},
    **dict.fromkeys(("interleave", "bias", "inference", "energy", "permute", "whole_bands", "block_diagonal"), "flag"),
}


def options_of(function: Callable[..., Any]) -> list[str]:
    """The options of `OF` that a function has; a tensor may have an option's name (`keep` of lk_block)."""
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if one.name in OF and "Tensor" not in str(one.annotation)]


def outcome(call: Callable[[], Any]) -> tuple[str, Any]:
    """What a call returns, or the type and message of what it raises."""
    try:
        return "returns", call()
    except Exception as error:
        return type(error).__name__, str(error)
