"""Figures, as scikit-learn's Display classes."""

from .group_accuracy import GroupAccuracyDisplay
from .history import UnlearningHistoryDisplay
from .leakage import LeakageDisplay
from .losses import LossDistributionDisplay
from .methods import MethodComparisonDisplay
from .ratio import UnlearningRatioDisplay

__all__ = [
    "GroupAccuracyDisplay",
    "LeakageDisplay",
    "LossDistributionDisplay",
    "MethodComparisonDisplay",
    "UnlearningHistoryDisplay",
    "UnlearningRatioDisplay",
]
