"""What all methods have in common: rows, groups and requests, and the life of the model.

The first half of :class:`BaseUnlearner` validates and encodes rows, remembers which is where and
drops what is forgotten. The second half, from the heading on what is trained, is about the net.
"""

from __future__ import annotations

import os
import warnings
from abc import ABCMeta, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch, check_consistent_length
from sklearn.utils.validation import _num_samples, check_is_fitted
from skorch import NeuralNet, NeuralNetBinaryClassifier
from skorch.history import History
from torch import nn

from .checkpoint import UnlearningCheckpoint, resumable
from .distributed import refuse_several_processes
from .fingerprints import columns_digests, describe, digest, rows_digests, versions, weights
from .groups import GroupEncoder, Pair
from .loading import collate_of, inputs_near, split_for_validation
from .net_copies import (
    check_fresh_weights,
    copy_net,
    fresh_net,
    initialized,
    input_dtype,
    is_trained_in_place,
    named_weights,
    parts_of,
    readable,
    refuse_hidden_weights,
    same_weights,
)
from .nets import default_net, net_of_module
from .outputs import (
    first_output,
    is_single_logit,
    log_probabilities,
    predicted_columns,
    run_of,
)
from .parameters import WithParameters, parameter
from .randomness import RandomState, derive_seed, isolated_rng, resolve_seed
from .reweight import group_balance_weights
from .rows import (
    InputRows,
    Rows,
    TrainingRows,
    evenly_spaced,
    is_lazy,
    take_rows,
)
from .sample_ids import SampleIds
from .training import Phase, Progress, forward, train
from .validation import (
    check_forget_mask,
    check_forget_rows,
    check_inputs,
    check_same_index,
    check_sample_weight,
    check_targets,
    unchanged_on_error,
)

__all__ = ["BaseUnlearner", "Request"]

#: How to say what the outputs of a trained net mean.
_SAY_THE_ORDER = "set net.classes to the labels in the order of its outputs, before wrapping it."
_NOT_HELD = "The training data is needed and not held (store_data=False, or it was not saved)."

# The log-probabilities that a net gives rows, and their class numbers.
_Answers = tuple[torch.Tensor, torch.Tensor]
# Rows that a net's answers are looked at on; and how many say something about all such rows.
N_LOOKED_AT, N_TELLING = 1000, 30


@dataclass
class Request:
    """One deletion request, as a method sees it.

    Attributes
    ----------
    net : NeuralNet
        The net to change: an initialised copy with a new optimizer and an empty history.
    data : TrainingRows
        The rows that are still there, those of this request included.
    forget : ndarray
        Row numbers to forget now.
    retain : ndarray
        Row numbers that stay, less those the net's ``train_split`` keeps for validation.
    group_counts : ndarray of shape (n_groups,)
        Rows of each group in the data of ``fit``.
    pairs : list of tuple
        The pair (y, a) of each group number.
    validation : Dataset or None
        What the net's validation callbacks look at.
    progress : callable or None
        What to hand to ``grmu_sk.training.train``, so that a killed request can go on.
    """

    net: NeuralNet
    data: TrainingRows
    forget: Rows
    retain: Rows
    group_counts: NDArray[np.int64]
    pairs: list[Pair]
    validation: Any = None
    progress: Progress | None = None

    @property
    def train(self) -> Rows:
        """Row numbers of both, ascending."""
        return np.union1d(self.forget, self.retain)

    @property
    def n_groups(self) -> int:
        """Number of pairs (y, a)."""
        return len(self.pairs)

    def trained(self, phases: list[Phase], epochs: int) -> NeuralNet:
        """Return the net after these phases, see ``grmu_sk.training.train``."""
        others = {"validation": self.validation, "progress": self.progress}
        return train(self.net, self.data, phases, epochs=epochs, **others)

    def retain_weights(self, reweight: bool | str) -> NDArray[np.float64] | None:
        """Return the probability with which each row in ``retain`` is drawn, with replacement.

        Parameters
        ----------
        reweight : bool or "uniform"
            The parameter of that name.

        Returns
        -------
        ndarray of shape (len(retain),) or None
            None means that each row is seen once an epoch, without replacement.

        Raises
        ------
        ValueError
            If REWEIGHT has no row of a group left to draw.
        """
        if reweight == "uniform":
            return np.full(len(self.retain), 1 / len(self.retain))
        if not reweight:
            return None
        groups = self.data.g[self.data.positions(self.retain)].numpy()
        return group_balance_weights(self.group_counts, groups, self.pairs)


