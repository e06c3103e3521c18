"""Attack an unlearned model, to see whether forgotten rows can be identified."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ..base import BaseUnlearner
from ..metrics.evaluate import group_name
from ..pipelines import inputs_of_unlearner, unlearner_of
from ..randomness import RandomState, derive_seed, resolve_seed
from ..validation import check_option
from .attacks import Comparison, lira_scores, log_odds_of, rmia_scores
from .reference_models import AuditRows, Candidates, ReferenceModels
from .scores import Interval, as_json

#: With fewer rows than this on either side a bootstrap says too little about its own error.
FEWEST_ROWS = 10

Verdict = Literal["leak", "no leak found", "inconclusive"]
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
    random_state: RandomState = 0,
) -> LeakageAudit:
    r"""Attack the forgotten rows, and those that stay, with a stated budget of reference models.

    Each attack gives a row a score that is high if the model looks trained on it. If the rows were
    forgotten, they score like rows of the same groups that no model ever saw, and the probability

    .. math:: \mathrm{AUC} = \Pr[s_{forgotten} > s_{never seen}] + \tfrac12 \Pr[=]

    is 0.5. Above that the rows are still memorised. Far below they can be identified as well: the
    model is less sure of them than of rows that it never saw. The same attack on the original
    model, which was trained on the rows, is the attack's *power*.

    Verdicts on forgotten rows, with the tolerance :math:`t`:

    - "leak": the interval lies above :math:`0.5 + t` or below :math:`0.5 - t`;
    - "no leak found": it lies within :math:`0.5 \pm t`, and the interval of the power above
      :math:`0.5 + t`. So doing nothing never passes;
    - "inconclusive": otherwise. An attack without power proves nothing, and few rows prove little.

    Rows that stay are members before and after. There "leak" means that the AUC has risen by more
    than :math:`t`: unlearning has exposed those who did not ask for it.

    Parameters
    ----------
    unlearner : BaseUnlearner, Pipeline or classifier
        The unlearned model, with ``classes_`` and ``predict_proba``. Of a pipeline that ends in an
        unlearner, rows are given as the pipeline takes them.
    original : classifier
        The model before the request, such as a copy or a loaded file; for the power.
    forgotten : tuple of (X, y, groups)
        The forgotten rows, which the unlearner does not keep. ``groups`` may be None.
    nonmembers : tuple of (X, y, groups)
        Held-out rows from where the others come from, in the training of neither model; test rows,
        say. Each group with forgotten rows needs some. If they differ from training rows in other
        ways, attacks see that difference too.
    remaining : tuple of (X, y, groups), default=None
        The rows that stay. Default: those that the unlearner holds; of another classifier, needed.
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
    of them may be read at :math:`1 - \alpha`; they are not corrected for the number of attacks.
    Fewer than 10 rows on either side are never judged. The intervals cover the choice of rows, not
    the randomness of training: another seed of the same method may give another result. Reference
    models train on forgotten rows on purpose, as an attacker would who knows a person's record.
    Whether a whole *distribution* of unlearned models can be told from retrained ones [3]_ is a
    stronger question, and takes many runs of the method.

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
    for name in attacks:
        check_option(name, tuple(_ATTACKS), name="attacks")
    if not 0 <= tolerance < 0.5:
        raise ValueError(f"tolerance must lie in [0, 0.5), got {tolerance!r}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence!r}.")
    if n_bootstrap < 100:
        raise ValueError(f"n_bootstrap must be at least 100, got {n_bootstrap!r}.")
    unlearner, original, given = _inside(unlearner, original, forgotten, remaining, nonmembers)
    if given[1] is None:
        given[1] = unlearner.training_rows()
    rows = AuditRows(*given)
    check_is_fitted(unlearner)
    gone = getattr(original, "forget_idx_", ())
    if original is unlearner or np.isin(getattr(unlearner, "forget_idx_", -1), gone).all():
        raise ValueError(
            "The original model has forgotten the rows too: pass a copy from before the request."
        )
    seed = resolve_seed(random_state)
    if not isinstance(references, ReferenceModels):
        references = ReferenceModels(unlearner, references, random_state=derive_seed(seed, 0))
    models = references._of_rows(rows)
    candidates = models._candidates
    questions = rows.take(candidates.rows)
    before, after = (
        log_odds_of(model, questions.X, questions.y) for model in (original, unlearner)
    )
    attack_scores = {
        name: (_ATTACKS[name](before, models), _ATTACKS[name](after, models)) for name in attacks
    }
    findings = [
        replace(finding, n_models=models.n_models)
        for compared in _comparisons(candidates, confidence, n_bootstrap, seed)
        for finding in _findings(*compared, attack_scores, tolerance)
    ]
    notes = [
        f"Remaining rows of {pair} were not attacked, for want of non-members."
        for pair in candidates.left_out
    ]
    return LeakageAudit(findings, models.n_models, tolerance, notes)


# the models --------------------------------------------------------------------------------------


