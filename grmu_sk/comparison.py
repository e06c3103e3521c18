"""Compare unlearning methods in memory: train, let each forget, measure."""

from __future__ import annotations

import json
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import perf_counter, process_time, thread_time
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning, UndefinedMetricWarning
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch
from skorch import NeuralNet
from threadpoolctl import threadpool_limits
from torch import nn

from .base import BaseUnlearner
from .files import write_atomically
from .fingerprints import describe, digest, versions
from .groups import Pair, in_pairs, sample_forget_set
from .metrics.evaluate import Evaluation, Split, evaluate_model
from .metrics.fidelity import row_distance_score
from .metrics.gap import average_gaps, damage_to_other_groups
from .nets import net_of_module
from .results import GOLD, MODEL, PRETRAIN, RESEEDED_GOLD, RETRAIN, Row
from .unlearners import RetrainUnlearner, all_unlearners

__all__ = ["Split", "Splits", "compare", "rows_for"]

RESEED = 1_000_003  # added to the seed of the second gold model
NOT_PERCENT = ("seconds", "retrainings", "row_distance")
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
    forget : ndarray of bool or None, default=None
        Mask of the training rows that are to be forgotten. None means that a share of the forget
        groups is drawn.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    forget_groups: list[Pair]
    augmented: Any = None
    forget: NDArray[np.bool_] | None = None

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
        everything = Split(bunch.data, labels[bunch.target], attributes[bunch.groups])
        cut = (bunch.train, bunch.validation, bunch.test)
        train, validation, test = (everything.some(rows) for rows in cut)
        pair = (bunch.target_names[y], bunch.group_names[a])
        return cls(name, train, validation, test, [pair])


Load = Callable[[int], Splits]


# the rows of a table ----------------------------------------------------------------------------


