"""MINE: a neural estimate of the mutual information between features and groups.

Three parts, from the inside out: :class:`StatisticsNetwork` scores a pair (features, label),
:class:`InformationCritic` turns scores into the Donsker-Varadhan bound with the corrected
gradient, and :class:`MINE` is the scikit-learn estimator around them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from .groups import GroupEncoder, attribute_column
from .parameters import COUNT, LEARNING_RATE, SHARE, WithParameters, one_of, parameter
from .randomness import RandomState, draw_by_weight, isolated_rng, resolve_seed
from .rows import as_tensor
from .validation import about, to_array, unchanged_on_error

__all__ = ["MARGINALS", "MINE", "InformationCritic", "StatisticsNetwork"]

MARGINALS = ("uniform", "train", "permute")


class StatisticsNetwork(nn.Module):
    r"""The scoring network :math:`T(z, g)` of MINE: linear, ReLU, linear.

    Features and one-hot labels are concatenated in the formula. Here the first layer is split
    into a part for the features and a table for the labels, which computes the same without ever
    building a one-hot vector, so that thousands of groups cost no more than two.

    Parameters
    ----------
    n_features : int
        Width of the features z.
    n_labels : int
        Number of labels.
    hidden : int, default=512
        Hidden units.
    """

    def __init__(self, n_features: int, n_labels: int, hidden: int = 512) -> None:
        super().__init__()
        self.from_features = nn.Linear(n_features, hidden)
        self.from_labels = nn.Embedding(n_labels, hidden)
        self.score = nn.Linear(hidden, 1)
        bound = 1 / math.sqrt(n_features + n_labels)  # as one linear layer over both would draw it
        for weight in (*self.from_features.parameters(), *self.from_labels.parameters()):
            nn.init.uniform_(weight, -bound, bound)

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the scores.

        Parameters
        ----------
        z : tensor of shape (n, n_features)
            Features.
        labels : tensor of shape (..., n)
            Label numbers. Several for each row of z cost one product with z.

        Returns
        -------
        tensor of shape (..., n)
            T(z, g).
        """
        hidden = (self.from_features(z) + self.from_labels(labels)).relu_()
        return self.score(hidden).squeeze(-1)


class InformationCritic(nn.Module):
    r"""A lower bound on I(Z; G) that can be maximised, or differentiated by the features.

    .. math:: M(Z; G) = \frac1n \sum_i T(z_i, g_i) - \log \frac1n \sum_i e^{T(z_i, \tilde g_i)}

    with :math:`\tilde g` drawn from a marginal distribution. The value is computed by
    log-sum-exp. The gradient of the logarithm is biased on a batch; as in [1]_ it is divided by a
    moving average of :math:`\frac1n \sum e^T` over batches in place of the batch's own value.

    Parameters
    ----------
    n_features : int
        Width of the features.
    n_labels : int
        Number of labels.
    hidden : int, default=512
        Hidden units of the statistics network.
    moving_average_rate : float, default=0.01
        Weight of the newest batch in the moving average; 1 gives the plain, biased gradient.

    References
    ----------
    .. [1] Belghazi et al., "Mutual Information Neural Estimation", ICML 2018.
    """

    log_average: torch.Tensor

    def __init__(
        self,
        n_features: int,
        n_labels: int,
        hidden: int = 512,
        moving_average_rate: float = 0.01,
    ) -> None:
        super().__init__()
        self.statistics = StatisticsNetwork(n_features, n_labels, hidden)
        self.moving_average_rate = moving_average_rate
        # in logarithms, since e^T overflows long before T is unreasonable; NaN: no batch yet
        self.register_buffer("log_average", torch.tensor(float("nan")))

    def forward(
        self, z: torch.Tensor, labels: torch.Tensor, other_labels: torch.Tensor
    ) -> torch.Tensor:
        """Return M as a scalar whose gradient is the corrected one.

        Parameters
        ----------
        z : tensor of shape (n, n_features)
            Features.
        labels : tensor of shape (n,)
            Their labels.
        other_labels : tensor like ``labels``
            Labels drawn from the marginal.

        Returns
        -------
        tensor of shape ()
            The bound, in nats.
        """
        joint, marginal = self.statistics(z, torch.stack([labels, other_labels]))
        if not self.training:
            return joint.mean() - _log_mean_exp(marginal)
        log_mean = _log_mean_exp(marginal.detach())
        log_average = self._update_average(log_mean)
        if not marginal.requires_grad:
            return joint.mean() - log_mean
        corrected = torch.exp(marginal - log_average).mean()
        # the value of the logarithm, with the gradient of the corrected term
        return joint.mean() - (log_mean + corrected - corrected.detach())

    def _update_average(self, log_mean: torch.Tensor) -> torch.Tensor:
        rate = self.moving_average_rate
        if torch.isnan(self.log_average) or rate >= 1:
            self.log_average.copy_(log_mean)
        else:
            old, new = self.log_average + math.log1p(-rate), log_mean + math.log(rate)
            self.log_average.copy_(torch.logaddexp(old, new))
        return self.log_average