def _inside(unlearner: Any, original: Any, *given: Any) -> tuple[Any, Any, list[Any]]:
    """Return the unlearners in pipelines, and rows as they get them."""
    if not isinstance(unlearner, Pipeline) or not isinstance(unlearner[-1], BaseUnlearner):
        return unlearner, original, list(given)
    rows = list(given)
    for place, part in enumerate(given):
        if isinstance(part, tuple | list):  # what training_rows returns went through already
            rows[place] = (inputs_of_unlearner(unlearner, part[0]), *part[1:])
    return unlearner_of(unlearner), unlearner_of(original), rows


# attacks -----------------------------------------------------------------------------------------


_ATTACKS: dict[str, Callable[[Scores, ReferenceModels], Scores]] = {
    "loss": lambda log_odds, models: log_odds,
    "LiRA": lambda log_odds, models: lira_scores(log_odds, models.log_odds_, models.is_in_),
    "RMIA": lambda log_odds, models: rmia_scores(
        log_odds, models.log_odds_, models.is_in_, models._candidates.of_kind("nonmembers")
    ),
}


# measuring ---------------------------------------------------------------------------------------


def _comparisons(
    candidates: Candidates, confidence: float, n_bootstrap: int, seed: int
) -> Iterator[tuple[Any, str, Comparison, float]]:
    """Yield kind of rows, group, who is compared, and the level of the interval."""
    nonmembers, group = candidates.of_kind("nonmembers"), candidates.group
    for place, which in enumerate(("forgotten", "remaining")):
        members = candidates.of_kind(which)
        numbers = np.unique(group[members])
        of_groups = {
            # there is no attribute if no groups were given
            f"({group_name(candidates.pairs[n]).removesuffix(', ')})": members[group[members] == n]
            for n in numbers
        }
        parts = {"all": members, **of_groups} if len(numbers) > 1 else {"all": members}
        for index, (name, rows) in enumerate(parts.items() if len(members) else ()):
            drawn = derive_seed(seed, 1 + place, index)
            compared = Comparison(rows, nonmembers, group, n_bootstrap, drawn)
            level = confidence if index == 0 else 1 - (1 - confidence) / len(numbers)
            yield which, name, compared, level


def _findings(
    which: Any,
    group: str,
    comparison: Comparison,
    level: float,
    attack_scores: dict[str, tuple[Scores, Scores]],
    tolerance: float,
) -> Iterator[LeakageFinding]:
    """Yield what each attack found on the rows of one comparison."""
    both = np.array([scores for pair in attack_scores.values() for scores in pair])
    is_enough = min(len(comparison.members), comparison.effective_nonmembers) >= FEWEST_ROWS
    # samples are the same for both models, so that the difference of the two is a paired one
    drawn = comparison.bootstrap_auc(both) if is_enough else np.full((len(both), 1), np.nan)

    def interval(value: float, samples: Scores) -> Interval:
        return Interval(value, *np.quantile(samples, [(1 - level) / 2, (1 + level) / 2]).tolist())

    for place, (attack, (before, after)) in enumerate(attack_scores.items()):
        drawn_before, drawn_after = drawn[2 * place : 2 * place + 2]
        power = interval(comparison.auc(before), drawn_before)
        auc = interval(comparison.auc(after), drawn_after)
        change = interval(auc.value - power.value, drawn_after - drawn_before)
        is_gone = which == "forgotten"
        told = judge(auc if is_gone else change, power, tolerance, is_forgotten=is_gone)
        sizes = len(comparison.members), comparison.effective_nonmembers
        yield LeakageFinding(attack, which, group, *sizes, auc, power, change, level, *told)


# what is told -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LeakageFinding:
    """One attack on the rows of one group.

    Attributes
    ----------
    attack : str
        Such as ``"RMIA"``.
    rows : {"forgotten", "remaining"}
        Which rows were attacked.
    group : str
        ``"all"``, or a group (y, a) as text.
    n_rows : int
        How many rows were attacked.
    n_nonmembers : float
        Effective number (Kish) of the weighted non-members that they were compared with.
    auc : Interval
        On the unlearned model: how often one of the rows scores above a matched non-member. 0.5
        is chance; a value far below tells the rows apart as well.
    power : Interval
        The same on the original model.
    change : Interval
        ``auc`` less ``power``, on the same samples.
    confidence : float
        Level of the intervals; that of groups is corrected for their number.
    verdict : {"leak", "no leak found", "inconclusive"}
        What follows. An attack without power is inconclusive.
    reason : str
        Why.
    n_models : int
        How many reference models the attack had.

    Raises
    ------
    ValueError
        If the verdict is none of the three, or says "no leak found" without a measured power.
    """

    attack: str
    rows: Literal["forgotten", "remaining"]
    group: str
    n_rows: int
    n_nonmembers: float
    auc: Interval
    power: Interval
    change: Interval
    confidence: float
    verdict: Verdict
    reason: str
    n_models: int = 0

    def __post_init__(self) -> None:
        check_option(self.verdict, get_args(Verdict), name="verdict")
        if self.verdict == "no leak found" and math.isnan(self.power.value):
            raise ValueError(f"{self.attack!r} found no leak, but its power was not measured.")


