"""How much memory a super-resolved image takes, said before it is made."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from lkops import backends
from lkops._core import checks

from ..models import LKCANet
from . import strips, tiles

_REFERENCE_MAPS, _REFERENCE_STRIPS = 12, 4  # that plain PyTorch holds at once in a block and in the upsampler: measured


@dataclass(frozen=True)
class Memory:
    """Bytes that `super_resolve` takes, in the order in which they come and go.

    Attributes:
        weights: of the network, and of its folded copy.
        input: the low-resolution image.
        blocks: what head or blocks hold at once; free again when the upsampler starts.
        upsampling: the last block's features, and a strip of the output.
        output: the image that results. While it is made in one piece, none of it is there beside the blocks.
        tiled: whether it is made in tiles. Output is there while blocks run then, and what they free, in pieces of
            less than 32 MiB, mostly stays with the process.
    """

    weights: int
    input: int
    blocks: int
    upsampling: int
    output: int
    tiled: bool = False

    @property
    def peak(self) -> int:
        """The most at once, beyond what Python and torch take by themselves (a few hundred megabytes)."""
        held = self.weights + self.input
        if self.tiled:
            return held + self.output + self.blocks + self.upsampling
        return held + max(self.blocks, self.output + self.upsampling)

    def as_dict(self) -> dict[str, int | bool]:
        """For a program."""
        return {**asdict(self), "peak": self.peak}

    def __str__(self) -> str:
        parts = [f"{name} {gigabytes(getattr(self, name))}" for name in ("input", "blocks", "upsampling", "output")]
        return f"{gigabytes(self.peak)} at the peak ({', '.join(parts)})"


def memory(
    model: LKCANet,
    height: int,
    width: int,
    *,
    batch: int = 1,
    tile: tuple[int, int] | None = None,
    mapped: bool = False,
) -> Memory:
    """What `super_resolve` takes for an image of this size, in bytes.

    With N images of P = H W pixels, B bands, C channels, scale r, e bytes an element and T threads:

        weights     the network's, and the folded copy's
        input       e N B P
        blocks      e (2 N + 3 M) C P + T planes   a block's input and output; u, a1 and a2 of M samples at a time
                    or, if more, the head: e N (C + max(B, C)) P, for torch reorders input or output
        upsampling  e N C P + strip                strip = e N (B r^2 + B + C) W s, of s rows: 128 MiB or less
        output      e N B r^2 P;  with `mapped` none: what is written belongs to the system
        peak        weights + input + max(blocks, upsampling + output);  with tiles
                    weights + input + output + blocks + upsampling, where the last two are a tile's

    `planes` are the three zero-padded planes of a thread in the depthwise convs; M is N, or T where whole samples are
    shared out to the threads (N is a multiple of T, or 8 T or more). Where lkops would run the blocks on its reference,
    in plain PyTorch (float64, or no compiled kernels), 12 maps count instead of 5, and the figure is rough: torch's
    convs of float64 take several times more where the image is small. With small tiles, whose maps take
    less than 32 MiB, glibc's allocator may keep about 0.1 GB more. On a GPU all but input and output is the device's
    memory.

    Args:
        model: the network; its dtype and device are taken for the image's.
        height, width: H, W of the low-resolution image.
        batch: N.
        tile: as for `super_resolve`.
        mapped: the result goes into a file (`out`).

    Raises:
        ValueError: a size, batch or tile that is none.
    """
    for name, value in (("height", height), ("width", width), ("batch", batch)):
        checks.positive(name, value)
    scale, channels, pixels = model.scale, model.config["channels"], height * width
    rows, columns = (height, width) if tile is None else tiles.check(tile, None)[:2]
    rows, columns = min(rows, height), min(columns, width)
    parameter = next(model.parameters())
    element = parameter.element_size()
    plain = backends.choose("lk_block", None, [parameter]) == "reference"

    feature_map = element * channels * rows * columns
    seen = element * batch * model.bands * rows * columns
    blocks = _REFERENCE_MAPS * batch * feature_map
    if not plain:
        blocks = (2 * batch + 3 * _samples(parameter, batch)) * feature_map + _planes(model, rows, columns)
    made = min(rows, strips.strip_rows(model, batch, rows, columns, element) + 2 * strips.halo(model))
    output = element * batch * model.bands * scale**2  # for a pixel
    strip = output * columns * made
    around = 0 if made == rows else element * batch * (model.bands + channels) * columns * made
    rank = model.config["upsample_rank"]  # channels between the convs of a factored upsampler
    around += element * batch * (rank or 0) * columns * made
    copies = 0 if tile is None else seen
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return Memory(
        weights=2 * weights,
        input=element * batch * model.bands * pixels,
        blocks=copies + max(blocks, batch * feature_map + max(seen, batch * feature_map)),
        upsampling=copies + batch * feature_map + (_REFERENCE_STRIPS if plain else 1) * strip + around,
        output=0 if mapped else output * pixels,
        tiled=tile is not None,
    )


def _samples(parameter: torch.Tensor, batch: int) -> int:
    """Samples of which a block's inner maps exist at the same time: `by_sample` of forward.h in
    csrc/large_kernel_channel_attention."""
    threads = torch.get_num_threads()
    shared_out = parameter.device.type == "cpu" and (batch % threads == 0 or batch >= 8 * threads)
    return min(batch, threads) if shared_out else batch


def _planes(model: LKCANet, rows: int, columns: int) -> int:
    """Bytes of the padded planes in the depthwise convs of all threads."""
    if next(model.parameters()).device.type != "cpu":
        return 0
    margins = [
        dilation * (side // 2)
        for dilation, side in zip(model.config["dilations"], model.config["kernel_sizes"], strict=True)
    ]
    return 4 * torch.get_num_threads() * sum((rows + 2 * m) * (columns + 2 * m) for m in (*margins, 0))


def reach(model: LKCANet) -> int:
    """Low-resolution pixels, in each direction, that a pixel of the output depends on by convolutions and bicubic:
    channel attention, which depends on all, comes on top.

    The head's conv adds 1, a block the halves of its two dilated kernels (31 with 5x5 of dilation 5 and 7x7 of dilation
    7), the upsampler's conv 1: 498 for 16 blocks.
    """
    blocks = sum(
        dilation * (side // 2)
        for dilation, side in zip(model.config["dilations"], model.config["kernel_sizes"], strict=True)
    )
    head = model.head.weight.shape[2] // 2
    return max(head + model.config["blocks"] * blocks + model.upsample.reach, strips.BICUBIC_ROWS)


def available() -> tuple[int, int] | None:
    """Bytes of memory that are free to use, and of swap space; None where the system does not say."""
    try:
        import psutil

        free, swap = int(psutil.virtual_memory().available), int(psutil.swap_memory().free)
    except ImportError:
        try:
            lines = Path("/proc/meminfo").read_text().splitlines()
            sizes = {name: int(rest.split()[0]) << 10 for name, rest in (line.split(":", 1) for line in lines)}
            free, swap = sizes["MemAvailable"], sizes["SwapFree"]
        except (OSError, ValueError, KeyError, IndexError):
            return None
    limit = _container_limit()
    return (free, swap) if limit is None or limit >= free else (limit, 0)


def _container_limit() -> int | None:
    """What a container (cgroup v2) may still take: /proc/meminfo tells of the whole machine there."""
    group = Path("/sys/fs/cgroup")
    try:
        most = int((group / "memory.max").read_text())
        taken = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return max(0, most - int(taken["anon"]))
    except (OSError, ValueError, KeyError):  # no such group, or "max"
        return None


def fitting_tile(model: LKCANet, height: int, width: int, limit: int, *, mapped: bool) -> int | None:
    """The side of the largest square tile, a multiple of 32, with which an image takes no more than `limit` bytes."""
    for side in range(-(-max(height, width) // 32) * 32, 32, -32):
        if memory(model, height, width, tile=(side, side), mapped=mapped).peak <= limit:
            return side
    return None


def gigabytes(count: int) -> str:
    """ "2.1 GB", "134 MB"."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
