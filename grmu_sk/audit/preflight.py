"""Look at a deletion request before it is carried out."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from ..base import BaseUnlearner
from ..rows import TrainingRows
from ..unlearners import all_unlearners
from ..utils.arguments import check_types
from ..utils.validation import check_forget_rows
from ._cost_probe import parameters_of, predicted_seconds
from ._group_mix import group_mix
from .preflight_report import PreflightReport, as_range

__all__ = ["preflight"]

_FIRST = ("retrain", "miu", "fine_tune")
# Beyond this a request counts as spread unevenly.
_SKEWED = 1.5
# Retraining is exact: an approximation has to save at least this much to be worth its risk.
_WORTH_IT = 0.5


def preflight(
    unlearner: BaseUnlearner,
    forget_idx: ArrayLike,
    *,
    X: Any = None,
    y: ArrayLike | None = None,
    groups: Any = None,
    methods: Iterable[str] | None = None,
    min_rows: int = 30,
    min_share: float = 0.5,
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
    unlearner : BaseUnlearner
        Fitted.
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
    min_rows : int, default=30
        A group with fewer rows left is at risk.
    min_share : float, default=0.5
        So is a group of which a smaller share of its rows is left.
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
    ValueError
        If rows are duplicated or negative, a method is unknown, or the rows are neither stored nor
        given.

    See Also
    --------
    AcceptanceGate : Decides after the request.

    Notes
    -----
    Costs are rough, and printed as a range: they assume that an epoch costs as much as in the short
    run, without callbacks, and as many epochs as the parameters say; a method that does not train
    in epochs passes over the rows once. Phases that run in part of the epochs are counted in all of
    them.

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
    >>> report.n_requested, int(report.to_frame()["remaining"].sum())
    (2, 198)
    """
    check_types(preflight, locals())
    check_is_fitted(unlearner)
    n_rows = len(unlearner.forget_idx_) + len(unlearner.remaining_idx_)
    forget = np.intersect1d(
        check_forget_rows(forget_idx, n_rows, name="forget_idx"), unlearner.remaining_idx_
    )
    chosen = _methods(unlearner, methods)
    data = unlearner._data if X is None else unlearner._data_for_request(X, y, groups, None)
    mix = group_mix(unlearner, forget, y, groups)
    if mix is None:
        raise ValueError(
            "The training rows are not stored: pass y (and groups) as they were given to fit."
        )
    if len(forget) == 0:  # those rows are gone already
        mix["requested"] = 0
    table = _with_risks(mix, len(forget), min_rows, min_share)
    obstacle = _obstacle(table, forget)
    can_reweight = unlearner._has_groups and bool((table["remaining"] > 0).all())
    costs = _costs(unlearner, data, forget, {} if obstacle else chosen, budget, can_reweight)
    name, reasons = _recommend(unlearner, table, costs, obstacle, short_enough, can_reweight)
    return PreflightReport(len(forget), len(unlearner.remaining_idx_), table, costs, name, reasons)


def _methods(
    unlearner: BaseUnlearner, methods: Iterable[str] | None
) -> dict[str, type[BaseUnlearner]]:
    registered = dict(all_unlearners())
    own = getattr(type(unlearner), "method_name", None)
    if methods is None:
        order = [own, *_FIRST, *registered]
        names = list(dict.fromkeys(name for name in order if name in registered))
        return {name: registered[name] for name in names if registered[name]._changes_net}
    names = list(methods)
    unknown = sorted(set(names) - set(registered))
    if unknown:
        raise ValueError(f"Unknown methods {unknown}; there are {list(registered)}.")
    return {name: registered[name] for name in names}


def _with_risks(
    mix: pd.DataFrame, n_requested: int, min_rows: int, min_share: float
) -> pd.DataFrame:
    table = mix.copy()
    share_before = table["present"] / max(1, table["present"].sum())
    share_of_request = table["requested"] / max(1, n_requested)
    table["share_before"] = share_before
    table["share_after"] = table["remaining"] / max(1, table["remaining"].sum())
    table["share_of_request"] = share_of_request
    table["skew"] = np.where(share_before > 0, share_of_request / share_before.clip(1e-12), 0.0)
    table["risk"] = [
        _risk(row.present, row.requested, row.remaining, min_rows, min_share)
        for row in table.itertuples()
    ]
    return table


def _risk(present: int, requested: int, remaining: int, min_rows: int, min_share: float) -> str:
    if requested == 0:
        return ""
    if remaining == 0:
        return "vanishes"
    risks = []
    if remaining < min_rows:
        risks.append(f"fewer than {min_rows} rows left")
    if remaining < min_share * present:
        risks.append(f"{requested / present:.0%} of it goes")
    return ", ".join(risks)


