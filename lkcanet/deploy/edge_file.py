"""The file of a network for the runtime without PyTorch: csrc/runtime/graph.h says what lies where."""

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import lkops.nn

from ..models.chain import Link

__all__ = ["DTYPES", "INT8_VERSION", "VERSION", "quantise_rows", "write_network"]

VERSION, INT8_VERSION = 1, 2  # a file is of the oldest version that has what it holds
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_NONE = 0xFFFFFFFF
_LINE, _HEADER, _TENSOR, _OPERATOR, _TENSORS = 64, 64, 32, 128, 16
_CONV, _BLOCK, _ADD, _UPSAMPLE = range(4)
_ACTIVATIONS = {None: 0, "relu": 1, "gelu": 4, "silu": 5, "sigmoid": 6}  # as in csrc/conv2d/cpu.h


_OF_GRAPH, _INT8, _FLOAT32 = range(3)  # types of tensors
_BLOCK_INT8 = (2, 14)  # of a block's tensors: the first and the last 1x1 conv's weights


def quantise_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers (int8) of a weight (O, ...) and their scales (O,), float32: row m is about scales[m] times its numbers.

    scales[m] = max |weight[m]| / 127, or 1 where that is 0,   numbers = round(weight / scales), -127 to 127
    """
    rows = weight.detach().to("cpu", torch.float32).flatten(1)
    largest = rows.abs().amax(1)
    scales = torch.where(largest > 127 * torch.finfo(torch.float32).tiny, largest / 127, 1.0)
    return (rows / scales[:, None]).round().clamp(-127, 127).to(torch.int8).view(weight.shape), scales


class _Chain:
    """The records of a chain's tensors and operators, as they are put together."""

    def __init__(self, int8: bool = False) -> None:
        self.int8 = int8
        self.tensors: list[tuple[Tensor, int]] = []  # and their types
        self.operators: list[bytes] = []

    def add(self, link: Link) -> None:
        module = link.module
        if module is None:
            self._operator(_ADD, link, ())
        elif isinstance(module, lkops.nn.LKBlock):
            attention = module.attention
            self._operator(
                _BLOCK, link, module.arguments(), flag=attention.interleave, dilations=attention.dilations,
                eps=module.projection.norm.eps, products=_BLOCK_INT8,
            )  # fmt: skip
        elif isinstance(module, lkops.nn.UpsampleAdd):
            self._check_conv(module.conv)
            if module.accuracy != "exact":
                raise ValueError(f"an upsampler of accuracy {module.accuracy!r} can't be written, only an exact one")
            self._operator(
                _UPSAMPLE, link, (module.conv.weight, module.conv.bias), flag=module.border == "symmetric",
                cubic_a=module.cubic_a, products=(0,),
            )  # fmt: skip
        else:
            self._check_conv(module)
            activation = getattr(module, "activation", None)
            if activation not in _ACTIVATIONS:
                raise ValueError(f"a conv with {activation} can't be written, only {', '.join(map(str, _ACTIVATIONS))}")
            dilation = (module.dilation[0], 1)
            self._operator(
                _CONV, link, (module.weight, module.bias), dilations=dilation, activation=_ACTIVATIONS[activation]
            )

    @staticmethod
    def _check_conv(conv: nn.Conv2d) -> None:
        same = [dilation * (side // 2) for side, dilation in zip(conv.kernel_size, conv.dilation, strict=True)]
        as_it_is = getattr(conv, "residual_scale", 1.0) == 1 and getattr(conv, "accuracy", "exact") == "exact"
        plain = conv.padding_mode == "zeros" and conv.dilation[0] == conv.dilation[1] and as_it_is
        odd = all(side % 2 for side in conv.kernel_size)
        if conv.stride != (1, 1) or list(conv.padding) != same or not odd or not plain:
            raise ValueError(f"only exact convs of stride 1 that keep the image's size can be written, not {conv}")

    def _operator(
        self,
        kind: int,
        link: Link,
        tensors: Sequence[Tensor | None],
        *,
        flag: bool = False,
        dilations: Sequence[int] = (1, 1),
        activation: int = 0,
        eps: float = 1e-6,
        cubic_a: float = -0.5,
        products: Sequence[int] = (),
    ) -> None:
        """`products`: which of the tensors are weights that int8 files have as whole numbers."""
        indices, scales = [], []
        for number, tensor in enumerate(tensors):
            if tensor is None:
                indices.append(_NONE)
            elif self.int8 and number in products:
                numbers, of_rows = quantise_rows(tensor)
                indices.append(self._index(numbers, _INT8))
                scales.append(self._index(of_rows, _FLOAT32))
            else:
                indices.append(self._index(tensor))
        indices += [_NONE] * (_TENSORS - len(indices))
        values = (link.value, _NONE if link.second is None else link.second)
        record = struct.pack("<4I16I3Ifd", kind, flag, *values, *indices, *dilations, activation, eps, cubic_a)
        if self.int8:
            record += struct.pack("<2I", *scales, *[_NONE] * (2 - len(scales)))
        self.operators.append(record.ljust(_OPERATOR, b"\0"))

    def _index(self, tensor: Tensor, kind: int = _OF_GRAPH) -> int:
        self.tensors.append((tensor.detach(), kind))
        return len(self.tensors) - 1


def write_network(
    path: Path, links: Sequence[Link], bands: int, scale: int, dtype: str, metadata: Mapping[str, Any]
) -> int:
    """Write a chain of operators into a file that is there or not.

    Args:
        path: the file.
        links: whose weights are plain tensors.
        bands, scale: of the image.
        dtype: a name of DTYPES, of the weights in the file and of the features at run time; or "int8": bfloat16, but
            the upsampler's weight and those of the blocks' first and last 1x1 convs are whole numbers, and their
            inputs become such at run time, as do the inputs and weights of the blocks' grouped convs.
        metadata: what `lkedge info` shows, JSON-serialisable.

    Returns:
        The file's bytes.

    Raises:
        ValueError: an operator that the format has not, or metadata that JSON has not.
        OSError: the file can't be written.
    """
    int8 = dtype == "int8"
    of_graph = "bfloat16" if int8 else dtype
    chain = _Chain(int8)
    for link in links:
        chain.add(link)
    try:
        text = json.dumps(metadata, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata can't be written as JSON: {error}") from error
    at = _HEADER + _TENSOR * len(chain.tensors) + _OPERATOR * len(chain.operators)
    head = bytearray()
    end = at + len(text) + 1
    dtypes = {_OF_GRAPH: DTYPES[of_graph], _INT8: torch.int8, _FLOAT32: torch.float32}
    blobs = [_bytes(tensor, dtypes[kind]) for tensor, kind in chain.tensors]
    for (tensor, kind), blob in zip(chain.tensors, blobs, strict=True):
        begin = _line(end)
        head += struct.pack("<Q5I4x", begin, *tensor.shape, *[1] * (4 - tensor.dim()), kind)
        end = begin + len(blob)
    body = bytearray(struct.pack("<Q6I16x", end, list(DTYPES).index(of_graph), bands, scale, len(chain.tensors),
                                 len(chain.operators), len(text)))  # fmt: skip
    body += head + b"".join(chain.operators) + text + b"\0"
    offset = 16  # of the body in the file
    for blob in blobs:
        body += b"\0" * (_line(offset + len(body)) - offset - len(body)) + blob
    path.write_bytes(b"LKOPSNET" + struct.pack("<2I", INT8_VERSION if int8 else VERSION, zlib.crc32(body)) + body)
    return end


def _line(offset: int) -> int:
    return -(-offset // _LINE) * _LINE


def _bytes(tensor: Tensor, dtype: torch.dtype) -> bytes:
    """Little-endian, dense."""
    same_bits = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.int8: torch.int8}[dtype]
    values = tensor.to("cpu", dtype).contiguous().view(same_bits).numpy()
    return values.astype(values.dtype.newbyteorder("<")).tobytes()
