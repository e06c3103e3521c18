"""Reference models: what nets answer that were, and were not, trained on a row."""

from __future__ import annotations

import hashlib
import os
import warnings
from importlib.metadata import version
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet
from tqdm import tqdm

from ..base import BaseUnlearner
from ..default_net import default_net
from ..groups import GroupEncoder
from ..training import copy_net
from ..unlearners import RetrainUnlearner
from ..utils._digest import add
from ..utils._random import RandomState, derive_seed, isolated_rng, resolve_seed
from ..utils.arguments import check_types
from ._candidates import KINDS, Candidates, assign_halves, choose_candidates
from ._net_description import net_digest
from ._reference_cache import ReferenceCache
from ._row_set import RowSet, join
from ._signals import log_odds_of

__all__ = ["ReferenceModels"]

_FORMAT = b"1"


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
        and never its weights; its ``module`` must be a class or a function. None takes the default
        net.
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
        what is missing. It is found again by a digest of the rows, the net with its code and
        initial weights, the seed, and the versions of torch and grmu_sk.
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
        check_types(ReferenceModels.__init__, locals())
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
            If a file of the cache is damaged or belongs to something else; it is replaced. Also
            if non-members equal training rows, or forgotten rows equal remaining ones.
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
        cache = self._open_cache(pool, digests, seed)
        answers: list[NDArray[np.float64]] = []
        n_trained = 0
        numbers = tqdm(range(self.n_models), desc="reference models", unit="model", disable=None)
        for number in numbers:
            answer = None if cache is None else cache.read(number, is_in[number])
            if answer is None:
                training = np.concatenate([np.ones(len(always), dtype=bool), is_in[number]])
                model = self._train(pool, training, derive_seed(seed, 2, number))
                answer = log_odds_of(model, questions.X, questions.y)
                n_trained += 1
                if cache is not None:
                    cache.write(number, is_in[number], answer)
            answers.append(answer)
        self.log_odds_, self.is_in_ = np.stack(answers), is_in
        self.n_trained_ = n_trained
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

    def _open_cache(
        self, pool: RowSet, digests: dict[str, str], seed: int
    ) -> ReferenceCache | None:
        if self.cache is None:
            return None
        key = hashlib.sha256()
        settings = (seed, self.reweight, self.remaining_per_group)
        add(key, "format", _FORMAT)
        add(key, "settings", repr(settings).encode())
        add(key, "versions", (version("torch") + " " + version("grmu_sk")).encode())
        for kind, digest in digests.items():
            add(key, kind, digest.encode())
        add(key, "net", self._net_digest(pool, seed).encode())
        return ReferenceCache(self.cache, key.hexdigest())

    def _net_digest(self, pool: RowSet, seed: int) -> str:
        n_classes = len(GroupEncoder().fit(pool.y).classes_)
        net = default_net(pool.X, n_classes) if self.net is None else copy_net(self.net)
        with isolated_rng(derive_seed(seed, 2, 0), net.device):
            return net_digest(net.initialize())


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
