"""Plant faults one at a time, and see whether the tests find them.

    python benchmarks/planted_faults.py                 # all faults: a quarter of an hour
    python benchmarks/planted_faults.py scrub seed      # those with these words in their names
    python benchmarks/planted_faults.py --suite         # the whole suite for what is missed

Each fault is a line of the package that somebody could well have got wrong. It is planted in a copy
of the working tree, where the tests of its part are run until the first one fails; that test has to
pass once the fault is taken out again. What no test finds is a test to write.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PYTHON = [sys.executable]


class Fault(NamedTuple):
    """A text that is replaced in one file, and the tests of its part, as arguments of pytest."""

    name: str
    file: str
    right: str
    wrong: str
    tests: str


BASE = (
    "test_base.py unlearners/test_reference_values.py unlearners/test_fresh_weights.py"
    " unlearners/test_common.py -k 'not test_unlearner_check or fine_tune'"
)
FAULTS = [
    # the methods
    Fault(
        "SCRUB stays with its teacher on rows to forget",
        "unlearners/scrub.py",
        "return -distance(batch)",
        "return distance(batch)",
        "unlearners/test_closed_forms.py",
    ),
    Fault(
        "SCRUB keeps its teacher after the request",
        "unlearners/scrub.py",
        "        teacher = frozen_teacher(",
        "        self._teacher = fresh_net(request.net)\n        teacher = frozen_teacher(",
        "unlearners/test_common.py -k scrub",
    ),
    Fault(
        "MIU learns the groups of rows to forget",
        "unlearners/miu.py",
        "return _with_graph(self.critic(self.tap.read(), ",
        "return _with_graph(-self.critic(self.tap.read(), ",
        "unlearners/test_miu.py",
    ),
    Fault(
        "Bad Teacher swaps its teachers",
        "unlearners/bad_teacher.py",
        "torch.where(badly, incompetent(batch), competent(batch))",
        "torch.where(~badly, incompetent(batch), competent(batch)).nan_to_num()",
        "unlearners/test_closed_forms.py",
    ),
    Fault(
        "SalUn freezes what is salient",
        "unlearners/salun.py",
        "lambda grad, mask=mask: grad * mask",
        "lambda grad, mask=mask: grad * (1 - mask)",
        "unlearners/test_salun.py",
    ),
    Fault(
        "The L1 penalty fades an epoch too early",
        "unlearners/l1_sparse.py",
        "(1 - (epoch - 1) / self.max_epochs)",
        "(1 - epoch / self.max_epochs)",
        "unlearners/test_closed_forms.py",
    ),
    Fault(
        "SSD dampens without a bound",
        "unlearners/ssd.py",
        "weight[selected] *= ratio.clamp_max(1)",
        "weight[selected] *= ratio",
        "unlearners/test_one_step.py",
    ),
    Fault(
        "The weights of group DRO are differentiated",
        "unlearners/group_dro.py",
        "self.eta * losses.detach())",
        "self.eta * losses)",
        "unlearners/test_group_dro.py",
    ),
    Fault(
        "SISA retrains the next shard",
        "unlearners/sisa.py",
        "np.unique(self.shards_[request.forget])",
        "np.unique((self.shards_[request.forget] + 1) % self.n_shards)",
        "unlearners/test_sisa.py",
    ),
    Fault(
        "Rows to forget are in the retain phase",
        "unlearners/approximate.py",
        'Phase("retain", request.retain, weights=weights)',
        'Phase("retain", request.train if weights is None else request.retain, weights=weights)',
        "unlearners/test_closed_forms.py",
    ),
    # what all methods stand on
    Fault(
        "REWEIGHT keeps the mix of the rest",
        "reweight.py",
        "np.divide(group_counts, left, ",
        "np.divide(left, left, ",
        "test_reweight.py",
    ),
    Fault(
        "The correction of MINE's gradient is not detached",
        "mutual_information.py",
        "corrected - corrected.detach()",
        "corrected - corrected",
        "test_mutual_information.py",
    ),
    Fault(
        "Rows are off by one once some are gone",
        "rows.py",
        "np.searchsorted(self.rows, rows)",
        'np.searchsorted(self.rows, rows, side="right").clip(max=len(self.rows) - 1)',
        "test_rows.py",
    ),
    Fault(
        "Groups are numbered the other way round",
        "groups.py",
        "attribute_codes + len(self.attributes_) * label_codes",
        "label_codes + len(self.classes_) * attribute_codes",
        "test_groups.py",
    ),
    Fault(
        "The seed is not used",
        "base.py",
        "derive_seed(self.seed_, 1 + self._n_requests)",
        "derive_seed(0, 1 + self._n_requests)",
        BASE,
    ),
    Fault(
        "Every request draws what the first one drew",
        "base.py",
        "derive_seed(self.seed_, 1 + self._n_requests)",
        "derive_seed(self.seed_, 1)",
        BASE,
    ),
    Fault(
        "The original weights stay in the object",
        "base.py",
        "        history = History(self.history_.to_list()",
        "        self._before = self.net_\n        history = History(self.history_.to_list()",
        BASE,
    ),
    Fault(
        "The trained net that was brought in stays",
        "base.py",
        "            self.estimator = FrozenEstimator(self.net_)",
        "            pass",
        BASE,
    ),
    Fault(
        "Rows stay in the object when they are forgotten",
        "base.py",
        "if self.keep_forgotten else data.keep(retain)",
        "if self.keep_forgotten else data.keep(data.rows)",
        BASE,
    ),
    Fault(
        "A checkpoint resumes one epoch late",
        "checkpoint.py",
        'return int(state["epoch"])',
        'return int(state["epoch"]) + 1',
        "test_checkpoint.py",
    ),
    Fault(
        "A changed file is loaded",
        "persistence.py",
        "if stored != digest(sorted(tensors.items())):",
        "if len(stored) != len(digest(sorted(tensors.items()))):",
        "test_persistence.py test_malicious_files.py",
    ),
    Fault(
        "Folds do not look at what is to be forgotten",
        "model_selection.py",
        "self._folds(2 * group + mask)",
        "self._folds(2 * group)",
        "test_model_selection.py",
    ),
    # the metrics
    Fault(
        "EO swaps label and attribute",
        "metrics/fairness.py",
        """\
            cell, name = is_in(attribute, protected) == side, f"groups {_in(side)} {protected}"
            if truth is not None:
                cell &= is_in(true, positive) == truth
