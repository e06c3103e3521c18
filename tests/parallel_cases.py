"""Training that gives the same in one process and in two, and what goes wrong in one of them."""

import os
import pickle
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from conftest import EVERY_METHOD, make_net, make_table, weights_of
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from skorch.callbacks import Checkpoint, EarlyStopping
from skorch.dataset import Dataset as ArrayDataset
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import Dataset

from grmu_sk import AsUnseenUnlearner, MIUUnlearner, RetrainUnlearner, SCRUBUnlearner
from grmu_sk.audit import DeletionLedger
from grmu_sk.distributed import ParallelMixin
from grmu_sk.unlearners import all_unlearners

N_ROWS = 101  # three batches of 32 rows and one of 5, which two processes cannot share evenly
FORGET = [3, 40, 41, 50, 63, 64, 100]  # a batch of 7
LATER = [7, 80, 90]  # a batch of 3, too small to be split
SHORT = {"max_epochs": 2, "forget_epochs": 1, "tune_updates": (3, 2), "reweight": True}
# each has a way of its own to train: MINE and REWEIGHT, several nets, learned weights, a teacher,
# one step, another last layer
DIFFERENT = {"miu", "sisa", "group_dro", "bad_teacher", "ssd", "boundary_expand"}


class ParallelNet(ParallelMixin, NeuralNetClassifier):
    """skorch's classifier, for several processes."""


class RowByRow(Dataset):
    """Rows that might be augmented, for all anybody knows, on a disk that may fail."""

    fail, reads_left = None, 0

    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        self.reads_left -= 1
        if self.fail is not None and self.reads_left <= 0:
            self.fail()
        return self.X[i]


class WithDropout(nn.Sequential):
    """A net whose training draws random numbers."""

    def __init__(self):
        super().__init__(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))


def net_for(is_parallel, net=None):
    """Return a net for several processes, or for one as it is."""
    net = make_net(max_epochs=2) if net is None else net
    return ParallelNet(**net.get_params(deep=False)) if is_parallel else net


def forgetful(method, is_parallel, net=None, read=np.asarray, weights=False, **params):
    """Return a fitted unlearner that has forgotten twice, and what it can be asked about."""
    table = make_table(N_ROWS)
    known = {name: SHORT[name] for name in SHORT if name in method._get_param_names()}
    if not isinstance(net, FrozenEstimator):
        net = net_for(is_parallel, net)
    unlearner = method(net, **{"random_state": 0, **known, **params})
    weight = {"sample_weight": np.linspace(0.5, 2, N_ROWS)} if weights else {}
    unlearner.fit(read(table.X), table.y, table.a, **weight)
    return unlearner.unlearn(FORGET).unlearn(LATER), table.X


def early_stopping(is_parallel):
    stop = EarlyStopping(patience=1, load_best=True, sink=lambda _: None)
    split = ValidSplit(5, stratified=True)
    net = make_net(train_split=split, callbacks=[stop], lr=0.5, max_epochs=20)
    return forgetful(MIUUnlearner, is_parallel, net)


def best_checkpoint(folder, is_parallel):
    kept = Checkpoint(load_best=True, dirname=folder, fn_prefix="", monitor="valid_loss_best")
    net = make_net(train_split=ValidSplit(5, stratified=True), callbacks=[kept], lr=0.5)
    return forgetful(SCRUBUnlearner, is_parallel, net)


def held_out_rows(is_parallel):
    rows = make_table(60, seed=1)
    net = make_net(train_split=predefined_split(ArrayDataset(rows.X, rows.y)))
    return forgetful(AsUnseenUnlearner, is_parallel, net)


def trained_net(is_parallel):
    """Every process brings other weights; those of the main one count."""
    return forgetful(SCRUBUnlearner, is_parallel, FrozenEstimator(initialised_net(is_parallel)))


def initialised_net(is_parallel):
    torch.manual_seed(dist.get_rank() if is_parallel and dist.is_initialized() else 0)
    return net_for(is_parallel).initialize()


def cases(folder):
    """Return functions from whether the net is parallel to an unlearner and inputs, by name."""
    methods = [pair for pair in all_unlearners() if EVERY_METHOD or pair[0] in DIFFERENT]
    of_shares = {"estimators": "separate", "reweight": False, "marginal": "train"}
    return {
        **{name: partial(forgetful, method) for name, method in methods},
        "two estimators": lambda on: forgetful(MIUUnlearner, on, **of_shares),
        "row by row": lambda on: forgetful(MIUUnlearner, on, read=RowByRow),
        "weighted rows": lambda on: forgetful(SCRUBUnlearner, on, weights=True),
        "early stopping": early_stopping,
        "held-out rows": held_out_rows,
        "best checkpoint": partial(best_checkpoint, folder),
        "trained net": trained_net,
    }


