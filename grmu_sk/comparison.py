"""Compare unlearning methods in memory: train, let each forget, measure; and tune them first."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import ParameterGrid
from sklearn.utils import Bunch

from .base import BaseUnlearner
from .groups import Pair, sample_forget_set
from .metrics.evaluate import Evaluation, Split, evaluate_model
from .metrics.fidelity import row_distance_score
from .metrics.gap import AVERAGE_GAP, average_gaps, damage_to_other_groups
from .outputs import decision_threshold
from .results import COLUMNS, GOLD, MODEL, PRETRAIN, RESEEDED_GOLD, RETRAIN, Row
from .rows import take_rows
from .unlearners import RetrainUnlearner, all_unlearners

__all__ = ["Split", "Splits", "compare", "rows_for", "tune"]

RESEED = 1_000_003  # added to the seed of the second gold model
NOT_PERCENT = ("seconds", "cost", "row_distance")
N_WARM_UP_BATCHES = 2
Scores = dict[str, float]


# data -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Splits:
    """A data set cut for a comparison.

    Parameters
    ----------
    name : str
        What tables call the data set.
    train, validation, test : Split
        Disjoint rows. Validation rows are the membership attack's non-members; test rows are only
        ever evaluated.
    forget_groups : list of tuple
        The groups (y, a) the requests come from.
    augmented : Dataset or None, default=None
        Inputs of the training rows as a net is to be trained on them, where a row comes out
        differently each time. None if there is no such choice. What is evaluated is always
        ``train.X``.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    forget_groups: list[Pair]
    augmented: Any = None

    @classmethod
    def from_bunch(cls, name: str, bunch: Bunch) -> Splits:
        """Cut a data set of :mod:`grmu_sk.datasets`, with names in place of numbers.

        Parameters
        ----------
        name : str
            What tables call the data set.
        bunch : Bunch
            As returned by a loader, for example
            :func:`~grmu_sk.datasets.load_digits_on_backgrounds`. Its ``data`` must be an array or
            a tensor.

        Returns
        -------
        Splits
            The forget group is the one that the paper forgets, where the data say so; else the
            smallest group of the training rows.
        """
        y, a = bunch.get("forget_group") or bunch.smallest_group
        labels, attributes = np.asarray(bunch.target_names), np.asarray(bunch.group_names)
        train, validation, test = (
            Split(bunch.data[rows], labels[bunch.target[rows]], attributes[bunch.groups[rows]])
            for rows in (bunch.train, bunch.validation, bunch.test)
        )
        pair = (bunch.target_names[y], bunch.group_names[a])
        return cls(name, train, validation, test, [pair])


Load = Callable[[int], Splits]


# the rows of a table ----------------------------------------------------------------------------


def rows_for(
    names: Iterable[str], parameters: Mapping[str, dict[str, Any]] | None = None
) -> list[Row]:
    """Return the rows of a table: what every comparison needs, and the methods asked for.

    Parameters
    ----------
    names : iterable of str
        Names of the registry (``grmu_sk.unlearners.all_unlearners``). Each method takes part
        without and with REWEIGHT if it has that choice.
    parameters : mapping of str to dict or None, default=None
        Parameters of methods, by name, where they are not the class's defaults.

    Returns
    -------
    list of Row
        First retraining, the gold standard (retraining with REWEIGHT) and the gold standard with
        another seed, then the methods.

    Raises
    ------
    ValueError
        If a name is unknown.
    """
    asked = [
        Row(name, reweight, parameters=(parameters or {}).get(name, {}))
        for name in names
        for reweight in ((False, True) if _has_reweight(_registered(name)) else (False,))
    ]
    return list(dict.fromkeys([RETRAIN, GOLD, RESEEDED_GOLD, *asked]))


@cache
def _registered(name: str) -> type[BaseUnlearner]:
    registry = dict(all_unlearners())
    if name not in registry:
        raise ValueError(f"There is no method {name!r}; there are: {', '.join(registry)}.")
    return registry[name]


def unlearner_class(row: Row) -> type[BaseUnlearner]:
    """Return the class behind a row; the models that are compared with are retrained ones."""
    is_retrained = row.method in (PRETRAIN.method, RESEEDED_GOLD.method)
    return RetrainUnlearner if is_retrained else _registered(row.method)


def _has_reweight(unlearner: type[BaseUnlearner]) -> bool:
    return "reweight" in unlearner._get_param_names()


