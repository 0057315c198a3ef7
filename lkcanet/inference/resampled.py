"""A network on scenes of other bands than its own, by spectral resampling: an approximation."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

import lkops

from ..models import Capabilities, Lacking, Network, Strips, WorkingMemory
from ..models.capabilities import BICUBIC_ROWS, capabilities_of, strips_of, working_memory_of
from ..models.registry import enlarge

__all__ = ["Resampled", "resampled"]

COVERED = 0.5  # of the network's bands that the scene must see


class Resampled(Network):
    """What a network adds to the bicubic image, in the bands of another sensor.

        y = T x,   I_SR = bicubic(x) + F (f(y) - bicubic(y))

    bicubic(x) is MATLAB's. T takes the scene's bands to the network's, F what the network f adds back to the scene's,
    both linear in the spectrum at each pixel. Where f adds nothing, and in bands that F gives nothing, the result is
    the scene's own bicubic image, exactly.

    Args:
        network: for bands B'.
        forth: T, (B', B).
        back: F, (B, B').

    Raises:
        ValueError: matrices that do not fit the network or each other.
    """

    def __init__(self, network: Network, forth: Tensor, back: Tensor) -> None:
        super().__init__()
        if forth.dim() != 2 or forth.shape[0] != network.bands or back.shape != forth.shape[::-1]:
            raise ValueError(
                f"forth must be ({network.bands}, B) and back (B, {network.bands}), got {tuple(forth.shape)} and "
                f"{tuple(back.shape)}"
            )
        self.network = network
        self.kind = network.kind  # type: ignore[misc]
        self.config = network.config
        self.bands, self.scale, self.msi_bands = forth.shape[1], network.scale, network.msi_bands
        like = next(network.parameters())
        for name, matrix in (("forth", forth), ("back", back)):
            self.register_buffer(name, matrix.detach().to(like.device, like.dtype), persistent=False)
        self.train(network.training)  # in eval mode already it is used as it is, not copied

    def forward(self, x: Tensor, msi: Tensor | None = None) -> Tensor:
        """I_SR, (N, B, r H, r W), of (N, B, H, W)."""
        own = self.seen(x)
        return self._joined(self._residual(own, msi), x)

    def seen(self, x: Tensor) -> Tensor:
        """T x, what the network gets: (N, B, H, W) to (N, B', H, W)."""
        return _mixed(self.get_buffer("forth"), x)

    def _residual(self, own: Tensor, msi: Tensor | None) -> Tensor:
        """What the network adds to its bicubic image: as it says itself, which is exactly 0 where it adds nothing."""
        told = capabilities_of(self.network).residual_image
        if msi is None and not isinstance(told, str):
            return told(own)[0]
        return self._without_bicubic(enlarge(self.network, own, msi), own)

    def _without_bicubic(self, image: Tensor, own: Tensor) -> Tensor:
        # the network's kind of bicubic image, which may be another than MATLAB's
        kind = {name: self.config[name] for name in ("cubic_a", "border") if name in self.config}
        return image - lkops.bicubic_upsample(own, scale=self.scale, **kind)

    def _joined(self, residual: Tensor, x: Tensor) -> Tensor:
        return _mixed(self.get_buffer("back"), residual).add_(lkops.bicubic_upsample(x, scale=self.scale))

    def fold(self) -> "Resampled":
        """Of the folded network."""
        return Resampled(self.network.fold(), self.get_buffer("forth"), self.get_buffer("back"))

    def parameter_count(self) -> int:
        """Of the network: the matrices are constants."""
        return self.network.parameter_count()

    def macs(self, height: int, width: int) -> int:
        """The network's and those of both matrices."""
        pixels = height * width * self.bands * self.network.bands
        return self.network.macs(height, width) + pixels * (1 + self.scale**2)

    def capabilities(self) -> Capabilities:
        """Strips, memory and reach, where the network has them."""
        own = capabilities_of(self.network)

        def at_least(field: int | str | None) -> int | str | None:
            return max(field, BICUBIC_ROWS) if isinstance(field, int) else field

        receptive = at_least(own.receptive_field)
        assert receptive is not None
        try:
            strips: Strips | str = self._strips(strips_of(self.network))
        except Lacking:
            strips = own.strips if isinstance(own.strips, str) else "the network that it resamples for has none"
        return Capabilities(
            receptive_field=receptive,
            reach=at_least(own.reach),
            strips=strips,
            memory=own.memory if isinstance(own.memory, str) else self._memory,
        )

    def _strips(self, inner: Strips) -> Strips:
        """Those of the network: each part sees the same image in the network's bands."""
        whole = list(inner.whole)
        if whole:
            first, part = whole[0]
            whole[0] = (first, torch.nn.Sequential(_Mix(self.get_buffer("forth")), part))

        def rest(features: Tensor, lowres: Tensor, msi: Tensor | None) -> Tensor:
            own = self.seen(lowres)
            if not inner.whole:
                return self._joined(self._residual(own, msi), lowres)
            if inner.residual is not None:
                return self._joined(inner.residual(features, own, msi), lowres)
            return self._joined(self._without_bicubic(inner.rest(features, own, msi), own), lowres)

        cost = inner.cost + self.bands * self.network.bands * (1 + self.scale**2)
        return replace(inner, whole=tuple(whole), rest=rest, halo=max(inner.halo, BICUBIC_ROWS), cost=cost)

    def _memory(self, shape: Sequence[int], rows: int) -> WorkingMemory:
        """The network's, of the image in its bands, which is there beside it; a strip is there in both kinds of bands,
        and what is added in both."""
        batch, _, height, columns = shape
        element = next(self.parameters()).element_size()
        own = working_memory_of(self.network, (batch, self.network.bands, height, columns), rows)
        inner = element * batch * self.network.bands * height * columns
        strip = element * batch * rows * columns * self.scale**2
        return WorkingMemory(
            own.body + inner if own.body else 0, own.strip + strip * (self.network.bands + 2 * self.bands)
        )


def resampled(model: Network, own: Sequence[float], wavelengths: Sequence[float]) -> Resampled:
    """The network for scenes of other wavelengths, by `lkcanet.data.resampling_weights`: **an approximation**, since it
    knows band centres alone, and the network has learnt another sensor's spectra.

    Bands of the network that the scene does not see get the value of the scene's nearest band. What the network adds
    goes to the scene's bands within the network's range (and half a spacing beyond); others stay bicubic.

        model, record = load_model("net.safetensors"), ...
        sharp = super_resolve(resampled(model, record.wavelengths, scene.wavelengths), scene)

    Args:
        model: any.
        own: wavelengths of its bands, in nm.
        wavelengths: of the scene's bands, in nm.

    Raises:
        ValueError: not as many wavelengths as the network has bands, or the scene sees less than half of them.
    """
    from ..data.resampling import resampling_weights, seen

    if len(own) != model.bands:
        raise ValueError(f"own must be the wavelengths of the network's {model.bands} bands, got {len(own)}")
    share = float(seen(wavelengths, own).mean())
    if share < COVERED:
        raise ValueError(
            f"the network's bands, {min(own):g} to {max(own):g} nm, can't be made of the scene's, {min(wavelengths):g} "
            f"to {max(wavelengths):g} nm, which see {share:.0%} of them: half is the least"
        )
    forth = torch.from_numpy(resampling_weights(wavelengths, own))
    back = torch.from_numpy(resampling_weights(own, wavelengths, outside="zero"))
    return Resampled(model, forth, back)


class _Mix(torch.nn.Module):
    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, x: Tensor) -> Tensor:
        return _mixed(self.matrix, x)


def _mixed(matrix: Tensor, x: Tensor) -> Tensor:
    """matrix times the spectrum of every pixel."""
    return torch.einsum("cb,nbhw->nchw", matrix, x)
