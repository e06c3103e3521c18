"""A comparison in memory: pretrain, forget, evaluate, for every seed and candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from skorch import NeuralNet

from ..base import BaseUnlearner
from ..groups import sample_forget_set
from ..metrics import AVERAGE_GAP_METRICS, average_gap_score
from ..utils.arguments import check_types
from .candidates import Candidate
from .execution import Scores, evaluate, forget_rows, train_on_all, warm_up
from .splits import Splits

COLUMNS = ["dataset", "ratio", "seed", "method", "reweight", "metric", "value"]
NOT_PERCENT = ("seconds", "cost")
Load = Callable[[int], Splits]


@dataclass(frozen=True)
class Run:
    """What all candidates of one seed share."""

    seed: int
    net: Any
    load: Load
    ratio: float

    def data(self) -> tuple[Splits, NDArray[np.bool_]]:
        """Return the data of this seed and the mask of rows to forget."""
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

    def pretrain(self) -> tuple[int, BaseUnlearner, Scores]:
        """Train on all rows."""
        splits, mask = self.data()
        warm_up(self.net, splits)
        unlearner, seconds = train_on_all(self.net, splits, splits.train.X, self.seed)
        return self.seed, unlearner, evaluate(unlearner, splits, mask) | {"seconds": seconds}

    def unlearn(
        self, candidate: Candidate, pretrained: BaseUnlearner
    ) -> tuple[int, Candidate, Scores | None]:
        """Let one candidate forget; None stands for a loss that was not finite."""
        splits, mask = self.data()
        unlearner = candidate.build(self.net, pretrained, self.seed)
        try:
            seconds = forget_rows(unlearner, self.net, splits, splits.train.X, mask)
        except FloatingPointError:
            return self.seed, candidate, None
        return self.seed, candidate, evaluate(unlearner, splits, mask) | {"seconds": seconds}


def compare(
    net: Any,
    load: Load,
    candidates: Sequence[Candidate],
    *,
    ratio: float = 0.5,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    n_jobs: int = 1,
    on_step: Callable[[str], None] = lambda label: None,
) -> pd.DataFrame:
    """Compare unlearning methods against the gold standard.

    For each seed a forget set is drawn, the net is trained on all training rows (``pretrain``),
    and every candidate forgets. The gold standard of a seed is the candidate ``retrain`` with
    REWEIGHT; the average gap is computed per seed.

    Parameters
    ----------
    net : skorch net
        What is trained; not modified.
    load : callable
        ``load(seed) -> Splits``, the data of one run. Data that is drawn at random is best drawn
        anew for each seed, or all runs share the luck of one draw.
    candidates : sequence of Candidate
        Who takes part; see :func:`candidates_for`. The gold standard must be among them.
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
        Columns dataset, ratio, seed, method, reweight, metric, value. Metrics are in percent;
        ``seconds`` is the time of the unlearning run, and ``cost`` that time in training epochs
        of the same seed's pretraining. ``group_accuracy`` rows carry the group in their metric:
        ``group_accuracy[even, orange]``. A candidate whose loss was not finite has NaN.

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        If the gold standard is not among the candidates, or seeds are missing or repeated; if
        ``ratio`` is out of range, or nothing can be forgotten.
    FloatingPointError
        If the loss of pretraining or of the gold standard is not finite.
    """
    check_types(compare, locals())
    check_comparison(net, candidates, seeds)
    runs = {seed: Run(seed, net, load, ratio) for seed in seeds}
    results: dict[tuple[int, str, bool], Scores | None] = {}
    pretrained: dict[int, BaseUnlearner] = {}
    for seed, unlearner, scores in _parallel(
        n_jobs, (delayed(r.pretrain)() for r in runs.values())
    ):
        pretrained[seed] = unlearner
        results[seed, "pretrain", False] = scores
        on_step("pretrain")
    jobs = (
        delayed(run.unlearn)(candidate, pretrained[seed])
        for seed, run in runs.items()
        for candidate in candidates
    )
    for seed, candidate, found in _parallel(n_jobs, jobs):
        results[seed, candidate.method, candidate.reweight] = found
        on_step(candidate.label)
    _add_gap_and_cost(results, epochs=net.max_epochs)
    return _tidy(results, candidates, seeds, load(seeds[0]).name, ratio)


def check_comparison(net: Any, candidates: Sequence[Candidate], seeds: Sequence[int]) -> None:
    """Check what a comparison and a search have in common.

    Parameters
    ----------
    net : object
        What should be a skorch net.
    candidates : sequence
        What should be candidates, the gold standard among them.
    seeds : sequence
        What should be distinct seeds.

    Raises
    ------
    TypeError
        If one of them is something else.
    ValueError
        If there is no seed, one is named twice, or the gold standard is missing.
    """
    if not isinstance(net, NeuralNet):
        raise TypeError(f"net must be a skorch net, got {net!r}.")
    if not all(isinstance(candidate, Candidate) for candidate in candidates):
        raise TypeError(f"candidates must be Candidate objects, got {candidates!r}.")
    if not any(c.method == "retrain" and c.reweight for c in candidates):
        raise ValueError(
            "candidates lack the gold standard, retrain with REWEIGHT, which all others are "
            "compared with: see candidates_for."
        )
    if not all(isinstance(seed, int | np.integer) and seed >= 0 for seed in seeds):
        raise TypeError(f"seeds must be whole numbers, not negative, got {seeds!r}.")
    if len(seeds) == 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must name at least one seed, and none twice; got {seeds!r}.")


def _parallel(n_jobs: int, jobs: Iterator[Any]) -> Iterator[Any]:
    return Parallel(n_jobs=n_jobs, return_as="generator_unordered")(jobs)


def _add_gap_and_cost(results: dict[tuple[int, str, bool], Scores | None], epochs: int) -> None:
    for (seed, _, _), scores in results.items():
        if scores is None:
            continue
        gold, pretrain = results[seed, "retrain", True], results[seed, "pretrain", False]
        assert pretrain is not None  # it raises if its loss is not finite
        if gold is None:
            raise FloatingPointError(
                f"The loss of the gold standard became NaN or infinite with seed {seed}, so that "
                "nothing can be compared with it. Lower the net's learning rate."
            )
        scores["AVG_GAP"] = average_gap_score(
            {metric: [scores[metric]] for metric in AVERAGE_GAP_METRICS},
            {metric: [gold[metric]] for metric in AVERAGE_GAP_METRICS},
        )
        scores["cost"] = scores["seconds"] * epochs / pretrain["seconds"]


def _tidy(
    results: dict[tuple[int, str, bool], Scores | None],
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
    dataset: str,
    ratio: float,
) -> pd.DataFrame:
    lines = [("pretrain", False), *((c.method, c.reweight) for c in candidates)]
    names = list(results[seeds[0], "pretrain", False] or {})
    rows = []
    for seed in seeds:
        for method, reweight in lines:
            scores = results[seed, method, reweight] or dict.fromkeys(names, float("nan"))
            rows += [
                (dataset, ratio, seed, method, int(reweight), name, value)
                if name in NOT_PERCENT
                else (dataset, ratio, seed, method, int(reweight), name, 100 * value)
                for name, value in scores.items()
            ]
    return pd.DataFrame(rows, columns=COLUMNS)
