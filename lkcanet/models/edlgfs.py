"""EDLGFS: edge distillation and local-global feature selection (Li et al., Remote Sensing 2025)."""

import json
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from lkops._core import checks

from .capabilities import Capabilities, Upsampler, WorkingMemory, in_steps
from .edlgfs_blocks import EdgeBranch, LGFSLayer, Reconstruction, Stage, conv, primes
from .registry import Network, check_image, copied

__all__ = ["EDLGFS"]


class EDLGFS(Network):
    """A low-resolution hyperspectral image in, the image `scale` times larger in both directions out.

        F_0 = conv3x3(I_LR),   F_n = stage_n(F_(n-1)),   I_SR = reconstruction(F_N + F_0, I_LR)

    A stage selects features by attention between all pixels of the image; for an image of H x W pixels its cost grows
    with (H W)^2, its memory with H W. `edge` is a second network, from the edges of I_LR to those of I_SR, that
    `lkcanet.objectives.edlgfs.EdgeDistillation` trains along and learns from; `forward` never runs it and `fold` drops
    it. A fresh network returns the bicubic image (where bands <= channels).

    Args:
        bands: B of the image.
        scale: r, whole, 1 or more; PixelShuffle runs once for each of its prime factors.
        channels: C, even.
        stages: N, the LGFSS; the edge branch has as many.
        layers: LGFSL in a stage.
        kernel_sizes: of the query's and the key's conv, odd; the value's is 1x1.
        mlp_ratio: hidden channels of the MLP, as a fraction of C; rounded down.
        spectral_heads: of the attention between channels; must divide C / 2.
        reduction: of the channel attention in the spectral branch; must divide C.
        attention_scale: of the products of query and key; None is 1 / sqrt(C). The paper prints none, which is 1.
        branch_scale: factor of the spectral branch.
        edge_branch: whether there is an edge branch.
        local_global: whether the layers have LGFS; without, as in the paper's tables 6 to 8, u = x + CSE(LN(x)).
        cubic_a, border: of the bicubic image, see `lkops.bicubic_upsample`.

    Attributes:
        edge: the `EdgeBranch`, or None.

    Raises:
        ValueError: a number that is out of range, or that does not divide.

    Source: EDLGFS, sections 3.1 and 3.2. The text leaves open: the MLP (1.23 C hidden channels: no round ratio gives
    the printed counts), heads and biases, the scale of the attention, how the branches of a stage are joined (see
    `Stage`), the bicubic skip, which the counts imply, and the start. With these readings the parameters are those of
    its table 5 to every printed digit, and the MACs are within 0.03 %.
    """

    kind = "edlgfs"

    def __init__(
        self,
        bands: int,
        scale: int = 4,
        channels: int = 96,
        stages: int = 4,
        layers: int = 4,
        *,
        kernel_sizes: Sequence[int] = (5, 3),
        mlp_ratio: float = 1.23,
        spectral_heads: int = 6,
        reduction: int = 16,
        attention_scale: float | None = 1.0,
        branch_scale: float = 0.1,
        edge_branch: bool = True,
        local_global: bool = True,
        cubic_a: float = -0.5,
        border: str = "symmetric",
    ) -> None:
        super().__init__()
        whole = {
            "bands": bands,
            "scale": scale,
            "channels": channels,
            "stages": stages,
            "layers": layers,
            "spectral_heads": spectral_heads,
            "reduction": reduction,
        }
        whole = {name: checks.positive(name, value) for name, value in whole.items()}
        bands, scale, channels, stages, layers, spectral_heads, reduction = whole.values()
        kernel_sizes = checks.pair("kernel_sizes", kernel_sizes)
        if not all(size % 2 for size in kernel_sizes):
            raise ValueError(f"kernel_sizes must be odd, got {list(kernel_sizes)}")
        if channels % (2 * spectral_heads):
            raise ValueError(f"spectral_heads must divide half of the channels, {channels} / 2; got {spectral_heads}")
        numbers = {"mlp_ratio": mlp_ratio, "branch_scale": branch_scale, "cubic_a": cubic_a}
        numbers = {name: checks.number(name, value) for name, value in numbers.items()}
        mlp_ratio, branch_scale, cubic_a = numbers.values()
        if attention_scale is not None:
            attention_scale = checks.number("attention_scale", attention_scale)
        hidden = int(mlp_ratio * channels)
        if hidden < 1:
            raise ValueError(f"mlp_ratio must give 1 hidden channel or more, {mlp_ratio} of {channels} is less")
        checks.flag("edge_branch", edge_branch)
        checks.flag("local_global", local_global)
        checks.border("border", border)
        self.config: dict[str, Any] = {
            **whole,
            "kernel_sizes": list(kernel_sizes),
            **numbers,
            "attention_scale": attention_scale,
            "edge_branch": edge_branch,
            "border": border,
            **({} if local_global else {"local_global": False}),  # not there in older checkpoints
        }
        self.bands, self.scale, self.hidden = bands, scale, hidden
        self.head = conv(bands, channels)
        self.stages = nn.ModuleList(
            Stage(
                [
                    LGFSLayer(channels, kernel_sizes, hidden, spectral_heads, attention_scale, local_global)
                    for _ in range(layers)
                ],
                channels,
                reduction,
                branch_scale,
            )
            for _ in range(stages)
        )
        self.reconstruct = Reconstruction(bands, channels, scale, cubic_a, border)
        self.edge = EdgeBranch(bands, channels, scale, stages, cubic_a, border) if edge_branch else None

    def levels(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(I_SR, [F_1, ..., F_N]) of the low-resolution image (N, B, H, W): (N, B, r H, r W), and (N, C, H, W) each."""
        features = [self.head(check_image(self, x))]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return self.reconstruct(features[-1] + features[0], x), features[1:]

    def forward(self, x: Tensor) -> Tensor:
        """I_SR, (N, B, r H, r W), of the low-resolution image (N, B, H, W)."""
        return self.levels(x)[0]

    def fold(self) -> "EDLGFS":
        """A copy without the edge branch, in eval mode, for inference and export; same image, bit for bit. This
        network is left as it is."""
        return copied(self, edge_branch=False).eval()

    def parameter_count(self) -> int:
        """The number of trainable values that make the image, as the paper counts: without the edge branch."""
        return sum(parameter.numel() for key, parameter in self.named_parameters() if not key.startswith("edge."))

    def macs(self, height: int, width: int) -> int:
        """Multiply-adds of one low-resolution image of this size, as thop counts them for the paper's tables: convs, 4
        for every value that a layer norm reads, 1 for every value that the channel attention's pool reads and writes,
        and 3 HW - 1 for every row of softmax over the HW x HW map. The products of the attention are *not* in it: they
        are `attention_macs`, more than all the rest for an image of 64 x 64 pixels."""
        c, bands, pixels = self.config["channels"], self.bands, height * width
        half = c // 2
        projections = c * c * (1 + sum(size**2 for size in self.config["kernel_sizes"]))
        reduced = -(-height // 2) * -(-width // 2)
        spectral = pixels * (c * 2 * half + 2 * c * half) + reduced * 4 * 2 * half
        select = projections + 3 * pixels - 1 if self.config.get("local_global", True) else 0
        layer = pixels * (select + 2 * c * self.hidden + 2 * 4 * c) + spectral
        squeeze = (pixels + 1) * c + 2 * c * (c // self.config["reduction"])
        stage = self.config["layers"] * layer + pixels * 3 * 9 * c * c + squeeze
        total = pixels * 9 * (bands * c + c * c) + self.config["stages"] * stage
        for factor in primes(self.scale):
            total += pixels * 9 * c * c * factor**2
            pixels *= factor**2
        return total + pixels * 9 * 2 * bands * c

    def attention_macs(self, height: int, width: int) -> int:
        """Multiply-adds of the products within the attentions, for one low-resolution image of this size, which thop
        and so the paper leave out: 2 C (HW)^2 between pixels and, between channels, what CSE takes, per layer."""
        c, pixels = self.config["channels"], height * width
        half = c // 2
        reduced = -(-height // 2) * -(-width // 2)
        between_pixels = 2 * c * pixels**2 if self.config.get("local_global", True) else 0
        per_layer = between_pixels + half * (half // self.config["spectral_heads"]) * (reduced + pixels)
        return self.config["stages"] * self.config["layers"] * per_layer

    def capabilities(self) -> Capabilities:
        """Memory, and rank: of one conv where the scale is a prime number, else of each step's."""
        seen, factors = "its attention sees the whole image", primes(self.scale)
        steps = f"it enlarges in {len(factors)} steps{f' ({factors})' if factors else ''}, not by one conv"
        return Capabilities(
            receptive_field=seen,
            memory=self.memory,
            upsampler=(lambda: Upsampler.of(self.reconstruct.first_up)) if len(factors) == 1 else steps,
            upsamplers=(lambda: in_steps(self.reconstruct.up)) if len(factors) > 1 else None,
            residual_image="convs follow the sum of its features and those of the bicubic image",
        )

    def memory(self, shape: Sequence[int], _: int) -> WorkingMemory:
        """Of the image at once: in a layer six maps beside the stages' results, and its input where it is not the
        stage's; then, at high resolution, in the last conv, the features and their sum with the skip, the bicubic and
        the resulting image.

            body  = e N C P (6 + stages + (1 if layers > 1)),
            strip = e N (r^2 P (2 C + 2 B) + C P (stages + 2))

        Counted by torch's profiler. The attention's own memory does not grow with the square of P where torch has a
        kernel that stores no map, as for float32 and bfloat16 on CPUs.
        """
        batch, bands, rows, columns = shape
        c, stages, layers = (self.config[name] for name in ("channels", "stages", "layers"))
        low = next(self.parameters()).element_size() * batch * rows * columns
        high = low * self.scale**2
        return WorkingMemory(
            body=low * c * (6 + stages + (layers > 1)),
            strip=high * (2 * c + 2 * bands) + low * c * (stages + 2),
        )

    def extra_repr(self) -> str:
        return json.dumps(self.config)
