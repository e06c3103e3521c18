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
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from conftest import make_net, make_table

import grmu_sk
from grmu_sk import audit, metrics, model_selection, scorers
from grmu_sk.persistence import load, save

FOLDER = Path(tempfile.mkdtemp(prefix="chaos-"))
SECONDS = 60
TABLE = make_table(48, seed=3)

# what stands in the place of a valid value -------------------------------------------------------

ODD = [
    None,
    True,
    0,
    -1,
    3,
    2**63,
    10**400,
    0.5,
    1e300,
    np.nan,
    np.inf,
    1j,
    "",
    "a",
    "\x00",
    b"\xff",
]
ODD += [(), [], {}, set(), [[]], [[1, 2], [3]], [1, "a", None], {"a": 1}, range(3), object]
ODD += [len, np.array(3), np.array([]), np.array([None]), pd.NA, pd.NaT, Path("no/where")]


def real(a):
    return a if a.dtype.kind in "iufb" else np.arange(a.size).reshape(a.shape)


def put(a, value):
    changed = a.astype(object)
    changed[-1] = value
    return changed


ARRAY_CHANGES = [
    lambda a: a[:-1],
    lambda a: np.concatenate([a, a[:1]]),
    lambda a: a[:0],
    lambda a: a[:1],
    lambda a: a[..., None],
    lambda a: a.T,
    lambda a: a[::-1],
    lambda a: a.tolist(),
    lambda a: iter(a.tolist()),
    lambda a: dict(enumerate(a.tolist())),
    lambda a: a.astype(str),
    lambda a: a.astype("S"),
    lambda a: put(a, None),
    lambda a: put(a, np.nan),
    lambda a: put(a, object()),
    lambda a: np.full(a.shape, np.nan),
    lambda a: np.full(a.shape, np.inf),
    lambda a: np.full(a.shape, 1e300),
    lambda a: np.full(a.shape, 2**63, dtype=np.uint64),
    lambda a: -1 - np.abs(real(a)),
    lambda a: np.linspace(0, 1, a.size).reshape(a.shape),
    lambda a: np.ones(a.shape, dtype=bool),
    lambda a: np.repeat(a, 2, axis=0),
    lambda a: real(a) + 1j,
    lambda a: real(a).astype(">f8"),
    lambda a: real(a).astype("int64").astype("datetime64[s]"),
    lambda a: np.ma.masked_array(real(a), mask=np.arange(a.size).reshape(a.shape) % 2),
    lambda a: scipy.sparse.csr_matrix(np.atleast_2d(real(a))),
    lambda a: torch.as_tensor(real(a).copy()).float().requires_grad_(),
    lambda a: torch.as_tensor(real(a).copy()).float().to_sparse(),
    lambda a: torch.as_tensor(real(a).copy()).to("meta"),
    lambda a: pd.DataFrame(a) if a.ndim == 2 else pd.Series(a, index=[0] * len(a)),
    lambda a: pd.Categorical(a.reshape(-1).astype(str)),
]


class Content(bytes):
    """What a file holds."""


def spoil_content(content, rng):
    at, end = sorted(rng.randrange(len(content)) for _ in range(2))
    flipped = bytearray(content)
    flipped[at] ^= 1 << rng.randrange(8)
    noise = rng.randbytes(rng.randrange(1, 40))
    other = [content[:at], content[at:end], content * 2, b"", b"{}", rng.randbytes(200)]
    return rng.choice([bytes(flipped), content[:at] + noise + content[at + len(noise) :], *other])


def spoil(value, rng):
    """Return something that may stand in the place of a valid value by mistake."""
    if isinstance(value, Content):
        return spoil_content(bytes(value), rng)
    if isinstance(value, np.ndarray) and rng.random() < 0.8:
        return rng.choice(ARRAY_CHANGES)(value)
    if isinstance(value, dict) and rng.random() < 0.6:
        return {**value, rng.choice([*value, "other", 1]): rng.choice(ODD)}
    if isinstance(value, list | tuple) and rng.random() < 0.6:
        return rng.choice([value[1:], value * 2, (*value, rng.choice(ODD)), set(map(str, value))])
    return copy.copy(rng.choice(ODD))


# valid calls -------------------------------------------------------------------------------------