def judge(
    found: Interval, power: Interval, tolerance: float, *, is_forgotten: bool
) -> tuple[Verdict, str]:
    """Decide whether the model reveals who was forgotten, or exposes remaining rows more.

    A leak counts whatever the attack's power. "No leak found" takes an attack that finds the rows
    in the original model, so clearly that doing nothing would have been called a leak. Remaining
    rows are members before and after, so that for them only a rise of the AUC is a leak.

    Parameters
    ----------
    found : Interval
        AUC on the unlearned model; of rows that stay, less that on the original one.
    power : Interval
        AUC on the original model.
    tolerance : float
        How far from chance the AUC may be; of rows that stay, by how much it may rise.
    is_forgotten : bool
        Whether the rows were forgotten, or stay.

    Returns
    -------
    verdict, reason : str
        What follows, and why.
    """
    low, high = found.low - is_forgotten * 0.5, found.high - is_forgotten * 0.5
    if not found.is_known:
        return "inconclusive", f"fewer than {FEWEST_ROWS} rows on one side"
    if low > tolerance:
        state = "still look trained on" if is_forgotten else "are more exposed than before"
        return "leak", f"the rows {state}"
    if is_forgotten and high < -tolerance:
        return "leak", "the rows look less familiar than rows never seen: forgotten too much"
    if not power.low > 0.5 + is_forgotten * tolerance:
        return "inconclusive", "the attack has no power on the original model"
    if high <= tolerance and (low >= -tolerance or not is_forgotten):
        state = "like rows never seen" if is_forgotten else "not more exposed than before"
        return "no leak found", f"{state}, within the tolerance"
    return "inconclusive", "the interval is too wide: more rows are needed"


@dataclass(frozen=True)
class LeakageAudit:
    """What attacks found, with their power and the budget they had.

    Iterating over it gives its findings, so that it can be passed on as it is:
    ``build_evidence(..., attacks=audit)``, ``AcceptanceGate().decide(..., attacks=audit)``.

    Attributes
    ----------
    findings : list of LeakageFinding
        One for each attack, kind of rows and group.
    n_models : int
        How many reference models the attacks had.
    tolerance : float
        How far from 0.5 the AUC may be.
    notes : list of str
        What could not be attacked or resolved.

    See Also
    --------
    audit_unlearning : Makes it.

    Examples
    --------
    >>> from grmu_sk.audit import LeakageAudit
    >>> audit = LeakageAudit([], n_models=16)
    >>> audit.verdict, list(audit)
    ('inconclusive', [])
    """

    findings: list[LeakageFinding]
    n_models: int
    tolerance: float = 0.1
    notes: list[str] = field(default_factory=list)

    @property
    def decisive(self) -> list[LeakageFinding]:
        """The findings that decide: for each kind of rows and group the most powerful attack.

        A weaker attack that finds nothing does not make the result inconclusive. Power is measured
        on the original model, so that the choice does not depend on what was found; and any leak is
        in this list, whichever attack found it.
        """
        strongest: dict[tuple[str, str], LeakageFinding] = {}
        for finding in self.findings:
            best = strongest.setdefault((finding.rows, finding.group), finding)
            if finding.power.value > best.power.value:
                strongest[finding.rows, finding.group] = finding
        return [
            finding
            for finding in self.findings
            if finding.verdict == "leak" or strongest[finding.rows, finding.group] is finding
        ]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict that is decisive; "inconclusive" if there is none."""
        verdicts = {result.verdict for result in self.decisive}
        if "leak" in verdicts:
            return "leak"
        return "no leak found" if verdicts == {"no leak found"} else "inconclusive"

    def to_frame(self) -> pd.DataFrame:
        """Return all findings as a table.

        Returns
        -------
        DataFrame
            One row a finding; the columns are the fields of :class:`LeakageFinding`, an interval
            being three of them: ``auc``, ``auc_low`` and ``auc_high``.
        """
        table = pd.json_normalize([as_json(finding) for finding in self.findings], sep="_")
        return table.rename(columns=lambda name: name.removesuffix("_value"))

    def __iter__(self) -> Iterator[LeakageFinding]:
        return iter(self.findings)

    def __str__(self) -> str:
        title = (
            f"Leakage audit: {self.verdict}. {self.n_models} reference models, tolerance "
            f"{self.tolerance:g}; power is the AUC on the original model"
        )
        shown = ["attack", "rows", "group", "n_rows", "power", "auc", "verdict", "reason"]
        table = pd.DataFrame([vars(found) for found in self.findings], columns=shown)
        notes = (f"Note: {note}" for note in self.notes)
        return "\n".join([title, table.to_string(index=False), *notes])