def _obstacle(table: pd.DataFrame, forget: NDArray[np.int64]) -> str:
    if len(forget) == 0:
        return "All rows of the request are forgotten already, or it names none."
    left = table.groupby("label", sort=False)["remaining"].sum()
    if left.sum() == 0:
        return "Nothing would remain to train on. To drop the model altogether, delete it."
    lost = left[left == 0].index.tolist()
    if lost:
        return (
            f"Every row of the class(es) {lost} would go. A classifier keeps an output for each "
            "class: fit a new one without that class instead."
        )
    return ""


def _costs(
    unlearner: BaseUnlearner,
    data: TrainingRows | None,
    forget: NDArray[np.int64],
    methods: dict[str, type[BaseUnlearner]],
    budget: float,
    can_reweight: bool,
) -> pd.DataFrame:
    rows, start = [], perf_counter()
    for name, method in methods.items():
        seconds, note = np.nan, ""
        if data is None:
            note = "not timed: the training rows are not stored"
        elif perf_counter() - start > budget:
            note = "not timed: the budget is used up"
        elif method is not type(unlearner) and not method._accepts_trained_net:
            note = "not timed: it has to be fitted anew"
        else:
            try:
                params = parameters_of(unlearner, method, can_reweight)
                seconds = predicted_seconds(unlearner, data, method, params, forget)
            except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
                note = f"not possible here: {error}"
        rows.append({"method": name, "seconds": seconds, "note": note})
    costs = pd.DataFrame(rows, columns=["method", "seconds", "note"])
    retraining = costs.loc[costs["method"] == "retrain", "seconds"]
    base = float(retraining.iloc[0]) if len(retraining) else np.nan
    costs.insert(2, "ratio", costs["seconds"] / base if base > 0 else np.nan)
    return costs


def _recommend(
    unlearner: BaseUnlearner,
    table: pd.DataFrame,
    costs: pd.DataFrame,
    obstacle: str,
    short_enough: float,
    can_reweight: bool,
) -> tuple[str, list[str]]:
    if obstacle:
        return "", [obstacle]
    reasons = _reasons_of_groups(unlearner, table)
    reweight = " + reweight" if can_reweight else ""
    seconds = costs.set_index("method")["seconds"]
    retraining = float(seconds.get("retrain", np.nan))
    own = str(getattr(type(unlearner), "method_name", type(unlearner).__name__))
    if unlearner._keeps_unaffected_weights:
        return own, [*reasons, f"{own} is exact: it retrains only the parts that saw these rows."]
    if np.isnan(retraining):
        reason = "Retraining was not timed. It is exact: the choice unless it takes too long."
        return f"retrain{reweight}", [*reasons, reason]
    if retraining <= short_enough:
        reason = (
            f"Retraining takes about {as_range(retraining)} s and is exact: an approximation would "
            "save little."
        )
        return f"retrain{reweight}", [*reasons, reason]
    approximate = seconds.drop("retrain").dropna()
    candidate = "miu" if can_reweight and "miu" in approximate.index else own
    cost = float(approximate.get(candidate, np.nan))
    if np.isnan(cost) or cost > _WORTH_IT * retraining:
        reason = f"{candidate} would not save half of the {as_range(retraining)} s of retraining."
        return f"retrain{reweight}", [*reasons, reason]
    reasons.append(
        f"{candidate} takes about {as_range(cost)} s, retraining {as_range(retraining)} s. It is "
        "approximate: attack the result and compare it with the model before, by AcceptanceGate."
    )
    return f"{candidate}{reweight}", reasons


def _reasons_of_groups(unlearner: BaseUnlearner, table: pd.DataFrame) -> list[str]:
    if not unlearner._has_groups:
        return [
            "fit was given no groups: what the request does to protected groups cannot be said."
        ]
    reasons = []
    for row in table.itertuples():
        pair = f"({row.label}, {row.attribute})"
        if row.risk == "vanishes":
            reasons.append(
                f"The group {pair} vanishes: no method can keep the accuracy of a group without "
                "rows, and REWEIGHT refuses. Collect new rows for it first."
            )
        elif row.risk:
            reasons.append(f"The group {pair} is at risk: {row.risk}, {row.remaining} remain.")
        elif row.skew > _SKEWED:
            reasons.append(
                f"The request is skewed: {row.share_of_request:.0%} of it comes from {pair}, "
                f"which is {row.share_before:.0%} of the rows."
            )
    if reasons and (table["remaining"] > 0).all():
        reasons.append("REWEIGHT keeps each group's share of what is trained on as it was.")
    elif not reasons:
        reasons.append("The request is spread over the groups about as the training rows are.")
    return reasons
