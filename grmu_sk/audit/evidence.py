"""Collect the evidence about an unlearned model in one document."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from ..base import BaseUnlearner
from ..persistence import PACKAGES
from ..utils.arguments import check_types
from ._group_mix import group_mix
from .acceptance_gate import AcceptanceGate
from .gate_result import GateResult
from .leakage import AttackResult
from .model_hash import model_hash
from .residue import ResidueScan
from .scores import ModelScores, scores_of

__all__ = ["build_evidence", "evidence_schema"]

FORMAT = "grmu_sk evidence"
FORMAT_VERSION = 1
STATEMENT = (
    "This is empirical evidence and not a certificate: it reports what was measured on the rows "
    "and with the attacks named here. It does not prove that nothing about the forgotten rows can "
    "be learned from the model, and another test may find what these did not."
)
SCHEMA = "evidence.schema.json"
_LONGEST_VALUE = 400


def evidence_schema() -> str:
    """Return the JSON Schema of the evidence.

    Returns
    -------
    str
        A JSON document, draft 2020-12.

    Examples
    --------
    >>> import json
    >>> from grmu_sk.audit import evidence_schema
    >>> json.loads(evidence_schema())["title"]
    'Evidence about an unlearned model'
    """
    return files("grmu_sk.audit").joinpath("data", SCHEMA).read_text(encoding="utf-8")


def build_evidence(
    unlearner: BaseUnlearner,
    X: Any = None,
    y: ArrayLike | None = None,
    groups: Any = None,
    *,
    before: Any = None,
    gold: Any = None,
    remaining: tuple[Any, ArrayLike] | None = None,
    forgotten: tuple[Any, ArrayLike] | None = None,
    training: tuple[ArrayLike, Any] | None = None,
    attacks: Iterable[AttackResult] = (),
    residue: ResidueScan | None = None,
    gate: AcceptanceGate | GateResult | None = None,
    title: str = "Unlearning report",
    request_id: str = "",
    received: str = "",
    reason: str = "",
    hash_before: str = "",
    created: datetime | None = None,
    n_bootstrap: int = 500,
    confidence: float = 0.95,
    random_state: int = 0,
) -> dict[str, Any]:
    """Collect what is known about a request and the model that carried it out, as JSON values.

    Parameters
    ----------
    unlearner : BaseUnlearner
        Fitted, after the request.
    X : array-like of shape (n_samples, ...), default=None
        Test inputs. Without them nothing is measured, and the report says so.
    y : array-like of shape (n_samples,), default=None
        Test labels.
    groups : array-like of shape (n_samples,) or (n_samples, n_attributes), default=None
        Protected attribute of the test rows.
    before, gold : estimator, ModelScores or None, default=None
        The model before the request, and RETRAIN + REWEIGHT: the models themselves, or what
        :func:`measure` said of them.
    remaining, forgotten : tuple of (X, y), default=None
        Training rows of each kind, for RA and UA.
    training : tuple of (y, groups), default=None
        Labels and attributes given to ``fit``, for the group mix, if the rows are not stored.
    attacks : iterable of AttackResult, default=()
        What attacks found, such as the result of :func:`audit_unlearning`.
    residue : ResidueScan or None, default=None
        What a scan found.
    gate : AcceptanceGate, GateResult or None, default=None
        The conditions, or what was decided. None means a gate of default tolerances.
    title, request_id, received, reason : str
        What the reader should know about the request.
    hash_before : str, default=""
        What :func:`model_hash` said of the model before.
    created : datetime or None, default=None
        Time of the report; None means now.
    n_bootstrap, confidence, random_state : int, float, int
        Of the intervals, see :func:`measure`.

    Returns
    -------
    dict
        As :func:`evidence_schema` describes it.

    Raises
    ------
    NotFittedError
        If the unlearner is not fitted.
    ValueError
        If only some of the test rows' X, y and groups are given, or they do not fit.

    See Also
    --------
    write_report : Writes it to files.

    Examples
    --------
    >>> from grmu_sk import FineTuneUnlearner
    >>> from grmu_sk.audit import build_evidence
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:100]] for name in ("images", "target", "groups"))
    >>> evidence = build_evidence(FineTuneUnlearner(random_state=0).fit(X, y, a).unlearn([3]))
    >>> evidence["request"]["n_forgotten"], evidence["gate"]["passed"]
    (1, False)
    """
    check_types(build_evidence, locals())
    check_is_fitted(unlearner)
    given = [value is not None for value in (X, y, groups)]
    if any(given) and not all(given):
        raise ValueError("Test rows need all of X, y and groups; some are missing.")
    measuring: dict[str, Any] = {
        "forget_groups": unlearner.forget_groups_ or None,
        "n_bootstrap": n_bootstrap,
        "confidence": confidence,
        "random_state": random_state,
        "remaining": remaining,
        "forgotten": forgotten,
        "fitted": unlearner,
    }

    def scores(name: str, model: Any) -> ModelScores | None:
        if X is None or y is None:
            return model if isinstance(model, ModelScores) else None
        return scores_of(name, model, X, y, groups, **measuring)

    found = {
        "after": scores("unlearner", unlearner),
        "before": scores("before", before),
        "gold": scores("gold", gold),
    }
    attacks = list(attacks)
    if not isinstance(gate, GateResult):
        gate = (gate or AcceptanceGate()).decide(
            found["after"],
            before=found["before"],
            gold=found["gold"],
            attacks=attacks,
            residue=residue,
        )
    moment = (created or datetime.now(UTC)).astimezone(UTC)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "statement": STATEMENT,
        "title": title,
        "created": moment.isoformat(timespec="seconds"),
        "gate": gate.to_dict(),
        "request": {
            "id": request_id,
            "received": received,
            "reason": reason,
            **_request(unlearner),
        },
        "group_mix": _mix(unlearner, training),
        "method": _method(unlearner),
        "model": {"hash_before": hash_before, "hash_after": model_hash(unlearner)},
        "environment": _environment(),
        "measuring": {
            "n_test_rows": 0 if found["after"] is None else found["after"].n_rows,
            "n_bootstrap": n_bootstrap,
            "confidence": confidence,
            "random_state": random_state,
        },
        "scores": {
            name: None if value is None else value.to_dict() for name, value in found.items()
        },
        "attacks": [attack.to_dict() for attack in attacks],
        "residue": None if residue is None else residue.to_dict(),
    }


def _request(unlearner: BaseUnlearner) -> dict[str, Any]:
    n_forgotten, n_remaining = len(unlearner.forget_idx_), len(unlearner.remaining_idx_)
    return {
        "n_rows": n_forgotten + n_remaining,
        "n_forgotten": n_forgotten,
        "n_remaining": n_remaining,
        "n_requests": int(unlearner._n_requests),
        "groups": [_pair(unlearner, pair) for pair in unlearner.forget_groups_],
    }


def _pair(unlearner: BaseUnlearner, pair: Any) -> dict[str, str]:
    attribute = str(pair[1]) if unlearner._has_groups else ""
    return {"label": str(pair[0]), "attribute": attribute}


def _mix(
    unlearner: BaseUnlearner, training: tuple[ArrayLike, Any] | None
) -> list[dict[str, Any]] | None:
    labels, attributes = (None, None) if training is None else training
    mix = group_mix(unlearner, unlearner.forget_idx_, labels, attributes)
    if mix is None:
        return None
    return [
        {
            "label": str(row.label),
            "attribute": str(row.attribute),
            "trained": int(row.trained),
            "forgotten": int(row.requested),
            "remaining": int(row.remaining),
        }
        for row in mix.itertuples()
    ]


def _method(unlearner: BaseUnlearner) -> dict[str, Any]:
    net = unlearner.net_
    parameters = unlearner.get_params(deep=False)
    del parameters["estimator"]
    module = getattr(net.module_, "_orig_mod", net.module_)
    return {
        "name": str(getattr(type(unlearner), "method_name", type(unlearner).__name__)),
        "class": type(unlearner).__name__,
        "parameters": {name: _short(value) for name, value in parameters.items()},
        "seed": int(unlearner.seed_),
        "net": {
            "class": type(net).__name__,
            "module": type(module).__name__,
            "n_parameters": int(sum(value.numel() for value in module.parameters())),
            "optimizer": getattr(net.optimizer, "__name__", type(net.optimizer).__name__),
            "lr": _short(net.lr),
            "batch_size": _short(net.batch_size),
            "max_epochs": _short(net.max_epochs),
        },
        "history": _history(unlearner),
    }


def _history(unlearner: BaseUnlearner) -> list[dict[str, Any]]:
    """Return what each phase of each run did."""
    runs: list[dict[str, Any]] = []
    for row in unlearner.history_.to_list():
        phase, epoch = str(row.get("phase", "fit")), int(row.get("epoch", 0))
        last = runs[-1] if runs else None
        same = [run for run in runs if run["phase"] == phase and run["last_epoch"] < epoch]
        target = same[-1] if same else None
        if target is None:
            last = {"phase": phase, "first_epoch": epoch, "last_epoch": epoch, "last_loss": None}
            runs.append(last)
            target = last
        target["last_epoch"] = epoch
        loss = row.get("train_loss")
        if isinstance(loss, int | float) and np.isfinite(loss):
            target["last_loss"] = float(loss)
    return runs


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."


def _environment() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": {name: version(package) for name, package in PACKAGES.items()},
    }
