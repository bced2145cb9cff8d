"""Comparison of predicted with annotated instances."""

from condensatenet.evaluation.matching import Matching, match_instances
from condensatenet.evaluation.metrics import THRESHOLDS, Evaluation, ThresholdScores, evaluate_instances
from condensatenet.evaluation.tables import compare_table

__all__ = [
    "THRESHOLDS",
    "Evaluation",
    "Matching",
    "ThresholdScores",
    "compare_table",
    "evaluate_instances",
    "match_instances",
]
