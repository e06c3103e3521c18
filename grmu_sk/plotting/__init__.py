"""Figures, as scikit-learn's Display classes."""

from .group_accuracy import GroupAccuracyDisplay
from .leakage import LeakageDisplay
from .loss_distribution import LossDistributionDisplay
from .method_comparison import MethodComparisonDisplay
from .unlearning_history import UnlearningHistoryDisplay
from .unlearning_ratio import UnlearningRatioDisplay

__all__ = [
    "GroupAccuracyDisplay",
    "LeakageDisplay",
    "LossDistributionDisplay",
    "MethodComparisonDisplay",
    "UnlearningHistoryDisplay",
    "UnlearningRatioDisplay",
]
