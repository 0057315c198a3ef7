"""What `network_benchmark` measures in several modes, with what a time says nothing without."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import facts, network_benchmark
from .providers import CHANNELS_LAST, Mode

__all__ = ["network_report"]


def network_report(
    bands: int,
    shapes: Mapping[Mode, tuple[int, int, int]],
    scale: int = 4,
    *,
    network: str = "lkca_lr",
    providers: Sequence[str] = ("eager", CHANNELS_LAST, "lkops"),
    backend: str | None = None,
    seconds: float = 40.0,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Time a network in several modes, one after the other.

    Args:
        bands, scale, network, backend, options: as for `lkcanet.benchmark.network_benchmark`.
        shapes: mode, "forward" or "training", to (batch, rows, columns) of its low-resolution images.
        providers: of `lkcanet.benchmark.PROVIDERS`; OpenVINO only infers and is left out of the training.
        seconds: of timing in each mode.
        progress: is called with a line for the user before each mode.

    Returns:
        For JSON: `lkcanet.benchmark.facts`, network, scale, options, and modes: mode to its shape (N, B, H, W) and what
        `Result.as_dict` gives.

    Raises:
        ValueError, WrongOutput: as `network_benchmark`.
    """
    report: dict[str, Any] = {**facts(), "network": network, "scale": scale, "options": options, "modes": {}}
    for mode, (batch, height, width) in shapes.items():
        used = [name for name in providers if mode == "forward" or not name.startswith("openvino")]
        if progress is not None:
            progress(f"{mode}: checking {', '.join(used)}, then timing for {seconds:g} s")
        result = network_benchmark(
            bands,
            (height, width),
            scale,
            mode=mode,
            batch=batch,
            network=network,
            providers=used,
            backend=backend,
            seconds=seconds,
            **options,
        )
        report["modes"][mode] = {"shape": [batch, bands, height, width], **result.as_dict()}
    return report
