"""Metrics of group-robust unlearning: plain functions in the style of :mod:`sklearn.metrics`.

Every metric is a fraction in [0, 1], and only printed tables turn them into percent; but distances
of single rows are in nats.
"""

from .accuracy import group_accuracies, group_accuracy_score, worst_group_accuracy_score
from .evaluate import SplitPredictions, evaluate_predictions
from .fairness import demographic_parity_gap, equal_opportunity_gap, equalized_odds_gap
from .fidelity import klom_scores, log_odds_of_label, row_distance_score
from .gap import (
    AVERAGE_GAP_METRICS,
    GroupDamage,
    average_gap_score,
    damage_to_other_groups,
    tug_of_war_score,
)
from .membership import (
    fit_membership_attack,
    membership_inference_efficacy,
    per_sample_cross_entropy,
)

__all__ = [
    "AVERAGE_GAP_METRICS",
    "GroupDamage",
    "SplitPredictions",
    "average_gap_score",
    "damage_to_other_groups",
    "demographic_parity_gap",
    "equal_opportunity_gap",
    "equalized_odds_gap",
    "evaluate_predictions",
    "fit_membership_attack",
    "group_accuracies",
    "group_accuracy_score",
    "klom_scores",
    "log_odds_of_label",
    "membership_inference_efficacy",
    "per_sample_cross_entropy",
    "row_distance_score",
    "tug_of_war_score",
    "worst_group_accuracy_score",
]
