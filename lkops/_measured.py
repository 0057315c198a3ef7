"""What GPUs have shown of `cuda` against `triton`, from which the automatic choice between them follows.

measured.json beside this file lists, for an operator, dtype, shape and device, how many times as fast `cuda` was; it is
what `python -m bench.gpu.cascade --choose` writes of committed results of `make gpu`. The rule: `cuda` is chosen where
the measured shape next to the one at hand, on this device and in this dtype, is one that it won, and is less than
twice as large or small in both the number of planes and the pixels of one; everywhere else it is `triton`, which every
operator has. Without a result `cuda` is never chosen.
"""

import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

TABLE = Path(__file__).with_name("measured.json")
NEAR = 2.0


@functools.cache
def entries() -> tuple[dict[str, Any], ...]:
    """The table; empty where no result is committed."""
    return tuple(json.loads(TABLE.read_text())) if TABLE.exists() else ()


@functools.lru_cache(1024)
def _wins(operator: str, dtype: str, device: str, shape: tuple[int, ...]) -> bool:
    def distance(other: Sequence[int]) -> float:
        pairs = ((math.prod(other[:2]), math.prod(shape[:2])), (math.prod(other[2:]), math.prod(shape[2:])))
        return max(abs(math.log(a / b)) for a, b in pairs)

    same = [e for e in entries() if (e["operator"], e["dtype"], e["device"]) == (operator, dtype, device)]
    nearest = min(same, key=lambda e: distance(e["shape"]), default=None)
    return nearest is not None and distance(nearest["shape"]) < math.log(NEAR) and nearest["ratio"] > 1


def wins(operator: str, image: torch.Tensor) -> bool:
    """Whether `cuda` has beaten `triton` at this operator for an image like this, (N, C, H, W) on a GPU.

    Under torch.compile the sizes are not looked at, since they would become constants of the graph: False.
    """
    if not entries() or torch.compiler.is_dynamo_compiling() or not image.numel() or image.dim() != 4:
        return False
    name = torch.cuda.get_device_name(image.device)
    return _wins(operator, str(image.dtype).removeprefix("torch."), name, tuple(image.shape))


def why(operator: str) -> str:
    """Of the choice between `cuda` and `triton`, for `backends.status`."""
    found = [entry for entry in entries() if entry["operator"] == operator]
    if not found:
        return "cuda is not automatic: no committed result of a GPU shows that it beats triton"
    won = [entry for entry in found if entry["ratio"] > 1]
    return (
        f"cuda is automatic on {', '.join(sorted({entry['device'] for entry in found}))} for shapes near the "
        f"{len(won)} of {len(found)} measured ones where it beat triton; elsewhere triton"
    )
