"""SISA: exact unlearning by retraining only the shards that hold rows to forget."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from skorch import NeuralNet
from skorch.history import History
from torch import nn

from ..base import Request
from ..classifiers import AnyClassifierUnlearner, log_proba_of
from ..loading import split_for_validation
from ..net_copies import fresh_net, own_copy
from ..outputs import first_output, is_single_logit, log_probabilities
from ..parameters import COUNT, parameter
from ..randomness import isolated_rng
from ..reweight import group_balance_weights
from ..rows import Rows, TrainingRows
from ..training import Phase, Progress, train

__all__ = ["SISAUnlearner"]


class SISAUnlearner(AnyClassifierUnlearner):
    r"""Sharded training, so that forgetting exactly means retraining a few shards only.

    SISA [1]_ splits the training rows at random into S disjoint shards of (almost) equal size
    :math:`D_1, \dots, D_S` and trains one net :math:`f_k` on each. The S nets predict together,

    .. math:: p(y \mid x) = \frac{1}{S} \sum_{k=1}^S p_k(y \mid x).

    On :meth:`unlearn`, each shard that holds a row to forget is retrained
    from scratch, with new random weights, on what remains of it; all other nets have never seen
    the row and stay as they are. Forgetting is exact, as it is by retraining all.

    It pays while requests are small: of S shards, n rows to forget are expected to touch
    :math:`S\,(1 - (1 - 1/S)^n)`, which is all of them as soon as n is a few times S. And it costs
    accuracy from the start, for every net sees one row in S; small groups suffer most.

    Parameters
    ----------
    estimator : skorch net or None, default=None
        The net to train, once per shard: an unfitted :class:`skorch.NeuralNetClassifier` (or
        subclass). None gives a small default net. A module that is an *instance* is copied for each
        shard. A trained net
        (:class:`sklearn.frozen.FrozenEstimator`) is refused: it has seen the rows of all shards.
    n_shards : int, default=5
        Number S of shards. 1 is plain retraining.
    reweight : bool, default=False
        Whether a shard is retrained with REWEIGHT [2]_: its remaining rows are drawn so that its
        groups (y, a) keep the mix that this shard had in ``fit``. A group of which this shard has
        no row left takes no part there; one that has no row left in any shard is an error. Needs
        ``groups``.
    random_state : int, RandomState instance or None, default=None
        Seed of shards, weights, batches and draws. The caller's random state is never touched.

    Attributes
    ----------
    shards_ : ndarray of shape (n_samples,)
        Shard of each row of ``fit``, from 0; -1 for a forgotten row.
    history_ : skorch.history.History
        A row for each epoch of each shard that was trained, over all runs; the phase names the
        shard: ``"fit 0"``, ``"fit 1"``, ``"retrain 0"``.

    See Also
    --------
    RetrainUnlearner : Exact as well, with one net for all rows.

    Notes
    -----
    The net's ``train_split`` is applied within each shard, so that early stopping of one shard
    does not depend on rows of another.

    A shard of which all rows are forgotten no longer takes part; its net gets new weights,
    untrained.

    The mean of probabilities is what the authors of [1]_ choose for harder tasks; a majority vote
    would give shares of S votes for probabilities.

    Slicing, the second half of [1]_ (each shard is trained on a growing part of its rows, with a
    checkpoint after each step to start retraining from), is left out: it makes the retraining of
    a shard at most 1.5 times as fast, and all checkpoints would have to be kept.

    References
    ----------
    .. [1] Bourtoule et al., "Machine Unlearning", IEEE Symposium on Security and Privacy 2021.
    .. [2] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk import SISAUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> sharded = SISAUnlearner(n_shards=4, random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> sharded.shards_[[3, 7]].tolist(), len(sharded.net_.module_.members)
    ([-1, -1], 4)
    """

    method_name = "sisa"
    search_grid = {"n_shards": [2, 3, 5, 8]}
    _accepts_trained_net = False
    _keeps_unaffected_weights = True
    _needs_fresh_weights = True

    shards_: NDArray[np.int64]

    n_shards: int = parameter(5, COUNT)
    reweight: bool = parameter(False, "boolean")

    def fit(  # type: ignore[override]
        self,
        X: Any,
        y: ArrayLike,
        groups: Any = None,
        *,
        forget: ArrayLike | None = None,
        sample_id: Any = None,
    ) -> Self:
        """Assign the rows to shards and train a net on each; then unlearn those in ``forget``.

        There are no sample weights: a row of weight two is not the same as two rows, which may
        fall into different shards.

        Parameters
        ----------
        X : array-like, DataFrame, tensor, memory map or torch Dataset of length n_samples
            Training inputs of any rank.
        y : array-like of shape (n_samples,)
            Target labels of any type.
        groups : array-like of shape (n_samples,) or (n_samples, n_attributes), default=None
            Protected attribute of each row.
        forget : bool array-like of shape (n_samples,), default=None
            Mask of rows to unlearn right after training.
        sample_id : array-like of shape (n_samples,), default=None
            A name of each row that no other has, for requests that come later.

        Returns
        -------
        SISAUnlearner
            The fitted unlearner.
        """
        return super().fit(X, y, groups, forget=forget, sample_id=sample_id)

    def _fit_model(self, data: TrainingRows, is_to_forget: bool) -> None:
        if self._is_frozen:
            raise ValueError(
                "SISAUnlearner cannot take over a trained net or classifier (FrozenEstimator): "
                "every shard needs one that has seen the rows of this shard alone. Pass the "
                "untrained one."
            )
        if len(data) < self.n_shards:
            raise ValueError(f"n_shards={self.n_shards} shards need more than {len(data)} rows.")
        super()._fit_model(data, is_to_forget)

    def _new_net(self, X: Any) -> NeuralNet:
        """Return the net of all shards."""
        net = super()._new_net(X)
        takes_probabilities = _is_kind_of(net.criterion, nn.NLLLoss)
        build = _BuildEnsemble(
            net.module, self.n_shards, net.predict_nonlinearity, takes_probabilities
        )
        net.set_params(module=build)
        if callable(net.predict_nonlinearity):  # it has been applied to each shard's scores
            net.set_params(predict_nonlinearity=_probabilities)
        return net

    def _train(self, net: NeuralNet, data: TrainingRows) -> None:
        self._assign_shards(data)
        self._train_shards(net, data, data.rows, np.arange(self.n_shards), "fit")

    def _fit_classifier(self, data: TrainingRows) -> Any:
        self._assign_shards(data)
        members = [self._fitted_to(data, rows) for rows in self._rows_of_shards(data.rows)]
        return ShardedClassifier(members, self.classes_)

    def _refit(self, request: Request) -> Any:
        if self.reweight:
            request.retain_weights(True)  # complains if a group has no row left
        members = list(self.estimator_.members)
        for shard in self._affected(request):
            rows = self._rows_of_shards(request.retain)[shard]
            weights = None
            if self.reweight and len(rows):
                groups = request.data.g[request.data.positions(rows)].numpy()
                weights = self._reweight(groups, shard)
            members[shard] = None
            if len(rows):
                members[shard] = self._fitted_to(request.data, rows, weights, "retrain")
        return ShardedClassifier(members, self.classes_)

    def _affected(self, request: Request) -> NDArray[np.int64]:
        return np.unique(self.shards_[request.forget])

    def _rows_of_shards(self, rows: Rows) -> list[Rows]:
        return [rows[self.shards_[rows] == shard] for shard in range(self.n_shards)]

    def _assign_shards(self, data: TrainingRows) -> None:
        self.shards_ = (torch.randperm(len(data)) % self.n_shards).numpy()
        n_groups = len(self._encoder.pairs_)
        cells = np.bincount(
            self.shards_ * n_groups + data.g.numpy(), minlength=self.n_shards * n_groups
        )
        self._shard_group_counts = cells.reshape(self.n_shards, n_groups)

    def _unlearn(self, request: Request) -> NeuralNet:
        if self.reweight:
            request.retain_weights(True)  # complains if a group has no row left
        remaining = np.setdiff1d(request.data.rows, request.forget)
        affected = self._affected(request)
        self._train_shards(
            request.net, request.data, remaining, affected, "retrain", request.progress
        )
        return request.net

    def _forget_rows(self, new: Rows, data: TrainingRows, progress: Progress | None = None) -> None:
        super()._forget_rows(new, data, progress)
        is_forgotten = np.isin(np.arange(len(self.shards_)), self.forget_idx_)
        self.shards_ = np.where(is_forgotten, -1, self.shards_)

    def _train_shards(
        self,
        net: NeuralNet,
        data: TrainingRows,
        rows: Rows,
        shards: NDArray[Any],
        phase: str,
        progress: Progress | None = None,
    ) -> None:
        """Train the nets of these shards anew, each on its part of the rows."""
        # a seed for each shard, or one shard's draws would depend on how long another trained
        seeds = torch.randint(2**31, (len(self._shard_group_counts),)).tolist()
        net.history = History()
        for shard in shards:
            with isolated_rng(seeds[shard], net.device):
                part = rows[self.shards_[rows] == shard]
                member = self._trained_member(net, data, part, shard, phase, progress)
            trained = getattr(member.module_, "_orig_mod", member.module_)  # under torch.compile
            net.module_.members[shard].load_state_dict(trained.state_dict())
            net.module_.is_in_use[shard] = len(part) > 0
            net.history.extend(member.history)

    def _trained_member(
        self,
        net: NeuralNet,
        data: TrainingRows,
        rows: Rows,
        shard: int,
        phase: str,
        progress: Progress | None,
    ) -> NeuralNet:
        member = net.module.member_net(net)
        if len(rows) == 0:
            return member
        rows, validation = split_for_validation(member, data, rows)
        weights = None
        if self.reweight and phase == "retrain":
            weights = self._reweight(data.g[data.positions(rows)].numpy(), shard)
        return train(
            member,
            data,
            [Phase(f"{phase} {shard}", rows, weights=weights)],
            epochs=member.max_epochs,
            validation=validation,
            progress=progress,
        )

    def _reweight(self, groups: NDArray[np.int64], shard: int) -> NDArray[np.float64]:
        is_left = np.bincount(groups, minlength=len(self._encoder.pairs_)) > 0
        return group_balance_weights(self._shard_group_counts[shard] * is_left, groups)


class ShardedClassifier:
    """Several classifiers that predict together.

    Parameters
    ----------
    members : list of classifier or None
        One a shard; None for a shard without rows.
    classes : ndarray of shape (n_classes,)
        All classes; a member may have met some of them only.
    """

    def __init__(self, members: list[Any], classes: NDArray[Any]) -> None:
        self.members = members
        self.classes_ = classes

    def predict_proba(self, X: Any) -> NDArray[np.floating]:
        """Return the mean of the members' probabilities.

        Parameters
        ----------
        X : array-like of length n_samples
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        members = [member for member in self.members if member is not None]
        probas = [np.exp(log_proba_of(member, X, self.classes_)) for member in members]
        return np.mean(probas, axis=0)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each row.

        Parameters
        ----------
        X : array-like of length n_samples
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels.
        """
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


@dataclass(frozen=True)
class _BuildEnsemble:
    """Builds a :class:`ShardEnsemble` where a net expects a module class."""

    module: Any
    n_shards: int
    predict_nonlinearity: Any
    takes_probabilities: bool

    def __call__(self, **kwargs: Any) -> ShardEnsemble:
        reader = SimpleNamespace(
            predict_nonlinearity=self.predict_nonlinearity,
            criterion_=nn.NLLLoss() if self.takes_probabilities else None,
        )
        members = [
            own_copy(NeuralNet.initialized_instance(None, self.module, kwargs), {})
            for _ in range(self.n_shards)
        ]
        return ShardEnsemble(members, reader)

    def member_net(self, ensemble: NeuralNet) -> NeuralNet:
        """Return an initialised net for one shard, with new weights."""
        return fresh_net(
            ensemble,
            weights_from=None,
            module=self.module,
            predict_nonlinearity=self.predict_nonlinearity,
        )


class ShardEnsemble(nn.Module):
    """Several modules that predict together, with an output like that of one of them.

    Parameters
    ----------
    members : iterable of Module
        One a shard.
    reader : object
        What :func:`~grmu_sk.outputs.log_probabilities` asks of a net: ``predict_nonlinearity``
        and ``criterion_``.
    """

    is_in_use: torch.Tensor

    def __init__(self, members: Iterable[nn.Module], reader: Any) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.reader = reader
        self.register_buffer("is_in_use", torch.ones(len(self.members), dtype=torch.bool))

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return scores of the same meaning as a member's.

        Parameters
        ----------
        *args : tuple
            Inputs of the members.
        **kwargs : dict
            Inputs of the members.

        Returns
        -------
        tensor
            Log-probabilities of shape (n, n_classes) where members return logits, one logit a row
            where they return one, and probabilities where they return these.
        """
        is_in_use = self.is_in_use.tolist()
        # no zip: the compiler of torch 2.9 stumbles over its ``strict``
        scores = [
            first_output(member(*args, **kwargs))
            for shard, member in enumerate(self.members)
            if is_in_use[shard]
        ]
        log_p = torch.stack([log_probabilities(self.reader, one) for one in scores])
        # in float32 the last digit would depend on where in the batch a row stands
        wide = log_p if log_p.device.type == "mps" else log_p.double()
        mean = (wide.logsumexp(0) - np.log(len(log_p))).to(log_p.dtype)
        return self._like(scores[0], mean)

    def _like(self, scores: torch.Tensor, log_p: torch.Tensor) -> torch.Tensor:
        if isinstance(self.reader.criterion_, nn.NLLLoss):
            return log_p.exp()
        if is_single_logit(scores):
            return (log_p[:, 1] - log_p[:, 0]).reshape(scores.shape)
        return log_p


def _probabilities(scores: torch.Tensor) -> torch.Tensor:
    """Turn what an ensemble returns into probabilities."""
    if is_single_logit(scores):
        logit = scores.reshape(-1, 1)
        return torch.cat([-logit, logit], 1).sigmoid()
    return scores.exp()


def _is_kind_of(criterion: Any, kind: type) -> bool:
    if isinstance(criterion, type):
        return issubclass(criterion, kind)
    return isinstance(criterion, kind)
