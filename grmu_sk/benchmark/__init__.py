"""Comparing unlearning methods by the paper's protocol."""

from .candidates import Candidate, candidates_for
from .comparison import compare
from .figures import make_figure
from .forget_sets import ForgetSet, draw_forget_set
from .paper import paper_values
from .problem import Problem, get_problem, problem_names
from .results import read_results
from .settings import Preset, Setting, get_preset
from .splits import Split, Splits
from .tables import format_table, make_table, summarize
from .tuning import tune

__all__ = [
    "Candidate",
    "ForgetSet",
    "Preset",
    "Problem",
    "Setting",
    "Split",
    "Splits",
    "candidates_for",
    "compare",
    "draw_forget_set",
    "format_table",
    "get_preset",
    "get_problem",
    "make_figure",
    "make_table",
    "paper_values",
    "problem_names",
    "read_results",
    "summarize",
    "tune",
]
