"""Metrics, scores of networks and results, and how they are shown."""

from .figures import before_and_after, comparison, save_figure
from .metrics import Metrics, evaluate
from .no_reference import NoReference, consistency, score_no_reference, spectral_distortion
from .quicklook import quicklook, quicklook_page
from .scoring import Scores, mean_scores, score, score_scene, score_tests
from .tables import above_table, metrics_markdown, metrics_table, noise_tables, peaks_table, scenes_table

__all__ = [
    "Metrics",
    "NoReference",
    "Scores",
    "above_table",
    "before_and_after",
    "comparison",
    "consistency",
    "evaluate",
    "mean_scores",
    "metrics_markdown",
    "metrics_table",
    "noise_tables",
    "peaks_table",
    "quicklook",
    "quicklook_page",
    "save_figure",
    "scenes_table",
    "score",
    "score_no_reference",
    "score_scene",
    "score_tests",
    "spectral_distortion",
]
