"""Attack an unlearned model, to see whether it can be told who was forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ..base import BaseUnlearner
from ..utils._random import RandomState, derive_seed, resolve_seed
from ..utils.arguments import check_types
from ._candidates import Candidates
from ._row_set import RowSet
from ._separation import Comparison
from ._signals import log_odds_of
from .leakage_audit import LeakageAudit
from .leakage_finding import (
    FEWEST_ROWS,
    Interval,
    LeakageFinding,
    judge_forgotten,
    judge_remaining,
)
from .lira import lira_scores
from .reference_models import ReferenceModels, candidate_rows, check_rows
from .rmia import rmia_scores

__all__ = ["audit_unlearning"]

#: A rate of false positives is measured if so many non-members make it up.
FEWEST_FALSE_POSITIVES = 5

Scores = NDArray[np.float64]


def audit_unlearning(
    unlearner: Any,
    original: Any,
    *,
    forgotten: Any,
    nonmembers: Any,
    remaining: Any = None,
    references: ReferenceModels | int = 16,
    attacks: Sequence[str] = ("loss", "LiRA", "RMIA"),
    tolerance: float = 0.1,
    confidence: float = 0.95,
    n_bootstrap: int = 2000,
    false_positive_rates: Sequence[float] = (0.01, 0.001),
    random_state: RandomState = 0,
) -> LeakageAudit:
    r"""Attack the forgotten rows, and those that stay, with a stated budget of reference models.

    Each attack gives a row a score that is high if the model looks trained on it. If the rows were
    forgotten, they score like rows of the same groups that no model ever saw, and the probability

    .. math:: \mathrm{AUC} = \Pr[s_{forgotten} > s_{never seen}] + \tfrac12 \Pr[=]

    is 0.5. Above that the rows are still remembered. Far below they can be told apart as well: the
    model avoids them as it avoids no row that it never saw. The same attack on the original model,
    which was trained on the rows, is the attack's *power*.

    Verdicts on forgotten rows, with the tolerance :math:`t`:

    - "leak": the interval lies above :math:`0.5 + t` or below :math:`0.5 - t`;
    - "no leak found": it lies within :math:`0.5 \pm t`, and the interval of the power above
      :math:`0.5 + t`. So doing nothing never passes;
    - "inconclusive": otherwise. An attack without power proves nothing, and few rows prove little.

    Rows that stay are members before and after. There "leak" means that the AUC has risen by more
    than :math:`t`: unlearning has exposed those who did not ask for it.

    Parameters
    ----------
    unlearner : BaseUnlearner or classifier
        The unlearned model, with ``classes_`` and ``predict_proba``.
    original : classifier
        The model before the request, such as a copy or a loaded file; for the power.
    forgotten : tuple of (X, y, groups)
        The forgotten rows, which the unlearner does not keep. ``groups`` may be None.
    nonmembers : tuple of (X, y, groups)
        Held-out rows from where the others come from, in the training of neither model; test rows,
        say. Each group with forgotten rows needs some. If they differ from training rows in other
        ways, attacks see that difference too.
    remaining : tuple of (X, y, groups), default=None
        The rows that stay. Default: those that the unlearner holds.
    references : ReferenceModels or int, default=16
        Reference models, which may be fitted already and be shared by audits of several methods on
        the same rows; or how many to train with the unlearner's own net.
    attacks : sequence of {"loss", "LiRA", "RMIA"}, default=("loss", "LiRA", "RMIA")
        "loss" scores a row by the log-odds of its true label and uses no reference model; for the
        others see :func:`lira_scores` and :func:`rmia_scores`.
    tolerance : float, default=0.1
        :math:`t`, in [0, 0.5).
    confidence : float, default=0.95
        Level of the intervals.
    n_bootstrap : int, default=2000
        Samples of the rows that the intervals are from, drawn with replacement within each group
        and kind, the same for both models.
    false_positive_rates : sequence of float, default=(0.01, 0.001)
        Where to give the rate of true positives. It is NaN, and a note says so, unless at least 5
        (effective) non-members make up the rate.
    random_state : int, RandomState instance or None, default=0
        Seed of the bootstrap, and of reference models that are trained here.

    Returns
    -------
    LeakageAudit
        What was found.

    Raises
    ------
    NotFittedError
        If a model is not fitted.
    TypeError
        If a parameter is of another kind.
    ValueError
        If rows do not fit together, reference models were fitted with other rows, the original
        model has forgotten the rows too, a group has forgotten rows and no non-member, or a
        parameter is out of range.

    See Also
    --------
    build_evidence : Puts the result into a report.
    AcceptanceGate : Decides by it.
    grmu_sk.metrics.membership_inference_efficacy : The paper's attack: one number a row, no power.

    Notes
    -----
    Non-members are weighted to the attacked rows' mix of groups. Results of single groups have
    intervals of level :math:`1 - \alpha / G` with :math:`G` groups (Bonferroni), so that the worst
    of them may be read at :math:`1 - \alpha`; attacks are not corrected for being several. Fewer
    than 10 rows on either side are never judged. The intervals stand for the choice of rows, not
    for the randomness of training: another seed of the same method may come out differently.
    Reference models spare nothing on purpose: they may train on forgotten rows, as an attacker who
    knows somebody's record would. Whether a whole *distribution* of unlearned models can be told
    from retrained ones [3]_ is a stronger question, and takes many runs of the method.

    References
    ----------
    .. [1] N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis and F. Tramèr, "Membership Inference
       Attacks From First Principles", IEEE Symposium on Security and Privacy, 2022.
    .. [2] S. Zarifzadeh, P. Liu and R. Shokri, "Low-Cost High-Power Membership Inference Attacks",
       ICML 2024.
    .. [3] J. Hayes, I. Shumailov, E. Triantafillou, A. Khalifa and N. Papernot, "Inexact Unlearning
       Needs More Careful Evaluations to Avoid a False Sense of Privacy", 2024.

    Examples
    --------
    >>> from copy import deepcopy
    >>> from grmu_sk import NoOpUnlearner
    >>> from grmu_sk.audit import audit_unlearning
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> def rows(which):
    ...     return data.images[which], data.target[which], data.groups[which]
    >>> training = data.train[:120]
    >>> unlearner = NoOpUnlearner(random_state=0).fit(*rows(training))
    >>> original = deepcopy(unlearner)
    >>> audit = audit_unlearning(
    ...     unlearner.unlearn(range(20)),
    ...     original,
    ...     forgotten=rows(training[:20]),
    ...     nonmembers=rows(data.validation),
    ...     references=4,
    ... )
    >>> audit.n_models, audit.verdict != "no leak found"
    (4, True)
    """
    check_types(audit_unlearning, locals())
    settings = _Settings(
        tuple(attacks), tolerance, confidence, n_bootstrap, tuple(false_positive_rates)
    )
    settings.check()
    rows = check_rows(forgotten, _remaining_of(unlearner, remaining), nonmembers)
    _check_models(unlearner, original, rows)
    seed = resolve_seed(random_state)
    models = _fitted_references(references, unlearner, rows, seed)
    candidates = models._candidates
    questions = candidate_rows(rows, candidates)
    before, after = (
        log_odds_of(model, questions.X, questions.y) for model in (original, unlearner)
    )
    by_attack = {
        name: (_ATTACKS[name](before, models), _ATTACKS[name](after, models))
        for name in settings.attacks
    }
    findings = [
        finding
        for which, group, comparison, level in _comparisons(candidates, settings, seed)
        for finding in _findings(which, group, comparison, level, by_attack, settings)
    ]
    return LeakageAudit(
        findings,
        n_models=models.n_models,
        reweight=models.reweight,
        tolerance=tolerance,
        confidence=confidence,
        n_bootstrap=n_bootstrap,
        notes=_notes(findings, candidates),
    )


@dataclass(frozen=True)
class _Settings:
    attacks: tuple[str, ...]
    tolerance: float
    confidence: float
    n_bootstrap: int
    rates: tuple[float, ...]

    def check(self) -> None:
        unknown = sorted(set(self.attacks) - set(_ATTACKS))
        if unknown or not self.attacks:
            raise ValueError(
                f"attacks must be one or several of {list(_ATTACKS)}, got {list(self.attacks)}."
            )
        if not 0 <= self.tolerance < 0.5:
            raise ValueError(f"tolerance must lie in [0, 0.5), got {self.tolerance!r}.")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must lie between 0 and 1, got {self.confidence!r}.")
        if self.n_bootstrap < 100:
            raise ValueError(
                f"n_bootstrap must be at least 100, got {self.n_bootstrap!r}: the ends of an "
                "interval are quantiles far out."
            )
        if not all(0 < rate < 1 for rate in self.rates):
            raise ValueError(
                f"false_positive_rates must lie between 0 and 1, got {list(self.rates)}."
            )


# the models --------------------------------------------------------------------------------------


def _remaining_of(unlearner: Any, remaining: Any) -> Any:
    if remaining is not None:
        return remaining
    if not isinstance(unlearner, BaseUnlearner):
        raise ValueError(
            f"remaining is needed: {type(unlearner).__name__} is no unlearner that holds the rows "
            "it was trained on. Pass remaining=(X, y, groups)."
        )
    return unlearner.training_rows()


def _check_models(unlearner: Any, original: Any, rows: dict[str, RowSet]) -> None:
    if original is unlearner:
        raise ValueError(
            "original is the unlearned model itself. Keep a copy of the model before unlearn, with "
            "copy.deepcopy or save, for the time of the audit."
        )
    for name, model in (("unlearner", unlearner), ("original", original)):
        if isinstance(model, type):
            raise TypeError(f"{name} must be a fitted model, got the class {model.__name__}.")
        if not hasattr(model, "predict_proba"):
            raise ValueError(f"{name} has no predict_proba, which the attacks read: {model!r}.")
    if not isinstance(unlearner, BaseUnlearner):
        return
    check_is_fitted(unlearner)
    n_forgotten = len(unlearner.forget_idx_)
    if len(rows["forgotten"]) > n_forgotten:
        raise ValueError(
            f"forgotten holds {len(rows['forgotten'])} rows, but the unlearner has forgotten "
            f"{n_forgotten}."
        )
    same_rows = isinstance(original, BaseUnlearner) and np.isin(
        unlearner.forget_idx_, original.forget_idx_
    )
    if np.all(same_rows):
        raise ValueError(
            "The original model has forgotten the same rows, so that it cannot show whether the "
            "attacks have power. Pass the model as it was before the request."
        )


def _fitted_references(
    references: ReferenceModels | int, unlearner: Any, rows: dict[str, RowSet], seed: int
) -> ReferenceModels:
    if isinstance(references, ReferenceModels):
        if references.is_fitted:
            references.check_same_rows(rows)
            return references
        return references.fit(*(_as_given(part) for part in rows.values()))
    made = ReferenceModels(unlearner, int(references), random_state=derive_seed(seed, 0))
    return made.fit(*(_as_given(part) for part in rows.values()))


def _as_given(rows: RowSet) -> tuple[Any, Any, Any]:
    return rows.X, rows.y, rows.groups


# attacks -----------------------------------------------------------------------------------------


def _loss(log_odds: Scores, models: ReferenceModels) -> Scores:
    return log_odds


def _lira(log_odds: Scores, models: ReferenceModels) -> Scores:
    return lira_scores(log_odds, models.log_odds_, models.is_in_)


def _rmia(log_odds: Scores, models: ReferenceModels) -> Scores:
    population = models._candidates.of_kind("nonmembers")
    return rmia_scores(log_odds, models.log_odds_, models.is_in_, population)


_ATTACKS: dict[str, Callable[[Scores, ReferenceModels], Scores]] = {
    "loss": _loss,
    "LiRA": _lira,
    "RMIA": _rmia,
}


# measuring ---------------------------------------------------------------------------------------


def _comparisons(
    candidates: Candidates, settings: _Settings, seed: int
) -> Iterator[tuple[Any, str, Comparison, float]]:
    """Yield kind of rows, group, who is compared, and the level of the interval."""
    nonmembers = candidates.of_kind("nonmembers")
    for place, which in enumerate(("forgotten", "remaining")):
        members = candidates.of_kind(which)
        numbers = np.unique(candidates.group[members])
        if not len(members):
            continue

        def compare(rows: NDArray[np.int64], *path: int) -> Comparison:
            drawn = derive_seed(seed, *path)
            return Comparison(rows, nonmembers, candidates.group, settings.n_bootstrap, drawn)

        yield which, "all", compare(members, 1, place), settings.confidence
        if len(numbers) == 1:
            continue
        level = 1 - (1 - settings.confidence) / len(numbers)
        for number in numbers:
            of_group = members[candidates.group[members] == number]
            name = str(candidates.pairs[number])
            yield which, name, compare(of_group, 2, place, int(number)), level


def _findings(
    which: Any,
    group: str,
    comparison: Comparison,
    level: float,
    by_attack: dict[str, tuple[Scores, Scores]],
    settings: _Settings,
) -> Iterator[LeakageFinding]:
    """Yield what each attack found on the rows of one comparison."""
    both = np.array([scores for pair in by_attack.values() for scores in pair])
    is_enough = min(len(comparison.members), comparison.effective_nonmembers) >= FEWEST_ROWS
    # samples are the same for both models, so that the difference of the two is a paired one
    drawn = comparison.bootstrap_auc(both) if is_enough else np.full((len(both), 1), np.nan)
    ends = [(1 - level) / 2, (1 + level) / 2]
    for place, (attack, (before, after)) in enumerate(by_attack.items()):
        drawn_before, drawn_after = drawn[2 * place : 2 * place + 2]
        power = Interval(comparison.auc(before), *np.quantile(drawn_before, ends).tolist())
        auc = Interval(comparison.auc(after), *np.quantile(drawn_after, ends).tolist())
        change = Interval(
            auc.value - power.value, *np.quantile(drawn_after - drawn_before, ends).tolist()
        )
        verdict, reason = (
            judge_forgotten(auc, power, settings.tolerance)
            if which == "forgotten"
            else judge_remaining(change, power, settings.tolerance)
        )
        yield LeakageFinding(
            attack=attack,
            rows=which,
            group=group,
            n_rows=len(comparison.members),
            n_nonmembers=comparison.effective_nonmembers,
            auc=auc,
            power=power,
            change=change,
            confidence=level,
            verdict=verdict,
            reason=reason,
            tpr={rate: _tpr(comparison, after, rate) for rate in settings.rates},
            power_tpr={rate: _tpr(comparison, before, rate) for rate in settings.rates},
        )


def _tpr(comparison: Comparison, scores: Scores, rate: float) -> float:
    if comparison.effective_nonmembers * rate < FEWEST_FALSE_POSITIVES:
        return float("nan")
    return comparison.true_positive_rate(scores, rate)


def _notes(findings: list[LeakageFinding], candidates: Candidates) -> list[str]:
    notes = []
    for rate in findings[0].tpr if findings else ():
        unresolved = [finding for finding in findings if np.isnan(finding.tpr[rate])]
        if unresolved:
            most = max(finding.n_nonmembers for finding in unresolved)
            notes.append(
                f"TPR at FPR {100 * rate:g}% needs {FEWEST_FALSE_POSITIVES / rate:.0f} effective "
                f"non-members; {len(unresolved)} of {len(findings)} comparisons have fewer, at "
                f"most {most:.0f}."
            )
    if candidates.left_out:
        notes.append(
            "Remaining rows of these groups were not attacked, for want of non-members: "
            f"{', '.join(map(str, candidates.left_out))}."
        )
    return notes
