from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from quick_benchmark import job_of, quick_jobs

from grmu_sk.benchmark import make_rows
from grmu_sk.benchmark.plan import digest_of_rows
from grmu_sk.comparison import Split, Splits, unlearner_class
from grmu_sk.results import GOLD, PRETRAIN, RESEEDED_GOLD, RETRAIN, Row
from grmu_sk.unlearners import all_unlearners

EXACT = [PRETRAIN, RETRAIN, GOLD, RESEEDED_GOLD]


def test_which_rows_take_part():
    assert make_rows(["miu"]) == [*EXACT, Row("miu", False), Row("miu", True)]
    approximate = {Row(n, on) for n in ("l1_sparse", "salun", "scrub", "miu") for on in (0, 1)}
    assert set(make_rows("paper")) == {*EXACT, Row("group_dro", False), *approximate}
    rows = make_rows("all")
    for name, unlearner in all_unlearners():
        switches = {row.reweight for row in rows if row.method == name}
        assert switches == ({0, 1} if "reweight" in unlearner._get_param_names() else {0}), name
    assert len(rows) == len(set(rows))
    rows = make_rows(["no_op"], ablations=True, weights=[0.1, 10])
    names = ["miu", *(f"miu, no {part}" for part in ("retaining", "unlearning", "calibration"))]
    names += [f"miu + reweight, lam={value}" for value in (0.1, 10)]
    assert [row.label for row in rows[4:]] == ["no_op", *names]
    for row in rows:
        assert set(row.parameters) <= set(unlearner_class(row)._get_param_names())


def test_pretraining_is_shared_and_retraining_is_not():
    jobs = quick_jobs(seeds=[0, 1], ratios=[0.2, 0.5], forget=["group", "random"])
    trainings = Counter(job.row for job in jobs if job.kind == "training")
    assert trainings == {PRETRAIN: 2, RETRAIN: 8, GOLD: 8, RESEEDED_GOLD: 8}
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    # whatever is needed comes before
    assert all(job.needs in ["", *names[:n]] for n, job in enumerate(jobs))


def test_everything_that_decides_the_outcome_and_nothing_else_is_in_the_name():
    job = job_of(quick_jobs(("miu",)), "unlearning", "miu", True, "best")
    setting, problem = job.setting, job.problem
    others = [{"seed": 1}, {"ratio": 0.4}, {"rows": "f" * 64}, {"selection": "last"}]
    others += [{"needs": "other"}, {"row": Row("miu", True, "x")}]
    others += [{"problem": replace(problem, weights="imagenet")}]
    others += [{"problem": replace(problem, image_size=8)}]
    changes = [{"lr": 0.06}, {"batch_size": 32}, {"epochs": 3}, {"schedule": "constant"}]
    changes += [{"momentum": 0.8}, {"parameters": {**setting.parameters, "lam": 7.0}}]
    others += [{"setting": replace(setting, **change)} for change in changes]
    names = {replace(job, **change).name for change in others}
    assert len({job.name, *names}) == 1 + len(others)
    elsewhere = replace(job.problem, root=Path("x"), cache_dir=Path("y"))
    assert replace(job, problem=elsewhere).name == job.name, "where it runs decides nothing"


def test_other_rows_have_another_digest():
    y, a = np.array(["m", "k", "m", "k"]), np.array([5, 5, 7, 7])
    train, test = Split(None, y, a), Split(None, y[:2], a[:2])
    splits = Splits("tiny", train, test, test, [("m", 5)])
    assert digest_of_rows(splits, [0]) == digest_of_rows(replace(splits, augmented=1), [0])
    others = [replace(splits, name="other"), replace(splits, test=train)]
    others += [
        replace(splits, train=Split(None, *pair))
        for pair in ((y[::-1], a[::-1]), (y[::-1], a), (y, a[::-1]))  # other order, labels, groups
    ]
    digests = {digest_of_rows(other, [0]) for other in [splits, *others]}
    assert len(digests | {digest_of_rows(splits, [1])}) == 7
