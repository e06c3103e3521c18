"""The acceptance gate: an unlearned model is used only if it meets conditions."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import ArrayLike

from ..base import BaseUnlearner
from ..net_copies import check_fresh_weights
from ..pipelines import by_method, inputs_of_unlearner, unlearner_of, with_unlearner
from ..sample_ids import naming
from ..unlearners import RetrainUnlearner
from ..validation import check_option
from .leakage import LeakageFinding
from .residue import ResidueScan
from .scores import Interval, ModelScores, measure_models

Status = Literal["failed", "inconclusive", "passed"]
ORDER: tuple[Status, ...] = ("failed", "inconclusive", "passed")
#: What a condition is, by the verdict of an attack or of a scan.
STATUS_OF: dict[str, Status] = {
    "leak": "failed",
    "residue": "failed",
    "no leak found": "passed",
    "clean": "passed",
    **{status: status for status in ORDER},
}

# name, attribute of the gate, metric, whether more is better
_TOLERANCES = (
    ("Test accuracy", "test_accuracy", "TA", True),
    ("Accuracy of the worst group", "worst_group", "WG", True),
    ("Accuracy of the forgotten groups", "forgotten_groups", "GA", True),
    ("Equalized odds gap", "eo", "EO", False),
)


@dataclass(frozen=True)
class GateCheck:
    """One condition.

    Attributes
    ----------
    name : str
        What was checked.
    status : {"failed", "inconclusive", "passed"}
        How it went.
    detail : str
        The figures, or what is missing.

    Examples
    --------
    >>> from grmu_sk.audit import GateCheck
    >>> print(GateCheck("Test accuracy", "passed", "fell by 0.4 points, 2 are allowed"))
    passed        Test accuracy: fell by 0.4 points, 2 are allowed
    """

    name: str
    status: Status
    detail: str

    def __str__(self) -> str:
        return f"{self.status:13} {self.name}: {self.detail}"


@dataclass(frozen=True)
class GateResult:
    """The outcome of all conditions.

    Attributes
    ----------
    checks : list of GateCheck
        Failed ones first, then those that could not be decided.
    passed : bool
        Whether the model may be used.
    action : {"checked", "accepted", "retrained"}
        What was done about it.

    Examples
    --------
    >>> from grmu_sk.audit import GateResult
    >>> GateResult([], passed=True).action
    'checked'
    """

    checks: list[GateCheck]
    passed: bool
    action: Literal["checked", "accepted", "retrained"] = "checked"

    def __str__(self) -> str:
        title = f"{'Passed' if self.passed else 'Not passed'} ({self.action})"
        return "\n".join([title, *(f"  {check}" for check in self.checks)])


class GateError(ValueError):
    """An unlearned model was refused; the unlearner is as it was before.

    Parameters
    ----------
    result : GateResult
        Why.

    Examples
    --------
    >>> from grmu_sk.audit import GateCheck, GateError, GateResult
    >>> print(GateError(GateResult([GateCheck("Test accuracy", "failed", "fell")], passed=False)))
    The unlearned model was refused, and the one before is unchanged. Not passed (checked)
      failed        Test accuracy: fell
    """

    def __init__(self, result: GateResult) -> None:
        self.result = result
        refused = "The unlearned model was refused, and the one before is unchanged."
        super().__init__(f"{refused} {result}")


@dataclass(frozen=True, kw_only=True)
class AcceptanceGate:
    r"""Conditions that an unlearned model has to meet before it is used.

    With :math:`m` a metric of the unlearned model, :math:`m_0` of the reference, and :math:`t` the
    tolerance, the condition is :math:`m \ge m_0 - t` for accuracies and :math:`m \le m_0 + t` for
    the equalized odds gap. All are fractions, so that 0.02 are two points.

    Parameters
    ----------
    test_accuracy : float or None, default=0.02
        How far the test accuracy may fall. None leaves the condition out, here and below.
    worst_group : float or None, default=0.05
        How far the accuracy of the worst group may fall.
    forgotten_groups : float or None, default=0.05
        How far the accuracy of the groups of the request may fall.
    eo : float or None, default=0.05
        How far the equalized odds gap may grow.
    leakage : bool, default=True
        Whether every attack must have found nothing.
    residue : bool, default=True
        Whether a residue scan must have found nothing.
    compare_to : {"before", "gold"}, default="before"
        The reference: the model before the request, or retraining with REWEIGHT.
    allow_inconclusive : bool, default=False
        Whether what could not be decided (an attack without power, a reference that is missing, a
        scan that was not run) counts as passed.

    Raises
    ------
    ValueError
        If a tolerance is negative or not finite, or an option unknown.

    See Also
    --------
    write_report : Writes what was decided, and everything it rests on.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk import MIUUnlearner
    >>> from grmu_sk.audit import AcceptanceGate
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = data.images, data.target, data.groups
    >>> rows, test = data.train[:300], data.test
    >>> model = MIUUnlearner(random_state=0).fit(X[rows], y[rows], a[rows])
    >>> gate = AcceptanceGate(
    ...     test_accuracy=0.5, worst_group=0.5, forgotten_groups=0.5, eo=0.5,
    ...     leakage=False, residue=False,
    ... )
    >>> result = gate.enforce(model, [3, 7], "retrain", X=X[test], y=y[test], groups=a[test])
    >>> result.action, model.forget_idx_.tolist()
    ('accepted', [3, 7])
    """

    test_accuracy: float | None = 0.02
    worst_group: float | None = 0.05
    forgotten_groups: float | None = 0.05
    eo: float | None = 0.05
    leakage: bool = True
    residue: bool = True
    compare_to: Literal["before", "gold"] = "before"
    allow_inconclusive: bool = False

    def __post_init__(self) -> None:
        for _, name, _, _ in _TOLERANCES:
            tolerance = getattr(self, name)
            if tolerance is not None and not 0 <= tolerance < math.inf:
                raise ValueError(f"{name} must be a fraction of at least 0, got {tolerance!r}.")
        check_option(self.compare_to, ("before", "gold"), name="compare_to")

    def decide(
        self,
        after: ModelScores | None,
        *,
        before: ModelScores | None = None,
        gold: ModelScores | None = None,
        attacks: Iterable[LeakageFinding] = (),
        residue: ResidueScan | None = None,
    ) -> GateResult:
        """Compare scores that were measured already.

        Parameters
        ----------
        after : ModelScores or None
            Of the unlearned model.
        before, gold : ModelScores or None, default=None
            Of the references.
        attacks : iterable of LeakageFinding, default=()
            What attacks on the unlearned model found.
        residue : ResidueScan or None, default=None
            What a scan found.

        Returns
        -------
        GateResult
            The decision.
        """
        reference = before if self.compare_to == "before" else gold
        checks = [
            GateCheck(name, *self._compare(getattr(self, own), metric, is_better, after, reference))
            for name, own, metric, is_better in _TOLERANCES
            if getattr(self, own) is not None
        ]
        if self.leakage:
            checks += [_attack_check(attack) for attack in attacks] or [
                GateCheck("Leakage", "inconclusive", "no attack was run")
            ]
        if self.residue:
            checks.append(_residue_check(residue))
        checks.sort(key=lambda check: ORDER.index(check.status))
        accepted = {"passed", "inconclusive"} if self.allow_inconclusive else {"passed"}
        return GateResult(checks, passed=all(check.status in accepted for check in checks))

    def _compare(
        self, tolerance: float, metric: str, is_better_high: bool, after: Any, reference: Any
    ) -> tuple[Status, str]:
        """Return how a metric did, and the figures."""
        if after is None or reference is None:
            missing = "the unlearned model" if after is None else f"the reference {self.compare_to}"
            return "inconclusive", f"{missing} was not measured"
        undefined = Interval(math.nan)
        value, base = (s.metrics.get(metric, undefined).value for s in (after, reference))
        rise = value - base
        if math.isnan(rise):
            return "inconclusive", f"{metric} is undefined on these test rows"
        detail = (
            f"{metric} is {value:.1%}, and was {base:.1%} ({self.compare_to}); to "
            f"{'fall' if is_better_high else 'rise'} by {100 * tolerance:.1f} points is allowed"
        )
        if after.left_out:
            detail += f"; without the rows of attributes that fit has not seen ({after.left_out})"
        # a change that is a sum of rounded numbers may miss the limit by their last bit
        is_within = (-rise if is_better_high else rise) <= tolerance + 1e-9
        return "passed" if is_within else "failed", detail

    def enforce(
        self,
        unlearner: Any,
        idx: ArrayLike,
        on_failure: Literal["refuse", "retrain"] = "refuse",
        *,
        X: Any,
        y: ArrayLike,
        groups: Any,
        gold: Any = None,
        attacks: Callable[[Any], Iterable[LeakageFinding]] | None = None,
        residue: Callable[[Any], ResidueScan] | None = None,
        training: dict[str, Any] | None = None,
        **measuring: Any,
    ) -> GateResult:
        """Carry out a request, and keep the result only if it passes.

        The request is carried out on a copy. Only when it has passed does the unlearner take it
        over, so that a model that was not accepted is never in use.

        Parameters
        ----------
        unlearner : BaseUnlearner or Pipeline
            Fitted; of a pipeline, the last step takes the request.
        idx : array-like
            Row numbers of ``fit`` to forget, or a boolean mask.
        on_failure : {"refuse", "retrain"}, default="refuse"
            If the result does not pass:

            - "refuse" raises a :class:`GateError`; the unlearner is as it was and can go on
              serving, with the request still open.
            - "retrain" falls back to RETRAIN with REWEIGHT, which is exact, and keeps its result;
              the result says whether it met the conditions.
        X : array-like of shape (n_samples, ...)
            Test inputs.
        y : array-like of shape (n_samples,)
            Test labels.
        groups : array-like of shape (n_samples,) or (n_samples, n_attributes)
            Protected attribute of the test rows.
        gold : estimator, ModelScores or None, default=None
            Retraining with REWEIGHT, if that is compared to, or what :func:`measure` said of it.
        attacks : callable or None, default=None
            A function of the new model that attacks it, and returns findings.
        residue : callable or None, default=None
            A function of the new model that scans it.
        training : dict or None, default=None
            ``X``, ``y``, ``groups``, ``sample_weight`` as given to ``fit``, if they are not stored.
        **measuring : dict
            Further arguments of :func:`measure`.

        Returns
        -------
        GateResult
            The decision, and in ``action`` what was done.

        Raises
        ------
        GateError
            If the result does not pass and ``on_failure`` is "refuse".
        ValueError
            If an argument is unknown, or falling back is impossible for this method.
        """
        check_option(on_failure, ("refuse", "retrain"), name="on_failure")
        inside, given = unlearner_of(unlearner), dict(training or {})
        if on_failure == "retrain" and inside._keeps_unaffected_weights:
            raise ValueError(f"{type(inside).__name__} is exact already: use on_failure='refuse'.")
        if on_failure == "retrain" and inside._takes_net:
            check_fresh_weights(inside.net_)
        if given.get("X") is not None:
            given["X"] = inputs_of_unlearner(unlearner, given["X"])
        before, candidate = copy.copy(inside), copy.copy(inside)  # no attribute changes in place

        def decide(changed: BaseUnlearner) -> GateResult:
            model, old = (with_unlearner(unlearner, each) for each in (changed, before))
            models = {"after": model, "before": old, "gold": gold}
            scores = measure_models(model, models, X, y, groups, **measuring)
            attacked = attacks(model) if attacks else ()
            return self.decide(
                **scores, attacks=attacked, residue=residue(model) if residue else None
            )

        candidate.unlearn(idx, **given)
        result = decide(candidate)
        if result.passed:
            inside.__dict__.update(vars(candidate))
            return GateResult(result.checks, True, "accepted")
        if on_failure == "refuse":
            raise GateError(result)
        retrained = _retrained(before, idx, given)
        second = decide(retrained)
        inside.__dict__.update(vars(retrained))
        return GateResult(second.checks, second.passed, "retrained")


def _attack_check(attack: LeakageFinding) -> GateCheck:
    name = f"Leakage: {attack.attack} on {attack.rows} rows, group {attack.group}"
    detail = f"{attack.verdict}; AUC {attack.auc}, on the original model {attack.power}"
    return GateCheck(name, STATUS_OF[attack.verdict], detail)


def _residue_check(residue: ResidueScan | None) -> GateCheck:
    name = "Residue in the object and its files"
    if residue is None:
        return GateCheck(name, "inconclusive", "no scan was run")
    found, unread = (
        f": {naming(map(str, told))}" if told else "" for told in (residue, residue.not_searched)
    )
    detail = (
        f"{len(residue)} found in {residue.n_places} places, {residue.n_bytes} bytes{found}; "
        f"{len(residue.not_searched)} could not be looked into{unread}"
    )
    return GateCheck(name, STATUS_OF[residue.verdict], detail)


def _retrained(unlearner: BaseUnlearner, idx: ArrayLike, training: dict[str, Any]) -> BaseUnlearner:
    """Return a copy of the unlearner with the net that RETRAIN + REWEIGHT trains."""
    params = unlearner.get_params(deep=False)
    shared = {name: params[name] for name in ("estimator", "store_data", "keep_forgotten")}
    options = {"reweight": unlearner._has_groups, "random_state": unlearner.seed_}
    worker = by_method(unlearner, RetrainUnlearner, **shared, **options).unlearn(idx, **training)
    return by_method(worker, type(unlearner), **{**params, "estimator": worker.estimator})