@functools.cache
def pickled():
    params = {"max_epochs": 1, "keep_forgotten": True, "random_state": 0}
    unlearner = grmu_sk.FineTuneUnlearner(make_net(max_epochs=1), **params)
    save(unlearner.fit(TABLE.X, TABLE.y, TABLE.a).unlearn([2, 9]), FOLDER / "model")
    unlearner.predict(TABLE.X)  # leaves the net in evaluation mode
    audit.DeletionLedger(FOLDER / "start.ledger").add(["3", "4"], reason="letter")
    return pickle.dumps(unlearner)


def fitted():
    return pickle.loads(pickled())


def fresh(**params):
    net = make_net(max_epochs=1)
    return grmu_sk.FineTuneUnlearner(net, max_epochs=1, random_state=0, **params)


def read(reader, name):
    """A reader of a file whose content is an argument."""
    pickled()

    def call(content):
        (FOLDER / "spoilt").write_bytes(content)
        (FOLDER / "spoilt").chmod(0o600)
        return reader(FOLDER / "spoilt")

    return call, {"content": Content((FOLDER / name).read_bytes())}


def a_share(result):
    shares = np.asarray(result, dtype=float)
    assert (np.isnan(shares) | ((shares >= 0) & (shares <= 1))).all(), result


def probabilities(result):
    assert np.allclose(np.sum(result, axis=-1), 1) and (np.asarray(result) >= 0).all(), result


def finite_model(result):
    assert all(torch.isfinite(weight).all() for weight in result.net_.module_.parameters())


def columns():
    wrong = np.where(np.arange(48) % 5 == 0, 1 - TABLE.y, TABLE.y)
    return {"y_true": TABLE.y.copy(), "y_pred": wrong, "groups": TABLE.a.copy()}


def losses(seed=0):
    return np.random.default_rng(seed).exponential(size=12)


def rows():
    return {"X": TABLE.X.copy(), "y": TABLE.y.copy(), "groups": TABLE.a.copy()}


def scored(scorer):
    unlearner = fitted()
    return lambda X, y, groups: scorer(unlearner, X, y, groups=groups), rows(), unlearner


def of_model(method, **arguments):
    unlearner = fitted()
    return getattr(unlearner, method), arguments, unlearner


def report(X, y, groups, n):
    return audit.measure(fitted(), X, y, groups, n_bootstrap=2, confidence=n).metrics


def folds(X, y, groups, forget):
    cv = model_selection.UnlearningStratifiedKFold(2)
    return list(cv.split(X, y, groups, forget=forget))


