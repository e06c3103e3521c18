"""Comparing unlearning methods by the paper's protocol."""

from .candidates import Candidate, candidates_for
from .comparison import compare
from .splits import Splits
from .tables import format_table, summarize
from .tuning import tune

__all__ = ["Candidate", "Splits", "candidates_for", "compare", "format_table", "summarize", "tune"]
