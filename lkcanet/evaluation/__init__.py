"""Metrics, scores of networks and results, and how they are shown."""

from .figures import before_and_after, comparison, save_figure
from .metrics import Metrics, evaluate
from .scoring import Scores, mean_scores, score, score_scene, score_tests
from .tables import above_table, metrics_markdown, metrics_table, noise_tables, peaks_table, scenes_table

__all__ = [
    "Metrics",
    "Scores",
    "above_table",
    "before_and_after",
    "comparison",
    "evaluate",
    "mean_scores",
    "metrics_markdown",
    "metrics_table",
    "noise_tables",
    "peaks_table",
    "save_figure",
    "scenes_table",
    "score",
    "score_scene",
    "score_tests",
]
