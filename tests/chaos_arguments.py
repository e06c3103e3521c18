"""Break arguments and files at random: no wrong result, no half-done work, no crash, no hang.

What is refused may end in any error, Python's own too; what is accepted has to be possible.
"""

import argparse
import copy
import faulthandler
import functools
import pickle
import random
import shutil
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from conftest import make_net, make_table

import grmu_sk
from grmu_sk import audit, metrics, scorers
from grmu_sk.persistence import load, save

FOLDER = Path(tempfile.mkdtemp(prefix="chaos-"))
SECONDS = 60
TABLE = make_table(48, seed=3)

# what stands in the place of a valid value
ODD = [None, True, 0, -1, 3, 2**63, 0.5, 1e300, np.nan, 1j, "", "a", b"\xff", (), [], {}, [[]]]
ODD += [[1, 2, [3]], [1, "a", None], {"a": 1}, range(3), object, len, np.array(3), pd.NA]


def real(a):
    return a if a.dtype.kind in "iufb" else np.arange(a.size).reshape(a.shape)


ARRAY_CHANGES = [
    lambda a: a[:-1],
    lambda a: np.concatenate([a, a[:1]]),
    lambda a: a[..., None],
    lambda a: a.T,
    lambda a: a.astype(str),
    lambda a: np.where(np.arange(len(a)) == 3, None, a) if a.ndim == 1 else a.astype(object),
    lambda a: np.full(a.shape, np.nan),
    lambda a: np.full(a.shape, 1e300),
    lambda a: np.full(a.shape, 2**63, dtype=np.uint64),
    lambda a: -1 - np.abs(real(a)),
    lambda a: np.repeat(a, 2, axis=0),
    lambda a: real(a) + 1j,
    lambda a: real(a).astype(">f8"),
    lambda a: np.ma.masked_array(real(a), mask=np.arange(a.size).reshape(a.shape) % 2),
    lambda a: scipy.sparse.csr_matrix(np.atleast_2d(real(a))),
    lambda a: torch.as_tensor(real(a).copy()).to("meta"),
    lambda a: pd.DataFrame(a) if a.ndim == 2 else pd.Series(a, index=[0] * len(a)),
]


def spoil(value, rng):
    """Return something that may stand in the place of a valid value by mistake."""
    if isinstance(value, bytes):
        at, end = sorted(rng.randrange(len(value)) for _ in range(2))
        flipped = bytes([value[at] ^ 1 << rng.randrange(8)])
        others = [value[:at], value[at:end], value * 2, b"", rng.randbytes(200)]
        return rng.choice([value[:at] + flipped + value[at + 1 :], *others])
    if isinstance(value, np.ndarray) and rng.random() < 0.8:
        return rng.choice(ARRAY_CHANGES)(value)
    if isinstance(value, dict) and rng.random() < 0.6:
        return {**value, rng.choice([*value, "other", 1]): rng.choice(ODD)}
    if isinstance(value, list | tuple) and rng.random() < 0.6:
        return rng.choice([value[1:], value * 2, (*value, rng.choice(ODD)), set(map(str, value))])
    return copy.copy(rng.choice(ODD))


@functools.cache
def pickled():
    """A fitted unlearner; beside it the files of one and of a ledger."""
    params = {"max_epochs": 1, "keep_forgotten": True, "random_state": 0}
    unlearner = grmu_sk.FineTuneUnlearner(make_net(max_epochs=1), **params)
    save(unlearner.fit(TABLE.X, TABLE.y, TABLE.a).unlearn([2, 9]), FOLDER / "model")
    unlearner.predict(TABLE.X)  # leaves the net in evaluation mode
    audit.DeletionLedger(FOLDER / "ledger").add(["3", "4"], reason="letter")
    return pickle.dumps(unlearner)


def of_file(reader, name):
    def read(content):
        (FOLDER / "spoilt").write_bytes(content)
        (FOLDER / "spoilt").chmod(0o600)
        return reader(FOLDER / "spoilt")

    return read, {"content": (FOLDER / name).read_bytes()}


def rows():
    return {"X": TABLE.X.copy(), "y": TABLE.y.copy(), "groups": TABLE.a.copy()}


def predictions(**more):
    wrong = np.where(np.arange(48) % 5 == 0, 1 - TABLE.y, TABLE.y)
    columns = {"y_true": TABLE.y.copy(), "y_pred": wrong, "groups": TABLE.a.copy()}
    return {**columns, "forget_groups": [(1, 0)], **more}


