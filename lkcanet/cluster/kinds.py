"""What kind an image is, without an import: tensors need neither numpy nor xarray."""


def is_labelled(image: object) -> bool:
    """Whether it is an xarray.DataArray; imports nothing."""
    kinds = type(image).__mro__
    return any(kind.__name__ == "DataArray" and kind.__module__.partition(".")[0] == "xarray" for kind in kinds)