#: What processes agree on among themselves only: units are dropped by share, seeds are drawn.
OWN_CASES = {
    "dropout": lambda on: forgetful(MIUUnlearner, on, make_net(WithDropout)),
    "a seed": lambda on: forgetful(RetrainUnlearner, on, random_state=None),
}


def outcome(case, is_parallel=False):
    """Return all weights, predictions and losses, as one vector each."""
    unlearner, X = case(is_parallel)
    tensors = unlearner.net_.module_.state_dict().values()
    losses = [row["train_loss"] for row in unlearner.history_]
    return {
        "weights": torch.cat([tensor.double().reshape(-1) for tensor in tensors]).numpy(),
        "predictions": unlearner.predict_log_proba(X).astype(float),
        "losses": np.array(losses, dtype=float),
    }


# what goes wrong ---------------------------------------------------------------------------------


def state(unlearner):
    if not hasattr(unlearner, "net_"):
        return sorted(vars(unlearner))
    weights = [weight.tobytes() for weight in weights_of(unlearner)]
    rows = unlearner.forget_idx_.tolist(), unlearner.remaining_idx_.tolist()
    return weights, rows, unlearner.history_.to_list(), sorted(vars(unlearner))


def failures(folder):
    """Yield, by name, how attempts failed and if all is unchanged; again when one has ended."""
    is_second, found = dist.get_rank() == 1, {}
    table = make_table(N_ROWS)
    given = {"X": table.X, "y": table.y, "groups": table.a}

    @contextmanager
    def attempt(name, unlearner):
        before, raised = state(unlearner), None
        try:
            yield
        except Exception as error:
            raised = error
        found[name] = f"{type(raised).__name__}: {raised}", state(unlearner) == before

    unlearner = MIUUnlearner(net_for(True), random_state=0, **SHORT)
    others = {
        "other labels": {"y": np.where(np.arange(N_ROWS) < N_ROWS - is_second, table.y, 1)},
        "other inputs": {"X": table.X + np.float32(is_second)},
        "fewer rows": {name: part[: N_ROWS - is_second] for name, part in given.items()},
    }
    for name, other in others.items():
        with attempt(name, unlearner):
            unlearner.fit(**given | other)

    rows = RowByRow(table.X)
    unlearner.fit(rows, table.y, table.a)
    with attempt("other rows to forget", unlearner):
        unlearner.unlearn(FORGET[is_second:])
    with attempt("a bad request in one", unlearner):
        unlearner.unlearn([N_ROWS] if is_second else FORGET)
    with attempt("a ledger", unlearner):
        DeletionLedger(folder / f"ledger{int(is_second)}.db").process(unlearner, FORGET)

    def broken_disk():
        raise OSError("the disk is broken")

    for name, n_reads in {"first reads": 1, "training": 80}.items():
        rows.fail, rows.reads_left = broken_disk if is_second else None, n_reads
        with attempt(f"a broken disk in {name}", unlearner):
            unlearner.unlearn(FORGET)
    rows.fail, rows.X = None, np.full_like(table.X, np.nan)
    with attempt("NaN", unlearner):
        unlearner.unlearn(FORGET)
    rows.X = table.X
    unlearner.unlearn(FORGET)  # after all this it works
    found["in the end"] = [float(weight.sum()) for weight in weights_of(unlearner)]
    yield found

    # the other one ends
    rows.fail, rows.reads_left = (lambda: os._exit(0)) if is_second else None, 80
    with attempt("the other ends", unlearner):
        unlearner.unlearn([80, 90])
    yield found


def main(rank, folder):
    """Be one of two processes, and write what it got into a folder."""
    torch.set_num_threads(1)
    place = f"file://{folder / 'store'}"
    given = {"init_method": place, "rank": rank, "world_size": 2, "timeout": timedelta(seconds=60)}
    dist.init_process_group("gloo", **given)
    known = {**cases(folder / "checkpoints"), **OWN_CASES}
    results = {name: outcome(case, True) for name, case in known.items()}
    for results["failures"] in failures(folder):
        (folder / f"{rank}.pickle").write_bytes(pickle.dumps(results))
    os._exit(0)  # there is nobody to take leave of
