"""What a network takes: checks of tensors."""

from torch import Tensor

from ..models import Network


def check_image(model: Network, name: str, image: Tensor) -> None:
    """Raise a TypeError or ValueError where the network does not take this tensor; `name` is what errors call it."""
    if not image.is_floating_point():
        raise TypeError(f"{name} must be floating, got {image.dtype}: divide counts by their peak first")
    if image.dim() not in (3, 4) or 0 in image.shape[-3:]:
        raise ValueError(f"{name} must be (N, B, H, W) or (B, H, W) with pixels, got shape {tuple(image.shape)}")
    if image.shape[-3] != model.bands:
        raise ValueError(f"the network takes {model.bands} bands, the {name} has {image.shape[-3]}")


def check_msi_tensor(model: Network, image: Tensor, msi: Tensor | None) -> None:
    """Raise where the network does not take this MSI, or none, with the image."""
    if msi is None:
        if model.msi_bands:
            raise ValueError(f"the network fuses an MSI of {model.msi_bands} bands with the image: give msi")
        return
    if not model.msi_bands:
        raise ValueError(f"the network ({model.kind}) takes no MSI")
    if not msi.is_floating_point():
        raise TypeError(f"msi must be floating, got {msi.dtype}: divide counts by their peak first")
    rows, columns = (model.scale * length for length in image.shape[-2:])
    expected = (*image.shape[:-3], model.msi_bands, rows, columns)
    if msi.shape != expected:
        raise ValueError(
            f"msi must be of shape {expected}: {model.msi_bands} bands, {model.scale} times the image's rows and "
            f"columns; got {tuple(msi.shape)}"
        )
