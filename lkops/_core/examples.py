"""Arguments that stand for what an operator meets: small and awkward ones for tests, sizes of use for benchmarks.

Every operator's room has an `examples.py` with one `EXAMPLES`. `lkops.testing` is the public face.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

Arguments = dict[str, Tensor | None]
Shape = tuple[int, int, int, int]
# what torch's own bicubic does, which eager PyTorch has as one op
TORCH_BICUBIC: Mapping[str, Any] = {"cubic_a": -0.75, "border": "replicate"}
CHANNELS = 128  # C, and B, of LKCA-Net's in use
IMAGES: Mapping[str, Shape] = {
    "patch_16": (1, CHANNELS, 16, 16),
    "patch_32": (1, CHANNELS, 32, 32),
    "batch_16": (16, CHANNELS, 16, 16),
    "patches_16": (32, CHANNELS, 16, 16),
    "patches_32": (32, CHANNELS, 32, 32),
    "image_64": (1, CHANNELS, 64, 64),
    "image_128": (1, CHANNELS, 128, 128),
}
TIMED = ("patch_16", "batch_16", "image_64", "image_128")  # those that benchmarks compare with others
ODD: Shape = (3, 31, 13, 17)  # the general case at sizes of use, by the name "odd"


class Draw:
    """Normal numbers of unit size from one seed, in float64, so that every dtype sees roundings of the same numbers.

    Args:
        seed: of the numbers.
        device: "meta" gives shapes alone.
    """

    def __init__(self, seed: int = 0, device: str = "cpu") -> None:
        self.generator, self.device = torch.Generator().manual_seed(seed), device

    def __call__(self, *shape: int, scale: float = 1.0) -> Tensor:
        if self.device == "meta":
            return torch.empty(shape, dtype=torch.float64, device="meta")
        return scale * torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def conv(self, outputs: int, inputs: int, *kernel: int) -> Tensor:
        """The weight of a conv of which every output is of unit size; `kernel` is a side, or height and width."""
        height, width = (*kernel, *kernel)[:2]
        return self(outputs, inputs, height, width, scale=(inputs * height * width) ** -0.5)


@dataclass(frozen=True)
class Example:
    """One call of an operator.

    Attributes:
        name: unique among those of an operator.
        shape: (N, C, H, W) of its image.
        options: keyword options of the public function.
        sizes: what its other tensors' sizes follow from, such as `groups`; what is left out has the operator's usual
            value.
        without: optional tensors that are left out.
        use: "small" (the plain ones, which every kind of run has), "awkward" (edges, in tests), "large" (some tens of
            megabytes, so that memory may not be there) or "benchmark".
    """

    name: str
    shape: Shape
    options: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    use: str = "awkward"

    def tiny(self) -> "Example":
        """One of the same name that takes no time: an eighth of many channels and of the sides, two samples at most."""
        n, c, h, w = self.shape
        if c < 64:
            return self
        widths = {name: self.sizes[name] // 8 for name in ("bands", "hidden", "outputs") if name in self.sizes}
        shape = (min(n, 2), c // 8, max(h // 8, 4), max(w // 8, 4))
        return replace(self, shape=shape, sizes={**self.sizes, **widths})


def example(
    name: str, *shape: int, without: tuple[str, ...] = (), use: str = "awkward", sizes: Any = None, **options: Any
) -> Example:
    """An `Example`, short to write."""
    n, c, h, w = shape
    return Example(name, (n, c, h, w), options, sizes or {}, without, use)


# shapes on which every operator is tried
SHAPES = (
    example("plain", 2, 8, 8, 8, use="small"),
    example("prime", 3, 8, 13, 17, use="small"),
    example("one_pixel", 1, 4, 1, 1),
    example("one_row", 2, 4, 1, 31),
    example("one_column", 1, 4, 29, 1),
    example("zero_batch", 0, 4, 5, 7),
)
ONE_CHANNEL = example("one_channel", 2, 1, 6, 5)
BEYOND_THE_REACH = example("beyond_the_reach", 1, 4, 45, 50)  # both dilated kernels have pixels that see no border


def benchmarks(names: Sequence[str] = tuple(IMAGES), suffix: str = "", **facts: Any) -> tuple[Example, ...]:
    """Examples of `IMAGES` by their names and a suffix; `facts` are an `Example`'s."""
    return tuple(Example(name + suffix, IMAGES[name], use="benchmark", **facts) for name in names)


@dataclass(frozen=True)
class Work:
    """Bytes that must be moved, and multiply-adds: `matrix` ones (1x1, 3x3 convs) may run on tensor cores, `vector`
    ones (depthwise convs, bicubic, losses) run on FMA units."""

    bytes: float = 0
    matrix: float = 0
    vector: float = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.bytes + other.bytes, self.matrix + other.matrix, self.vector + other.vector)

    def __mul__(self, times: float) -> "Work":
        return Work(self.bytes * times, self.matrix * times, self.vector * times)


@dataclass(frozen=True)
class Examples:
    """What whoever tests or times an operator must know of it.

    Attributes:
        draw: (draw, example) to its tensors by name, in order.
        eager: the same as the public function, as an engineer would write it in PyTorch, fast; called by names.
        work: (example, bytes of a value) to what a forward must do at least, whoever does it: inputs and parameters
            read once, results written once, products of the formula but for those with zeros of the padding.
        cases: the examples; "plain" is among them, and no two have one name.
        images: names of the tensors that are no parameters.
        data: those of them that need no gradient in training.
        kinks: fraction of values at which rounding may decide on which side of a kink they lie.
        of_size: (options) to the part of the largest value that results may be off beside rounding, where options ask
            for less accuracy.
    """

    draw: Callable[[Draw, Example], Arguments]
    eager: Callable[..., Any]
    work: Callable[[Example, int], Work]
    cases: tuple[Example, ...]
    images: tuple[str, ...]
    data: tuple[str, ...] = ()
    kinks: float = 0.0
    of_size: Callable[[Mapping[str, Any]], float] = lambda options: 0.0

    def arguments(self, case: Example, draw: Draw | None = None) -> Arguments:
        """The tensors of one example by name, in float64 unless `draw` says otherwise; None where it has none."""
        drawn = self.draw(draw or Draw(), case)
        return {name: None if name in case.without else tensor for name, tensor in drawn.items()}

    def of(self, *uses: str) -> tuple[Example, ...]:
        """Those of these uses."""
        return tuple(case for case in self.cases if case.use in uses)

    def __getitem__(self, name: str) -> Example:
        """The one of this name."""
        found = next((case for case in self.cases if case.name == name), None)
        if found is None:
            raise KeyError(f"no example {name!r}; there are {', '.join(case.name for case in self.cases)}")
        return found


def taps_inside(size: int, kernel: int, dilation: int = 1) -> int:
    """Pairs of a tap and an output along one axis of a "same" conv whose input is no padding."""
    reach = kernel // 2
    return sum(max(0, size - abs(tap) * dilation) for tap in range(-reach, reach + 1))
