"""Which rows are attacked, which never-seen rows they are matched with, and who trains on whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..groups import Pair
from ..utils._random import derive_seed

__all__ = ["KINDS", "Candidates", "assign_halves", "choose_candidates"]

KINDS = ("forgotten", "remaining", "nonmembers")


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
