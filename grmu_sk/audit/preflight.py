"""Look at a deletion request before it is carried out."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.frozen import FrozenEstimator

from ..base import BaseUnlearner
from ..net_copies import fresh_net
from ..pipelines import by_method, inputs_of_unlearner, unlearner_of
from ..randomness import isolated_rng
from ..rows import TrainingRows, evenly_spaced
from ..unlearners import all_unlearners
from ..validation import check_forget_rows

# A cost is printed as the range from the prediction over this to the prediction times this.
_UNCERTAINTY = 1.5
# A group is at risk beyond this skew, if fewer rows are left, or a smaller share of its rows.
_SKEWED, _FEW_ROWS, _LARGE_PART = 1.5, 30, 0.5
# Retraining is exact: an approximation has to save at least this much to be worth its risk.
_WORTH_IT = 0.5


@dataclass(frozen=True)
class PreflightReport:
    """What a deletion request would do to groups, and what methods would cost.

    Attributes
    ----------
    n_requested, n_present : int
        Rows of the request that are still there, and all rows that are.
    groups : DataFrame
        A row for each group (y, a): rows of ``fit`` (``trained``), still there (``present``), of
        the request, and ``remaining`` after it; ``share_before`` and ``share_after`` of all rows,
        ``share_of_request``, ``skew`` (its share of the request over its share of the rows, 1 for
        a request that is spread evenly) and ``risk``: the worst of "more than its share of the
        request" (a skew above 1.5), "half of it or more goes", "fewer than 30 rows are left" and
        "vanishes".
    costs : DataFrame
        A row for each method: predicted ``seconds`` (printed as a range), the ``ratio`` to
        retraining, and a ``note`` where it could not be timed.
    recommendation : str
        The short name of a method, with ``+ reweight`` where it has that option; empty if the
        request cannot be carried out at all.
    reasons : list of str
        Why.

    Examples
    --------
    >>> import pandas as pd
    >>> from grmu_sk.audit import PreflightReport
    >>> report = PreflightReport(0, 10, pd.DataFrame(), pd.DataFrame(), "", ["nothing to do"])
    >>> report.reasons
    ['nothing to do']
    """

    n_requested: int
    n_present: int
    groups: pd.DataFrame
    costs: pd.DataFrame
    recommendation: str
    reasons: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values.

        Returns
        -------
        dict
            By name.
        """
        groups = self.groups.astype({"label": str, "attribute": str})
        tables = {"groups": groups, "costs": self.costs}
        as_json: Any = {"orient": "records", "double_precision": 15}
        return vars(self) | {k: json.loads(v.to_json(**as_json)) for k, v in tables.items()}

    def __str__(self) -> str:
        shown: Any = dict.fromkeys(("share_before", "share_after"), "{:.1%}".format)
        shown |= {"skew": "{:.2f}".format, "seconds": _range, "ratio": "{:.0%}".format}
        groups = self.groups.drop(columns=["trained", "share_of_request"])
        parts = [f"Request: {self.n_requested} of {self.n_present} rows"]
        parts += [
            t.to_string(index=False, formatters=shown) for t in (groups, self.costs) if len(t)
        ]
        recommended = [f"Recommended: {self.recommendation or 'none'}"]
        return "\n\n".join([*parts, "\n  - ".join(recommended + self.reasons)])


