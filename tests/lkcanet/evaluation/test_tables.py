"""Tables as text: units, directions, the best in bold, and names taken literally."""

import io
import math
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from lkcanet.evaluation.metrics import Metrics
from lkcanet.evaluation.tables import metrics_markdown, metrics_table, noise_tables

BICUBIC = Metrics(mpsnr=37.638, mssim=0.895, sam=3.404, cc=0.921, rmse=0.0155, ergas=6.756)
NET = Metrics(mpsnr=40.311, mssim=0.944, sam=2.273, cc=0.956, rmse=0.0114, ergas=4.977)


def render(table: Table, width: int = 120, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=width, **options)
    console.print(table)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def test_markdown_is_exactly_this() -> None:
    assert metrics_markdown({"bicubic": BICUBIC, "LKCA-Net": {**NET, "sam": 9.0}}) == (
        "| Method | MPSNR (dB) ↑ | MSSIM (7x7) ↑ | SAM (°) ↓ | CC ↑ | RMSE ↓ | ERGAS ↓ |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| bicubic | 37.638 | 0.8950 | **3.404** | 0.9210 | 0.0155 | 6.756 |\n"
        "| LKCA-Net | **40.311** | **0.9440** | 9.000 | **0.9560** | **0.0114** | **4.977** |\n"
    )


def test_rich_shows_units_and_fits_80_columns() -> None:
    lines = render(metrics_table({"bicubic": BICUBIC, "LKCA-Net": NET}, title="x4"), width=80).splitlines()
    assert lines[0].strip() == "x4"
    text = "\n".join(lines)
    assert all(word in text for word in ["MPSNR (dB) ↑", "SAM (°) ↓", "40.311", "0.0155", "LKCA-Net"])
    assert "…" not in text


def test_rich_best_is_bold() -> None:
    text = render(metrics_table({"bicubic": BICUBIC, "net": NET}), force_terminal=True, color_system="standard")
    row = {name: next(line for line in text.splitlines() if name in line) for name in ("bicubic", "net")}
    assert row["net"].count("\x1b[1m") == 6
    assert "\x1b[1m" not in row["bicubic"]


def test_equal_in_print_is_equally_good_and_one_row_has_no_best() -> None:
    close: Metrics = {**NET, "mpsnr": 40.3111}
    assert metrics_markdown({"a": NET, "b": close}).count("**40.311**") == 2
    assert "**" not in metrics_markdown({"a": NET})


def test_nan_and_infinity() -> None:
    text = metrics_markdown({"a": {**NET, "cc": math.nan, "mpsnr": math.inf}, "b": NET})
    assert "**∞**" in text
    assert " - " in text
    assert "**0.9560**" in text
    assert metrics_markdown({"a": {**NET, "cc": math.nan}, "b": {**NET, "cc": math.nan}}).count(" - ") == 2


def test_names_are_literal() -> None:
    assert "net [bold] g=8" in render(metrics_table({"net [bold] g=8": NET}))
    assert r"| a\|b |" in metrics_markdown({"a|b": NET})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics_table({}), "rows is empty"),
        (lambda: metrics_markdown({"a": {"mpsnr": 1.0}}), r"rows\['a'\] lacks mssim, sam"),  # type: ignore[typeddict-item]
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_noise_tables_have_every_level_and_their_mean() -> None:
    levels: dict[float | None, dict[str, Metrics]] = {
        20: {"bicubic": {**BICUBIC, "mpsnr": 30.0}, "a [b]": {**NET, "mpsnr": 31.001, "sam": 5.501}},
        None: {"bicubic": BICUBIC, "a [b]": NET},
    }
    first, second = noise_tables(levels, {"bicubic": "bicubic x4"}, title="scene")
    text = render(first)
    assert text.splitlines()[0].strip() == "scene"
    heads = next(line for line in text.splitlines() if "MPSNR (dB)" in line)
    assert heads.split()[-4:] == ["20", "dB", "clean", "average"]
    rows = {name: next(line for line in text.splitlines() if name in line).split()[-3:] for name in ("x4", "a [b]")}
    assert rows == {"x4": ["30.000", "37.638", "33.819"], "a [b]": ["31.001", "40.311", "35.656"]}
    text = render(second)
    assert "scene" not in text
    assert next(line for line in text.splitlines() if "a [b]" in line).split()[-3:] == ["5.501", "2.273", "3.887"]
