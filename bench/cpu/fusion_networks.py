"""The networks of `bench.networks` after `lkops.fuse`, against eager PyTorch, torch.compile, OpenVINO, onnxruntime and
ncnn: the rows and the tables of `bench.cpu.fusion`."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

import lkops
from bench.networks import NETWORKS
from lkcanet.benchmark import Result, measure
from lkcanet.benchmark.providers import CHANNELS_LAST, RELAXED, Adapter, Mode, Problem

NAMES = {
    "eager": "eager",
    CHANNELS_LAST: "channels_last",
    "compile": "torch.compile",
    "openvino": "OpenVINO",
    "onnxruntime": "onnxruntime",
    "ncnn": "ncnn",
    "lkops": "fused",
    RELAXED: "fused, relaxed",
    "openvino bf16": "OpenVINO bf16",
}
PEERS = ("eager", "compile", "openvino", "onnxruntime", "ncnn")  # of float32, with eager in its faster format
# relaxed gradients beside the kinks of ReLUs can't be compared with others
INFERENCE, TRAINING = tuple(NAMES), ("eager", CHANNELS_LAST, "lkops")
TRAINED = {"EDSR-baseline x4": 4}  # name -> batch of a training step
# what pnnx (20261020) makes other networks of, or can't convert in minutes: SSPSR was off by a third of the largest
# value, ESSAformer by a thousand times it
WITHOUT_NCNN = ("SSPSR x4", "ESSAformer x4", "MSDformer x4")


def measure_network(
    name: str, seconds: float, *, providers: Sequence[str] = (), tiny: bool = False, least: int = 5
) -> dict[str, Any]:
    """Check and time one network: an inference, and for some a training step (forward, backward, Adam).

    `lkops.fuse` compares outputs alone, since gradients of the large ones take minutes; those of tiny ones it compares,
    too, and what is timed is compared with float64 in any case, in a training step with its gradients.

    Args:
        name: of `bench.networks.NETWORKS`.
        seconds: of timing in each mode, at least `least` rounds.
        providers: only these of `NAMES`; empty is all.
        tiny: a small network and image.
    """
    network = NETWORKS[name]
    torch.manual_seed(0)
    model, images = network.make(tiny), network.images(tiny=tiny)
    check: Literal["full", "outputs"] = "full" if tiny else "outputs"
    fused, report = lkops.fuse(model, images, check=check)
    relaxed, _ = lkops.fuse(model, images, check=check, accuracy="relaxed")
    wanted = [p for p in INFERENCE if (not providers or p in providers) and not (p == "ncnn" and name in WITHOUT_NCNN)]
    forms = [each.eval().requires_grad_(False) for each in (model, fused, relaxed)]
    row: dict[str, Any] = {
        "network": name,
        "images": [list(image.shape) for image in images],
        "parameters": sum(p.numel() for p in model.parameters()),
        "inference": _entry(measure(_problem(forms, images), "forward", wanted, seconds=seconds, least=least)),
        "replaced": [[part.place, part.pattern, part.operator] for part in report.replaced],
        "left": [[part.place, part.what, part.why] for part in report.left],
    }
    if name in TRAINED:
        batch = tuple(torch.rand(2 if tiny else TRAINED[name], *image.shape[1:]) for image in images)
        fixed = {key for key, p in network.make(tiny).named_parameters() if not p.requires_grad}
        for form in forms:
            form.train()
            for key, parameter in form.named_parameters():
                parameter.requires_grad_(key not in fixed)
        wanted = [p for p in TRAINING if not providers or p in providers]
        found = measure(_problem(forms, batch), "training", wanted, seconds=seconds, least=least)
        row["training"] = {"batch": len(batch[0]), **_entry(found)}
    return row


def _problem(forms: Sequence[nn.Module], images: Sequence[torch.Tensor]) -> Problem:
    model, fused, relaxed = map(Adapter, forms)
    return Problem(fused, model, tuple(images), network=True, relaxed=relaxed, exact=model)


def _entry(result: Result) -> dict[str, Any]:
    times = {name: measured.milliseconds for name, measured in result.providers.items()}
    reasons = {name: measured.reason for name, measured in result.providers.items() if measured.reason}
    errors = {name: measured.error for name, measured in result.providers.items()}
    return {"milliseconds": times, "reasons": reasons, "error_of_allowed": errors, "backends": result.backends}


def fastest(entry: Mapping[str, Any]) -> tuple[str, float] | None:
    """The fastest of those that compute in float32 without lkops, and its milliseconds."""
    times = entry["milliseconds"]
    known = {name: ms for name in (*PEERS, CHANNELS_LAST) if (ms := times.get(name))}
    return min(known.items(), key=lambda item: item[1]) if known else None


def ratio(entry: Mapping[str, Any], ours: str, others: Sequence[str] = ("eager", CHANNELS_LAST)) -> float | None:
    """How many times as fast as the fastest of these ours is."""
    times = entry["milliseconds"]
    known = [ms for name in others if (ms := times.get(name))]
    return min(known) / times[ours] if known and times.get(ours) else None


def tables(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of Markdown: inferences, training steps, and why something has no time."""
    if not rows:
        return []
    lines = [
        "## Networks at their published sizes",
        "",
        "`bench/networks`, milliseconds of an inference in float32 but for the last column; outputs were compared with "
        "float64. Fused against eager is against the faster of its two memory formats, and against the fastest that is "
        "no lkops, which is named.",
        "",
        f"| network | image | {' | '.join(NAMES.values())} | fused / eager | relaxed / eager | fused / fastest | "
        "relaxed / fastest |",
        "|---|---|" + "---:|" * (len(NAMES) + 4),
    ]
    for row in rows:
        entry = row["inference"]
        cells = [row["network"], "x".join(map(str, row["images"][0]))]
        cells += [_ms(entry["milliseconds"].get(name)) for name in NAMES]
        cells += [_times(ratio(entry, ours)) for ours in ("lkops", RELAXED)]
        best = fastest(entry)
        for ours in ("lkops", RELAXED):
            value = ratio(entry, ours, (best[0],)) if best else None
            cells.append(f"{_times(value)} ({NAMES[best[0]]})" if best and value else "-")
        lines.append("| " + " | ".join(cells) + " |")
    if trained := [row for row in rows if "training" in row]:
        lines += ["", "Training steps: forward, backward and fused Adam.", ""]
        lines += [
            f"| network | batch | {' | '.join(NAMES[n] for n in TRAINING)} | fused / eager |",
            "|---|---:|" + "---:|" * (len(TRAINING) + 1),
        ]
        for row in trained:
            entry = row["training"]
            cells = [row["network"], str(entry["batch"])]
            cells += [_ms(entry["milliseconds"].get(name)) for name in TRAINING]
            cells.append(_times(ratio(entry, "lkops")))
            lines.append("| " + " | ".join(cells) + " |")
    modes: Sequence[Mode | str] = ("inference", "training")
    reasons = [
        f"- {row['network']}, {mode}, {NAMES[name]}: {why}"
        for row in rows
        for mode in modes
        for name, why in row.get(mode, {}).get("reasons", {}).items()
    ]
    without = [row["network"] for row in rows if row["network"] in WITHOUT_NCNN]
    if without:
        reasons.append(f"- {', '.join(without)}, ncnn: not converted rightly by pnnx, or not in minutes")
    return [*lines, *(["", "Without a time:", "", *reasons] if reasons else []), ""]


def _ms(value: float | None) -> str:
    return f"{value:.2f}" if value else "-"


def _times(value: float | None) -> str:
    return f"{value:.2f}x" if value else "-"