def preflight(
    unlearner: Any,
    forget_idx: ArrayLike,
    *,
    X: Any = None,
    y: ArrayLike | None = None,
    groups: Any = None,
    methods: Iterable[str] | None = None,
    short_enough: float = 60.0,
    budget: float = 60.0,
) -> PreflightReport:
    r"""Say what a deletion request would do to groups, and what methods would cost.

    Nothing is changed in the unlearner: methods are timed on copies, for a few batches. For a
    group with :math:`n_g` of the :math:`n` rows that are there, and :math:`f_g` of the :math:`f`
    rows of the request, the skew is

    .. math::

        \frac{f_g / f}{n_g / n},

    1 for a request that is spread evenly.

    Parameters
    ----------
    unlearner : BaseUnlearner or Pipeline
        Fitted; a pipeline ends in the unlearner, and rows are given as it takes them.
    forget_idx : array-like
        Row numbers of ``fit`` to forget, or a boolean mask of that length.
    X : array-like, tensor or Dataset of length n_samples, default=None
        The inputs given to ``fit``, if they are not stored. Without them no cost is predicted.
    y : array-like of shape (n_samples,), default=None
        The labels given to ``fit``, if they are not stored.
    groups : array-like of shape (n_samples,) or (n_samples, n_attributes), default=None
        The attributes given to ``fit``, together with y.
    methods : iterable of str, default=None
        Short names of the methods to time. Default: all, the unlearner's own and retraining first.
    short_enough : float, default=60
        Seconds that retraining may take and still be recommended for being exact.
    budget : float, default=60
        Seconds after which no further method is timed.

    Returns
    -------
    PreflightReport
        Prints as text.

    Raises
    ------
    NotFittedError
        If the unlearner is not fitted.
    IndexError
        If a row number is out of range.
    KeyError
        If there is no method of a name.
    ValueError
        If rows are duplicated or negative, or the rows are neither stored nor given.

    See Also
    --------
    AcceptanceGate : Decides after the request.

    Notes
    -----
    Costs are rough, and printed as a range. Two short runs on copies, without callbacks, give the
    terms of :math:`T = c_0 + e \, c \, n` for e epochs over n rows; e is 1 for a method that does
    not train in epochs. Phases that run in part of the epochs are counted in all of them. What a
    classifier that is no net takes is what ``fit`` took.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk import FineTuneUnlearner
    >>> from grmu_sk.audit import preflight
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> report = preflight(FineTuneUnlearner(random_state=0).fit(X, y, a), [3, 7], methods=[])
    >>> report.n_requested, int(report.groups["remaining"].sum())
    (2, 198)
    """
    model = unlearner_of(unlearner)
    asked = check_forget_rows(forget_idx, model._n_rows, name="forget_idx")
    forget = np.intersect1d(asked, model.remaining_idx_)
    registered = dict(all_unlearners())
    own = getattr(type(model), "method_name", type(model).__name__)
    if methods is None:  # what is most likely to be wanted comes before the budget is used up
        names = dict.fromkeys((own, "retrain", "as_unseen")) | registered
        methods = [name for name in names if name in registered and registered[name]._changes_net]
        methods = [name for name in methods if model._takes_net or registered[name]._takes_any]
    timed = {name: registered[name] for name in methods}
    data = model._data
    if X is not None:
        data = model._data_for_request(inputs_of_unlearner(unlearner, X), y, groups, None)
    table = group_mix(model, forget, y, groups)
    if table is None:
        raise ValueError("The rows are not stored: pass y (and groups) as given to fit.")
    _add_risks(table)
    obstacle = _obstacle(table)
    reweight = model._has_groups and bool((table["remaining"] > 0).all())
    if obstacle or data is None:
        timed = {}
    costs = _costs(model, data, forget, timed, budget, reweight)
    name, reason = ("", obstacle) if obstacle else _recommend(model, own, costs, short_enough)
    reasons = [reason]
    if not model._has_groups:
        reasons.append("fit was given no groups: what the request does to them cannot be said.")
    elif not obstacle and not reweight:
        reasons.append("A group vanishes, and REWEIGHT refuses: collect new rows of it first.")
    elif not obstacle and not model._keeps_unaffected_weights:
        name += " + reweight"
        reasons.append("REWEIGHT keeps each group's share of what is trained on as it was.")
    return PreflightReport(len(forget), len(model.remaining_idx_), table, costs, name, reasons)


# groups ------------------------------------------------------------------------------------------


