"""`lkca models`."""

from typing import TYPE_CHECKING, Annotated

import typer

from . import _shared as shared

if TYPE_CHECKING:
    from rich.table import Table

    from lkcanet.models.cards import Card


def models(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print this network's card.")] = None,
    json: shared.Json = False,
) -> None:
    """List the trained networks that are here: each name stands wherever a command takes a checkpoint.

    They are those of the package, and of the folders that the environment variable LKCANET_WEIGHTS lists.

    Example: lkca models lkca-res-cave-x4
    """
    from lkcanet.models import pretrained

    if name is not None:
        file, told = pretrained.path(name), pretrained.card(name)
        if json:
            shared.print_json({**told.as_dict(), "file": file})
        else:
            print(f"{told.text()}\n{file}")
        return
    cards = [pretrained.card(each) for each in pretrained.names()]
    if json:
        shared.print_json({"models": [{**told.as_dict(), "file": pretrained.path(told.name)} for told in cards]})
    elif cards:
        shared.print_table(_table(cards))
    else:
        shared.note(f"note: none is here: neither in {pretrained.PACKAGED} nor in LKCANET_WEIGHTS")


def _table(cards: "list[Card]") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from lkcanet.models.cards import spans

    table = Table(title="Pretrained networks; scores: mean over the test images of each card's protocol",
                  box=SIMPLE_HEAD, title_justify="left")  # fmt: skip
    table.add_column("Name", no_wrap=True)
    table.add_column("Network")
    for heading in ("Scale", "Bands", "Wavelengths", "Parameters", "MPSNR (dB)", "SAM (°)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for told in cards:
        mean = told.scores["mean"]
        scores = [f"{mean[key]:.3f}" if key in mean else "-" for key in ("mpsnr", "sam")]
        nanometres = "-" if told.wavelengths is None else spans(told.wavelengths)
        cells = (f"x{told.scale}", str(told.bands), nanometres, f"{told.parameters / 1e6:.3f} M", *scores)
        table.add_row(Text(told.name), Text(str(told.network.get("kind", "lkcanet"))), *cells)
    return table
