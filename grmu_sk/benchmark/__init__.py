"""The paper's protocol: its problems, settings, jobs, tables and figures."""

from ..results import read_results
from .figures import make_figure
from .jobs import run_jobs
from .paper import paper_values
from .plan import make_jobs, make_rows
from .problems import Problem, get_problem, problem_names
from .settings import Preset, Setting, get_preset
from .tables import make_table

__all__ = [
    "Preset",
    "Problem",
    "Setting",
    "get_preset",
    "get_problem",
    "make_figure",
    "make_jobs",
    "make_rows",
    "make_table",
    "paper_values",
    "problem_names",
    "read_results",
    "run_jobs",
]