def group_mix(
    unlearner: BaseUnlearner, forget: NDArray[np.int64], y: Any = None, groups: Any = None
) -> pd.DataFrame | None:
    """Count the rows of each group that occurs.

    Parameters
    ----------
    unlearner : BaseUnlearner
        Fitted.
    forget : ndarray
        Row numbers that are to be forgotten.
    y, groups : array-like of shape (n_samples,), default=None
        As given to ``fit``, if the rows are not stored.

    Returns
    -------
    DataFrame or None
        A row for each group (y, a) with the rows of ``fit``, those still present, those of the
        request, and those that remain after it. None if the rows are not known.

    Raises
    ------
    ValueError
        If rows are given, and are not those that ``fit`` was given.
    """
    n_rows = unlearner._n_rows
    if y is not None:
        if len(np.asarray(y)) != n_rows:
            raise ValueError(f"y has {len(np.asarray(y))} rows, but fit was given {n_rows}.")
        if unlearner._has_groups and groups is None:
            raise ValueError("fit was given groups: pass them too (groups, or --group-column).")
        numbers = unlearner._encoder.transform(y, groups if unlearner._has_groups else None)
        unlearner._check_same_columns(numbers)
        rows = np.arange(n_rows)
    elif unlearner._data is not None:
        rows, numbers = unlearner._data.rows, unlearner._data.g.numpy()
    else:
        return None
    trained, still_there = np.asarray(unlearner._group_counts), unlearner.remaining_idx_

    def count(which: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(numbers[np.isin(rows, which)], minlength=len(trained))

    present, remaining = count(still_there), count(np.setdiff1d(still_there, forget))
    mix = pd.DataFrame(unlearner._encoder.pairs_, columns=["label", "attribute"], dtype=object)
    if not unlearner._has_groups:
        mix["attribute"] = ""
    mix["trained"], mix["present"] = trained, present
    mix["requested"], mix["remaining"] = present - remaining, remaining
    return mix[mix["trained"] > 0].reset_index(drop=True)


def _add_risks(table: pd.DataFrame) -> None:
    columns = {"before": "present", "after": "remaining", "of_request": "requested"}
    for name, column in columns.items():
        table[f"share_{name}"] = table[column] / max(1, table[column].sum())
    table["skew"] = (table["share_of_request"] / table["share_before"]).fillna(0.0)
    table["risk"] = ""
    for risk, is_met in {
        "more than its share of the request": table["skew"] > _SKEWED,
        "half of it or more goes": table["requested"] >= _LARGE_PART * table["present"],
        f"fewer than {_FEW_ROWS} rows are left": table["remaining"] < _FEW_ROWS,
        "vanishes": table["remaining"] == 0,
    }.items():
        table.loc[is_met & (table["requested"] > 0), "risk"] = risk


def _obstacle(table: pd.DataFrame) -> str:
    if not table["requested"].any():
        return "All rows of the request are forgotten already, or it names none."
    left = table.groupby("label", sort=False)["remaining"].sum()
    if lost := left[left == 0].index.tolist():
        return f"Every row of the class(es) {lost} would go: fit a new model without them instead."
    return ""


def _recommend(
    unlearner: BaseUnlearner, own: str, costs: pd.DataFrame, short_enough: float
) -> tuple[str, str]:
    """Return a method, and why."""
    if unlearner._keeps_unaffected_weights:
        return own, f"{own} is exact: it retrains only the parts that saw these rows."
    seconds = costs.set_index("method")["seconds"].dropna()
    name = "as_unseen" if "as_unseen" in seconds else own
    cost, retraining = (float(seconds.get(each, np.inf)) for each in (name, "retrain"))
    if short_enough < retraining < np.inf and cost <= _WORTH_IT * retraining:
        return name, (
            f"{name} takes about {_range(cost)} s, retraining {_range(retraining)} s. It is "
            "approximate: attack the result and let AcceptanceGate decide."
        )
    takes = f"takes about {_range(retraining)} s" if np.isfinite(retraining) else "was not timed"
    why = "an approximation would save too little."
    if not unlearner._takes_net:
        why = "approximations are for nets. If requests are frequent, SISAUnlearner costs less."
    return "retrain", f"Retraining {takes} and is exact: {why}"


# costs -------------------------------------------------------------------------------------------


def _range(seconds: float) -> str:
    """Return a predicted cost as the range that it stands for."""
    ends = (float(f"{s:.2g}") for s in (seconds / _UNCERTAINTY, seconds * _UNCERTAINTY))
    return "-" if np.isnan(seconds) else "{:g} to {:g}".format(*ends)


def _costs(
    unlearner: BaseUnlearner, data: Any, forget: Any, methods: Any, budget: float, reweight: bool
) -> pd.DataFrame:
    costs, start = [], perf_counter()
    for name, method in methods.items():
        seconds, note = np.nan, ""
        if not (unlearner._takes_net or method._takes_any):
            note = "not possible here: it needs a net"
        elif perf_counter() - start > budget:
            note = "not timed: the budget is used up"
        elif method is not type(unlearner) and not method._accepts_trained_net:
            note = "not timed: it has to be fitted anew"
        elif not unlearner._takes_net and method._needs_groups is True:
            note = "not timed: it is fitted to fewer rows, and costs less than retraining"
        else:
            try:
                seconds = _predicted_seconds(unlearner, data, method, forget, reweight)
            except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
                note = f"not possible here: {error}"
        costs.append((name, seconds, note))
    table = pd.DataFrame(costs, columns=["method", "seconds", "note"])
    retraining = table.loc[table["method"] == "retrain", "seconds"].sum(min_count=1)
    return table.assign(ratio=table["seconds"] / retraining)


def _predicted_seconds(
    unlearner: BaseUnlearner, data: TrainingRows, method: Any, forget: Any, can_reweight: bool
) -> float:
    """Return about how long a method would take for a request, from short runs on copies."""
    if not unlearner._takes_net:
        return _seconds_of_classifier(unlearner, method, forget)
    names = set(method._get_param_names())
    own = unlearner.get_params(deep=False)
    kept = names if type(unlearner) is method else names & {"feature_layer"}
    params = {name: own[name] for name in kept & own.keys() - {"estimator"}} | {"random_state": 0}
    if "reweight" in names and not can_reweight:
        params["reweight"] = False
    present, rest = unlearner.remaining_idx_, np.setdiff1d(unlearner.remaining_idx_, forget)
    batch = unlearner.net_.batch_size
    _, one_a_group = np.unique(data.g[data.positions(rest)].numpy(), return_index=True)
    # a request of one row would be missed by picking evenly
    needed = np.concatenate([rest[one_a_group], rest[:2], forget[:1]])

    def run(n_batches: int, epochs: int) -> tuple[float, int, int]:
        wanted = len(present) if batch == -1 else n_batches * batch
        rows = np.union1d(evenly_spaced(present, wanted), needed)
        counts = dict.fromkeys({"max_epochs", "forget_epochs"} & names, epochs)
        probe = by_method(unlearner, method, **{**params, **counts})
        return (*_run(probe, data.keep(rows), forget, epochs), len(rows))

    run(2, 1)  # the first run of anything pays for what is set up once
    # other work on the machine only ever adds time
    (t_small, n_small, small), (t_large, n_large, large) = (
        min(run(*size) for _ in range(2)) for size in ((2, 1), (6, 2))
    )
    in_epochs = n_large > n_small  # if not, it passes over the rows once, whatever the net's are
    per_row = max(0.0, t_large - t_small) / max(1, (2 if in_epochs else 1) * large - small)
    epochs = getattr(method(**params), "max_epochs", unlearner.net_.max_epochs) if in_epochs else 1
    return max(0.0, t_small - per_row * small) + epochs * per_row * len(present)


def _seconds_of_classifier(unlearner: Any, method: type[BaseUnlearner], forget: Any) -> float:
    """Return what ``fit`` took, or the part of it that concerns the rows to forget.

    A fit to some of the rows would say little: classifiers differ in how their cost grows.
    """
    history = list(unlearner.history_)
    runs = [run for run in history if run["phase"] == "fit"] or history[-1:]
    took = sum(run["dur"] for run in runs)
    if not took:
        raise ValueError("nothing was trained here yet, by which to tell the time")
    if method._keeps_unaffected_weights:
        took *= len(np.unique(unlearner.shards_[forget])) / unlearner.n_shards
    return float(took)


def _run(probe: BaseUnlearner, data: TrainingRows, forget: Any, epochs: int) -> tuple[float, int]:
    """Return what a run on these rows takes, and of how many epochs its history tells."""
    with isolated_rng(0, probe.net_.device), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # callbacks may write files; what they cost is not counted
        quiet: dict[str, Any] = {"callbacks": "disable", "verbose": 0, "train_split": None}
        probe.net_ = fresh_net(probe.net_, **quiet, max_epochs=epochs)
        probe.estimator = FrozenEstimator(probe.net_)
        probe.remaining_idx_, probe.forget_idx_ = data.rows, data.rows[:0]
        probe._group_counts = np.bincount(data.g.numpy(), minlength=len(probe._group_counts))
        before, start = len(probe.history_), perf_counter()
        probe._forget_rows(np.intersect1d(data.rows, forget), data)
        return perf_counter() - start, len(probe.history_) - before