def losses(*names):
    return {name: np.random.default_rng(i).exponential(size=12) for i, name in enumerate(names)}


def is_share(result):
    shares = np.asarray(result, dtype=float)
    return (np.isnan(shares) | ((shares >= 0) & (shares <= 1))).all()


def are_probabilities(result):
    return np.allclose(np.sum(result, axis=-1), 1) and (np.asarray(result) >= 0).all()


def is_finite(result):
    return all(torch.isfinite(weight).all() for weight in result.net_.module_.parameters())


def anything(result):
    return True


PARAMETERS = {"lr": 0.1, "batch_size": 8, "reweight": True, "random_state": 0, "max_epochs": 1}
ATTACK = losses("member_losses", "nonmember_losses", "forget_losses")
FORGET_SET = {"y": TABLE.y, "groups": TABLE.a, "forget_groups": (1, 0), "ratio": 0.5}
SCORES = {"RA": losses("x")["x"] / 9, "UA": losses("x")["x"] / 8}
GAP = {"values": SCORES, "gold": SCORES, "metrics": ("RA", "UA")}
#: name: what makes a valid call (function, arguments) of a fitted unlearner; check of the result
TARGETS = {
    "fit": (lambda u: (u.fit, rows() | {"forget": TABLE.y > 5}), is_finite),
    "unlearn": (lambda u: (u.unlearn, {"forget": np.array([1, 5])}), is_finite),
    "unlearn data": (lambda u: (u.unlearn, {"forget": [1, 5], **rows()}), is_finite),
    "parameters": (lambda u: (lambda **p: u.set_params(**p).fit(**rows()), PARAMETERS), anything),
    "predict_proba": (lambda u: (u.predict_proba, {"X": TABLE.X.copy()}), are_probabilities),
    "save": (lambda u: (functools.partial(save, u), {"path": FOLDER / "saved"}), anything),
    "load": (lambda u: of_file(lambda path: load(path, make_net()), "model"), is_finite),
    "ledger": (lambda u: of_file(audit.DeletionLedger, "ledger"), anything),
    "ga": (lambda u: (metrics.group_accuracy_score, predictions()), is_share),
    "eo": (lambda u: (metrics.equalized_odds_gap, predictions(pos_label=1)), is_share),
    "average gap": (lambda u: (metrics.average_gap_score, dict(GAP)), anything),
    "attack": (lambda u: (metrics.membership_inference_efficacy, dict(ATTACK)), is_share),
    "forget set": (
        lambda u: (grmu_sk.sample_forget_set, dict(FORGET_SET)),
        lambda found: len(np.unique(found)) == len(found),
    ),
    "scorer": (lambda u: (functools.partial(scorers.ga_scorer, u), rows()), is_share),
}
CHANGE_THEIR_OBJECT = ("parameters",)


def try_once(name, rng):
    """Make a call with one or two broken arguments; return what is wrong, or None."""
    unlearner, (make, check) = pickle.loads(pickled()), TARGETS[name]
    function, arguments = make(unlearner)
    names = rng.sample(sorted(arguments), k=min(rng.choice([1, 1, 2]), len(arguments)))
    try:
        arguments = {**arguments, **{key: spoil(arguments[key], rng) for key in names}}
    except (TypeError, ValueError, IndexError, OverflowError):
        return None  # not every change can be made to every value
    before, state = pickle.dumps(unlearner), torch.get_rng_state()
    call = f"{name} with { {key: repr(arguments[key])[:80] for key in names} }"
    try:
        result = function(**arguments)
    except Exception:
        if name not in CHANGE_THEIR_OBJECT and pickle.dumps(unlearner) != before:
            return f"{call} failed and left the object changed"
    else:
        try:
            assert check(result)
        except Exception:
            return f"{call}: a wrong result\n{traceback.format_exc(limit=3)}"
    if not torch.equal(torch.get_rng_state(), state):
        return f"{call} used up the caller's random numbers"
    return None


def break_arguments(n_inputs, seed):
    """Return what went wrong in so many calls; one that hangs ends the process."""
    rng, broken = random.Random(seed), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(n_inputs):
            faulthandler.dump_traceback_later(SECONDS, exit=True, file=sys.__stderr__)
            broken.append(try_once(list(TARGETS)[number % len(TARGETS)], rng))
    faulthandler.cancel_dump_traceback_later()
    return [message for message in broken if message]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faulthandler.enable()
    broken = break_arguments(options.inputs, options.seed)
    print(*broken, f"{options.inputs} inputs, {len(broken)} broken", sep="\n")
    shutil.rmtree(FOLDER)
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
