"""Choose each method's parameters with equal effort, on validation rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from sklearn.model_selection import ParameterGrid

from ..utils.arguments import check_types
from .candidates import Candidate
from .comparison import Load, check_comparison, compare
from .splits import Splits


def settings_of(candidate: Candidate) -> list[dict[str, Any]]:
    """Return the settings in the method's own documented grid.

    Parameters
    ----------
    candidate : Candidate
        A line of the table.

    Returns
    -------
    list of dict
        At least one; an empty dict where there is nothing to choose.
    """
    return list(ParameterGrid(candidate.unlearner.search_grid))


def tune(
    net: Any,
    load: Load,
    candidates: Sequence[Candidate],
    *,
    seeds: Sequence[int],
    ratio: float = 0.5,
    n_jobs: int = 1,
    on_step: Callable[[str], None] = lambda label: None,
) -> tuple[list[Candidate], pd.DataFrame]:
    """Choose the setting with the best average gap on validation rows, for each candidate.

    Test rows are not read: validation rows stand in for them.

    Parameters
    ----------
    net : skorch net
        What is trained; not modified.
    load : callable
        ``load(seed) -> Splits``.
    candidates : sequence of Candidate
        Who takes part, the gold standard among them.
    seeds : sequence of int
        Runs to average over; other ones than those to be reported.
    ratio : float, default=0.5
        Share of the forget group that is to be forgotten.
    n_jobs : int, default=1
        Processes to use.
    on_step : callable, default does nothing
        Called with a label after each run.

    Returns
    -------
    chosen : list of Candidate
        The candidates with their chosen parameters.
    report : DataFrame
        One row a candidate and setting: method, reweight, setting, avg_gap (mean over seeds, in
        percent; NaN if a run failed), seconds (of all runs), chosen.
    """
    check_types(tune, locals())
    check_comparison(net, candidates, seeds)
    tried = list(_variants(candidates))
    results = compare(
        net,
        _OnValidation(load),
        [variant for _, variant in tried],
        ratio=ratio,
        seeds=seeds,
        n_jobs=n_jobs,
        on_step=on_step,
    )
    wide = results.pivot_table(
        values="value", index=["method", "reweight"], columns="metric", aggfunc=list, dropna=False
    )
    rows = []
    for number, (candidate, variant) in enumerate(tried):
        cell = wide.loc[(variant.method, int(variant.reweight))]
        gap = pd.Series(cell["AVG_GAP"]).mean(skipna=False)
        seconds = pd.Series(cell["seconds"]).sum()
        setting = variant.parameters
        rows.append((number, candidate.method, candidate.reweight, setting, gap, seconds))
    columns = ["number", "method", "reweight", "setting", "avg_gap", "seconds"]
    report = pd.DataFrame(rows, columns=columns)
    best = report.fillna({"avg_gap": -1}).groupby(["method", "reweight"])["avg_gap"].idxmax()
    report["chosen"] = report.index.isin(best)
    chosen = [
        replace(candidate, parameters=variant.parameters)
        for (candidate, variant), is_chosen in zip(tried, report["chosen"], strict=True)
        if is_chosen
    ]
    return chosen, report.drop(columns="number")


def _variants(candidates: Iterable[Candidate]) -> Iterable[tuple[Candidate, Candidate]]:
    """Yield each candidate with each of its settings, under a name of its own."""
    for candidate in candidates:
        settings = settings_of(candidate)
        for number, setting in enumerate(settings):
            name = candidate.method if len(settings) == 1 else f"{candidate.method}#{number}"
            merged = {**candidate.parameters, **setting}
            yield candidate, replace(candidate, method=name, parameters=merged)


class _OnValidation:
    """Data in which validation rows stand in for test rows."""

    def __init__(self, load: Load) -> None:
        self.load = load

    def __call__(self, seed: int) -> Splits:
        splits = self.load(seed)
        return replace(splits, test=splits.validation)
