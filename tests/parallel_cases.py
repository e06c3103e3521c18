"""Training that gives the same in one process and in several.

``torchrun`` starts this file as a program, and each process writes what it got into a folder.
"""

import gc
import pickle
import sys
import weakref
from functools import partial
from pathlib import Path

import numpy as np
import torch
from conftest import make_net, make_table
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from skorch.callbacks import Checkpoint, EarlyStopping
from skorch.dataset import Dataset as ArrayDataset
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split
from skorch.hf import AccelerateMixin
from torch import nn
from torch.utils.data import DataLoader, Dataset

from grmu_sk import (
    AsUnseenUnlearner,
    BoundaryShrinkUnlearner,
    MIUUnlearner,
    RetrainUnlearner,
    SCRUBUnlearner,
)
from grmu_sk.distributed import parallel_class
from grmu_sk.nets import SmallCNN
from grmu_sk.unlearners import all_unlearners

N_ROWS = 101  # three batches of 32 rows and one of 5, which two processes cannot share evenly
FORGET = [3, 40, 41, 50, 63, 64, 100]  # a batch of 7
LATER = [7, 80, 90]  # a batch of 3, too small to be split
SHORT = {"max_epochs": 2, "forget_epochs": 1, "tune_updates": (3, 2), "reweight": True}


class AcceleratedNet(AccelerateMixin, NeuralNetClassifier):
    """skorch's classifier for accelerate, as its documentation has it."""


class RowByRow(Dataset):
    """Rows that might be augmented, for all anybody knows."""

    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i]


class OwnLoader(DataLoader):
    """Not torch's own, so that reading is left to it."""


class WithDropout(nn.Sequential):
    """A net whose training draws random numbers."""

    def __init__(self):
        super().__init__(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))


def cnn():
    return SmallCNN(width=4)


def synchronised_cnn():
    return nn.SyncBatchNorm.convert_sync_batchnorm(SmallCNN(width=4))


def net_for(accelerator, net=None):
    """Return a net for several processes, or without an accelerator as it is."""
    net = make_net(max_epochs=2) if net is None else net
    if accelerator is None:
        return net
    # the mixin prints whatever ``verbose`` says
    params = {**net.get_params(deep=False), "device": None, "callbacks__print_log__sink": quiet}
    return AcceleratedNet(**params, accelerator=accelerator)


def quiet(text):
    pass


def forgetful(method, net, images=False, read=np.asarray, weights=False, **params):
    """Return a fitted unlearner that has forgotten twice, and what it can be asked about."""
    table = make_table(N_ROWS, images=images)
    known = {name: SHORT[name] for name in SHORT if name in method._get_param_names()}
    unlearner = method(net, **{"random_state": 0, **known, **params})
    weight = {"sample_weight": np.linspace(0.5, 2, N_ROWS)} if weights else {}
    unlearner.fit(read(table.X), table.y, table.a, **weight)
    return unlearner.unlearn(FORGET).unlearn(LATER), table.X


def of_method(method, accelerator):
    return forgetful(method, net_for(accelerator))


def miu_with_two_estimators(accelerator):
    return forgetful(
        MIUUnlearner, net_for(accelerator), estimators="separate", reweight=False, marginal="train"
    )


def miu_in_train_mode(accelerator):
    net = make_net(synchronised_cnn if accelerator else cnn)
    modes = {"tune_mode": "train", "original_mode": "train"}
    return forgetful(MIUUnlearner, net_for(accelerator, net), images=True, **modes)


def synchronised(method, accelerator):
    net = make_net(synchronised_cnn if accelerator else cnn)
    return forgetful(method, net_for(accelerator, net), images=True)


def not_synchronised(accelerator):
    return forgetful(RetrainUnlearner, net_for(accelerator, make_net(cnn)), images=True)


def dropout(accelerator):
    return forgetful(MIUUnlearner, net_for(accelerator, make_net(WithDropout)))


def row_by_row(method, accelerator):
    return forgetful(method, net_for(accelerator), read=RowByRow)


def own_loader(accelerator):
    net = make_net(iterator_train=OwnLoader, iterator_valid=OwnLoader)
    return forgetful(MIUUnlearner, net_for(accelerator, net))


def weighted_rows(accelerator):
    return forgetful(SCRUBUnlearner, net_for(accelerator), weights=True)


def early_stopping(accelerator):
    stop = EarlyStopping(patience=1, load_best=True, sink=lambda _: None)
    split = ValidSplit(5, stratified=True)
    net = make_net(train_split=split, callbacks=[stop], lr=0.5, max_epochs=20)
    return forgetful(MIUUnlearner, net_for(accelerator, net))


