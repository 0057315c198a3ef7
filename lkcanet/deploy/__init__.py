"""Networks made smaller, looked into, and written for runtimes without PyTorch."""

from .compression import PatchBatches, cheaper_upsamplers, compress_lkcanet, training_patches
from .export import OnnxReport, export_onnx
from .rank import RankReport, plot_ranks, rank_report, rank_reports

__all__ = [
    "OnnxReport",
    "PatchBatches",
    "RankReport",
    "cheaper_upsamplers",
    "compress_lkcanet",
    "export_onnx",
    "plot_ranks",
    "rank_report",
    "rank_reports",
    "training_patches",
]