PAIRS = {"forget_groups": [(1, 0)]}
GAP = {name: losses(seed)[:3] / 9 for seed, name in enumerate(("RA", "UA", "TA"))}
TABLE_OF_SCORES = {"values": GAP, "gold": GAP, "metrics": ("RA", "UA", "TA")}
#: name: (what makes a valid call: function, arguments, subject that an error leaves as it was),
#: check of a result
TARGETS = {
    "fit": (
        lambda: (lambda u: (u.fit, rows() | {"forget": TABLE.y > 5}, u))(fresh()),
        finite_model,
    ),
    "unlearn": (lambda: of_model("unlearn", forget=np.array([1, 5])), finite_model),
    "unlearn ids": (lambda: of_model("unlearn", ids=np.array([1, 5])), finite_model),
    "unlearn data": (lambda: of_model("unlearn", forget=[1, 5], **rows()), finite_model),
    "parameters": (
        lambda: (
            lambda **params: fresh().set_params(**params).fit(**rows()).unlearn([1]),
            {"lr": 0.1, "batch_size": 8, "reweight": True, "random_state": 0, "max_epochs": 1},
        ),
        finite_model,
    ),
    "predict_proba": (lambda: of_model("predict_proba", X=TABLE.X.copy()), probabilities),
    "training_rows": (lambda: of_model("training_rows", which="remaining"), None),
    "save": (
        lambda: (lambda u: (functools.partial(save, u), {"path": FOLDER / "saved"}, u))(fitted()),
        None,
    ),
    "load": (lambda: read(lambda path: load(path, make_net()), "model"), finite_model),
    "ledger file": (lambda: read(audit.DeletionLedger, "start.ledger"), None),
    "ledger add": (
        lambda: (
            audit.DeletionLedger(shutil.copy(FOLDER / "start.ledger", FOLDER / "a.ledger")).add,
            {"ids": ["5", "6"], "reason": "why"},
        ),
        None,
    ),
    "group_accuracies": (lambda: (metrics.group_accuracies, columns()), a_share),
    "ga": (lambda: (metrics.group_accuracy_score, columns() | PAIRS), a_share),
    "eo": (lambda: (metrics.equalized_odds_gap, columns() | PAIRS | {"pos_label": 1}), a_share),
    "dp": (lambda: (metrics.demographic_parity_gap, columns() | PAIRS), a_share),
    "average gap": (lambda: (metrics.average_gap_score, copy.deepcopy(TABLE_OF_SCORES)), None),
    "attack": (
        lambda: (
            metrics.membership_inference_efficacy,
            {"member_losses": losses(), "nonmember_losses": losses(1), "forget_losses": losses(2)},
        ),
        a_share,
    ),
    "sampler": (
        lambda: (
            grmu_sk.ReweightSampler().fit(TABLE.y, groups=TABLE.a).transform,
            {"X": TABLE.y.copy(), "groups": TABLE.a.copy()},
        ),
        probabilities,
    ),
    "forget set": (
        lambda: (
            grmu_sk.sample_forget_set,
            {"y": TABLE.y.copy(), "groups": TABLE.a.copy(), "forget_groups": (1, 0), "ratio": 0.5},
        ),
        lambda found: len(np.unique(found)) == len(found) or 1 / 0,
    ),
    "MINE": (
        lambda: (grmu_sk.MINE(hidden=4, max_updates=2).fit, {"X": TABLE.X.copy(), "y": TABLE.y}),
        lambda mine: finite_or_fail(mine.score(TABLE.X, TABLE.y)),
    ),
    "folds": (lambda: (folds, rows() | {"forget": np.arange(48) % 3 == 0}), None),
    "scorer": (lambda: scored(scorers.ga_scorer), a_share),
    "measure": (lambda: (report, rows() | {"n": 0.9}), None),
    "residue": (
        lambda: (
            audit.scan_residue,
            {"path_or_object": {"cache": TABLE.X}, "rows": TABLE.X[:3].copy(), "n_rows": 48},
        ),
        None,
    ),
}


def finite_or_fail(value):
    assert np.isfinite(value), value


# the run -----------------------------------------------------------------------------------------


class TooLong(BaseException):
    """Not an Exception, so that nobody takes it for one of theirs."""


def stop(*_):
    raise TooLong(f"took more than {SECONDS} s")


def try_once(name, rng):
    """Make a call with one or two broken arguments; return what is wrong, or None."""
    make, check = TARGETS[name]
    function, arguments, *subject = make()
    names = rng.sample(sorted(arguments), k=min(rng.choice([1, 1, 2]), len(arguments)))
    try:
        arguments.update({key: spoil(arguments[key], rng) for key in names})
    except (TypeError, ValueError, IndexError, OverflowError):
        return None  # not every change can be made to every value
    before, state = pickle.dumps(subject), torch.get_rng_state()
    shown = {key: repr(arguments[key])[:80] for key in names}
    try:
        result = function(**arguments)
    except Exception:
        if pickle.dumps(subject) != before:
            return f"{name} with {shown} failed and left the object changed"
    except TooLong as error:
        return f"{name} with {shown} {error}"
    else:
        try:
            if check is not None:
                check(result)
        except Exception:
            return f"{name} with {shown}: a wrong result\n{traceback.format_exc(limit=3)}"
    if not torch.equal(torch.get_rng_state(), state):
        return f"{name} with {shown} used up the caller's random numbers"
    return None


def break_arguments(n_inputs, seed):
    """Return what went wrong in so many calls."""
    rng, broken = random.Random(seed), []
    before = signal.signal(signal.SIGALRM, stop)
    try:
        with warnings.catch_warnings(), mock.patch.object(sys, "stderr"):
            warnings.simplefilter("ignore")
            for number in range(n_inputs):
                signal.alarm(SECONDS)
                broken.append(try_once(list(TARGETS)[number % len(TARGETS)], rng))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
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
