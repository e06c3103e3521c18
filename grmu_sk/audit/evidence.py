"""Evidence about an unlearned model: one document for programs, and the same as a page to read."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError
from markupsafe import Markup
from numpy.typing import ArrayLike

from ..files import require_replaceable, write_atomically
from ..fingerprints import versions
from ..groups import Pair
from ..metrics.fidelity import log_odds_of_label, row_distance_score
from ..metrics.gap import FEWEST_ROWS, hardest_hit
from ..pipelines import unlearner_of
from ..validation import check_option
from .gate import ORDER, STATUS_OF, AcceptanceGate, GateResult
from .leakage import LeakageFinding
from .ledger import DeletionRequest, model_hash
from .preflight import group_mix
from .residue import ResidueScan
from .scores import ModelScores, as_json, from_json, measure_models

FORMAT = "grmu_sk evidence 1"
#: What is told of a net, beside the number of its weights.
_OF_NET = ("module", "criterion", "optimizer", "lr", "batch_size", "max_epochs")
#: What a ledger knows beyond what a reader has to.
_NOT_TOLD = ("host", "pid", "parameters", "reason")
#: What evidence is written as, by ``kind``.
KINDS = ("html", "json", "card", "reply", "record")
STATEMENT = (
    "This is empirical evidence and not a certificate: it reports what was measured on the rows "
    "and with the attacks named here. It does not prove that nothing about the forgotten rows can "
    "be learned from the model, and another test may find what these did not."
)


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
    return files("grmu_sk.audit").joinpath("data", "evidence.schema.json").read_text("utf-8")


def build_evidence(
    unlearner: Any,
    X: Any = None,
    y: ArrayLike | None = None,
    groups: Any = None,
    *,
    before: Any = None,
    gold: Any = None,
    remaining: tuple[Any, ArrayLike] | None = None,
    forgotten: tuple[Any, ArrayLike] | None = None,
    training: tuple[ArrayLike, Any] | None = None,
    attacks: Iterable[LeakageFinding] = (),
    residue: ResidueScan | None = None,
    gate: AcceptanceGate | GateResult | None = None,
    title: str = "Unlearning report",
    request_id: str = "",
    received: str = "",
    reason: str = "",
    hash_before: str = "",
    request: DeletionRequest | None = None,
    created: datetime | None = None,
    n_bootstrap: int = 500,
    confidence: float = 0.95,
    random_state: int = 0,
) -> dict[str, Any]:
    """Collect what is known about a request and the model that carried it out, as JSON values.

    Parameters
    ----------
    unlearner : BaseUnlearner or Pipeline
        Fitted, after the request; a pipeline ends in the unlearner.
    X : array-like of shape (n_samples, ...), default=None
        Test inputs. Without them nothing is measured, and the report says so.
    y : array-like of shape (n_samples,), default=None
        Test labels.
    groups : array-like of shape (n_samples,) or (n_samples, n_attributes), default=None
        Protected attribute of the test rows.
    before, gold : estimator, ModelScores or None, default=None
        The model before the request, and RETRAIN + REWEIGHT: the models themselves, or what
        :func:`~grmu_sk.audit.measure` said of them.
    remaining, forgotten : tuple of (X, y), default=None
        Training rows of each kind, for RA and UA; the forgotten ones also for the distance of their
        log-odds to those of a gold model, see :func:`~grmu_sk.metrics.row_distance_score`.
    training : tuple of (y, groups), default=None
        Labels and attributes given to ``fit``, for the group mix, if the rows are not stored.
    attacks : iterable of LeakageFinding, default=()
        What attacks found, such as the result of :func:`audit_unlearning`.
    residue : ResidueScan or None, default=None
        What a scan found.
    gate : AcceptanceGate, GateResult or None, default=None
        The conditions, or what was decided. None means a gate of default tolerances.
    title, request_id, received, reason : str
        What the reader should know about the request.
    hash_before : str, default=""
        What :func:`model_hash` said of the model before.
    request : DeletionRequest or None, default=None
        The request as a ledger keeps it. It also fills in which of the four before are empty.
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
    if len({value is None for value in (X, y, groups)}) > 1:
        raise ValueError("Test rows need all of X, y and groups; some are missing.")
    inside, attacks = unlearner_of(unlearner), list(attacks)
    if request is not None:
        request_id, reason = request_id or str(request.number), reason or request.reason
        received = received or request.received
        hash_before = hash_before or request.model_before or ""
    drawn: Any = {"n_bootstrap": n_bootstrap, "confidence": confidence}
    drawn["random_state"] = random_state
    models = {"after": unlearner, "before": before, "gold": gold}
    rows: Any = {"remaining": remaining, "forgotten": forgotten}
    found = measure_models(unlearner, models, X, y, groups, **rows, **drawn)
    if not isinstance(gate, GateResult):
        gate = (gate or AcceptanceGate()).decide(**found, attacks=attacks, residue=residue)
    return {
        "format": FORMAT,
        "statement": STATEMENT,
        "title": title,
        "created": (created or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds"),
        "gate": as_json(gate),
        "request": {
            "id": request_id,
            "received": received,
            "reason": reason,
            "n_rows": inside._n_rows,
            "n_forgotten": len(inside.forget_idx_),
            "n_remaining": len(inside.remaining_idx_),
            "n_requests": int(inside._n_requests),
            "groups": [
                {"label": str(label), "attribute": str(value) if inside._has_groups else ""}
                for label, value in inside.forget_groups_
            ],
        },
        "ledger": request
        and {name: fact for name, fact in as_json(request).items() if name not in _NOT_TOLD},
        "group_mix": _mix(inside, training or (None, None)),
        "method": _method(inside),
        "model": {"hash_before": hash_before, "hash_after": model_hash(inside)},
        "environment": {"system": platform.platform(), **versions()},
        "measuring": {"n_test_rows": found["after"].n_rows if found["after"] else 0, **drawn},
        "scores": {name: scores and as_json(scores) for name, scores in found.items()},
        "row_distance": _row_distance(models, forgotten),
        "damage": _damage(found, inside.forget_groups_) if inside._has_groups else None,
        "attacks": [as_json(attack) for attack in attacks],
        "residue": None if residue is None else residue.to_dict(),
    }


def _mix(unlearner: Any, training: tuple[Any, Any]) -> list[dict[str, Any]] | None:
    mix = group_mix(unlearner, unlearner.forget_idx_, *training)
    if mix is None:
        return None
    mix = mix.drop(columns=["present", "requested"])
    mix["forgotten"] = mix["trained"] - mix["remaining"]
    return mix.astype({"label": str, "attribute": str}).to_dict("records")


def _row_distance(models: Mapping[str, Any], forgotten: Any) -> dict[str, float] | None:
    """Return how far models are from gold on each forgotten row, if all odds are finite."""
    asked = {name: model for name, model in models.items() if hasattr(model, "predict_log_proba")}
    if forgotten is None or "gold" not in asked:
        return None
    X, y = forgotten
    odds = {
        name: log_odds_of_label(y, model.predict_log_proba(X), classes=model.classes_)
        for name, model in asked.items()
    }
    gold = odds.pop("gold")
    if not np.isfinite([gold, *odds.values()]).all():
        return None
    return {name: row_distance_score(own, gold[None]) for name, own in odds.items()}


def _damage(scores: Mapping[str, Any], asked: Iterable[Pair]) -> dict[str, Any] | None:
    """Return the largest loss of a group nobody asked about, against gold if there is one."""
    against = "gold" if scores["gold"] else "before"
    if scores["after"] is None or scores[against] is None:
        return None
    was, now = (
        {(group.label, group.attribute): group for group in scores[name].groups}
        for name in (against, "after")
    )
    lost = {
        pair: was[pair].accuracy.value - now[pair].accuracy.value for pair in now if pair in was
    }
    forgotten = {(str(label), str(value)) for label, value in asked}
    worst = hardest_hit(lost, {pair: now[pair].n_rows for pair in lost}, forgotten)
    return worst and {"against": against, **as_json(now[worst]), "loss": lost[worst]}


def _method(unlearner: Any) -> dict[str, Any]:
    parameters = unlearner.get_params(deep=False)
    del parameters["estimator"]
    return {
        "name": str(getattr(type(unlearner), "method_name", type(unlearner).__name__)),
        "class": type(unlearner).__name__,
        "effect": unlearner._effect,
        "parameters": {name: _short(value) for name, value in parameters.items()},
        "seed": int(unlearner.seed_),
        "net": _trained(unlearner),
        "history": _history(unlearner),
    }


def _trained(unlearner: Any) -> dict[str, Any]:
    """Return what the net, or the classifier in its place, is made of."""
    if unlearner._takes_net:
        net = unlearner.net_
        n_weights = sum(value.numel() for value in net.module_.parameters())
        return {n: _short(getattr(net, n)) for n in _OF_NET} | {"n_weights": n_weights}
    source, how = unlearner._source(), {"reweighted_by": unlearner.reweighted_by_}
    known = {"class": type(source), **source.get_params(deep=False), **how}
    return {name: _short(value) for name, value in known.items()}


def _history(unlearner: Any) -> list[dict[str, Any]]:
    """Return how many epochs each phase had, and its last loss."""
    phases: dict[str, dict[str, Any]] = {}
    for row in unlearner.history_.to_list():
        name = str(row.get("phase", "fit"))
        phase = phases.setdefault(name, {"phase": name, "n_epochs": 0, "last_loss": None})
        phase["n_epochs"] += 1
        loss = float(row.get("train_loss", math.nan))
        phase["last_loss"] = loss if math.isfinite(loss) else None
    return list(phases.values())


def _short(value: Any) -> str:
    return str(getattr(value, "__name__", repr(value)))[:400]


def write_report(
    unlearner: Any,
    path: str | os.PathLike[str],
    X: Any = None,
    y: Any = None,
    groups: Any = None,
    *,
    kind: Literal["html", "json", "card", "reply", "record"] = "html",
    **evidence: Any,
) -> dict[str, Any]:
    """Write one self-contained HTML page, and the same as JSON beside it; or another document.

    The page needs no network, prints, and runs no script; whatever comes from outside (labels,
    attribute values, reasons, places of findings) is shown as text. What failed or could not be
    decided stands first. The JSON has the page's name with the suffix ``.json``.

    The other documents say in Markdown what the evidence holds, and what it lacks. What only you
    know is left open in [brackets]. They are drafts to be read before use, and not legal advice.

    Parameters
    ----------
    unlearner : BaseUnlearner, Pipeline or mapping
        Fitted, after the request; or evidence that was built or read before.
    path : str or path-like
        The page; an existing one is replaced, in one step.
    X, y, groups : array-like, default=None
        Test rows.
    kind : {"html", "json", "card", "reply", "record"}, default="html"
        What is written: the page with its JSON, the JSON alone, a model card, a letter to who asked
        to be forgotten, or a record for an auditor.
    **evidence : dict
        Further arguments of :func:`build_evidence`: ``before``, ``gold``, ``attacks``,
        ``residue``, ``gate``, ``title``, ``reason``, ...

    Returns
    -------
    dict
        The evidence, as in the JSON.

    Raises
    ------
    NotFittedError
        If the unlearner is not fitted.
    OSError
        If the files cannot be written.
    ValueError
        If the path ends in ``.json``, or arguments do not fit.

    See Also
    --------
    evidence_schema : The schema of the JSON.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from grmu_sk import FineTuneUnlearner
    >>> from grmu_sk.audit import write_report
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:100]] for name in ("images", "target", "groups"))
    >>> model = FineTuneUnlearner(random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     evidence = write_report(model, Path(folder) / "report.html", reason="erasure request")
    ...     sorted(file.name for file in Path(folder).iterdir())
    ['report.html', 'report.json']
    """
    check_option(kind, KINDS, name="kind")
    place = Path(path)
    if kind != "json" and place.suffix.lower() == ".json":
        raise ValueError(f"{place} is the name of the JSON beside the page: give the page's own.")
    places = (place, place.with_suffix(".json")) if kind == "html" and place.name else (place,)
    for each in places:
        require_replaceable(each)
    if not isinstance(unlearner, Mapping):
        content = build_evidence(unlearner, X, y, groups, **evidence)
    elif evidence or X is not None:
        raise ValueError("Evidence that was built already takes no further arguments.")
    else:
        content = dict(unlearner)
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    # a label may hold half of a surrogate pair, which no encoding can write
    document = text.encode("utf-8", errors="replace")
    shown = document if kind == "json" else _text(content, kind, document)
    for each, written in reversed(list(zip(places, (shown, document), strict=False))):
        write_atomically(each, written)
    return content


def read_evidence(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the JSON that :func:`write_report` wrote.

    Parameters
    ----------
    path : str or path-like
        The JSON file.

    Returns
    -------
    dict
        The evidence.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is something else, or of another version's format.

    Examples
    --------
    >>> import tempfile
    >>> from grmu_sk.audit import read_evidence
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     try:
    ...         read_evidence(file.name)
    ...     except ValueError as error:
    ...         print("is not evidence" in str(error))
    True
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not evidence that write_report wrote: {error}.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is not evidence in the format {FORMAT!r} of this version.")
    return content


def findings_of(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return what evidence says, as :meth:`AcceptanceGate.decide` takes it.

    Parameters
    ----------
    evidence : mapping
        As :func:`read_evidence` returns it.

    Returns
    -------
    dict
        ``after``, ``before``, ``gold``, ``attacks`` and ``residue``.

    Raises
    ------
    ValueError
        If it lacks a part.
    """
    try:
        told = {name: evidence["scores"][name] for name in ("after", "before", "gold")}
        models = {n: scores and from_json(ModelScores, scores) for n, scores in told.items()}
        attacks = from_json(list[LeakageFinding], evidence["attacks"])
        residue = evidence["residue"] and ResidueScan.from_dict(evidence["residue"])
        return models | {"attacks": attacks, "residue": residue}
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"The evidence is incomplete or damaged: {error!r}.") from error


# documents ----------------------------------------------------------------------------------------

_UNKNOWN = "\u2013"
# Joiners that some scripts and symbols need.
_HARMLESS = {"\n", "\t", "\u200c", "\u200d", "\u00ad"}


def _text(evidence: dict[str, Any], kind: str, document: bytes) -> bytes:
    """Return one page of HTML that needs no other file, or one document in Markdown."""
    is_page = kind == "html"
    environment = Environment(
        loader=PackageLoader("grmu_sk.audit", "data"),
        autoescape=True,
        finalize=_visible if is_page else _in_markdown,
        trim_blocks=not is_page,
        lstrip_blocks=not is_page,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "percent": lambda value, digits=1: _shown(value, f".{digits}%"),
        "fixed": lambda value, digits=3: _shown(value, f".{digits}f"),
        "day": lambda moment: re.sub(r"^([\d-]{10})T\S+$", r"\1", moment),
        "place": lambda share: round(8 + 384 * min(1.0, max(0.0, share)), 1),
        "worst_first": lambda found, key: sorted(
            found, key=lambda item: ORDER.index(STATUS_OF[item[key]])
        ),
    }
    environment.globals |= {
        "unknown": _UNKNOWN,
        "kinds": STATUS_OF,
        "most_listed": 200,
        "few": FEWEST_ROWS,
        "sha256": sha256(document).hexdigest(),
    }
    try:
        text = environment.get_template("page.html" if is_page else f"{kind}.md").render(evidence)
    except (AttributeError, LookupError, TypeError, ValueError, TemplateError) as error:
        raise ValueError(f"The evidence is incomplete or damaged: {error!r}.") from error
    text = text if is_page else re.sub("\n{3,}", "\n\n", text.strip() + "\n")
    return text.encode("utf-8", errors="replace")


def _in_markdown(value: Any) -> Any:
    """Write a value so that nothing in it is read as Markdown or HTML, on one line."""
    if isinstance(value, Markup):
        return value
    plain = re.sub(r"\s+", " ", _visible(value))
    return Markup(re.sub(r"[\\`*_\[\]<>&|~#$]|:(?=//)|(?<=www)\.", r"\\\g<0>", plain))


def _visible(value: Any) -> Any:
    """Spell out what may reorder or hide the text around it."""
    if isinstance(value, Markup):  # a piece of the template
        return value
    return "".join(
        f"\\u{{{ord(letter):x}}}"
        if unicodedata.category(letter) in ("Cc", "Cf", "Cs") and letter not in _HARMLESS
        else letter
        for letter in str(value)
    )


def _shown(value: Any, form: str) -> str:
    return _UNKNOWN if value is None else format(value, form)
