"""Reference models: predictions of nets that were, and were not, trained on a row."""

from __future__ import annotations

import copy
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import joblib
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_consistent_length
from skorch import NeuralNet
from torch import nn
from torch.utils.data import ConcatDataset, Dataset
from tqdm import tqdm

from ..base import BaseUnlearner
from ..classifiers import fresh_classifier, is_plain_classifier
from ..fingerprints import describe, digest, versions
from ..groups import GroupEncoder, Pair, attribute_column
from ..net_copies import copy_net
from ..nets import net_of_module
from ..randomness import RandomState, derive_seed, resolve_seed
from ..rows import split_item, take_rows
from ..unlearners import RetrainUnlearner
from ..validation import to_array
from .attacks import log_odds_of

KINDS = ("forgotten", "remaining", "nonmembers")


class ReferenceModels:
    """Models trained as the audited one was, each on a random half of the rows in question.

    The rows in question (candidates) are the forgotten rows, some remaining ones, and as many
    held-out rows of the same groups. Each model is trained on half of the candidates of every group
    and on all other remaining rows, so that it has about as many rows of each group as the original
    model, and every candidate is in exactly half of the models. Forgotten and held-out rows are
    treated alike; whatever tells them apart later is in the audited model.

    Of a model only what it answers about the candidates is kept. The models depend on the rows and
    on the net, but not on an unlearning method: fit once, audit many.

    **Privacy.** These models are trained on forgotten rows, by intent. This object and its cache
    hold no row and no weight, but for every candidate a few numbers, which show how strongly it is
    memorised: keep the files apart from the model, and delete them when the audit is done. Nothing
    of it is left in the unlearner.

    Parameters
    ----------
    estimator : BaseUnlearner, skorch net, torch module, classifier, FrozenEstimator or None
        What is trained: the net or classifier of an unlearner, or an unfitted one. Only its
        parameters are used and never its weights: a net that was trained in place is refused. None
        takes the default net.
    n_models : int, default=16
        How many models, the budget of the attacks; even and at least 4.
    reweight : bool, default=False
        Whether each model draws its rows by REWEIGHT, as the gold standard does, towards the mix
        of groups of all remaining rows and candidates.
    remaining_per_group : int, default=100
        How many remaining rows of each group are candidates at most; no more than the group has
        held-out rows.
    cache : str, path-like or None, default=None
        Folder that keeps the answers of each model, so that an interrupted or repeated run trains
        what is missing. They are found again by a digest of the rows, the net with its code and
        parameters, the seed, and versions; a damaged file is made anew. Joblib reads it with
        pickle: take a folder in which nobody else can write, and delete it after the audit.
    random_state : int, RandomState instance or None, default=0
        Seed of the choice of rows and of the models. The caller's random state is never touched.

    Attributes
    ----------
    log_odds_ : ndarray of shape (n_models, n_candidates)
        Log-odds of the true label of each candidate.
    is_in_ : ndarray of bool of shape (n_models, n_candidates)
        Which model was trained on which candidate.

    Raises
    ------
    TypeError
        If a parameter is of another kind.
    ValueError
        If a parameter is out of range.

    See Also
    --------
    audit_unlearning : Uses them.

    Notes
    -----
    Arrays are joined into one in memory, memory maps too; a Dataset is read as it is needed, and
    must give the same inputs each time. Weights of rows (``sample_weight``) play no part.

    References
    ----------
    .. [1] N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis and F. Tramèr, "Membership Inference
       Attacks From First Principles", IEEE Symposium on Security and Privacy, 2022.

    Examples
    --------
    >>> from grmu_sk import NoOpUnlearner
    >>> from grmu_sk.audit import ReferenceModels
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> def rows(which):
    ...     return data.images[which], data.target[which], data.groups[which]
    >>> references = ReferenceModels(None, n_models=4).fit(
    ...     forgotten=rows(data.train[:5]),
    ...     remaining=rows(data.train[5:40]),
    ...     nonmembers=rows(data.validation),
    ... )
    >>> references.is_in_.mean(axis=0).tolist() == [0.5] * references.is_in_.shape[1]
    True
    """

    log_odds_: NDArray[np.float64]
    is_in_: NDArray[np.bool_]
    _candidates: Candidates
    _digests: dict[str, str]

    def __init__(
        self,
        estimator: Any,
        n_models: int = 16,
        *,
        reweight: bool = False,
        remaining_per_group: int = 100,
        cache: str | os.PathLike[str] | None = None,
        random_state: RandomState = 0,
    ) -> None:
        if n_models < 4 or n_models % 2:
            raise ValueError(f"n_models must be even and at least 4, got {n_models!r}.")
        if remaining_per_group < 0:
            raise ValueError(f"remaining_per_group is negative: {remaining_per_group!r}.")
        self.net = _untrained(estimator)
        self.n_models = n_models
        self.reweight = reweight
        self.remaining_per_group = remaining_per_group
        self.cache = cache
        self.random_state = random_state

    def fit(self, forgotten: Any, remaining: Any, nonmembers: Any) -> Self:
        """Train the models, and keep what they answer.

        Parameters
        ----------
        forgotten : tuple of (X, y, groups)
            The rows that were forgotten.
        remaining : tuple of (X, y, groups), or what ``training_rows()`` returns
            The rows that were trained on and stay.
        nonmembers : tuple of (X, y, groups)
            Held-out rows from where the others come from, which no audited model was trained on,
            among them some of each group that has forgotten rows.

        Returns
        -------
        ReferenceModels
            The fitted object. It does not refer to the rows.

        Raises
        ------
        ValueError
            If rows do not fit together, a group has forgotten rows and no non-member, or the net
            cannot be trained anew.

        Warns
        -----
        UserWarning
            If non-members equal training rows, or forgotten rows equal remaining ones.
        """
        return self._train_all(AuditRows(forgotten, remaining, nonmembers))

    def _train_all(self, rows: AuditRows) -> Self:
        _warn_of_duplicates(rows)
        seed = resolve_seed(self.random_state)
        rng = np.random.default_rng(derive_seed(seed, 0))
        candidates = choose_candidates(rows, self.remaining_per_group, rng)
        is_in = assign_halves(candidates.group, self.n_models, derive_seed(seed, 1))
        questions = rows.take(candidates.rows)
        always = np.setdiff1d(np.flatnonzero(rows.kind == 1), candidates.rows)
        pool = rows.take(np.concatenate([always, candidates.rows]))

        def train(number: int) -> NDArray[np.float64]:
            training = np.concatenate([np.ones(len(always), dtype=bool), is_in[number]])
            model = self._train(pool, training, derive_seed(seed, 2, number))
            return log_odds_of(model, questions.X, questions.y)

        key = "" if self.cache is None else self._key(rows.digests, seed)
        # compressed, since the checksum of that shows a damaged file
        memory = joblib.Memory(self.cache, verbose=0, compress=1)
        answer = memory.cache(_answer, ignore=["train"], verbose=0)
        numbers = tqdm(range(self.n_models), desc="reference models", unit="model", disable=None)
        answers = [answer(key, number, is_in[number], train) for number in numbers]
        self.log_odds_, self.is_in_ = np.stack(answers), is_in
        self._candidates, self._digests = candidates, rows.digests
        return self

    def _of_rows(self, rows: AuditRows) -> Self:
        """Train the models if that was not done; refuse to answer for other rows."""
        if not hasattr(self, "log_odds_"):
            return self._train_all(rows)
        if other := [kind for kind in KINDS if rows.digests[kind] != self._digests[kind]]:
            raise ValueError(
                f"The reference models were fitted with other {' and '.join(other)} rows, or in "
                "another order."
            )
        return self

    def _train(self, pool: AuditRows, training: NDArray[np.bool_], seed: int) -> RetrainUnlearner:
        """Train a net on some rows of the pool, from scratch."""
        model = RetrainUnlearner(
            self.net, reweight=self.reweight, random_state=seed, store_data=False
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about groups, said before
            return model.fit(pool.X, pool.y, pool.groups, forget=~training)

    def _key(self, digests: dict[str, str], seed: int) -> str:
        """Return all that the models' answers depend on."""
        of_net = None if self.net is None else [type(self.net), self.net.get_params(deep=False)]
        # objects without parameters are told apart by what they hold
        shown = describe(of_net, lambda value: getattr(value, "__dict__", {"shown": repr(value)}))
        settings = seed, self.reweight, self.remaining_per_group
        return json.dumps([shown, settings, versions(), sorted(digests.items())])


def _answer(
    key: str, number: int, is_in: NDArray[np.bool_], train: Callable[[int], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return what a model answers; the cache knows it by all arguments but ``train``."""
    return train(number)


def _untrained(estimator: Any) -> Any:
    """Return an untrained copy of what an unlearner trains; None for the default net."""
    while isinstance(estimator, BaseUnlearner | FrozenEstimator):
        estimator = estimator.estimator
    if is_plain_classifier(estimator):
        return fresh_classifier(estimator)
    if isinstance(estimator, nn.Module):
        estimator = net_of_module(estimator)
    if not isinstance(estimator, NeuralNet | None):
        raise TypeError("Pass an unlearner or what it trains; of a pipeline pass the last step.")
    return None if estimator is None else copy_net(estimator)


def _warn_of_duplicates(rows: AuditRows) -> None:
    """Warn of rows that are not what they are given as, since an equal row is something else."""
    if isinstance(rows.X, Dataset):  # which is not read for that
        return
    table = rows.X
    if not isinstance(table, pd.DataFrame):
        table = pd.DataFrame(to_array(table, "X").reshape(len(rows.y), -1))
    keys = pd.util.hash_pandas_object(table.assign(label=rows.y), index=False).to_numpy()
    rightly = "forgotten rows equal a remaining row, label included: it may rightly be known."
    weaker = "nonmembers equal a training row, label included: attacks look weaker than they are."
    for own, others, what in ((0, [1], rightly), (2, [0, 1], weaker)):
        is_known = np.isin(keys[rows.kind == own], keys[np.isin(rows.kind, others)])
        if n_equal := is_known.sum():
            warnings.warn(f"{n_equal} of {len(is_known)} {what}", UserWarning, stacklevel=4)


# who trains on whom ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidates:
    """Rows whose membership the reference models vary; no inputs, only where they lie.

    Attributes
    ----------
    rows : ndarray of shape (n_candidates,)
        Where they lie among the rows of the audit.
    kind : ndarray of shape (n_candidates,)
        Index into ``KINDS``.
    group : ndarray of shape (n_candidates,)
        Group number.
    pairs : list of tuple
        The pair (y, a) of each group number.
    left_out : list of tuple
        Groups with remaining rows and no non-member.
    """

    rows: NDArray[np.int64]
    kind: NDArray[np.int64]
    group: NDArray[np.int64]
    pairs: list[Pair]
    left_out: list[Pair]

    def of_kind(self, name: str) -> NDArray[np.int64]:
        """Return which candidates are of this kind."""
        return np.flatnonzero(self.kind == KINDS.index(name))


def choose_candidates(
    rows: AuditRows, remaining_per_group: int, rng: np.random.Generator
) -> Candidates:
    """Choose the attacked rows, and as many never-seen rows of the same groups.

    All forgotten rows are attacked, and up to ``remaining_per_group`` remaining rows of each group.
    Each group gets as many non-members as it has attacked rows, if there are so many. Half of a
    group's candidates then are as many rows as the attacked ones, and a model trained on that half
    and on all other remaining rows has as many rows of each group as the original had.

    Parameters
    ----------
    rows : AuditRows
        The rows.
    remaining_per_group : int
        How many remaining rows of a group are attacked at most; no more than it has non-members.
    rng : Generator
        Source of randomness.

    Returns
    -------
    Candidates
        The choice.

    Raises
    ------
    ValueError
        If a group has forgotten rows and no non-member.
    """
    encoder = GroupEncoder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # said when the unlearner was fitted
        encoder.fit(rows.y, rows.groups)
    group, pairs = encoder.transform(rows.y, rows.groups), encoder.pairs_
    chosen, left_out = [], []
    for number, pair in enumerate(pairs):
        of_kind = [np.flatnonzero((group == number) & (rows.kind == kind)) for kind in range(3)]
        n_forgotten, n_remaining, n_unseen = map(len, of_kind)
        if n_forgotten and not n_unseen:
            raise ValueError(f"nonmembers holds no row of the group {pair!r}: add held-out ones.")
        if n_remaining and not n_unseen:
            left_out.append(pair)
        n_remaining = min(n_remaining, remaining_per_group, n_unseen)
        n_matched = min(n_forgotten + n_remaining, n_unseen)
        for found, size in zip(of_kind, (n_forgotten, n_remaining, n_matched), strict=True):
            chosen.append(np.sort(rng.permutation(found)[:size]))
    where = np.concatenate(chosen)
    return Candidates(where, rows.kind[where], group[where], pairs, left_out)


def assign_halves(group: NDArray[np.int64], n_models: int, seed: int) -> NDArray[np.bool_]:
    """Choose the candidates that each reference model trains on.

    Models come in twos: the first trains on a random half of each group's candidates, the second on
    the other half. So every row is in exactly half of the models, and its kind plays no part.

    Parameters
    ----------
    group : ndarray of shape (n_candidates,)
        Group number of each candidate.
    n_models : int
        An even number.
    seed : int
        Seed; the first models stay the same if there are to be more.

    Returns
    -------
    ndarray of bool of shape (n_models, n_candidates)
        Who trains on whom.
    """
    is_in = np.zeros((n_models, len(group)), dtype=bool)
    for pair in range(n_models // 2):
        rng = np.random.default_rng(derive_seed(seed, pair))
        for number in np.unique(group):
            rows = rng.permutation(np.flatnonzero(group == number))
            # the odd one out goes to either model
            is_in[2 * pair, rows[: (len(rows) + rng.integers(2)) // 2]] = True
        is_in[2 * pair + 1] = ~is_in[2 * pair]
    return is_in


# rows as they are given --------------------------------------------------------------------------


class AuditRows:
    """Forgotten, remaining and held-out rows, one after the other.

    Parameters
    ----------
    forgotten, remaining, nonmembers : tuple of (X, y, groups), or a Bunch with these fields
        The rows of each kind.

    Attributes
    ----------
    X : array, DataFrame, tensor or Dataset of length n_samples
        Inputs.
    y : ndarray of shape (n_samples,)
        Labels.
    groups : ndarray of shape (n_samples,)
        Protected attribute; tuples if there were several columns, and empty text if there was none.
    kind : ndarray of shape (n_samples,)
        Index into ``KINDS``.
    digests : dict of str to str
        Of all values of each kind: other rows, or another order, have another one.

    Raises
    ------
    ValueError
        If rows are malformed or do not fit together.
    """

    def __init__(self, forgotten: Any, remaining: Any, nonmembers: Any) -> None:
        given = zip(KINDS, (forgotten, remaining, nonmembers), strict=True)
        parts = {kind: _checked(part, kind) for kind, part in given}
        inputs, labels, groups = zip(*parts.values(), strict=True)
        self.kind = np.repeat(np.arange(3), [len(y) for y in labels])
        self.y = pd.concat(map(pd.Series, labels)).to_numpy()
        self.groups = pd.concat(map(pd.Series, groups)).to_numpy()
        self.X = _joined(inputs)
        self.digests = {kind: _digest(*part) for kind, part in parts.items()}

    def take(self, positions: NDArray[np.int64]) -> AuditRows:
        """Return some of the rows."""
        taken = copy.copy(self)
        for name in ("kind", "y", "groups"):
            setattr(taken, name, getattr(self, name)[positions])
        taken.X = take_rows(self.X, positions)
        return taken


def _checked(given: Any, name: str) -> tuple[Any, NDArray[Any], NDArray[Any]]:
    """Return inputs, labels and attribute of rows; the inputs are not copied."""
    if hasattr(given, "X") and hasattr(given, "y"):
        given = (given.X, given.y, getattr(given, "groups", None))
    if not isinstance(given, tuple | list) or len(given) != 3:
        raise ValueError(f"{name} must be a tuple (X, y, groups); groups may be None.")
    X, labels, groups = given
    if not isinstance(X, Dataset | torch.Tensor | pd.DataFrame):
        X = to_array(X, f"X of {name}")
    y = attribute_column(labels, name=f"y of {name}")
    groups = np.full(len(y), "") if groups is None else groups
    attribute = attribute_column(groups, name=f"groups of {name}")
    check_consistent_length(X, y, attribute)
    return X, y, attribute


_JOINS: dict[type, Any] = {
    Dataset: ConcatDataset,
    pd.DataFrame: partial(pd.concat, ignore_index=True),
    torch.Tensor: torch.cat,
    np.ndarray: np.concatenate,
}


def _joined(inputs: tuple[Any, ...]) -> Any:
    for kind, join in _JOINS.items():
        if all(isinstance(X, kind) for X in inputs):
            return join(inputs)
    raise ValueError(f"Inputs are of several kinds: {[type(X).__name__ for X in inputs]}.")


def _digest(X: Any, y: NDArray[Any], attribute: NDArray[Any]) -> str:
    if isinstance(X, Dataset):
        X = [split_item(X[place])[0] for place in range(len(X))]  # type: ignore[arg-type]
    return digest([("", describe([X, y.tolist(), attribute.tolist()]))])
