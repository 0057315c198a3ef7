"""A network as a chain of operators, for runtimes that know nothing of modules."""

from typing import NamedTuple

from torch import nn

import lkops.nn

__all__ = ["Link"]


class Link(NamedTuple):
    """An operator of a chain. Value 0 is the low-resolution image, value k + 1 what link k makes.

    Attributes:
        module: a dense or grouped conv that keeps the size, with the activation of `lkops.nn.Conv2d` or none; an
            `lkops.nn.LKBlock`; an `lkops.nn.UpsampleAdd`, as the last link, whose `first` is a link of its own; None to
            add two values.
        value: what it takes.
        second: what is added to it: a conv's residual, the other addend, the upsampler's low-resolution image (0).
    """

    module: nn.Conv2d | lkops.nn.LKBlock | lkops.nn.UpsampleAdd | None
    value: int
    second: int | None = None


def upsampler_links(upsample: lkops.nn.UpsampleAdd, links: list[Link]) -> list[Link]:
    """These links and the upsampler behind the last of them, its first conv apart."""
    links = list(links)
    if isinstance(upsample.first, nn.Conv2d):
        links.append(Link(upsample.first, len(links)))
    return [*links, Link(upsample, len(links), 0)]
