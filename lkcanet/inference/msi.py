"""The multispectral image (MSI) that a network takes beside the low-resolution one."""

from dataclasses import replace
from typing import TYPE_CHECKING

from ..models import Network

if TYPE_CHECKING:
    from ..data.responses import SpectralResponse
    from ..data.scenes import Scene

__all__ = ["check_msi", "msi_for", "seen_by_both"]


def msi_for(model: Network, source: "Scene | SpectralResponse | None", target: "Scene") -> "Scene | None":
    """The MSI that a network takes with the LR image of `target`, or None where it takes none.

    Args:
        model: any network.
        source: a multispectral scene, or the response through which it is made of `target`, see
            `lkcanet.data.simulate_msi`.
        target: the scene of full resolution.

    Raises:
        ValueError: the network needs one and `source` is None, or it is of other bands or pixels.
    """
    if not model.msi_bands:
        return None
    from ..data.multispectral import simulate_msi
    from ..data.responses import SpectralResponse

    msi = simulate_msi(target, source) if isinstance(source, SpectralResponse) else source
    check_msi(model, msi, target.size)
    return msi


def seen_by_both(scene: "Scene", msi: "Scene | None") -> "Scene":
    """The scene, valid where its MSI of the same pixels, if there is one, has seen something too."""
    if msi is None or msi.valid is None:
        return scene
    return replace(scene, valid=msi.valid if scene.valid is None else scene.valid & msi.valid)


def check_msi(model: Network, msi: "Scene | None", size: tuple[int, int]) -> None:
    """Raise a ValueError where the network and the multispectral scene for results of `size` don't fit each other."""
    if msi is None:
        if model.msi_bands:
            raise ValueError(f"the network fuses an MSI of {model.msi_bands} bands with the scene, and there is none")
        return
    if not model.msi_bands:
        raise ValueError(f"the network ({model.kind}) takes no MSI, got {msi.name!r} of {msi.bands} bands")
    if msi.bands != model.msi_bands:
        raise ValueError(f"the network takes an MSI of {model.msi_bands} bands, {msi.name!r} has {msi.bands}")
    if msi.size != tuple(size):
        raise ValueError(
            f"the MSI must be of {size[0]} x {size[1]} pixels, {model.scale} times the low-resolution image's; "
            f"{msi.name!r} has {msi.size[0]} x {msi.size[1]}"
        )
