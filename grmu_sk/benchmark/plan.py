"""From what is asked for to the jobs of a benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..unlearners import all_unlearners
from .candidates import EXACT
from .forget_sets import ForgetSet, draw_forget_set
from .job import (
    FORMAT,
    Job,
    identity_of_data,
    identity_of_setting,
    method_class,
    pretraining_name,
)
from .paper import APPROXIMATE
from .problem import Problem
from .schema import SELECTIONS
from .settings import Preset, Setting
from .splits import Splits
from .store import Store

__all__ = ["Line", "Plan", "lines_for", "make_plan"]

ABLATIONS = {
    "no_retaining": {"retaining": False},
    "no_unlearning": {"unlearning": False},
    "no_calibration": {"calibration": False},
}
# work per training row and epoch, where it is not that of training
COST_FACTORS = {
    "miu": 2.5,
    "scrub": 1.5,
    "bad_teacher": 1.5,
    "boundary_expand": 1.5,
    "boundary_shrink": 1.5,
    "sisa": 1.0,
}
ONE_STEP = ("influence", "no_op", "ssd")


@dataclass(frozen=True)
class Line:
    """One line of a table of results.

    Parameters
    ----------
    method : str
        Name in the results.
    reweight : bool
        Whether with REWEIGHT.
    variant : str, default=""
        What differs from the method as it is.
    parameters : dict
        The same, as parameters of the method.
    is_optional : bool, default=False
        Whether it may be left out where the preset has no setting for it.
    """

    method: str
    reweight: bool
    variant: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    is_optional: bool = False


@dataclass(frozen=True)
class Plan:
    """The jobs of a benchmark.

    Parameters
    ----------
    problem : Problem
        The problem.
    jobs : list of Job
        In the order in which they are best done.
    left_out : list of str
        Why lines are missing.
    """

    problem: Problem
    jobs: list[Job]
    left_out: list[str]


def lines_for(
    methods: str | Iterable[str], *, ablations: bool = False, lambdas: Sequence[float] = ()
) -> list[Line]:
    """Return the lines of a table.

    Parameters
    ----------
    methods : {"all", "paper"} or iterable of str
        All methods of the package, the paper's, or names. ``pretrain``, ``retrain`` without and
        with REWEIGHT and ``gold_reseeded`` always take part, ``group_dro`` with the first two.
    ablations : bool, default=False
        Whether MIU is run without each of its terms as well, as in the paper without REWEIGHT.
    lambdas : sequence of float, default=()
        Weights of MIU's calibration to try, with REWEIGHT.

    Returns
    -------
    list of Line
        Without repetition.

    Raises
    ------
    ValueError
        If a name is unknown, or a weight is negative.
    """
    registry = dict(all_unlearners())
    is_every = methods == "all"
    if is_every:
        names = list(registry)
    elif methods == "paper":
        names = ["group_dro", *APPROXIMATE]
    else:
        names = [methods] if isinstance(methods, str) else list(methods)
    unknown = sorted(set(names) - {*registry, *EXACT})
    if unknown:
        raise ValueError(
            f"Unknown methods {', '.join(unknown)}; there are {', '.join(registry)}, and 'all' and "
            "'paper' for many of them."
        )
    if any(value < 0 for value in lambdas):
        raise ValueError(f"lambdas must not be negative, got {list(lambdas)}.")
    lines = [
        Line("pretrain", False),
        Line("retrain", False),
        Line("retrain", True),
        Line("gold_reseeded", True),
    ]
    for name in dict.fromkeys(names):
        if name not in ("pretrain", "retrain", "gold_reseeded"):
            has_choice = "reweight" in registry[name]._get_param_names()
            switches = (False, True) if has_choice else (False,)
            lines += [Line(name, on, is_optional=is_every) for on in switches]
    if ablations:
        lines += [Line("miu", False)]  # which they are compared with
        lines += [Line("miu", False, name, off) for name, off in ABLATIONS.items()]
    lines += [Line("miu", True, f"lam={value:g}", {"lam": value}) for value in lambdas]
    return list({(line.method, line.reweight, line.variant): line for line in lines}.values())


def make_plan(
    problem: Problem,
    preset: Preset,
    store: Store,
    lines: Sequence[Line],
    *,
    forget: Sequence[str] = ("group",),
    ratios: Sequence[float] = (0.5,),
    seeds: Sequence[int] = (0, 1, 2),
    selections: Sequence[str] = ("best",),
) -> Plan:
    """Return the jobs of a benchmark, and write down its forget sets.

    Parameters
    ----------
    problem : Problem
        Data and net.
    preset : Preset
        Where settings come from.
    store : Store
        Where results go.
    lines : sequence of Line
        See :func:`lines_for`.
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
    Plan
        The jobs.

    Raises
    ------
    ValueError
        If a value is unknown or out of range, or the preset lacks a setting.
    ForgetSetMismatch
        If the store has other forget sets of the same name.
    """
    for name in forget:
        problem.pairs(name)
    unknown = [name for name in selections if name not in SELECTIONS]
    if unknown or not selections:
        raise ValueError(f"selections must be of {SELECTIONS}, got {list(selections)}.")
    jobs: dict[str, Job] = {}
    left_out: dict[str, None] = {}
    for seed in seeds:
        splits = problem.load(seed)
        planner = _Planner(problem, preset, splits, seed, tuple(dict.fromkeys(selections)))
        for name, ratio in ((name, ratio) for name in forget for ratio in ratios):
            forget_set = draw_forget_set(splits, problem.pairs(name), ratio, seed)
            store.keep_forget_set(problem.name, name, forget_set)
            for line in lines:
                try:
                    made = list(planner.jobs(line, name, forget_set))
                except ValueError as error:
                    if not line.is_optional:
                        raise
                    left_out[str(error)] = None
                    continue
                jobs.update({job.name: job for job in made})
    return Plan(problem, _in_order(jobs.values()), list(left_out))


def _in_order(jobs: Iterable[Job]) -> list[Job]:
    """Pretraining first, since unlearning waits for it; then each seed by itself."""
    listed = list(jobs)
    kinds = ("training", "evaluation", "unlearning")
    return sorted(
        listed, key=lambda job: (job.seed, job.method != "pretrain", kinds.index(job.kind))
    )


class _Planner:
    """Makes the jobs of one seed."""

    def __init__(
        self,
        problem: Problem,
        preset: Preset,
        splits: Splits,
        seed: int,
        selections: tuple[str, ...],
    ) -> None:
        self.problem, self.preset, self.splits = problem, preset, splits
        self.seed, self.selections = seed, selections
        self.data = identity_of_data(splits)
        self.pretraining = self._pretraining()

    def jobs(self, line: Line, forget: str, forget_set: ForgetSet) -> Iterator[Job]:
        """Yield the jobs of a line of the table, with the training they need."""
        setting = self._setting(line, forget, forget_set.ratio)
        drawn: dict[str, Any] = {"forget": forget, "ratio": forget_set.ratio}
        if line.method == "pretrain":
            training = self.pretraining
        elif method_class(line.method)._needs_trained_net:
            yield from self._unlearning(line, setting, drawn, forget_set)
            return
        else:
            training = self._training(line, setting, drawn, forget_set)
        yield training
        for selection in self.selections:
            identity = {
                "format": FORMAT,
                "training": training.digest,
                "forget": forget_set.fingerprint,
                "selection": selection,
            }
            yield replace(
                training,
                kind="evaluation",
                **drawn,
                selection=selection,
                needs=training.name,
                identity=identity,
                expected_cost=self._cost_of_evaluation,
            )

    def _setting(self, line: Line, forget: str, ratio: float) -> Setting:
        if line.method in ("pretrain", "retrain", "gold_reseeded"):
            method = "pretrain" if line.method == "pretrain" else "retrain"
            return self.preset.training(self.problem, method=method, reweight=line.reweight)
        setting = self.preset.unlearning(
            self.problem,
            forget=forget,
            ratio=ratio,
            method=line.method,
            reweight=line.reweight,
        )
        if not method_class(line.method)._accepts_trained_net:
            training = self.preset.training(self.problem)  # it trains its nets by itself
            setting = replace(training, unlearner=setting.unlearner)
        return replace(setting, unlearner={**setting.unlearner, **line.parameters})

    def _pretraining(self) -> Job:
        setting = self.preset.training(self.problem, method="pretrain")
        job = Job(
            kind="training",
            dataset=self.problem.name,
            forget="",
            ratio=0.0,
            seed=self.seed,
            method="pretrain",
            reweight=False,
            setting=replace(setting, unlearner={}),
        )
        assert job.name == pretraining_name(job.dataset, job.seed)
        return self._with_identity(job, {})

    def _training(
        self, line: Line, setting: Setting, drawn: dict[str, Any], forget_set: ForgetSet
    ) -> Job:
        job = Job(
            kind="training",
            dataset=self.problem.name,
            **drawn,
            seed=self.seed,
            method=line.method,
            reweight=line.reweight,
            setting=setting,
            variant=line.variant,
        )
        return self._with_identity(job, {"forget": forget_set.fingerprint})

    def _unlearning(
        self, line: Line, setting: Setting, drawn: dict[str, Any], forget_set: ForgetSet
    ) -> Iterator[Job]:
        starts_trained = method_class(line.method)._accepts_trained_net
        for selection in self.selections:
            job = Job(
                kind="unlearning",
                dataset=self.problem.name,
                **drawn,
                seed=self.seed,
                method=line.method,
                reweight=line.reweight,
                setting=setting,
                variant=line.variant,
                selection=selection,
                needs=self.pretraining.name if starts_trained else "",
            )
            start = {"training": self.pretraining.digest} if starts_trained else {}
            yield self._with_identity(
                job, {"forget": forget_set.fingerprint, "selection": selection, **start}
            )

    def _with_identity(self, job: Job, more: dict[str, Any]) -> Job:
        identity = {
            "format": FORMAT,
            "data": self.data,
            "setting": identity_of_setting(self.problem, job.setting, self.splits),
            "seed": job.seed,
            "method": job.method,
            "reweight": job.reweight,
            "variant": job.variant,
            **more,
        }
        return replace(job, identity=identity, expected_cost=self._cost(job))

    def _cost(self, job: Job) -> float:
        epochs = 1 if job.method in ONE_STEP else job.epochs
        work = epochs * len(self.splits.train.y) * COST_FACTORS.get(job.method, 1.0)
        return work + (0 if job.kind == "training" else self._cost_of_evaluation)

    @property
    def _cost_of_evaluation(self) -> float:
        return 1.0 * len(self.splits.train.y)
