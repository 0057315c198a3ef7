"""Tables as text: units, directions, the best in bold, and names taken literally."""

import io
import math
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from lkcanet.metrics import Metrics
from lkcanet.tables import metrics_markdown, metrics_table, speed_markdown, speed_table

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
        "| Method | MPSNR (dB) ↑ | MSSIM ↑ | SAM (°) ↓ | CC ↑ | RMSE ↓ | ERGAS ↓ |\n"
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


SPEED = {"forward": {"reference": 0.8, "fused": 0.2}, "backward": {"reference": 2.346e-3, "fused": 4.6e-3}}


def test_speed_markdown_is_exactly_this() -> None:
    assert speed_markdown(SPEED, baseline="reference") == (
        "| Case | reference | fused |\n"
        "| --- | ---: | ---: |\n"
        "| forward | 800 ms | **200 ms** (4x) |\n"
        "| backward | **2.35 ms** | 4.60 ms (0.51x) |\n"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3e-9, "3.00 ns"),
        (9.996e-7, "1.00 µs"),
        (45.67e-6, "45.7 µs"),
        (0.9994, "999 ms"),
        (1.0, "1.00 s"),
        (75, "75.0 s"),
        (1234, "1230 s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert f"| {text} |" in speed_markdown({"case": {"a": seconds}})


def test_speed_missing_variant_is_a_dash() -> None:
    table = speed_table({"a": {"x": 1.0}, "b": {"x": 2.0, "y": 1.0}}, baseline="x", title="times")
    text = render(table)
    assert "-" in text
    assert "1.00 s (2x)" in text
    assert text.startswith("times")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics_table({}), "rows is empty"),
        (lambda: metrics_markdown({"a": {"mpsnr": 1.0}}), r"rows\['a'\] lacks mssim, sam"),  # type: ignore[typeddict-item]
        (lambda: speed_table({}), "rows is empty"),
        (lambda: speed_table(SPEED, baseline="cuda"), "baseline is 'cuda'"),
        (lambda: speed_markdown({"a": {"x": 0.0}}), r"rows\['a'\]\['x'\] is 0.0"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