def rows_for(names: Iterable[str]) -> list[Row]:
    """Return the rows of a table: what every comparison needs, and the methods asked for.

    Parameters
    ----------
    names : iterable of str
        Names of the registry (``grmu_sk.unlearners.all_unlearners``). Each method takes part
        without and with REWEIGHT if it has that choice.

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
    rows = [RETRAIN, GOLD, RESEEDED_GOLD]
    for name in names:
        plain = Row(name, False)
        rows += [plain, Row(name, True)] if _has_reweight(plain) else [plain]
    return list(dict.fromkeys(rows))


@cache
def unlearner_class(row: Row) -> type[BaseUnlearner]:
    """Return the class behind a row; the models that are compared with are retrained ones."""
    if row.method in (PRETRAIN.method, RESEEDED_GOLD.method):
        return RetrainUnlearner
    registry = dict(all_unlearners())
    if row.method not in registry:
        raise ValueError(f"There is no method {row.method!r}; there are: {', '.join(registry)}.")
    return registry[row.method]


def _has_reweight(row: Row) -> bool:
    return "reweight" in unlearner_class(row)._get_param_names()


def goes_on(row: Row) -> bool:
    """Tell whether a row starts from the trained model, and need not train one of its own."""
    unlearner = unlearner_class(row)
    return unlearner._needs_trained_net and unlearner._accepts_trained_net


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
    return unlearner_class(row)(
        FrozenEstimator(pretrained) if goes_on(row) else net,
        random_state=seed + RESEED * (row.method == RESEEDED_GOLD.method),
        store_data=row != PRETRAIN,  # others start from it, maybe in another process
        **({"reweight": row.reweight} if _has_reweight(row) else {}) | row.parameters,
    )


# the steps --------------------------------------------------------------------------------------


def forget_rows(
    unlearner: BaseUnlearner, net: Any, splits: Splits, inputs: Any, forget: Any
) -> float:
    """Fit an unlearner, let it forget rows, and return the seconds of the unlearning alone.

    For a method that trains from scratch, also on all rows, these are the seconds of its training.
    """
    train = splits.train
    if not unlearner._needs_trained_net:
        start = _clock(net)
        unlearner.fit(inputs, train.y, train.groups, forget=forget)
    else:
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
            *(splits.train, splits.test, splits.validation, forget),
            forget_groups=forget_groups or splits.forget_groups,
            threshold=unlearner._threshold,
        )
    known = {name: value for name, value in found.scores.items() if not np.isnan(value)}
    return found._replace(scores=known)


_is_warm = threading.Event()
#: A process does one job at a time, even where a scheduler gives it several threads: the clock, the
#: seeds, torch's number of threads and the peak of memory are the process's.
ONE_JOB = threading.Lock()


def warm_up(net: Any, splits: Splits) -> None:
    """Let a new process do what is done only once, so that it is not counted."""
    if not isinstance(net, NeuralNet) or _is_warm.is_set():
        return
    _is_warm.set()
    train = splits.train
    first = N_WARM_UP_BATCHES * net.batch_size if net.batch_size > 0 else None
    _, of_each_class = np.unique(train.y, return_index=True)
    rows = np.union1d(of_each_class, np.arange(len(train.y))[:first])
    # so few rows may be too few to hold some of each class out
    short = clone(net).set_params(max_epochs=1, callbacks=[], train_split=None)
    once = RetrainUnlearner(short, store_data=False)
    once.fit(*train.some(rows))


def _clock(net: Any) -> float:
    """Return seconds: of work on a CPU, whatever else runs there, and of waiting on a GPU."""
    device = torch.device(getattr(net, "device", None) or "cpu")
    if device.type == "cpu":
        # one thread trains a net then; others of a process may be Dask's, which never rest
        alone = isinstance(net, NeuralNet) and torch.get_num_threads() == 1
        return thread_time() if alone else process_time()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


# the comparison ---------------------------------------------------------------------------------


def run_row(
    row: Row, net: Any, splits: Splits, forget: NDArray[np.bool_], seed: int, pretrained: Any = None
) -> tuple[Row, Evaluation | str, BaseUnlearner | None]:
    """Train a model on all rows, or let one method forget, and measure it.

    A method that cannot be used on these rows costs its own row of the table, and not the others.

    Parameters
    ----------
    row : Row
        Which.
    net : NeuralNet
        What is trained; not modified.
    splits : Splits
        The data.
    forget : ndarray of bool
        Mask of the training rows to forget.
    seed : int
        Of initial weights and batches.
    pretrained : BaseUnlearner or None, default=None
        The model trained on all rows, for methods that start from it.

    Returns
    -------
    row : Row
        The one given: rows are finished in any order.
    evaluation : Evaluation or str
        Its scores include the seconds of the run; or why there are none.
    unlearner : BaseUnlearner or None
        The model trained on all rows, if it is that.

    Raises
    ------
    Exception
        If pretraining or the gold standard fails: nothing can be compared with them.
    """
    # also in worker processes: small nets gain nothing from more threads, and trees that are grown
    # by several differ in the last bits, and wait for each other where cores are busy
    with ONE_JOB, threadpool_limits(1):
        torch.set_num_threads(1)
        warm_up(net, splits)
        unlearner = make_unlearner(row, net, pretrained, seed)
        asked = None if row == PRETRAIN else forget
        try:
            seconds = forget_rows(unlearner, net, splits, splits.train.X, asked)
            found = evaluate(unlearner, splits, forget)
        except Exception as error:
            if row in (PRETRAIN, GOLD):
                raise
            return row, f"{type(error).__name__}: {error}", None
        found.scores["seconds"] = seconds
        return row, found, unlearner if row == PRETRAIN else None


@contextmanager
def ending_workers(results: Any) -> Iterator[Any]:
    """Let joblib end its workers if what takes its results, one by one, is interrupted."""
    try:
        yield results
    except BaseException as error:
        results.throw(error)


def run_seed(
    net: Any,
    splits: Splits,
    rows: Sequence[Row],
    *,
    ratio: float,
    seed: int,
    parallel: Parallel,
    on_step: Callable[[str], None] = lambda label: None,
    folder: str | os.PathLike[str] | None = None,
) -> dict[Row, Scores]:
    """Run all rows of a table with one seed.

    Parameters
    ----------
    net : skorch net
        What is trained; not modified.
    splits : Splits
        The data.
    rows : sequence of Row
        Who takes part, the gold standard among them.
    ratio : float
        Share of the forget group that is to be forgotten.
    seed : int
        Of forget set, initial weights and batches.
    parallel : Parallel
        Runs them, as a generator.
    on_step : callable, default does nothing
        Called with a label after each of them.
    folder : str, Path or None, default=None
        Keeps what is finished, see :func:`compare`.

    Returns
    -------
    dict of Row to dict
        The scores of ``pretrain`` and of each row, see :func:`compare`; all are NaN where a method
        failed.
    """
    forget = splits.forget
    if forget is None:
        y, a = splits.train.y, splits.train.groups
        pairs = splits.forget_groups
        asked = sample_forget_set(y, a, forget_groups=pairs, ratio=ratio, random_state=seed)
        forget = np.isin(np.arange(len(y)), asked)
    rows = (PRETRAIN, *rows)
    kept = None if folder is None else _Kept(Path(folder), net, splits, forget, seed)
    found = {} if kept is None else kept.finished(rows)
    missing = [row for row in rows if row not in found]
    if any(goes_on(row) for row in missing):
        missing = list(dict.fromkeys([PRETRAIN, *missing]))  # what they start from is not kept
    for _ in range(len(rows) - len(missing)):
        on_step("kept")
    pretrained = None
    # those that train from scratch need not wait for the pretrained model
    for wave in (False, True):
        given = net, splits, forget, seed, pretrained
        jobs = [delayed(run_row)(row, *given) for row in missing if goes_on(row) == wave]
        with ending_workers(parallel(jobs)) as results:
            for row, outcome, trained in results:
                if isinstance(outcome, str):
                    told = f"{row.label} has no result with seed {seed}: {outcome}"
                    warnings.warn(told, FitFailedWarning, stacklevel=3)
                else:
                    found[row] = outcome
                    if kept is not None:
                        kept.write(row, outcome)
                pretrained = pretrained if trained is None else trained
                on_step(row.label)
    for row, model in found.items():
        seconds = 0 if row == PRETRAIN else model.scores["seconds"]
        model.scores["retrainings"] = seconds / found[GOLD].scores["seconds"]
        if row != GOLD:
            model.scores.update(_against(found[GOLD], model, splits))
    undefined = {name: np.nan for model in found.values() for name in model.scores}
    return {row: found[row].scores if row in found else undefined for row in rows}


class _Kept:
    """Results of one seed in a folder, each in a file named by all that it depends on."""

    def __init__(
        self, folder: Path, net: Any, splits: Splits, forget: NDArray[np.bool_], seed: int
    ) -> None:
        self.folder, self.seed, self.labels = folder, seed, splits.test.y
        about = describe([type(net), net.get_params(deep=False), versions(), seed])
        parts = [[part.X, part.y, part.groups] for part in (splits.train, splits.validation)]
        given = [about, parts, splits.test.X, splits.test.y, forget]
        self.common = digest([("", describe(given, learned=True))])

    def path(self, row: Row) -> Path:
        """Return where the result of a row lies."""
        name = digest([("", describe([self.common, row.key, row.parameters]))])[:16]
        return self.folder / f"seed{self.seed}_{row.label.replace(' ', '')}_{name}.json"

    def finished(self, rows: Iterable[Row]) -> dict[Row, Evaluation]:
        """Return the results of the rows that are finished."""
        found = {}
        for row in rows:
            with suppress(FileNotFoundError):
                scores, *answers = json.loads(self.path(row).read_text(encoding="utf-8"))
                log_odds, predicted = np.array(answers[0]), np.array(answers[1], self.labels.dtype)
                found[row] = Evaluation(scores, log_odds, predicted)
        return found

    def write(self, row: Row, found: Evaluation) -> None:
        """Keep the result of a row."""
        self.folder.mkdir(parents=True, exist_ok=True)
        parts = [found.scores, found.log_odds.tolist(), found.predicted.tolist()]
        write_atomically(self.path(row), json.dumps(parts).encode())


def _against(gold: Evaluation, model: Evaluation, splits: Splits) -> Scores:
    """Return what is measured row by row, or group by group, against the gold standard."""
    scores = {"row_distance": row_distance_score(model.log_odds, gold.log_odds[None])}
    test, pairs = splits.test, splits.forget_groups
    answers = test.y, model.predicted, gold.predicted
    with suppress(ValueError):  # no other group has rows enough
        damage = damage_to_other_groups(*answers, groups=test.groups, forget_groups=pairs)
        scores["damage"] = damage.loss
    return scores


def table_of(
    scores: Mapping[int, Mapping[Row, Scores]], dataset: str, ratio: float
) -> pd.DataFrame:
    """Lay the scores of all seeds out as a tidy table, and add the average gaps.

    Parameters
    ----------
    scores : mapping of int to mapping
        What :func:`run_seed` returned, by seed.
    dataset : str
        What the table calls the data.
    ratio : float
        Share of the forget group that was forgotten.

    Returns
    -------
    DataFrame
        As :func:`compare` returns it.
    """
    lines = [
        (dataset, ratio, seed, *row.key, name, value if name in NOT_PERCENT else 100 * value)
        for seed, of_seed in scores.items()
        for row, of_row in of_seed.items()
        for name, value in of_row.items()
    ]
    run = ["dataset", "ratio", "seed"]
    table = pd.DataFrame(lines, columns=[*run, *MODEL, "metric", "value"])
    gaps = average_gaps(table, GOLD.of(table), run, MODEL, whole=100)
    table = pd.concat([table, gaps], ignore_index=True)
    return table[[*run, *MODEL, "metric", "value"]]


def compare(
    net: Any,
    load: Load,
    rows: Sequence[Row],
    *,
    ratio: float = 0.5,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    n_jobs: int = 1,
    on_step: Callable[[str], None] = lambda label: None,
    folder: str | os.PathLike[str] | None = None,
) -> pd.DataFrame:
    """Compare unlearning methods against the gold standard.

    For each seed a forget set is drawn, the net is trained on all training rows (``pretrain``),
    and every method forgets. The gold standard of a seed is ``retrain`` with REWEIGHT; the average
    gap is computed per seed.

    Parameters
    ----------
    net : skorch net, torch module or classifier
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
    folder : str, path-like or None, default=None
        Keeps what is finished (scores, and what the models answered on rows to forget and on test
        rows), so that the same call goes on where it was killed. None keeps nothing.

    Returns
    -------
    DataFrame
        Columns dataset, ratio, seed, method, reweight, variant, metric, value. Metrics are in
        percent; ``seconds`` is the time of the unlearning run, and ``retrainings`` that time over
        the training time of the same seed's gold standard, 0 for ``pretrain``. ``row_distance``
        and ``damage`` compare with the gold standard of the same seed
        (:func:`~grmu_sk.metrics.row_distance_score`, in nats, and
        :func:`~grmu_sk.metrics.damage_to_other_groups`): hold both against those of
        ``gold_reseeded``. ``group_accuracy`` rows carry the group in their metric:
        ``group_accuracy[even, orange]``. A method that failed has NaN, and a warning says why: its
        loss was not finite, say, or it cannot be used on these rows.

    Raises
    ------
    ValueError
        If the gold standard is not among the rows, or seeds are missing or repeated; if ``ratio``
        is out of range, or nothing can be forgotten.
    Exception
        If pretraining or the gold standard fails.
    """
    if GOLD not in rows:
        raise ValueError("rows lack the gold standard, retrain with REWEIGHT: see rows_for.")
    if len(seeds) == 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must name at least one seed, and none twice; got {seeds!r}.")
    if isinstance(net, nn.Module):
        net = net_of_module(net)
    parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    how: dict[str, Any] = {"parallel": parallel, "on_step": on_step, "folder": folder}
    scores = {}
    for seed in seeds:
        splits = load(seed)
        scores[seed] = run_seed(net, splits, rows, ratio=ratio, seed=seed, **how)
    if splits.forget is not None:  # rows were named, and their share is what it is
        in_groups = in_pairs(splits.train.y, splits.train.groups, splits.forget_groups)
        ratio = round(float(splits.forget.sum() / in_groups.sum()), 3)
    return table_of(scores, splits.name, ratio)