def _log_mean_exp(scores: torch.Tensor) -> torch.Tensor:
    return torch.logsumexp(scores, 0) - math.log(len(scores))


def draw_marginal(
    labels: torch.Tensor, kind: str, n_labels: int, train_mix: torch.Tensor | None = None
) -> torch.Tensor:
    """Draw labels that are independent of the features.

    Parameters
    ----------
    labels : tensor of shape (n, ...)
        The batch's own labels.
    kind : {"uniform", "train", "permute"}
        Each label equally often, in the proportions ``train_mix``, or the batch's own labels in
        another order.
    n_labels : int
        Number of labels.
    train_mix : tensor of shape (n_labels,) or None
        Proportions for ``"train"``.

    Returns
    -------
    tensor
        Like ``labels``.
    """
    n = len(labels)
    if kind == "uniform":
        return torch.randint(n_labels, (n,)).to(labels.device)
    if kind == "train":
        assert train_mix is not None
        return draw_by_weight(train_mix, n).to(labels.device)
    return labels[torch.randperm(n).to(labels.device)]


class MINE(WithParameters, BaseEstimator):
    r"""Mutual information between features and labels, estimated by a neural network.

    Maximises the Donsker-Varadhan lower bound

    .. math::

        I(Z; G) \ge \max_T \; E_{p(z, g)}[T(z, g)]
                              - \log E_{p(z) q(g)}[e^{T(z, g)}]

    over a small network T [1]_, where q is the marginal of the labels. The bound is on I(Z; G)
    if q is the labels' own distribution (``marginal="permute"`` or ``"train"``). With
    ``marginal="uniform"``, which the unlearning method MIU uses [2]_, the optimum is
    :math:`I(Z; G) + KL(p(G) \| uniform)`.

    Parameters
    ----------
    marginal : {"permute", "train", "uniform"}, default="permute"
        Where labels independent of the features come from: the batch's labels in another order,
        the proportions of the training data, or every label equally often.
    hidden : int, default=512
        Hidden units of the statistics network.
    max_updates : int, default=2000
        Gradient steps.
    batch_size : int, default=256
        Rows a step.
    lr : float, default=1e-3
        Learning rate.
    optimizer : torch optimizer class, default=None
        None means Adam. The unlearning methods use SGD with momentum.
    moving_average_rate : float, default=0.01
        Weight of the newest batch in the moving average that corrects the gradient.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights and batches.

    Attributes
    ----------
    mutual_information_ : float
        The bound on the training data after the last step, in nats.
    history_ : ndarray of shape (max_updates,)
        The bound on each step's batch, in nats.
    critic_ : InformationCritic
        The trained network.
    labels_ : ndarray of shape (n_labels,)
        The distinct labels.
    n_features_in_ : int
        Width of the features.

    See Also
    --------
    sklearn.feature_selection.mutual_info_classif : Nearest-neighbour estimates, a feature at a
        time.

    References
    ----------
    .. [1] Belghazi et al., "Mutual Information Neural Estimation", ICML 2018.
    .. [2] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from grmu_sk import MINE
    >>> rng = np.random.default_rng(0)
    >>> g = rng.integers(2, size=500)
    >>> Z = np.c_[g + 0.01 * rng.normal(size=500), rng.normal(size=500)]  # z1 tells g
    >>> mine = MINE(max_updates=300, random_state=0).fit(Z, g)
    >>> bool(abs(mine.mutual_information_ - np.log(2)) < 0.1)
    True
    """

    marginal: str = parameter("permute", one_of(*MARGINALS))
    hidden: int = parameter(512, COUNT)
    max_updates: int = parameter(2000, COUNT)
    batch_size: int = parameter(256, COUNT)
    lr: float = parameter(1e-3, LEARNING_RATE)
    optimizer: Any = parameter(None, None, callable)
    moving_average_rate: float = parameter(0.01, SHARE)
    random_state: RandomState = parameter(None, "random_state")

    def fit(self, X: ArrayLike, y: ArrayLike) -> MINE:
        """Train the statistics network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features Z.
        y : array-like of shape (n_samples,) or (n_samples, n_attributes)
            Labels G, any hashable values; several columns are read as their intersection.

        Returns
        -------
        MINE
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of range or a value is NaN.
        FloatingPointError
            If the bound becomes NaN or infinite.
        """
        self._validate_params()
        with unchanged_on_error(self):
            z = self._features(X, reset=True)
            self._encoder = GroupEncoder().fit(attribute_column(y, name="y"))
            self.labels_ = self._encoder.classes_
            labels = self._labels(y, z)
            self._train_mix = torch.bincount(labels) / len(labels)
            with isolated_rng(resolve_seed(self.random_state)):
                self._train(z, labels)
                self._seed_of_score = int(torch.randint(2**31, ()))
            self.mutual_information_ = self.score(X, y)
        return self

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return the bound on given data.

        On data the network was not trained on, this is an unbiased view of the bound; on the
        training data it tends to be too large when rows are few.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features Z.
        y : array-like of shape (n_samples,) or (n_samples, n_attributes)
            Labels G, any hashable values; several columns are read as their intersection.

        Returns
        -------
        float
            The bound in nats.
        """
        check_is_fitted(self, "critic_")
        z = self._features(X, reset=False)
        labels = self._labels(y, z)
        with isolated_rng(self._seed_of_score), torch.no_grad():
            # many draws of the marginal a row: the first term is exact, the second nearly so
            draws = [self.critic_(z, labels, self._other(labels)) for _ in range(16)]
        return float(math.log(len(draws)) - torch.logsumexp(-torch.stack(draws), 0))

    def _train(self, z: torch.Tensor, labels: torch.Tensor) -> None:
        critic = InformationCritic(
            z.shape[1], len(self.labels_), self.hidden, self.moving_average_rate
        )
        optimizer = (self.optimizer or torch.optim.Adam)(critic.parameters(), lr=self.lr)
        values = np.empty(self.max_updates)
        for update in range(self.max_updates):
            batch = torch.randint(len(z), (min(self.batch_size, len(z)),))
            optimizer.zero_grad()
            value = critic(z[batch], labels[batch], self._other(labels[batch]))
            (-value).backward()
            optimizer.step()
            values[update] = value.item()
            if not np.isfinite(values[update]):
                raise FloatingPointError(
                    f"The mutual information is NaN or infinite at update {update + 1}: lower lr."
                )
        self.critic_, self.history_ = critic.eval(), values

    def _other(self, labels: torch.Tensor) -> torch.Tensor:
        return draw_marginal(labels, self.marginal, len(self.labels_), self._train_mix)

    def _features(self, X: ArrayLike, reset: bool) -> torch.Tensor:
        if isinstance(X, torch.Tensor):
            X = to_array(X, "X")
        # what is too large for single precision is refused by its name, infinity
        with about("X"), np.errstate(over="ignore"):
            array = validate_data(self, X, reset=reset, dtype=np.float32, force_writeable=True)
        return as_tensor(array)

    def _labels(self, y: ArrayLike, z: torch.Tensor) -> torch.Tensor:
        labels = attribute_column(y, name="y")
        with about("y"):
            check_consistent_length(z, labels)
        return torch.as_tensor(self._encoder.transform(labels))
