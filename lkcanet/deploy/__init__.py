"""Networks made smaller, looked into, and written for runtimes without PyTorch."""

from .compression import PatchBatches, cheaper_upsamplers, compress_lkcanet, training_patches
from .edge import EdgeReport, export_edge
from .export import OnnxReport, export_onnx
from .rank import RankReport, plot_ranks, rank_report, rank_reports

__all__ = [
    "EdgeReport",
    "OnnxReport",
    "PatchBatches",
    "RankReport",
    "cheaper_upsamplers",
    "compress_lkcanet",
    "export_edge",
    "export_onnx",
    "plot_ranks",
    "rank_report",
    "rank_reports",
    "training_patches",
]