class BaseUnlearner(
    WithParameters, ClassifierMixin, MetaEstimatorMixin, BaseEstimator, metaclass=ABCMeta
):
    """Base class of all unlearning methods.

    A method subclasses this and says, in :meth:`_unlearn`, how a net is changed so that it
    forgets. Everything else is here: validation, encoding of labels and groups, which row is
    where, ids, seeds, atomicity, what must not be remembered, and the life of the net.

    Parameters
    ----------
    estimator : skorch net, FrozenEstimator or None, default=None
        The net to train: an unfitted :class:`skorch.NeuralNetClassifier` (or subclass). Wrapped
        in :class:`sklearn.frozen.FrozenEstimator`, a trained net is taken as it is and ``fit``
        trains nothing. None gives a small default net.
    random_state : int, RandomState instance or None, default=None
        Seed of weights, batches and draws. The caller's random state is never touched.
    store_data : bool, default=True
        Whether to keep a reference to the training rows, for ``unlearn``. With False they must be
        given to ``unlearn`` again. Forgotten rows are dropped in either case.
    keep_forgotten : bool, default=False
        Whether to keep forgotten rows in the object. For evaluation only: the object and its
        pickle then contain the data that was to be forgotten.

    Attributes
    ----------
    net_ : skorch net
        The net that predicts.
    history_ : skorch.history.History
        A row for each epoch and phase, over all runs.
    classes_ : ndarray of shape (n_classes,)
        Target labels.
    forget_idx_, remaining_idx_ : ndarray
        Row numbers of ``fit`` that are forgotten, and that remain.
    forget_groups_ : list of tuple
        The pairs (y, attribute) of forgotten rows.
    seed_ : int
        The seed used.
    n_features_in_ : int
        Size of the second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, if X was a DataFrame.
    """

    __metadata_request__fit = {"groups": True, "forget": True, "sample_id": True}

    estimator: Any = parameter(None, kw_only=False)
    random_state: RandomState = parameter(None, "random_state")
    store_data: bool = parameter(True, "boolean")
    keep_forgotten: bool = parameter(False, "boolean")

    #: Settings a fair comparison tries on validation rows: lists of values, by parameter.
    search_grid: ClassVar[dict[str, list[Any]]] = {}
    #: Whether the method starts from the trained net; if not, ``fit`` with ``forget`` skips it.
    _needs_trained_net = True
    #: Whether the method builds the net anew, with the weights that it was given.
    _needs_fresh_weights = False
    #: Whether the method takes any scikit-learn classifier in place of a net.
    _takes_any = False
    #: Whether the method can take over a net that was trained elsewhere.
    _accepts_trained_net = True
    #: Whether unlearning changes the net at all; False for a control that does nothing.
    _changes_net = True
    #: Whether some weights of the trained net stay as they are, by the method's own definition.
    _keeps_weights = False
    #: Whether weights that never saw a row to forget stay as they are.
    _keeps_unaffected_weights = False
    #: Phases in which the method reads rows that are to be forgotten; no other may.
    _phases_that_read_forgotten: ClassVar[tuple[str, ...]] = ()

    # what a method says ------------------------------------------------------------------------

    @abstractmethod
    def _unlearn(self, request: Request) -> NeuralNet:
        """Return a net that has forgotten; ``request.net`` may be changed and returned."""

    def _train(self, net: NeuralNet, data: TrainingRows) -> None:
        """Train the net in ``fit``, as skorch does; one that is made of several, each by itself."""
        rows, validation = split_for_validation(net, data, data.rows)
        phase = Phase("fit", rows, own_order=True)
        train(net, data, [phase], epochs=net.max_epochs, validation=validation)

    def _net_parameters(self) -> dict[str, Any]:
        """Return the net's parameters that an unlearning run sets (a learning rate, say)."""
        return {}

    @property
    def _needs_groups(self) -> bool:
        """Whether the method needs protected attributes to work."""
        return bool(getattr(self, "reweight", False)) and self.reweight != "uniform"

    def _checked(self, X: Any, reset: bool) -> Any:
        """Return inputs that the model can read, or raise ValueError."""
        return check_inputs(self, X, reset=reset)

    def _check_parameters(self) -> None:
        """Raise ValueError if parameters are out of range; called before any work."""
        self._validate_params()

    # fit ---------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        groups: Any = None,
        *,
        forget: ArrayLike | None = None,
        sample_id: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train the net on all rows, and unlearn at once those marked in ``forget``.

        Parameters
        ----------
        X : array-like, DataFrame, tensor, memory map or torch Dataset of length n_samples
            Training inputs of any rank. A Dataset may return inputs or (input, label) pairs, whose
            label is ignored.
        y : array-like of shape (n_samples,)
            Target labels of any type.
        groups : array-like of shape (n_samples,) or (n_samples, n_attributes), default=None
            Protected attribute of each row; several columns mean their intersection. Do not put
            the label into it: groups are the pairs (y, attribute), and those are built inside.
        forget : bool array-like of shape (n_samples,), default=None
            Mask of rows to unlearn right after training.
        sample_id : array-like of shape (n_samples,), default=None
            A name of each row that no other has, for requests that come later: whole numbers,
            text or UUIDs. It is kept, and saved with the model. None means that rows are known by
            their numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row's loss.

        Returns
        -------
        BaseUnlearner
            The fitted unlearner.

        Raises
        ------
        ValueError
            If an argument has the wrong length, missing values, or asks for something impossible;
            the unlearner is then as it was before.
        FloatingPointError
            If a loss becomes NaN or infinite.
        DistributedError
            If several processes train the net, and another one failed or was given other data.
        """
        with unchanged_on_error(self), self._working_together(is_fitted=False):
            self._check_parameters()
            about_rows = {"groups": groups, "forget": forget, "sample_weight": sample_weight}
            check_same_index({"X": X, "y": y}, {**about_rows, "sample_id": sample_id})
            X = self._checked(X, reset=True)
            rows = np.arange(_num_samples(X))
            labels = check_targets(y, len(rows))
            self._encode_groups(labels, groups)
            data = self._training_rows(X, labels, groups, rows, sample_weight)
            self._group_counts = np.bincount(data.g, minlength=len(self._encoder.pairs_))
            self._given_ids = (
                None if sample_id is None else SampleIds.from_user(sample_id, len(rows))
            )
            to_forget = np.flatnonzero(check_forget_mask(forget, len(rows)))
            if len(to_forget):
                self._require_groups()
            self.seed_ = resolve_seed(self.random_state)
            self._fit_model(data, bool(len(to_forget)))
            self.forget_idx_, self.remaining_idx_ = rows[:0], rows
            self.forget_groups_: list[Pair] = []
            self._n_requests = 0
            self._has_weights = sample_weight is not None
            self._data: TrainingRows | None = data
            if len(to_forget):
                self._forget_rows(to_forget, data)
            else:
                self._hold(data, data)
        return self

    def _encode_groups(self, labels: NDArray[Any], groups: Any) -> None:
        encoder = self._encoder = GroupEncoder().fit(labels, groups)
        if len(encoder.classes_) < 2:
            raise ValueError("y has 1 class, and a classifier needs at least two.")
        if self._is_frozen:
            encoder.classes_ = _in_order_of(self.estimator.estimator, encoder.classes_)
        self.classes_ = encoder.classes_
        self._has_groups = groups is not None

    def _training_rows(
        self,
        X: Any,
        labels: NDArray[Any],
        groups: Any,
        rows: Rows,
        sample_weight: ArrayLike | None,
    ) -> TrainingRows:
        g = torch.from_numpy(self._encoder.transform(labels, groups))
        data = TrainingRows(X, g // len(self._encoder.attributes_), g, rows)
        if sample_weight is not None:
            data.sample_weight = torch.from_numpy(check_sample_weight(sample_weight, len(rows)))
        data.classes = self.classes_
        return data

    def _hold(self, data: TrainingRows, kept: TrainingRows | None) -> None:
        """Keep rows, or else what the data can be known by when it is handed in again."""
        self._data = kept if self.store_data else None
        is_read_later = self._data is not None and not self._data.is_lazy
        self._digests = None if is_read_later else self._digests_of(data)

    # unlearn -----------------------------------------------------------------------------------

    def unlearn(
        self,
        forget: ArrayLike | None = None,
        *,
        ids: Any = None,
        checkpoint: UnlearningCheckpoint | str | os.PathLike[str] | None = None,
        X: Any = None,
        y: ArrayLike | None = None,
        groups: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Forget rows of the training data.

        Requests add up: rows of earlier requests stay forgotten, and naming one again does
        nothing. If anything fails the unlearner is as it was before the call.

        Parameters
        ----------
        forget : array-like, default=None
            Row numbers of the data given to ``fit``, or a boolean mask of that length.
        ids : array-like, default=None
            In place of ``forget``: ids of rows as ``fit`` was given them in ``sample_id``, or row
            numbers if it was given none.
        checkpoint : UnlearningCheckpoint or path-like, default=None
            A file in which the state of training is kept after epochs. If the process is
            killed, the same call with the same model goes on from there, with the same result;
            after success the file is deleted. A path means a checkpoint there.
        X : array-like, tensor or Dataset of length n_samples, default=None
            The inputs given to ``fit``, if they were not stored: the same values in the same order.
            That is checked, but for a Dataset whose rows may come out differently each time. Rows
            forgotten earlier may hold anything (in a memory map, any numbers); only their places
            count.
        y : array-like of shape (n_samples,), default=None
            The labels given to ``fit``, together with X.
        groups : array-like of shape (n_samples,) or (n_samples, n_attributes), default=None
            The attributes given to ``fit``, together with X.
        sample_weight : array-like of shape (n_samples,), default=None
            The weights given to ``fit``, together with X.

        Returns
        -------
        BaseUnlearner
            The same object, now without these rows.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        TypeError
            If there is nothing to say what to forget, an argument is of another kind, or an id is
            of a type that ids do not have.
        IndexError
            If a row number is out of range.
        CheckpointError
            If the checkpoint is damaged, or of another request or model; if something that trains
            with the net has a state that cannot be kept in one.
        ValueError
            If rows are duplicated, negative, or nothing (or no row of a class) would remain; if an
            id is not a row's; if groups are needed and were not given; if the data is needed and
            was not stored.
        OSError
            If the checkpoint cannot be read.
        FloatingPointError
            If a loss becomes NaN or infinite.
        DistributedError
            If several processes train the net, and another one failed or was asked something else.

        Warns
        -----
        UserWarning
            If ``forget`` is empty; or if a method that is not exact left the weights as they were,
            its predictions of the forgotten rows, or 30 or more of these all predicted as labelled.
        """
        check_is_fitted(self)
        data = {"X": X, "y": y, "groups": groups, "sample_weight": sample_weight}
        with unchanged_on_error(self), self._working_together(is_fitted=True):
            self._check_parameters()
            if (forget is None) == (ids is None):
                raise TypeError("Say what to forget: by row numbers or a mask, or by ids=[...].")
            if forget is None:
                rows = self._sample_ids.rows_of(ids)
            else:
                rows = check_forget_rows(forget, self._n_rows)
            if len(rows) == 0:
                warnings.warn("forget is empty: nothing was unlearned.", stacklevel=2)
            new = np.setdiff1d(rows, self.forget_idx_)
            if len(new):
                self._require_groups()
                held = self._data_for_request(**data)
                with self._resumable(checkpoint, new, held) as progress:
                    self._forget_rows(new, held, progress)
        return self

    def _forget_rows(self, new: Rows, data: TrainingRows, progress: Progress | None = None) -> None:
        retain = np.setdiff1d(self.remaining_idx_, new)
        numbers = data.g[data.positions(retain)].numpy() // len(self._encoder.attributes_)
        if len(lost := np.setdiff1d(np.arange(len(self.classes_)), numbers)):
            named = self.classes_[lost].tolist()
            raise ValueError(f"This is every row of the class(es) {named}: fit without them.")
        self._unlearn_model(new, retain, data, progress)
        pairs = self._encoder.pairs_  # built anew each time it is asked for
        forgotten = {pairs[g] for g in data.g[data.positions(new)].unique().tolist()}
        forgotten.update(self.forget_groups_)
        self.forget_groups_ = [pair for pair in pairs if pair in forgotten]
        self.forget_idx_ = np.union1d(self.forget_idx_, new)
        self.remaining_idx_ = retain
        self._n_requests += 1
        # digests take the place of those that told of all rows
        self._hold(data, self._data if self.keep_forgotten else data.keep(retain))

    def _require_groups(self) -> None:
        if self._needs_groups and not self._has_groups:
            raise ValueError(
                "It needs the protected attribute of every row: fit(X, y, groups=...)."
            )

    def _data_for_request(
        self, X: Any, y: ArrayLike | None, groups: Any, sample_weight: ArrayLike | None
    ) -> TrainingRows:
        """Return the rows that are still there, from the store or from the arguments."""
        if X is None:
            if self._data is None:
                raise ValueError(f"{_NOT_HELD} Pass unlearn what fit was given: X=X, y=y, ...")
            return self._data.keep(self.remaining_idx_) if self.keep_forgotten else self._data
        no_groups = self._has_groups and groups is None
        if no_groups or (sample_weight is None) == self._has_weights:
            raise ValueError("X comes without groups or weights: give all that fit was given.")
        check_consistent_length(range(self._n_rows), X, y, groups, sample_weight)
        rows = self.remaining_idx_  # what stands in the place of the others is not looked at
        y, groups, sample_weight = (
            None if part is None else take_rows(part, rows) for part in (y, groups, sample_weight)
        )
        is_whole = is_lazy(X)
        X = self._checked(X if is_whole else take_rows(X, rows), reset=False)
        data = self._training_rows(X, check_targets(y, len(rows)), groups, rows, sample_weight)
        data.source = torch.from_numpy(rows) if is_whole else None
        if self._takes_net:
            _read_for(self.net_, data)
        self._check_same_rows(self._digests_of(data))
        return data

    def _known_digests(self) -> dict[str, str]:
        """Return what tells of the rows that are not forgotten whether they are the same."""
        if self._digests is None:
            assert self._data is not None
            return self._digests_of(self._data)
        return self._digests

    def _digests_of(self, data: TrainingRows) -> dict[str, str]:
        n_attributes = len(self._encoder.attributes_)
        return rows_digests(data, self.remaining_idx_, n_attributes, self._takes_net)

    def _check_same_columns(self, numbers: NDArray[np.int64]) -> None:
        """Raise ValueError if group numbers of all rows of ``fit`` are not what they were."""
        g = torch.from_numpy(numbers[self.remaining_idx_])
        self._check_same_rows(columns_digests(g, len(self._encoder.attributes_)))

    def _check_same_rows(self, digests: dict[str, str]) -> None:
        known = self._known_digests()
        differ = [name for name, digest in digests.items() if known.get(name, digest) != digest]
        if differ:
            names = " and ".join(differ)
            raise ValueError(f"The data is not what fit was given, in that order: {names} differ.")

    # the rows of fit ---------------------------------------------------------------------------

    @property
    def _n_rows(self) -> int:
        """How many rows ``fit`` was given."""
        return len(self.forget_idx_) + len(self.remaining_idx_)

    @property
    def _sample_ids(self) -> SampleIds:
        """Which row has which id; its number, if ``fit`` was given none."""
        return self._given_ids or SampleIds(self._n_rows)

    @property
    def attributes_(self) -> NDArray[Any] | None:
        """Values of the protected attribute seen in ``fit``; None if it was given no groups."""
        return self._encoder.attributes_ if self._has_groups else None

    def training_rows(self, which: Literal["remaining", "forgotten", "all"] = "remaining") -> Bunch:
        """Return rows of ``fit``, for an evaluation.

        Parameters
        ----------
        which : {"remaining", "forgotten", "all"}, default="remaining"
            Which rows. The forgotten ones are there with ``keep_forgotten=True`` only.

        Returns
        -------
        Bunch
            With the attributes

            rows : ndarray of shape (n_samples,)
                Row numbers of ``fit``, ascending.
            X : ndarray, DataFrame, tensor, memory map or torch Dataset of length n_samples
                Inputs, as they came out of the steps of a pipeline before; not a copy if it are all
                that are stored. A table with column names comes back as a DataFrame, with the row
                numbers as its index; some rows of a memory map or of a Dataset, as a Dataset that
                reads them on demand.
            y : ndarray of shape (n_samples,)
                Labels.
            groups : ndarray of shape (n_samples,) or None
                Protected attribute; tuples if there were several columns.
            sample_weight : ndarray of shape (n_samples,) or None
                Weights, if ``fit`` was given any.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        ValueError
            If the rows were not stored, or forgotten ones were asked for and dropped.

        Examples
        --------
        >>> from grmu_sk import FineTuneUnlearner
        >>> from grmu_sk.datasets import load_digits_on_backgrounds
        >>> data = load_digits_on_backgrounds()
        >>> X, y, a = (data[name][data.train[:100]] for name in ("images", "target", "groups"))
        >>> unlearner = FineTuneUnlearner(random_state=0).fit(X, y, a).unlearn([3, 7])
        >>> remaining = unlearner.training_rows()
        >>> len(remaining.X), 0 <= unlearner.score(remaining.X, remaining.y) <= 1
        (98, True)
        """
        check_is_fitted(self)
        by_name = {"remaining": self.remaining_idx_, "forgotten": self.forget_idx_}
        by_name["all"] = np.union1d(*by_name.values())
        rows, data = by_name[which], self._data
        if data is None:
            raise ValueError(f"{_NOT_HELD} remaining_idx_ and forget_idx_ say which of fit's.")
        if not np.isin(rows, data.rows).all():
            raise ValueError("The net has dropped the forgotten rows: use keep_forgotten=True.")
        where = data.positions(rows)
        attributes, weight = self.attributes_, data.sample_weight
        in_groups = data.g[where].numpy() % len(self._encoder.attributes_)
        return Bunch(
            rows=rows.copy(),
            X=data.inputs_as_given(rows, getattr(self, "feature_names_in_", None)),
            y=self.classes_[data.y[where].long().numpy()],
            groups=None if attributes is None else attributes[in_groups],
            sample_weight=None if weight is None else weight[where].numpy(),
        )

    # predict -----------------------------------------------------------------------------------

    def predict_log_proba(self, X: Any) -> NDArray[np.floating]:
        """Return the logarithm of the class probabilities.

        Parameters
        ----------
        X : array-like, tensor or Dataset of length n_samples
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        check_is_fitted(self)
        return self._log_proba(self._checked(X, reset=False))

    def predict_proba(self, X: Any) -> NDArray[np.floating]:
        """Return the class probabilities.

        Parameters
        ----------
        X : array-like, tensor or Dataset of length n_samples
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
            Columns in the order of ``classes_``; each row sums to 1.
        """
        # in single precision the losses of confident predictions, -log(1 - tiny), would be ties
        return np.exp(self.predict_log_proba(X), dtype=np.float64)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each row.

        Of two classes, a net with a ``threshold`` of its own (skorch's binary net) decides by that.

        Parameters
        ----------
        X : array-like, tensor or Dataset of length n_samples
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels, as they were given to ``fit``.
        """
        proba = self.predict_proba(X)
        return self.classes_[predicted_columns(proba, self._threshold)]

    # what is trained ---------------------------------------------------------------------------

    @property
    def _is_frozen(self) -> bool:
        return isinstance(self.estimator, FrozenEstimator)

    def _working_together(self, is_fitted: bool) -> AbstractContextManager[None]:
        """Let other processes that have a part in the model work with this one."""
        model = self._model if is_fitted else self._source()
        return getattr(model, "working_together", nullcontext)()

    def _fit_model(self, data: TrainingRows, is_to_forget: bool) -> None:
        """Train on all rows, or not at all if some are to be forgotten and it needs no model."""
        net = self._new_net(data.X)
        if (run := run_of(net)) is not None:
            self.seed_ = run.from_main(self.seed_)
        with isolated_rng(derive_seed(self.seed_, 0), net.device):
            net = self._initialized(net)
            learnable = _learnable(net)
            _read_for(net, data)
            self._check_net(readable(net), data)
            self._check_start(net, data)
            if not self._is_frozen and (self._needs_trained_net or not is_to_forget):
                with inputs_near(net, data):
                    self._train(net, data)
            _set_learnable(net, learnable)
            self.net_ = fresh_net(net)
            if self._is_frozen:
                self._warn_if_worse_than_chance(data)
        self.net_.history, self.net_.classes_inferred_ = net.history, self.classes_
        self.history_ = net.history

    def _initialized(self, net: NeuralNet) -> NeuralNet:
        source = self._source_net()
        was_trained = getattr(source, "initialized_", False)
        if not was_trained or not (self._is_frozen or is_trained_in_place(source)):
            return initialized(net)
        refuse_hidden_weights(source)
        return fresh_net(source)

    def _check_start(self, net: NeuralNet, data: TrainingRows) -> None:
        """Check that a net that was trained before is taken as it is, and can be built anew."""
        source = self._source_net()
        if not getattr(source, "initialized_", False):
            return
        if self._is_frozen and run_of(net) is None:  # or batches would be shared out
            inputs = data.fetch(torch.arange(min(4, len(data))))
            taken, original = (_outputs(one, inputs) for one in (net, source))
            if not torch.allclose(taken, original, rtol=1e-2, atol=1e-4, equal_nan=True):
                raise ValueError("A copy of the trained net does not predict what it does itself.")
        if self._needs_fresh_weights:
            check_fresh_weights(net)

    @property
    def _takes_net(self) -> bool:
        """Whether what is trained, and predicts, is a net."""
        return True

    @property
    def _model(self) -> Any:
        """What predicts."""
        return self.net_

    def _source(self) -> Any:
        """Return what is trained or taken over, whatever else was given for it."""
        source = self.estimator.estimator if self._is_frozen else self.estimator
        return source._model if isinstance(source, BaseUnlearner) else source

    def _source_net(self) -> Any:
        source = self._source()
        if isinstance(source, nn.Module):
            net = net_of_module(source)
            return net.initialize() if self._is_frozen else net
        if source is None or isinstance(source, NeuralNet):
            return source
        raise TypeError(
            f"{type(self).__name__} trains a skorch net or a torch module, got {source!r}. Any "
            "classifier of scikit-learn can forget by RetrainUnlearner or SISAUnlearner."
        )

    def _new_net(self, X: Any) -> NeuralNet:
        """Return the uninitialised net to train."""
        net = self._source_net()
        if net is None:
            return default_net(X, n_classes=len(self.classes_))
        if self._is_frozen:
            net.check_is_fitted()
        return copy_net(net)

    def _check_net(self, net: NeuralNet, data: TrainingRows) -> None:
        """Check, before any training, that the net fits the data and has the features we need."""
        inputs = data.fetch(torch.arange(min(2, len(data))))
        scores = _outputs(net, inputs)
        n_outputs = 2 if is_single_logit(scores) else scores.shape[1]
        if n_outputs != len(self.classes_):
            raise ValueError(f"The net has {n_outputs} outputs, y the classes {self.classes_}.")

    def _warn_if_worse_than_chance(self, data: TrainingRows) -> None:
        """Warn if labels and answers of a net that was brought in agree less than by chance."""
        log_p, labels = _looked_at(self.net_, data, data.rows)
        found = predicted_columns(log_p.exp().numpy(), self._threshold)
        columns, n_rows = (labels.numpy(), found), len(found)
        shares = [np.bincount(of, minlength=len(self.classes_)) / n_rows for of in columns]
        chance, accuracy = float(shares[0] @ shares[1]), float((columns[0] == found).mean())
        if accuracy < chance - 4 * np.sqrt(chance * (1 - chance) / n_rows):
            warnings.warn(
                f"The trained net is right on {accuracy:.1%} of its training rows, less than the "
                f"{chance:.1%} of guessing: {_SAY_THE_ORDER}",
                stacklevel=4,
            )

    def _resumable(
        self, checkpoint: Any, new: Rows, data: TrainingRows
    ) -> AbstractContextManager[Progress | None]:
        """Give what keeps the state of a request in a file as it goes on."""
        if checkpoint is None:
            return nullcontext()
        if not self._takes_net:
            raise ValueError("A checkpoint is for nets; a classifier is fitted in one step.")
        refuse_several_processes(self.net_, "a request with a checkpoint")
        if not isinstance(checkpoint, UnlearningCheckpoint):
            checkpoint = UnlearningCheckpoint(checkpoint)
        return resumable(checkpoint, self._identity(new, data))

    def _identity(self, new: Rows, data: TrainingRows) -> dict[str, Any]:
        """Return what the result of a request depends on, as JSON."""
        parameters = self.get_params(deep=False)
        del parameters["estimator"]
        parameters["random_state"] = self.seed_
        of_net = self.net_.get_params(deep=False)
        del of_net["verbose"]
        return {
            "versions": versions(),
            "method": describe(type(self)),
            "parameters": describe(parameters),
            "net": describe(of_net),
            "weights of the model": digest(weights(self.net_)),
            "earlier requests": self._n_requests,
            "rows to forget": describe(new),
            "training rows": {**self._digests_of(data), "rows": describe(data.rows)},
        }

    def _unlearn_model(
        self, new: Rows, retain: Rows, data: TrainingRows, progress: Progress | None
    ) -> None:
        """Put in place of the model one that has forgotten ``new``, of all it knew of it."""
        original, before = self.net_, self._answers(data, new)
        with isolated_rng(derive_seed(self.seed_, 1 + self._n_requests), self.net_.device):
            changes = self._net_parameters()
            if self._needs_trained_net:  # what reads or changes layers goes past compiled code
                changes["compile"] = False
            net = fresh_net(self.net_, **changes)
            learnable = _learnable(net)
            trained_on, validation = split_for_validation(net, data, retain)
            of_fit = self._group_counts, self._encoder.pairs_
            request = Request(net, data, new, trained_on, *of_fit, validation, progress)
            with inputs_near(net, data):
                unlearned = self._unlearn(request)
                _set_learnable(unlearned, learnable)
                self._adopt(unlearned)
                # a module that remembers its last batch remembers rows that stay
                _outputs(self.net_, data.fetch_rows(retain[:2]))
        self._warn_if_nothing_changed(original, before, self._answers(data, new))

    def _adopt(self, net: NeuralNet) -> None:
        """Keep the modules and the history of a net, and nothing else of it.

        Its optimizer's momentum and its callbacks (a stored best state, for example) may still
        carry what was to be forgotten; so does a criterion that learned and was left as it was.
        """
        history = History(self.history_.to_list() + net.history.to_list())
        left = [name for name in net._criteria if same_weights(net, self.net_, [name])]
        self.net_ = fresh_net(self.net_, weights_from=net, anew=left)
        self.net_.history, self.net_.classes_inferred_ = history, self.classes_
        self.history_ = history
        if self._is_frozen:
            # the net that was brought in carries the original weights
            self.estimator = FrozenEstimator(self.net_)
        elif getattr(self.estimator, "initialized_", False):
            # it was trained before, perhaps on these rows
            self.estimator = copy_net(self.estimator)

    @property
    def _effect(self) -> Literal["none", "exact", "approximate"]:
        if not self._changes_net:
            return "none"
        is_exact = not self._needs_trained_net or self._keeps_unaffected_weights
        return "exact" if is_exact else "approximate"

    def _answers(self, data: TrainingRows, rows: Rows) -> _Answers | None:
        """Return what the net says of rows to forget, of which it looks at some.

        None where nobody needs to know, or where the rows would have to be read for that alone:
        the files of somebody who has asked to be forgotten may be gone already.
        """
        reads_them = bool(self._phases_that_read_forgotten) or not data.is_lazy
        if not (self._effect == "approximate" and reads_them):
            return None
        with isolated_rng(self.seed_, self.net_.device):
            net = fresh_net(self.net_, compile=False)  # whose mode may change
            return _looked_at(net, data, rows)

    def _warn_if_nothing_changed(
        self, original: NeuralNet, before: _Answers | None, after: _Answers | None
    ) -> None:
        """Warn if a request has left no trace in what the net says of the forgotten rows.

        Being right on them is none as such: a net that never saw a typical row is right on it too.
        If it is right on all of n rows, though, then it is right on more than 1 - 3/n of all such
        rows, at 95 % confidence. With enough rows only a net that generalises almost perfectly
        can say so; one that has memorised its rows has kept them.
        """
        if self._effect != "approximate":
            return
        what = ""
        if same_weights(original, self.net_):
            what = "all weights are what they were"
        elif before is not None and after is not None:
            n_rows = len(after[0])
            is_right = [(log_p.argmax(1) == labels).all() for log_p, labels in (before, after)]
            if torch.allclose(before[0], after[0], rtol=0, atol=1e-3):
                what = "the net says of the forgotten rows what it said before"
            elif n_rows >= N_TELLING and all(is_right):
                what = f"the net is still right on each of the {n_rows} forgotten rows looked at"
        if what:
            warnings.warn(
                f"{type(self).__name__} may have forgotten nothing: {what}. Try more epochs, a "
                f"larger lr, or other values of {', '.join(self.search_grid) or 'its parameters'}.",
                stacklevel=5,
            )

    def _log_proba(self, X: Any) -> NDArray[np.floating]:
        """Return the model's log-probabilities of inputs that are checked."""
        data = InputRows(X, *input_dtype(self.net_))
        outputs = forward(self.net_, data, first_output)
        return log_probabilities(self.net_, outputs).cpu().numpy()

    @property
    def _threshold(self) -> float | None:
        """The probability above which a model answers with the second of two classes.

        None for one that answers with the most probable class: a threshold is something that
        skorch's binary net has, and scikit-learn's tuned and fixed ones.
        """
        found = [getattr(self._model, name, None) for name in ("best_threshold_", "threshold")]
        return next((value for value in found if isinstance(value, int | float)), None)

    # house-keeping -----------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        data = state.get("_data")
        if data is not None and data.is_lazy:
            state["_data"] = None  # the caller's files; a pickle would copy forgotten rows too
        return state