def make_unlearner(row: Row, net: Any, pretrained: Any, seed: int) -> BaseUnlearner:
    """Return the unfitted unlearner of a row.

    Parameters
    ----------
    row : Row
        Which.
    net : NeuralNet
        For methods that train from scratch.
    pretrained : BaseUnlearner or NeuralNet
        The trained one, for methods that start from it.
    seed : int
        Of its weights and batches.

    Returns
    -------
    BaseUnlearner
        The unlearner.
    """
    unlearner = unlearner_class(row)
    needs_it = unlearner._needs_trained_net and unlearner._accepts_trained_net
    return unlearner(
        FrozenEstimator(pretrained) if needs_it else net,
        random_state=seed + RESEED * (row.method == RESEEDED_GOLD.method),
        **({"reweight": row.reweight} if _has_reweight(unlearner) else {}) | row.parameters,
    )


# the steps --------------------------------------------------------------------------------------


def train_on_all(net: Any, splits: Splits, inputs: Any, seed: int) -> tuple[BaseUnlearner, float]:
    """Return an unlearner without data, trained on all training rows, and the seconds it took."""
    unlearner = RetrainUnlearner(net, random_state=seed, store_data=False)
    start = _clock(net)
    unlearner.fit(inputs, splits.train.y, splits.train.groups)
    return unlearner, _clock(net) - start


def forget_rows(
    unlearner: BaseUnlearner, net: Any, splits: Splits, inputs: Any, forget: NDArray[np.bool_]
) -> float:
    """Fit an unlearner, let it forget rows, and return the seconds of the unlearning alone.

    For a method that trains from scratch these are the seconds of its training.
    """
    train = splits.train
    if not unlearner._needs_trained_net:
        start = _clock(net)
        unlearner.fit(inputs, train.y, train.groups, forget=forget)
        return _clock(net) - start
    unlearner.fit(inputs, train.y, train.groups)
    start = _clock(net)
    unlearner.unlearn(np.flatnonzero(forget))
    return _clock(net) - start


