"""From what is asked for to the jobs of a benchmark, each named by the digest of its settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..comparison import Splits, rows_for, unlearner_class
from ..groups import attribute_column, sample_forget_set
from ..results import PRETRAIN, Row
from ..unlearners import all_unlearners
from .paper import ABLATION, METHODS, WEIGHT
from .problems import Problem
from .settings import Preset, Setting

#: Number of the format of records; raise it when what a job computes changes.
FORMAT = 2
SELECTIONS = ("best", "last")


@dataclass(frozen=True)
class Job:
    """One piece of work: a training, the evaluation of one, or an unlearning run.

    A *training* makes nets from scratch and keeps them in files: those of its best validation
    epoch and of its last one. An *evaluation* measures one of these two against one forget set. An
    *unlearning* job takes a pretrained net, lets a method forget and measures the result.

    Parameters
    ----------
    kind : {"training", "evaluation", "unlearning"}
        Which of them.
    problem : Problem
        Data and net.
    row : Row
        The row of the table that it is for.
    seed : int
        Of data, forget set, weights and batches.
    setting : Setting
        How the net is trained, or the method run.
    rows : str
        Digest of the labels and attributes of all rows, and of the rows to forget.
    forget : str, default=""
        Name of the forget set; empty for pretraining, which knows of none.
    ratio : float, default=0
        Share of the forget set's groups.
    selection : {"", "best", "last"}, default=""
        Which of the two nets of the training; empty for a training, which yields both.
    needs : str, default=""
        Name of the training whose result it takes.
    """

    kind: str
    problem: Problem
    row: Row
    seed: int
    setting: Setting
    rows: str
    forget: str = ""
    ratio: float = 0.0
    selection: str = ""
    needs: str = ""
    name: str = field(init=False, default="")

    def __post_init__(self) -> None:
        text = json.dumps(self.settings(), sort_keys=True)
        object.__setattr__(self, "name", hashlib.sha256(text.encode()).hexdigest()[:32])

    def settings(self) -> dict[str, Any]:
        """Return everything that decides the outcome, as plain values."""
        return {
            "format": FORMAT,
            "kind": self.kind,
            **self.columns(),
            "problem": self.problem.identity(),
            "setting": asdict(self.setting),
            "rows": self.rows,
            "needs": self.needs,
        }

    def columns(self) -> dict[str, Any]:
        """Return its place in a table of results."""
        return {
            "dataset": self.problem.name,
            "forget": self.forget,
            "ratio": self.ratio,
            "seed": self.seed,
            "selection": self.selection,
            "method": self.row.method,
            "reweight": int(self.row.reweight),
            "variant": self.row.variant,
        }

    @property
    def label(self) -> str:
        """Name for people."""
        where = f"{self.forget} {self.ratio:g}, " if self.forget else ""
        return f"{self.row.label} ({where}seed {self.seed}, {self.selection or 'training'})"


def make_rows(
    methods: str | Iterable[str], *, ablations: bool = False, weights: Sequence[float] = ()
) -> list[Row]:
    """Return the rows of a table of results.

    Parameters
    ----------
    methods : {"all", "paper"} or iterable of str
        All methods of the package, the paper's, or names. ``pretrain``, ``retrain`` without and
        with REWEIGHT and ``gold_reseeded`` always take part.
    ablations : bool, default=False
        Whether the paper's method is run without each of its terms as well, without REWEIGHT.
    weights : sequence of float, default=()
        Weights of its calibration to try, with REWEIGHT.

    Returns
    -------
    list of Row
        Without repetition.

    Raises
    ------
    ValueError
        If a name is unknown.
    """
    names = [methods] if isinstance(methods, str) else list(methods)
    known = {"all": [name for name, _ in all_unlearners()], "paper": METHODS}
    names = [name for given in names for name in known.get(given, [given])]
    always = {row.method for row in rows_for([])} | {PRETRAIN.method}
    rows = [PRETRAIN, *rows_for(name for name in names if name not in always)]
    if ablations:
        method = ABLATION["method"]
        rows += [Row(method, False)]  # which they are compared with
        rows += [Row(method, False, name, off) for name, off in ABLATION["switched_off"].items()]
    parameter = WEIGHT["parameter"]
    rows += [
        Row(WEIGHT["method"], True, f"{parameter}={value:g}", {parameter: value})
        for value in weights
    ]
    return list(dict.fromkeys(rows))


def draw_forget_set(
    problem: Problem, splits: Splits, forget: str, ratio: float, seed: int
) -> NDArray[np.int64]:
    """Draw a forget set from the training rows.

    As in [1]_, the rows of all its groups are pooled and ``int(ratio * n_pool)`` of them are drawn
    uniformly, without replacement, so that several groups do not lose the same share each.

    Parameters
    ----------
    problem : Problem
        Which knows the groups of its forget sets.
    splits : Splits
        Its data; only training rows are looked at.
    forget : str
        Name of the forget set.
    ratio : float
        Share of the pooled rows, in (0, 1].
    seed : int
        Seed of the draw.

    Returns
    -------
    ndarray of shape (n_forget,)
        Row numbers, ascending.

    Raises
    ------
    ValueError
        If ``ratio`` is out of range, a group has no rows, or nothing would be drawn.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.
    """
    y, a = splits.train.y, attribute_column(splits.train.groups)
    every = dict.fromkeys(zip(np.asarray(y).tolist(), a.tolist(), strict=True))
    pairs = problem.pairs(forget) or list(every)
    return sample_forget_set(
        y, splits.train.groups, forget_groups=pairs, ratio=ratio, random_state=seed
    )


def digest_of_rows(splits: Splits, forget: Sequence[int] | NDArray[np.int64] = ()) -> str:
    """Return what tells data and forget sets apart.

    Parameters
    ----------
    splits : Splits
        The data.
    forget : sequence of int, default=()
        Numbers of the training rows to forget.

    Returns
    -------
    str
        SHA-256 of the labels and attributes of every split in their order, and of the rows to
        forget, in hexadecimal.
    """
    held = [
        np.asarray(values).astype(str).tolist()
        for split in (splits.train, splits.validation, splits.test)
        for values in (split.y, attribute_column(split.groups))
    ]
    text = json.dumps([splits.name, held, np.asarray(forget).tolist()])
    return hashlib.sha256(text.encode()).hexdigest()


def make_jobs(
    problem: Problem,
    preset: Preset,
    rows: Sequence[Row],
    *,
    forget: Sequence[str] = ("group",),
    ratios: Sequence[float] = (0.5,),
    seeds: Sequence[int] = (0, 1, 2),
    selections: Sequence[str] = ("best",),
) -> list[Job]:
    """Return the jobs of a benchmark.

    Parameters
    ----------
    problem : Problem
        Data and net.
    preset : Preset
        Where settings come from.
    rows : sequence of Row
        See :func:`make_rows`.
    forget : sequence of str, default=("group",)
        Names of the problem's forget sets.
    ratios : sequence of float, default=(0.5,)
        Shares of their groups.
    seeds : sequence of int, default=(0, 1, 2)
        One run each: data, forget set, weights and batches.
    selections : sequence of {"best", "last"}, default=("best",)
        Which epoch of nets trained from scratch is kept.

    Returns
    -------
    list of Job
        In the order in which they are best done: what others need comes first.

    Raises
    ------
    ValueError
        If a value is unknown or out of range, or the preset lacks a setting.
    """
    for name in forget:
        problem.pairs(name)
    if not set(selections) <= set(SELECTIONS):
        raise ValueError(f"selections must be of {SELECTIONS}, got {list(selections)}.")
    chosen = [
        (row, (name, ratio), preset.setting(problem.key, row, name, ratio))
        for name, ratio, row in product(forget, ratios, rows)
    ]
    jobs: dict[str, Job] = {}
    for seed in seeds:
        splits = problem.load(seed)
        start = preset.setting(problem.key, PRETRAIN)
        pretraining = Job("training", problem, PRETRAIN, seed, start, digest_of_rows(splits))
        digests = {
            cell: digest_of_rows(splits, draw_forget_set(problem, splits, *cell, seed))
            for cell in product(forget, ratios)
        }
        for row, cell, setting in chosen:
            own = Job("training", problem, row, seed, setting, digests[cell], *cell)
            unlearner = unlearner_class(row)
            if not unlearner._needs_trained_net:
                kind, made = "evaluation", [pretraining if row == PRETRAIN else own]
            else:
                kind, made = "unlearning", [pretraining] * unlearner._accepts_trained_net
            needs = made[0].name if made else ""
            made += [replace(own, kind=kind, selection=s, needs=needs) for s in selections]
            jobs.update((job.name, job) for job in made)
    # what others wait for comes first; then each seed by itself
    kinds = ("training", "evaluation", "unlearning")
    return sorted(
        jobs.values(), key=lambda job: (job.kind != "training", job.seed, kinds.index(job.kind))
    )
