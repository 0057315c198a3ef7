"""How much memory a super-resolved image takes, said before it is made."""

from dataclasses import asdict, dataclass
from pathlib import Path

from lkops._core import checks

from ..models import Network, Strips, WorkingMemory
from ..models.capabilities import reach_of, working_memory_of
from . import strips, tiles
from .ensembles import Ensembled

KEPT = 160 << 20  # bytes of blocks: five maps of 32 MiB, beyond which glibc gives memory back at once


@dataclass(frozen=True)
class Memory:
    """Bytes that `super_resolve` takes, in the order in which they come and go.

    Attributes:
        weights: of the network, and of its folded copy.
        input: the low-resolution image.
        blocks: what the parts that see the whole image hold at once, LKCA-Net's head and blocks; free again when the
            upsampler starts.
        upsampling: the last block's features, and a strip of the output with the maps that it is made of.
        output: the image that results. While it is made in one piece, none of it is there beside the blocks.
        tiled: whether it is made in tiles. Output is there while blocks run then, and what they free, in pieces of
            less than 32 MiB, mostly stays with the process.
        ensemble: whether it is the mean over eight orientations. Output is there while blocks run then, too, and of
            small ones what they free stays.
    """

    weights: int
    input: int
    blocks: int
    upsampling: int
    output: int
    tiled: bool = False
    ensemble: bool = False

    @property
    def peak(self) -> int:
        """The most at once, beyond what Python and torch take by themselves (a few hundred megabytes)."""
        held = self.weights + self.input
        if self.tiled:
            return held + self.output + self.blocks + self.upsampling
        if self.ensemble:
            kept = self.blocks if self.blocks < KEPT else 0
            return held + self.output + max(self.blocks, self.upsampling + kept)
        return held + max(self.blocks, self.output + self.upsampling)

    def as_dict(self) -> dict[str, int | bool]:
        """For a program."""
        return {**asdict(self), "peak": self.peak}

    def __str__(self) -> str:
        parts = [f"{name} {gigabytes(getattr(self, name))}" for name in ("input", "blocks", "upsampling", "output")]
        return f"{gigabytes(self.peak)} at the peak ({', '.join(parts)})"


def memory(
    model: Network,
    height: int,
    width: int,
    *,
    batch: int = 1,
    tile: tuple[int, int] | None = None,
    mapped: bool = False,
    ensemble: bool = False,
) -> Memory:
    """What `super_resolve` takes for an image of this size, in bytes.

    With N images of P = H W pixels, B bands (b of an MSI), scale r, e bytes an element:

        weights     the network's, and the folded copy's
        input       e N (B + b r^2) P
        blocks      the network's own formula, `Capabilities.memory`: body
        upsampling  the same: strip, of 128 MiB of output or less, or of a few times the rows that it depends on; of
                    the whole image where the network has no strips
        output      e N B r^2 P;  with `mapped` none: what is written belongs to the system
        peak        weights + input + max(blocks, upsampling + output);  with tiles
                    weights + input + output + blocks + upsampling, where the last two are a tile's; with `ensemble`
                    weights + input + output + max(blocks, upsampling), blocks added where they take less than 160
                    MiB; both hold the turned image or tile as well, in the orientation that takes the most

    For LKCA-Net see `lkcanet.models.lkcanet_parts.memory`, for others their class. With small tiles or images, whose
    maps take less than 32 MiB, glibc's allocator may keep about 0.1 GB more. On a GPU all but input and output is the
    device's memory.

    Args:
        model: the network; its dtype and device are taken for the image's.
        height, width: H, W of the low-resolution image.
        batch: N.
        tile: as for `super_resolve`.
        mapped: the result goes into a file (`out`).
        ensemble: as for `super_resolve`.

    Raises:
        ValueError: a size, batch or tile that is none; `lkcanet.models.Lacking`: the network has no such formula.
    """
    if isinstance(model, Ensembled):
        model, ensemble = model.network, True
    for name, value in (("height", height), ("width", width), ("batch", batch)):
        checks.positive(name, value)
    scale, pixels = model.scale, height * width
    rows, columns = (height, width) if tile is None else tiles.check(tile, None)[:2]
    rows, columns = min(rows, height), min(columns, width)
    element = next(model.parameters()).element_size()
    how = strips.strips_or_none(model)
    sides = {(rows, columns), (columns, rows)} if ensemble else {(rows, columns)}
    works = [_working(model, how, batch, *size, element) for size in sides]
    body, strip = max(work.body for work in works), max(work.strip for work in works)
    given = element * batch * (model.bands + model.msi_bands * scale**2)  # for a pixel
    copies = (0 if tile is None else given * rows * columns) + (given * rows * columns if ensemble else 0)
    output = element * batch * model.bands * scale**2 * pixels
    if how is None and tile is None and not mapped and not ensemble:
        strip = max(strip - output, output)  # of one piece: none of `output` is there before that is made
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return Memory(
        weights=2 * weights,
        input=given * pixels,
        blocks=copies + body if body else 0,
        upsampling=copies + strip,
        output=0 if mapped else output,
        tiled=tile is not None,
        ensemble=ensemble,
    )


def _working(model: Network, how: Strips | None, batch: int, rows: int, columns: int, element: int) -> WorkingMemory:
    """What the network takes for an image of this size, in strips."""
    made = rows
    if how is not None:
        made = min(rows, strips.strip_rows(model, how, batch, rows, columns, element) + 2 * how.halo)
    return working_memory_of(model, (batch, model.bands, rows, columns), made)


def reach(model: Network) -> int:
    """Low-resolution pixels, in each direction, that a pixel of the output depends on by convolutions and bicubic: what
    averages over the whole image, such as LKCA-Net's channel attention, comes on top.

    LKCA-Net's head adds 1, a block the halves of its two dilated kernels (31 with 5x5 of dilation 5 and 7x7 of dilation
    7), the upsampler's conv 1: 498 for 16 blocks.

    Raises:
        lkcanet.models.Lacking, a ValueError: all of the image takes part, or the network does not say.
    """
    return reach_of(model)


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


def fitting_tile(
    model: Network, height: int, width: int, limit: int, *, mapped: bool, ensemble: bool = False
) -> int | None:
    """The side of the largest square tile, a multiple of 32, with which an image takes no more than `limit` bytes."""
    for side in range(-(-max(height, width) // 32) * 32, 32, -32):
        if memory(model, height, width, tile=(side, side), mapped=mapped, ensemble=ensemble).peak <= limit:
            return side
    return None


def gigabytes(count: int) -> str:
    """ "2.1 GB", "134 MB"."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
