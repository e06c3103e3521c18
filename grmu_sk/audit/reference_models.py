"""Reference models: what nets answer that were, and were not, trained on a row."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Self

import joblib
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet
from torch.utils.data import ConcatDataset, Dataset, Subset
from tqdm import tqdm

from ..base import BaseUnlearner
from ..default_net import default_net
from ..fingerprints import describe, digest, tensor_bytes, weights
from ..groups import GroupEncoder, Pair, attribute_column
from ..randomness import RandomState, derive_seed, isolated_rng, resolve_seed
from ..training import copy_net
from ..unlearners import RetrainUnlearner
from ..utils.arguments import to_array
from .attacks import log_odds_of

__all__ = ["ReferenceModels"]

KINDS = ("forgotten", "remaining", "nonmembers")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


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
    hold no row and no weight, but for every candidate a few numbers from which can be told how it
    is memorised. They are material for the audit: keep them apart from the model, and delete them
    when it is done. Nothing of them is left in the unlearner.

    Parameters
    ----------
    estimator : BaseUnlearner, skorch net, FrozenEstimator or None
        Whose net is trained: that of an unlearner, or an unfitted net. Only its parameters are used
        and never its weights: what was trained in place is refused. None takes the default net.
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
        initial weights, the seed, and the versions of torch and grmu_sk; a damaged file is made
        anew. Joblib reads it with pickle: take a folder in which nobody else can write.
    random_state : int, RandomState instance or None, default=0
        Seed of the choice of rows and of the models. The caller's random state is never touched.

    Attributes
    ----------
    log_odds_ : ndarray of shape (n_models, n_candidates)
        Log-odds of the true label of each candidate.
    is_in_ : ndarray of bool of shape (n_models, n_candidates)
        Which model was trained on which candidate.
    n_trained_ : int
        How many models were trained, and not found in the cache.

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
    n_trained_: int
    _candidates: Candidates
    _digests: dict[str, str]

    def __init__(
        self,
        estimator: BaseUnlearner | NeuralNet | FrozenEstimator | None,
        n_models: int = 16,
        *,
        reweight: bool = False,
        remaining_per_group: int = 100,
        cache: str | os.PathLike[str] | None = None,
        random_state: RandomState = 0,
    ) -> None:
        if n_models < 4 or n_models % 2:
            raise ValueError(
                f"n_models must be an even number of at least 4, got {n_models!r}: models come in "
                "twos, which train on opposite halves."
            )
        if remaining_per_group < 0:
            raise ValueError(
                f"remaining_per_group must not be negative, got {remaining_per_group!r}."
            )
        self.net = _untrained(estimator)
        self.n_models = n_models
        self.reweight = reweight
        self.remaining_per_group = remaining_per_group
        self.cache = cache
        self.random_state = random_state

    @property
    def is_fitted(self) -> bool:
        """Whether the models have been trained."""
        return hasattr(self, "log_odds_")

    def fit(self, forgotten: Any, remaining: Any, nonmembers: Any) -> Self:
        """Train the models, or read from the cache what they answered.

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
        rows = check_rows(forgotten, remaining, nonmembers)
        _warn_of_duplicates(rows)
        seed = resolve_seed(self.random_state)
        candidates = self._choose(rows, derive_seed(seed, 0))
        is_in = assign_halves(candidates.group, self.n_models, derive_seed(seed, 1))
        questions = candidate_rows(rows, candidates)
        attacked = candidates.position[candidates.of_kind("remaining")]
        always = rows["remaining"].take(np.setdiff1d(np.arange(len(rows["remaining"])), attacked))
        pool = questions if len(always) == 0 else join([always, questions])
        digests = {kind: part.digest() for kind, part in rows.items()}
        trained: list[int] = []

        def train(number: int) -> NDArray[np.float64]:
            trained.append(number)
            training = np.concatenate([np.ones(len(always), dtype=bool), is_in[number]])
            model = self._train(pool, training, derive_seed(seed, 2, number))
            return log_odds_of(model, questions.X, questions.y)

        key = "" if self.cache is None else self._key(pool, digests, seed)
        # compressed, since the checksum of that shows a damaged file
        memory = joblib.Memory(self.cache, verbose=0, compress=1)
        answer = memory.cache(_answer, ignore=["train"], verbose=0)
        numbers = tqdm(range(self.n_models), desc="reference models", unit="model", disable=None)
        answers = [answer(key, number, is_in[number], train) for number in numbers]
        self.log_odds_, self.is_in_ = np.stack(answers), is_in
        self.n_trained_ = len(trained)
        self._candidates, self._digests = candidates, digests
        return self

    def check_same_rows(self, rows: dict[str, RowSet]) -> None:
        """Raise ValueError if the models were fitted with other rows.

        Parameters
        ----------
        rows : dict of str to RowSet
            The rows of an audit, by kind.

        Raises
        ------
        ValueError
            Which rows differ.
        """
        other = [kind for kind, part in rows.items() if part.digest() != self._digests[kind]]
        if other:
            raise ValueError(
                f"The reference models were fitted with other {' and '.join(other)} rows, or with "
                "the same in another order. Give the audit the very rows, or fit anew. (Inputs "
                "that change from one reading to the next, by augmentation, cannot be audited.)"
            )

    def _choose(self, rows: dict[str, RowSet], seed: int) -> Candidates:
        everything = join([rows[kind] for kind in KINDS])
        encoder = GroupEncoder()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # said when the unlearner was fitted
            encoder.fit(everything.y, everything.groups)
        numbers = encoder.transform(everything.y, everything.groups)
        ends = np.cumsum([len(rows[kind]) for kind in KINDS])
        by_kind = dict(zip(KINDS, np.split(numbers, ends[:-1]), strict=True))
        rng = np.random.default_rng(seed)
        return choose_candidates(by_kind, encoder.pairs_, self.remaining_per_group, rng)

    def _train(self, pool: RowSet, training: NDArray[np.bool_], seed: int) -> RetrainUnlearner:
        """Train a net on some rows of the pool, from scratch."""
        model = RetrainUnlearner(
            self.net, reweight=self.reweight, random_state=seed, store_data=False
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about groups, said before
            return model.fit(pool.X, pool.y, pool.groups, forget=~training)

    def _key(self, pool: RowSet, digests: dict[str, str], seed: int) -> str:
        """Return a digest of all that the models' answers depend on."""
        versions = version("torch"), version("grmu_sk")
        settings = (
            seed,
            self.reweight,
            self.remaining_per_group,
            *versions,
            sorted(digests.items()),
        )
        return f"{settings!r} {self._net_digest(pool, seed)}"

    def _net_digest(self, pool: RowSet, seed: int) -> str:
        n_classes = len(GroupEncoder().fit(pool.y).classes_)
        net = default_net(pool.X, n_classes) if self.net is None else copy_net(self.net)
        with isolated_rng(derive_seed(seed, 2, 0), net.device):
            return _digest_of_net(net.initialize())


def _answer(
    key: str, number: int, is_in: NDArray[np.bool_], train: Callable[[int], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return what a model answers; the cache knows it by all arguments but ``train``."""
    return train(number)


def _untrained(estimator: Any) -> NeuralNet | None:
    """Return a copy without weights of an unlearner's net; None for the default net."""
    if isinstance(estimator, BaseUnlearner):
        estimator = estimator.estimator
    if isinstance(estimator, FrozenEstimator):
        inner = estimator.estimator
        estimator = inner.net_ if isinstance(inner, BaseUnlearner) else inner
    if estimator is None:
        return None
    if not isinstance(estimator, NeuralNet):
        raise TypeError(
            "Reference models are trained from an unlearner, a skorch net or a FrozenEstimator "
            f"around one, got {estimator!r}. Of a pipeline pass the last step, with rows that "
            "went through the steps before."
        )
    return copy_net(estimator)


def _warn_of_duplicates(rows: dict[str, RowSet]) -> None:
    """Warn of rows that are not what they are given as, since an equal row is something else."""
    keys = {kind: part.keys() for kind, part in rows.items()}
    forgotten, remaining, nonmembers = (keys[kind] or [] for kind in KINDS)
    known = set(remaining)
    again = sum(key in known for key in forgotten)
    if again:
        warnings.warn(
            f"{again} of {len(forgotten)} forgotten rows equal a remaining row, label included: "
            "the model may rightly know them, and an attack cannot tell that from a leak.",
            UserWarning,
            stacklevel=3,
        )
    known |= set(forgotten)
    seen = sum(key in known for key in nonmembers)
    if seen:
        warnings.warn(
            f"{seen} of {len(nonmembers)} nonmembers equal a training row, label included: models "
            "know them, so that attacks look weaker than they are. Leave them out.",
            UserWarning,
            stacklevel=3,
        )


def check_rows(forgotten: Any, remaining: Any, nonmembers: Any) -> dict[str, RowSet]:
    """Check the rows of an audit.

    Parameters
    ----------
    forgotten, remaining, nonmembers : tuple of (X, y, groups)
        The rows.

    Returns
    -------
    dict of str to RowSet
        By kind.

    Raises
    ------
    ValueError
        If they are malformed or do not fit together.
    """
    given = (forgotten, remaining, nonmembers)
    return {kind: RowSet.from_user(part, kind) for kind, part in zip(KINDS, given, strict=True)}


def candidate_rows(rows: dict[str, RowSet], candidates: Candidates) -> RowSet:
    """Return the candidates themselves, in their order.

    Parameters
    ----------
    rows : dict of str to RowSet
        The rows, by kind.
    candidates : Candidates
        Which of them.

    Returns
    -------
    RowSet
        The rows.
    """
    starts = np.cumsum([0, *(len(rows[kind]) for kind in KINDS)])[:-1]
    everything = join([rows[kind] for kind in KINDS])
    return everything.take(starts[candidates.kind] + candidates.position)


def _digest_of_net(net: NeuralNet) -> str:
    """Return SHA-256 of an initialised net's parameters, code and weights."""
    parts = {"class": _text(type(net))}
    for name, value in sorted(net.get_params(deep=False).items()):
        try:
            parts[f"parameter {name}"] = _text(value)
        except ValueError as error:
            raise ValueError(
                f"The net's parameter {name} cannot be told from another one in the next process "
                f"({error}), so that a cache might hold answers of other nets. Leave cache out, or "
                "give that object a __repr__ that says what it does."
            ) from error
    return digest([*parts.items(), *weights(net)])


def _shown(value: Any) -> dict[str, Any]:
    text = repr(value)
    if _ADDRESS.search(text):
        raise ValueError(f"all that is known of it is {text}")
    return {"shown": text}


def _text(value: Any) -> bytes:
    return json.dumps(describe(value, _shown)).encode()


# who trains on whom ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidates:
    """Rows whose membership the reference models vary; no inputs, only where they lie.

    Attributes
    ----------
    kind : ndarray of shape (n_candidates,)
        Index into ``KINDS``.
    position : ndarray of shape (n_candidates,)
        Row number within the rows of that kind.
    group : ndarray of shape (n_candidates,)
        Group number.
    pairs : list of tuple
        The pair (y, a) of each group number.
    left_out : list of tuple
        Groups with remaining rows and no non-member.
    """

    kind: NDArray[np.int8]
    position: NDArray[np.int64]
    group: NDArray[np.int64]
    pairs: list[Pair]
    left_out: list[Pair]

    def of_kind(self, name: str) -> NDArray[np.int64]:
        """Return which candidates are of this kind."""
        return np.flatnonzero(self.kind == KINDS.index(name))


def choose_candidates(
    groups: dict[str, NDArray[np.int64]],
    pairs: list[Pair],
    remaining_per_group: int,
    rng: np.random.Generator,
) -> Candidates:
    """Choose the attacked rows, and as many never-seen rows of the same groups.

    All forgotten rows are attacked, and up to ``remaining_per_group`` remaining rows of each group.
    Each group gets as many non-members as it has attacked rows, if there are so many. Half of a
    group's candidates then are as many rows as the attacked ones, and a model trained on that half
    and on all other remaining rows has as many rows of each group as the original had.

    Parameters
    ----------
    groups : dict of str to ndarray
        Group number of each row, by kind.
    pairs : list of tuple
        The pair (y, a) of each group number.
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
    chosen: list[tuple[int, Any, int]] = []
    left_out = []
    for number in range(len(pairs)):
        rows = {kind: np.flatnonzero(groups[kind] == number) for kind in KINDS}
        n_forgotten, n_unseen = len(rows["forgotten"]), len(rows["nonmembers"])
        if n_forgotten and not n_unseen:
            raise ValueError(
                f"nonmembers holds no row of the group {pairs[number]!r}, of which {n_forgotten} "
                "rows are forgotten: there is nothing to compare them with. Add held-out rows of "
                "that group, which no model was trained on."
            )
        if len(rows["remaining"]) and not n_unseen:
            left_out.append(pairs[number])
        n_remaining = min(len(rows["remaining"]), remaining_per_group, n_unseen)
        n_matched = min(n_forgotten + n_remaining, n_unseen)
        for kind, size in zip(KINDS, (n_forgotten, n_remaining, n_matched), strict=True):
            picked = np.sort(rng.permutation(rows[kind])[:size])
            chosen.append((KINDS.index(kind), picked, number))
    sizes = [len(picked) for _, picked, _ in chosen]
    return Candidates(
        kind=np.repeat(np.array([kind for kind, _, _ in chosen], dtype=np.int8), sizes),
        position=np.concatenate([picked for _, picked, _ in chosen]),
        group=np.repeat([number for _, _, number in chosen], sizes),
        pairs=pairs,
        left_out=left_out,
    )


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


@dataclass(frozen=True)
class RowSet:
    """Inputs, labels and protected attribute of some rows.

    Attributes
    ----------
    X : array, DataFrame, tensor or Dataset of length n_samples
        Inputs.
    y : ndarray of shape (n_samples,)
        Labels.
    groups : ndarray of shape (n_samples,) or None
        Protected attribute; tuples if there were several columns.
    """

    X: Any
    y: NDArray[Any]
    groups: NDArray[Any] | None

    @classmethod
    def from_user(cls, given: Any, name: str) -> Self:
        """Check rows given as (X, y, groups), or as a Bunch with these fields.

        Parameters
        ----------
        given : tuple or Bunch
            The rows.
        name : str
            What to call the argument in error messages.

        Returns
        -------
        RowSet
            The rows; X is not copied.

        Raises
        ------
        ValueError
            If it is something else, empty, or the lengths differ.
        """
        if hasattr(given, "X") and hasattr(given, "y"):
            parts = (given.X, given.y, getattr(given, "groups", None))
        elif isinstance(given, tuple | list) and len(given) == 3:
            parts = tuple(given)
        else:
            raise ValueError(
                f"{name} must be a tuple (X, y, groups), or what training_rows() returns; got "
                f"{type(given).__name__}. Without a protected attribute, groups is None."
            )
        X, labels, groups = parts
        if not isinstance(X, Dataset | torch.Tensor | pd.DataFrame):
            X = to_array(X, f"X of {name}")
            if X.ndim < 1:
                raise ValueError(f"X of {name} must have a row for every label, got {X!r}.")
        y = attribute_column(labels, name=f"y of {name}")
        attribute = None if groups is None else attribute_column(groups, name=f"groups of {name}")
        lengths = {"X": len(X), "y": len(y)}
        if attribute is not None:
            lengths["groups"] = len(attribute)
        if len(set(lengths.values())) > 1:
            raise ValueError(f"The parts of {name} differ in length: {lengths}.")
        if len(X) == 0:
            raise ValueError(f"{name} holds no row.")
        return cls(X, y, attribute)

    def __len__(self) -> int:
        return len(self.y)

    def take(self, positions: NDArray[np.int64]) -> Self:
        """Return some of the rows."""
        X = self.X
        if isinstance(X, Dataset):
            X = Subset(X, positions.tolist())
        elif isinstance(X, torch.Tensor):
            X = X[torch.from_numpy(positions).to(X.device)]
        else:
            X = X.iloc[positions] if isinstance(X, pd.DataFrame) else X[positions]
        groups = None if self.groups is None else self.groups[positions]
        return type(self)(X, self.y[positions], groups)

    def keys(self) -> list[bytes] | None:
        """Return a digest of each row, label included; None for a Dataset, which is not read."""
        if isinstance(self.X, Dataset):
            return None
        if isinstance(self.X, pd.DataFrame):
            inputs = pd.util.hash_pandas_object(self.X, index=False).to_numpy()
        else:
            X = self.X.detach().cpu() if isinstance(self.X, torch.Tensor) else self.X
            inputs = np.ascontiguousarray(np.asarray(X).reshape(len(self), -1))
        return [
            hashlib.sha256(row.tobytes() + repr(label).encode()).digest()
            for row, label in zip(inputs, self.y.tolist(), strict=True)
        ]

    def digest(self) -> str:
        """Return a digest of all values: other rows, or another order, have another one."""
        groups = None if self.groups is None else self.groups.tolist()
        return str(joblib.hash([_plain(self.X), self.y.tolist(), groups], hash_name="sha1"))


def _plain(X: Any) -> Any:
    """Return inputs as arrays, in which joblib tells values, types and shapes apart."""
    if isinstance(X, Dataset):
        items = (X[position] for position in range(len(X)))  # type: ignore[arg-type]
        return [_plain(item[0] if isinstance(item, tuple) else item) for item in items]
    if isinstance(X, pd.DataFrame | dict):
        return [(name, _plain(values)) for name, values in X.items()]
    if isinstance(X, torch.Tensor):
        return tensor_bytes(X)
    return np.asarray(X)


def join(parts: Sequence[RowSet]) -> RowSet:
    """Return the rows of several sets, one after the other.

    Parameters
    ----------
    parts : sequence of RowSet
        The sets.

    Returns
    -------
    RowSet
        All rows.

    Raises
    ------
    ValueError
        If inputs are of different kinds or shapes, or only some have groups.
    """
    if len({part.groups is None for part in parts}) > 1:
        raise ValueError(
            "Some of the rows come with groups and some without: give a protected attribute for "
            "all of them or for none."
        )
    y = pd.concat([pd.Series(part.y) for part in parts]).to_numpy()
    groups = None
    if parts[0].groups is not None:
        groups = pd.concat([pd.Series(part.groups) for part in parts]).to_numpy()
    return RowSet(_joined_inputs([part.X for part in parts]), y, groups)


def _joined_inputs(inputs: list[Any]) -> Any:
    for kind in (Dataset, pd.DataFrame, torch.Tensor):
        are = [isinstance(X, kind) for X in inputs]
        if any(are) and not all(are):
            raise ValueError(
                f"Some inputs are a {kind.__name__} and some are not: "
                f"{[type(X).__name__ for X in inputs]}. Give all of them as one kind."
            )
    if isinstance(inputs[0], Dataset):
        return ConcatDataset(inputs)
    if isinstance(inputs[0], pd.DataFrame):
        if len({tuple(X.columns) for X in inputs}) > 1:
            raise ValueError("The tables of inputs differ in their columns.")
        return pd.concat(inputs, ignore_index=True)
    shapes = {tuple(X.shape[1:]) for X in inputs}
    if len(shapes) > 1:
        raise ValueError(f"The inputs' rows differ in shape: {sorted(shapes)}.")
    if isinstance(inputs[0], torch.Tensor):
        return torch.cat(inputs)
    return np.concatenate(inputs)