def own_held_out_rows(accelerator):
    rows = make_table(60, seed=1)
    net = make_net(train_split=predefined_split(ArrayDataset(rows.X, rows.y)))
    return forgetful(AsUnseenUnlearner, net_for(accelerator, net))


def held_out_rows(accelerator):
    net = make_net(train_split=ValidSplit(0.3, random_state=0))
    return forgetful(AsUnseenUnlearner, net_for(accelerator, net))


def best_checkpoint(folder, accelerator):
    kept = Checkpoint(load_best=True, dirname=folder, fn_prefix="", monitor="valid_loss_best")
    net = make_net(train_split=ValidSplit(5, stratified=True), callbacks=[kept], lr=0.5)
    return forgetful(SCRUBUnlearner, net_for(accelerator, net))


def seed_of_its_own(accelerator):
    return forgetful(RetrainUnlearner, net_for(accelerator), random_state=None)


def trained_net(accelerator):
    """Every process brings other weights; those of the main one count."""
    return forgetful(SCRUBUnlearner, FrozenEstimator(initialised_net(accelerator)))


def initialised_net(accelerator):
    torch.manual_seed(0 if accelerator is None else accelerator.process_index)
    net = net_for(accelerator)
    # of the mixin, accelerate would wrap a criterion that has no weights, and refuse
    return parallel_class(type(net))(**net.get_params(deep=False)).initialize()


def cases(folder):
    """Return functions from an accelerator to a fitted unlearner and inputs, by name."""
    return {
        **{name: partial(of_method, method) for name, method in all_unlearners()},
        "MIU with two estimators": miu_with_two_estimators,
        "MIU in train mode": miu_in_train_mode,
        "SyncBatchNorm, retrained": partial(synchronised, RetrainUnlearner),
        "SyncBatchNorm, SCRUB": partial(synchronised, SCRUBUnlearner),
        "row by row, SCRUB": partial(row_by_row, SCRUBUnlearner),
        "row by row, MIU": partial(row_by_row, MIUUnlearner),
        "row by row, shrinking": partial(row_by_row, BoundaryShrinkUnlearner),
        "a loader of one's own": own_loader,
        "weighted rows": weighted_rows,
        "early stopping": early_stopping,
        "held-out rows": held_out_rows,
        "held-out rows of one's own": own_held_out_rows,
        "best checkpoint": partial(best_checkpoint, folder),
        "trained net": trained_net,
    }


#: What processes agree on among themselves only, since rows are normalised or drop units by share.
OWN_CASES = {"BatchNorm": not_synchronised, "dropout": dropout, "a seed": seed_of_its_own}


def outcome(case, accelerator=None):
    """Return all weights, predictions and losses, as one vector each."""
    unlearner, X = case(accelerator)
    tensors = unlearner.net_.module_.state_dict().values()
    losses = [row["train_loss"] for row in unlearner.history_]
    return {
        "weights": torch.cat([tensor.double().reshape(-1) for tensor in tensors]).numpy(),
        "predictions": unlearner.predict_log_proba(X).astype(float),
        "losses": np.array(losses, dtype=float),
    }


def remains(accelerator):
    """Return what is left of a net's original weights before and after an unlearning run."""
    net = initialised_net(accelerator)
    accelerator._models.append(net.module_)  # as if it had been trained with accelerate before
    original = next(net.module_.parameters())
    needle = original.detach().numpy().tobytes()
    module = weakref.ref(net.module_)
    table = make_table(N_ROWS)
    unlearner = MIUUnlearner(FrozenEstimator(net), random_state=0, **SHORT)
    unlearner.fit(table.X, table.y, table.a)
    del net, original
    gc.collect()
    before = {"pickled": needle in pickle.dumps(unlearner), "alive": module() is not None}
    unlearner.unlearn(FORGET)
    gc.collect()
    after = {"pickled": needle in pickle.dumps(unlearner), "alive": module() is not None}
    copy = pickle.loads(pickle.dumps(unlearner))
    same = np.array_equal(copy.predict_proba(table.X), unlearner.predict_proba(table.X))
    held = accelerator._models + accelerator._optimizers + accelerator._dataloaders
    return {"before": before, "after": after, "copy predicts the same": same, "held": len(held)}


def main(folder):
    from accelerate import Accelerator

    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    results = {
        name: outcome(case, accelerator)
        for name, case in {**cases(folder / "checkpoints"), **OWN_CASES}.items()
    }
    results["remains"] = remains(accelerator)
    (folder / f"{accelerator.process_index}.pickle").write_bytes(pickle.dumps(results))
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