def _outputs(net: NeuralNet, inputs: Any) -> torch.Tensor:
    """Return what a net says of some inputs; it may be the user's, whose layers keep their mode."""
    layers = [layer for part in parts_of(net).values() for layer in part.modules()]
    modes = [layer.training for layer in layers]
    scores = first_output(readable(net).evaluation_step((inputs, None)))
    for layer, mode in zip(layers, modes, strict=True):
        layer.training = mode
    return scores.cpu()


def _read_for(net: NeuralNet, data: TrainingRows) -> None:
    """Let rows be read as a net needs them."""
    data.dtype, data.keeps_integers = input_dtype(net)
    if isinstance(net, NeuralNetBinaryClassifier):
        data.y = data.y.float()  # its criterion compares probabilities
    data.collate = collate_of(net.get_iterator(data, training=False))


def _looked_at(net: NeuralNet, data: TrainingRows, rows: Rows) -> _Answers:
    """Return what a net says of some of these rows, evenly spaced."""
    rows = evenly_spaced(rows, N_LOOKED_AT)
    log_p = log_probabilities(net, forward(net, data, first_output, rows)).cpu()
    return log_p, data.y[data.positions(rows)].cpu().long()


def _in_order_of(trained: Any, labels: NDArray[Any]) -> NDArray[Any]:
    """Return the labels in the order of a trained net's outputs, as far as it knows that."""
    known = getattr(trained, "classes_" if isinstance(trained, BaseUnlearner) else "classes", None)
    known = getattr(trained, "classes_inferred_", None) if known is None else known
    if known is None:
        return labels
    given, known = labels.tolist(), np.asarray(known).tolist()
    order = [given.index(label) for label in known if label in given]
    if len(order) < len(labels):
        raise ValueError(f"The net knows the classes {known}, y holds {given}: {_SAY_THE_ORDER}")
    return labels[order]


def _learnable(net: NeuralNet) -> dict[str, bool]:
    """Return, by name, which weights are not frozen."""
    return {name: weight.requires_grad for name, weight in named_weights(net).items()}


def _set_learnable(net: NeuralNet, learnable: dict[str, bool]) -> None:
    """Undo what callbacks or a method froze for as long as a run took."""
    for name, weight in named_weights(net).items():
        weight.requires_grad_(learnable.get(name, weight.requires_grad))