def evaluate(
    unlearner: BaseUnlearner,
    splits: Splits,
    forget: NDArray[np.bool_],
    forget_groups: list[Pair] | None = None,
) -> Evaluation:
    """Compute all metrics of a model from one forward pass a split.

    Parameters
    ----------
    unlearner : BaseUnlearner
        A fitted unlearner.
    splits : Splits
        The data.
    forget : ndarray of bool
        Mask of the training rows that count as forgotten.
    forget_groups : list of tuple or None, default=None
        The groups (y, a) that they come from; None or empty takes those of ``splits``.

    Returns
    -------
    Evaluation
        Its scores lack what is undefined for want of test rows.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        found = evaluate_model(
            unlearner,
            train=splits.train,
            test=splits.test,
            holdout=splits.validation,
            forget=forget,
            forget_groups=forget_groups or splits.forget_groups,
            threshold=decision_threshold(unlearner.net_),
        )
    known = {name: value for name, value in found.scores.items() if not np.isnan(value)}
    return found._replace(scores=known)


def warm_up(net: Any, splits: Splits) -> None:
    """Let a new process do what is done only once, so that it is not counted."""
    train = splits.train
    first = N_WARM_UP_BATCHES * net.batch_size if net.batch_size > 0 else None
    _, of_each_class = np.unique(train.y, return_index=True)
    rows = np.union1d(of_each_class, np.arange(len(train.y))[:first])
    # so few rows may be too few to hold some of each class out
    short = clone(net).set_params(max_epochs=1, callbacks=[], train_split=None)
    once = RetrainUnlearner(short, store_data=False)
    once.fit(take_rows(train.X, rows), train.y[rows], train.groups[rows])


def _clock(net: Any) -> float:
    """Return seconds: of work on a CPU, whatever else runs there, and of waiting on a GPU."""
    device = torch.device(net.device or "cpu")
    if device.type == "cpu":
        return process_time()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


# the comparison ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """What all rows of one seed share."""

    seed: int
    net: Any
    load: Load
    ratio: float

    def data(self) -> tuple[Splits, NDArray[np.bool_]]:
        torch.set_num_threads(1)  # in worker processes too: small nets gain nothing from more
        splits = self.load(self.seed)
        rows = sample_forget_set(
            splits.train.y,
            splits.train.groups,
            forget_groups=splits.forget_groups,
            ratio=self.ratio,
            random_state=self.seed,
        )
        return splits, np.isin(np.arange(len(splits.train.y)), rows)

    def pretrain(self) -> tuple[int, BaseUnlearner, Evaluation]:
        splits, mask = self.data()
        warm_up(self.net, splits)
        unlearner, seconds = train_on_all(self.net, splits, splits.train.X, self.seed)
        costs = {"seconds": seconds, "cost": float(self.net.max_epochs)}
        return self.seed, unlearner, self._evaluate(unlearner, splits, mask, costs)

    def unlearn(
        self, row: Row, pretrained: BaseUnlearner, seconds_of_epoch: float
    ) -> tuple[int, Row, Evaluation | None]:
        """Let one method forget; None stands for a loss that was not finite."""
        splits, mask = self.data()
        unlearner = make_unlearner(row, self.net, pretrained, self.seed)
        try:
            seconds = forget_rows(unlearner, self.net, splits, splits.train.X, mask)
        except FloatingPointError:
            if row == GOLD:  # nothing can be compared with it
                raise
            return self.seed, row, None
        costs = {"seconds": seconds, "cost": seconds / seconds_of_epoch}
        return self.seed, row, self._evaluate(unlearner, splits, mask, costs)

    @staticmethod
    def _evaluate(
        unlearner: BaseUnlearner, splits: Splits, mask: NDArray[np.bool_], costs: Scores
    ) -> Evaluation:
        found = evaluate(unlearner, splits, mask)
        return found._replace(scores=found.scores | costs)

    def against_gold(self, found: dict[tuple[int, Row], Evaluation | None]) -> None:
        """Add what is measured row by row, or group by group, against the gold standard."""
        gold, splits = found[self.seed, GOLD], self.load(self.seed)
        assert gold is not None
        for (seed, row), model in found.items():
            if seed != self.seed or model is None or row == GOLD:
                continue
            model.scores["row_distance"] = row_distance_score(model.log_odds, gold.log_odds[None])
            with suppress(ValueError):  # no other group has rows enough
                model.scores["damage"] = damage_to_other_groups(
                    splits.test.y,
                    model.predicted,
                    gold.predicted,
                    groups=splits.test.groups,
                    forget_groups=splits.forget_groups,
                ).loss


def compare(
    net: Any,
    load: Load,
    rows: Sequence[Row],
    *,
    ratio: float = 0.5,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    n_jobs: int = 1,
    on_step: Callable[[str], None] = lambda label: None,
) -> pd.DataFrame:
    """Compare unlearning methods against the gold standard.

    For each seed a forget set is drawn, the net is trained on all training rows (``pretrain``),
    and every method forgets. The gold standard of a seed is ``retrain`` with REWEIGHT; the average
    gap is computed per seed.

    Parameters
    ----------
    net : skorch net
        What is trained; not modified.
    load : callable
        ``load(seed) -> Splits``, the data of one run. Data that is drawn at random is best drawn
        anew for each seed, or all runs share the luck of one draw.
    rows : sequence of Row
        Who takes part; see :func:`rows_for`. The gold standard must be among them.
    ratio : float, default=0.5
        Share of the forget group that is to be forgotten.
    seeds : sequence of int, default=(0, 1, 2, 3, 4)
        One run each: forget set, initial weights and batches.
    n_jobs : int, default=1
        Processes to use.
    on_step : callable, default does nothing
        Called with a label after each training or unlearning run.

    Returns
    -------
    DataFrame
        Columns dataset, ratio, seed, method, reweight, metric, value, and variant if rows have
        one. Metrics are in percent;
        ``seconds`` is the time of the unlearning run, and ``cost`` that time in training epochs
        of the same seed's pretraining. ``row_distance`` and ``damage`` compare with the gold
        standard of the same seed (:func:`~grmu_sk.metrics.row_distance_score`, in nats, and
        :func:`~grmu_sk.metrics.damage_to_other_groups`): hold both against those of
        ``gold_reseeded``. ``group_accuracy`` rows carry the group in their metric:
        ``group_accuracy[even, orange]``. A method whose loss was not finite has NaN.

    Raises
    ------
    ValueError
        If the gold standard is not among the rows, or seeds are missing or repeated; if ``ratio``
        is out of range, or nothing can be forgotten.
    FloatingPointError
        If the loss of pretraining or of the gold standard is not finite.
    """
    if GOLD not in rows:
        raise ValueError("rows lack the gold standard, retrain with REWEIGHT: see rows_for.")
    if len(seeds) == 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must name at least one seed, and none twice; got {seeds!r}.")
    parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    runs = {seed: _Run(seed, net, load, ratio) for seed in seeds}
    found: dict[tuple[int, Row], Evaluation | None] = {}
    jobs = []
    for seed, unlearner, evaluation in parallel(delayed(run.pretrain)() for run in runs.values()):
        found[seed, PRETRAIN] = evaluation
        epoch = evaluation.scores["seconds"] / net.max_epochs
        jobs += [delayed(runs[seed].unlearn)(row, unlearner, epoch) for row in rows]
        on_step(PRETRAIN.label)
    for seed, row, result in parallel(jobs):
        found[seed, row] = result
        on_step(row.label)
    for run in runs.values():
        run.against_gold(found)
    scores = {key: model.scores if model else None for key, model in found.items()}
    names = dict.fromkeys(name for of_model in scores.values() for name in of_model or {})
    lines = [
        (seed, *row.key, name, value if name in NOT_PERCENT else 100 * value)
        for seed in seeds
        for row in (PRETRAIN, *rows)
        for name, value in (scores[seed, row] or dict.fromkeys(names, np.nan)).items()
    ]
    table = pd.DataFrame(lines, columns=["seed", *MODEL, "metric", "value"])
    gaps = average_gaps(table, GOLD.of(table), ["seed"], MODEL, whole=100)
    table = pd.concat([table, gaps], ignore_index=True)
    table = table.assign(dataset=load(seeds[0]).name, ratio=ratio)
    has_variants = any(row.variant for row in rows)
    return table[[*COLUMNS, "variant"] if has_variants else list(COLUMNS)]


# tuning -----------------------------------------------------------------------------------------


def settings_of(row: Row) -> list[Row]:
    """Return a row with each setting of the method's own documented grid.

    Parameters
    ----------
    row : Row
        A row of the table.

    Returns
    -------
    list of Row
        At least one; the row itself where there is nothing to choose.
    """
    settings = list(ParameterGrid(unlearner_class(row).search_grid))
    return [
        replace(row, variant=str(number) if setting else "", parameters=row.parameters | setting)
        for number, setting in enumerate(settings)
    ]


def tune(
    net: Any,
    load: Load,
    rows: Sequence[Row],
    *,
    seeds: Sequence[int],
    ratio: float = 0.5,
    n_jobs: int = 1,
    on_step: Callable[[str], None] = lambda label: None,
) -> tuple[list[Row], pd.DataFrame]:
    """Choose the setting with the best average gap on validation rows, for each row of a table.

    Test rows are not read: validation rows stand in for them.

    Parameters
    ----------
    net : skorch net
        What is trained; not modified.
    load : callable
        ``load(seed) -> Splits``.
    rows : sequence of Row
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
    chosen : list of Row
        The rows with their chosen parameters.
    report : DataFrame
        One row a method and setting: method, reweight, setting, avg_gap (mean over seeds, in
        percent; NaN if a run failed), seconds (of all runs), chosen.
    """
    tried = [setting for row in rows for setting in settings_of(row)]

    def on_validation(seed: int) -> Splits:
        splits = load(seed)
        return replace(splits, test=splits.validation)

    how: dict[str, Any] = {"seeds": seeds, "ratio": ratio, "n_jobs": n_jobs, "on_step": on_step}
    found = compare(net, on_validation, tried, **how)
    found = found.assign(variant=found.get("variant", ""))
    lines = []
    for row in tried:
        of_row = found[row.of(found)].groupby("metric")["value"]
        values = of_row.get_group(AVERAGE_GAP).mean(skipna=False), of_row.get_group("seconds").sum()
        lines.append((row.method, row.reweight, row.parameters, *values))
    report = pd.DataFrame(lines, columns=["method", "reweight", "setting", "avg_gap", "seconds"])
    best = report.fillna({"avg_gap": -1}).groupby(["method", "reweight"])["avg_gap"].idxmax()
    report["chosen"] = report.index.isin(best)
    chosen = [replace(tried[number], variant="") for number in np.flatnonzero(report["chosen"])]
    return chosen, report
