"""Figures, as scikit-learn's Display classes."""

from ._style import model_styles
from .attacks import LeakageDisplay, LossDistributionDisplay
from .group_accuracy import GroupAccuracyDisplay
from .history import UnlearningHistoryDisplay
from .methods import MethodComparisonDisplay, UnlearningRatioDisplay

__all__ = [
    "GroupAccuracyDisplay",
    "LeakageDisplay",
    "LossDistributionDisplay",
    "MethodComparisonDisplay",
    "UnlearningHistoryDisplay",
    "UnlearningRatioDisplay",
    "model_styles",
]
