"""What `python -m bench.cpu.edge` found, as tables; and what issue 20 says that must be reached."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from bench.environment import said

MB = 1e6
NETWORKS = {"lkca_lr": "LKCA-LR", "lkca_net": "LKCA-Net", "lkca_res": "LKCA-Res"}
NAMES = {
    "lkedge": "lkedge",
    "lkedge in C": "liblkops.so in C",
    "lkedge bf16": "lkedge bf16",
    "lkedge int8": "lkedge int8",
    "torch": "PyTorch with lkops",
    "torch bf16": "PyTorch with lkops, bf16",
    "openvino": "OpenVINO",
    "openvino cached": "OpenVINO, compiled before",
    "openvino bf16": "OpenVINO bf16",
    "onnxruntime": "onnxruntime",
    "ncnn": "ncnn",
}
# side, ours, theirs -> at least so many times as fast
RATIOS: Mapping[tuple[int, str, str], float] = {
    (64, "lkedge", "torch"): 1.0,
    (16, "lkedge", "torch"): 1.15,
    (16, "lkedge", "openvino"): 1.3,
    (16, "lkedge bf16", "openvino bf16"): 1.1,
    **{(side, "lkedge", peer): 1.5 for side in (16, 64) for peer in ("onnxruntime", "ncnn")},
    (64, "lkedge int8", "lkedge bf16"): 1.2,
}


class Target(NamedTuple):
    """What must be reached.

    Attributes:
        what: in words.
        value: what was measured; None where it was not.
        limit: at most this, or at least it, as a text says it.
        holds: whether it is reached.
    """

    what: str
    value: float | None
    limit: str
    holds: bool


def targets(found: Mapping[str, Any]) -> list[Target]:
    """Of the pieces that were measured. MB are 10^6 bytes."""
    rows: list[Target] = []

    def at_most(what: str, value: float | None, limit: float, unit: str) -> None:
        rows.append(Target(what, value, f"at most {limit:g} {unit}", value is not None and value <= limit))

    if "sizes" in found:
        own = found["sizes"]["bytes"]
        at_most("liblkops.so, portable alone (MB)", own["library, portable alone"] / MB, 1, "MB")
        at_most("liblkops.so, all instruction sets (MB)", own["library, all instruction sets"] / MB, 4, "MB")
        at_most("wheel of lkedge (MB)", own["wheel"] / MB, 5, "MB")
    if "start" in found:
        by_name = {row["provider"]: row for row in found["start"]}
        python, program = by_name.get("lkedge"), by_name.get("lkedge in C")
        without = python["total"] - python["numpy"] if python else None
        at_most("process start to first image in Python, numpy's import apart (ms)", without, 150, "ms")
        at_most("process start to first image in C (ms)", program and program["total"], 30, "ms")
    if "memory" in found:
        for name in ("lkedge", "lkedge bf16", "lkedge in C"):
            row = _of(found["memory"], "lkca_lr", 64, name)
            what = f"resident, LKCA-LR, 128 bands, 64x64, {NAMES[name]} (MB)"
            at_most(what, row["bytes"] / MB if row else None, 60, "MB")
    for (side, ours, theirs), least in RATIOS.items() if "speed" in found else ():
        times: dict[str, float] = next((row["milliseconds"] for row in found["speed"] if row["side"] == side), {})
        ratio = times[theirs] / times[ours] if ours in times and theirs in times else None
        what = f"{NAMES[ours]} against {NAMES[theirs]}, {side}x{side}"
        rows.append(Target(what, ratio, f"at least {least:g}x", ratio is not None and ratio >= least))
    return rows


def _of(rows: list[dict[str, Any]], network: str, side: int, provider: str) -> dict[str, Any] | None:
    wanted = (network, side, provider)
    return next((row for row in rows if (row["network"], row["side"], row["provider"]) == wanted), None)


def markdown(found: Mapping[str, Any]) -> str:
    """The tables, with how they were made."""
    lines = [
        "# The runtime without PyTorch",
        "",
        f"{said(found['environment'])}; load before the run {found['load']:.1f}. Written by "
        "`python -m bench.cpu.edge`. MB are 10^6 bytes. Every provider works in a process of its own, and its image is "
        "compared with float64 (256x256: with eager float32) before it gets a figure; networks have random weights."
        + (" **Tiny networks and images: no figure says anything.**" if found.get("tiny") else ""),
        "",
        "## What must be reached",
        "",
        "| what | measured | must be | |",
        "|---|---:|---:|---|",
    ]
    for row in targets(found):
        value = "-" if row.value is None else f"{row.value:.2f}x" if row.limit.endswith("x") else f"{row.value:.3g}"
        verdict = "holds" if row.holds else "NOT MEASURED" if row.value is None else "MISSED"
        lines.append(f"| {row.what} | {value} | {row.limit} | {verdict} |")
    lines += _start(found) + _memory(found) + _speed(found)
    if reasons := found.get("reasons"):
        lines += ["", "## Without figures", "", *(f"- {name}: {why}" for name, why in reasons.items())]
    return "\n".join([*lines, ""])


def _number(value: float | None, form: str = ".1f") -> str:
    return "-" if value is None else f"{value:{form}}"


def _start(found: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    installed = found["sizes"]["installed"] if "sizes" in found else {}
    if "sizes" in found:
        own = found["sizes"]["bytes"]
        lines += ["", "## Sizes", "", "| | MB |", "|---|---:|"]
        lines += [f"| {name} | {size / MB:.2f} |" for name, size in own.items()]
        others = (f"{NAMES[name]} {size / MB:.0f}" for name, size in installed.items() if name != "lkedge")
        lines += ["", f"Installed packages (MB): lkedge {installed['lkedge'] / MB:.1f}, {', '.join(others)}."]
    if "start" in found:
        lines += ["", "## Start: LKCA-LR, 31 bands, 16x16 x4, float32", ""]
        lines += [
            "Milliseconds from the start of a new process to its first image, medians; libraries: the size of the "
            "package's own that the process has mapped then.",
            "",
        ]
        lines += ["| | Python | numpy | import | load | first image | all | without numpy | libraries (MB) |"]
        lines += ["|---|" + "---:|" * 8]
        for row in found["start"]:
            parts = [row.get(key) for key in ("begun", "numpy", "imported", "loaded", "first")]
            whole = row["total"]
            cells = [*map(_number, parts), _number(whole), _number(whole - (row.get("numpy") or 0.0))]
            lines.append(f"| {NAMES[row['provider']]} | {' | '.join(cells)} | {row['library bytes'] / MB:.1f} |")
    return lines


def _memory(found: Mapping[str, Any]) -> list[str]:
    if "memory" not in found:
        return []
    lines = ["", "## Memory", ""]
    lines += [
        "Resident MB at the peak of the first image, without the low-resolution image and the result; and after "
        "imports, numpy's included.",
        "",
    ]
    lines += [
        "| network, low-resolution image | runtime | at the peak | after imports | file | packed weights | workspace |"
    ]
    lines += ["|---|---|" + "---:|" * 5]
    for row in found["memory"]:
        what = f"{NETWORKS[row['network']]}, {row['bands']} bands, {row['side']}x{row['side']} x4"
        sizes = [row["bytes"], row["imported"], *(row.get(key) for key in ("file", "weights", "workspace"))]
        cells = ["-" if size is None else f"{size / MB:.{1 if i > 1 else 0}f}" for i, size in enumerate(sizes)]
        lines.append(f"| {what} | {NAMES[row['provider']]} | {' | '.join(cells)} |")
    return lines


def _speed(found: Mapping[str, Any]) -> list[str]:
    if "speed" not in found:
        return []
    lines = ["", "## Times: LKCA-LR, 128 bands, x4", ""]
    lines += [
        "Milliseconds, medians of calls in turns; in brackets, how many times as fast lkedge is in the same precision.",
        "",
    ]
    sides = [row["side"] for row in found["speed"]]
    lines += [f"| | {' | '.join(f'{side}x{side}' for side in sides)} |", "|---|" + "---:|" * len(sides)]
    for name in NAMES:
        cells = []
        for row in found["speed"]:
            times = row["milliseconds"]
            own = times.get("lkedge bf16" if name.endswith("bf16") else "lkedge")
            ratio = f" ({times[name] / own:.2f}x)" if own and name in times and not name.startswith("lkedge") else ""
            cells.append(f"{times[name]:.3g}{ratio}" if name in times else "-")
        if set(cells) != {"-"}:
            lines.append(f"| {NAMES[name]} | {' | '.join(cells)} |")
    return lines
