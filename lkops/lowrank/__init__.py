"""Upsamplers of low rank: what rank they have, approximations of them, and models with these in their place."""

from .alignment import AlignmentResult, distill_upsampler
from .approximation import SelectChannels, approximation_error, suggest_groups, to_factored, to_grouped
from .compression import CompressedUpsampler, CompressionReport, compress
from .singular_values import cumulative_share, rank_at, spectrum
from .statistics import InputStatistics, input_statistics

__all__ = [
    "AlignmentResult",
    "CompressedUpsampler",
    "CompressionReport",
    "InputStatistics",
    "SelectChannels",
    "approximation_error",
    "compress",
    "cumulative_share",
    "distill_upsampler",
    "input_statistics",
    "rank_at",
    "spectrum",
    "suggest_groups",
    "to_factored",
    "to_grouped",
]