""",
        """\
            cell, name = is_in(attribute, protected) == (side if truth is None else truth), ""
            if truth is not None:
                cell &= is_in(true, positive) == side
""",
        "metrics/test_fairness.py",
    ),
    Fault(
        "GA has the weights of other rows",
        "metrics/accuracy.py",
        "weights=weights[inside]))",
        "weights=weights[: inside.sum()]))",
        "metrics/test_accuracy.py metrics/test_evaluate.py",
    ),
    Fault(
        "The membership attack counts members",
        "metrics/membership.py",
        "== _NONMEMBER)",
        "== _MEMBER)",
        "metrics/test_membership.py",
    ),
    Fault(
        "The average gap leaves out what is missing",
        "metrics/gap.py",
        "else list(metrics)\n",
        "else [name for name in metrics if name in values and name in gold]\n",
        "metrics/test_gap.py test_refusals.py",
    ),
    Fault(
        "UA is the accuracy of what remains",
        "metrics/evaluate.py",
        '"UA": "forget"',
        '"UA": "remaining"',
        "metrics/test_evaluate.py",
    ),
    # the audit
    Fault(
        "The ledger says done before the model is saved",
        "audit/ledger.py",
        """\
                ledger._record("computed" if self.save else "done", run=run, model_after=after)
                if self.save:
                    self.save(unlearner)
""",
        """\
                ledger._record("done", run=run, model_after=after)
                if self.save:
                    self.save(unlearner)
                    self.save = None
""",
        "audit/test_deletion_ledger.py audit/test_ledger_faults.py",
    ),
    Fault(
        "The scan does not unpack members of archives",
        "audit/residue_places.py",
        "yield from self.of_file(name, content, depth)",
        "yield from ()",
        "audit/test_residue.py",
    ),
    Fault(
        "LiRA divides by the number of models",
        "audit/attacks.py",
        "freedom = counts - 1",
        "freedom = counts",
        "audit/test_attacks.py",
    ),
    Fault(
        "An attack without power clears a model",
        "audit/leakage.py",
        "if not power.low > 0.5 + is_forgotten * tolerance:",
        "if not power.low > 0:",
        "audit/test_leakage.py",
    ),
    Fault(
        "Preflight warns of groups that lose little",
        "audit/preflight.py",
        '>= _LARGE_PART * table["present"]',
        '<= _LARGE_PART * table["present"]',
        "audit/test_preflight.py",
    ),
    Fault(
        "The gate takes a gain for a loss",
        "audit/gate.py",
        "(-rise if is_better_high else rise) <=",
        "(rise if is_better_high else -rise) <=",
        "audit/test_gate.py",
    ),
    # the data
    Fault(
        "CelebA's label and attribute are swapped",
        "datasets/celeba.py",
        "(values[target], (",
        "(values[attribute], (",
        "datasets/test_readers.py",
    ),
]


def run_tests(tree: Path, arguments: list[str]) -> bool:
    """Return whether tests pass, in a tree whose package comes before the one installed."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [*PYTHON, "-m", "pytest", "-q", "-x", *arguments]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1, 2):  # passed, failed, did not even start
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return done.returncode == 0


def verdict(tree: Path, fault: Fault, *, suite: bool) -> str:
    """Return whether a fault is found, and by which tests."""
    path = tree / "grmu_sk" / fault.file
    source = path.read_text()
    if source.count(fault.right) != 1:
        raise ValueError(f"{fault.file} does not hold this once: {fault.right}")
    paths = [f"tests/{part}" if part.endswith(".py") else part for part in shlex.split(fault.tests)]
    for name, tests in (("found", paths), ("found by another part", ["tests"] if suite else [])):
        if not tests:
            continue
        path.write_text(source.replace(fault.right, fault.wrong))
        passed = run_tests(tree, tests)
        path.write_text(source)
        if not passed:
            is_right = run_tests(tree, ["--lf", "--lfnf=none", *tests])
            return name if is_right else "the test fails without it, too"
    return "MISSED"


def main() -> int:
    """Plant the faults and print what became of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="plant faults with one of these in their name")
    parser.add_argument("--suite", action="store_true", help="run all tests for what is missed")
    options = parser.parse_args()
    chosen = [
        fault
        for fault in FAULTS
        if not options.words or any(word.lower() in fault.name.lower() for word in options.words)
    ]
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    n_found = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in files.stdout.split("\n"):
            if (ROOT / name).is_file():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, Path(folder) / name)
        for fault in chosen:
            said = verdict(Path(folder), fault, suite=options.suite)
            n_found += said.startswith("found")
            print(f"{said:22} {fault.name}", flush=True)
    print(f"{n_found} of {len(chosen)} found")
    return int(n_found < len(chosen))


if __name__ == "__main__":
    sys.exit(main())
