"""Every public entry point refuses what it cannot take with an error that is documented.

``python tests/fuzz/fuzz_run.py`` does the same with more inputs, and counts them.
"""

import importlib
import inspect

import numpy as np
import pytest
from contract import BrokenContract, Call, Tally, documented_errors, outcome_of
from fuzz_run import fuzz
from targets import TARGETS

import grmu_sk
from grmu_sk.metrics import group_accuracy_score

pytestmark = pytest.mark.quick

MODULES = [
    "grmu_sk",
    "grmu_sk.metrics",
    "grmu_sk.audit",
    "grmu_sk.datasets",
    "grmu_sk.scorers",
    "grmu_sk.model_selection",
    "grmu_sk.benchmark",
    "grmu_sk.plotting",
    "grmu_sk.persistence",
    "grmu_sk.nets",
    "grmu_sk.utils",
]

#: Public names that take nothing, or are made by the package itself and not by users.
EXEMPT = {
    **dict.fromkeys(
        (
            "scorers.get_unlearning_scorer_names",
            "benchmark.problem_names",
            "audit.evidence_schema",
            "utils.all_unlearners",
            "ReweightSampler",
        ),
        "takes no argument",
    ),
    **dict.fromkeys(
        (
            "audit.DeletionRequest",
            "audit.GateCheck",
            "audit.GateResult",
            "audit.LedgerEntry",
            "audit.PreflightReport",
            "benchmark.Candidate",
            "benchmark.ForgetSet",
            "benchmark.Preset",
            "benchmark.Problem",
            "benchmark.Setting",
            "benchmark.Splits",
        ),
        "a record that the package makes; whatever reads one has a target",
    ),
    **dict.fromkeys(
        (
            "plotting.GroupAccuracyDisplay",
            "plotting.LeakageDisplay",
            "plotting.LossDistributionDisplay",
            "plotting.MethodComparisonDisplay",
            "plotting.UnlearningHistoryDisplay",
            "plotting.UnlearningRatioDisplay",
        ),
        "made by its class methods, which have targets",
    ),
}


def public_names():
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        prefix = module_name.partition(".")[2]
        for name in module.__all__:
            value = getattr(module, name)
            is_error = inspect.isclass(value) and issubclass(value, Exception)
            if callable(value) and not is_error:
                yield f"{prefix}.{name}" if prefix else name


def test_every_public_name_has_a_target():
    covered = {target.public_name for target in TARGETS.values()}
    names = set(public_names())
    assert len(names) > 100
    assert names - covered - EXEMPT.keys() == set()


def test_no_exemption_is_out_of_date():
    covered = {target.public_name for target in TARGETS.values()}
    assert EXEMPT.keys() <= set(public_names())
    assert not EXEMPT.keys() & covered


def test_every_command_has_a_target():
    from click import Context

    from grmu_sk.cli import main

    def leaves(command, words):
        if not hasattr(command, "list_commands"):
            yield " ".join(words)
            return
        context = Context(command)
        for name in command.list_commands(context):
            yield from leaves(command.get_command(context, name), [*words, name])

    found = {f"cli.{name}" for name in leaves(main, [])}
    assert len(found) > 8
    assert found <= {target.public_name for target in TARGETS.values()}


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_only_documented_errors(name):
    target, tally = TARGETS[name], Tally()
    fuzz(target, 1 if target.slow else 3, tally)
    assert tally.total >= 1


# the judge itself --------------------------------------------------------------------------------


def documented(groups):
    """Do something.

    Raises
    ------
    KeyError, LookupError
        If.
    """
    raise KeyError(f"groups has no 'a' but {groups}")


def test_documented_errors_are_read_from_docstrings():
    assert documented_errors(documented) == {"KeyError", "LookupError"}
    assert "ValueError" in documented_errors(group_accuracy_score)
    assert "PersistenceError" in documented_errors(grmu_sk.persistence.load)


def undocumented(groups):
    return groups[10]


def documented_but_by_accident(groups):
    """Do something.

    Raises
    ------
    KeyError
        If.
    """
    return groups["a"]


def names_it(groups):
    raise ValueError("groups is empty.")


def names_nothing(groups):
    raise ValueError("too bad")


def warns(groups):
    return np.array([1.0]) / 0


def writes_into(groups):
    groups[0] = 1


def draws(groups):
    import torch

    return torch.rand(2)


class Half:
    """Is left half done by an error."""

    def work(self, groups):
        self.done = 1
        raise ValueError("groups is empty.")


@pytest.mark.parametrize(
    ("function", "value", "message"),
    [
        (undocumented, [1], "IndexError is not documented"),
        (names_nothing, [1], "ValueError is not documented"),
        (documented_but_by_accident, {"b": 1}, "documented, but its message names no argument"),
        (warns, [1], "RuntimeWarning is not documented"),
        (writes_into, np.zeros(3), "the caller's groups was changed"),
        (draws, [1], "random numbers"),
    ],
)
def test_judge_finds_broken_contracts(function, value, message):
    with pytest.raises(BrokenContract, match=message):
        outcome_of(Call(function, {"groups": value}))


def test_judge_finds_objects_left_half_done():
    half = Half()
    with pytest.raises(BrokenContract, match="left the object changed"):
        outcome_of(Call(half.work, {"groups": 1}, subject=half))


def test_judge_lets_pass_what_is_right():
    assert outcome_of(Call(names_it, {"groups": 1})) == "ValueError"
    assert outcome_of(Call(len, {"groups": [1]}, positional=("groups",))) == "accepted"
    assert outcome_of(Call(documented, {"groups": {"b": 1}})) == "KeyError"
