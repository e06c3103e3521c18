"""The evidence as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from ._markup import NOT_KNOWN, Markup, element, join, percent, table, terms, text, to_number
from .gate_result import ORDER

_STATUS = {"failed": "✕ Failed", "inconclusive": "? Not decided", "passed": "✓ Passed"}
_METRICS = {
    "TA": ("Test accuracy", "Share of test rows that are classified correctly."),
    "WG": ("Worst group", "Accuracy of the group that is served worst."),
    "GA": ("Forgotten groups", "Accuracy on the groups the deleted rows came from."),
    "EO": ("Equalized odds gap", "How much right and wrong answers differ by group; 0 is equal."),
    "DP": ("Demographic parity gap", "How much the share of each answer differs by group."),
    "EP": ("Equal opportunity gap", "How much right answers for the label differ by group."),
    "RA": ("Remaining rows", "Accuracy on training rows that were kept."),
    "UA": ("Deleted rows", "Accuracy on the deleted rows; low is not better in itself."),
}
_MODELS = {"before": "Before", "after": "After", "gold": "Retrained"}
_VERDICTS = {"leak": "failed", "inconclusive": "inconclusive", "no leak found": "passed"}
_SCANS = {"residue": "failed", "inconclusive": "inconclusive", "clean": "passed"}
_FOUND = {
    "residue": "Something is left",
    "inconclusive": "Nothing was found, but not everything could be searched",
    "clean": "Nothing was found",
}
_FEW_ROWS = 30
_MOST_LISTED = 200


def render_page(evidence: Mapping[str, Any]) -> str:
    """Return the page.

    Parameters
    ----------
    evidence : mapping
        As :func:`~grmu_sk.audit.build_evidence` returns it.

    Returns
    -------
    str
        HTML that needs no other file.

    Raises
    ------
    ValueError
        If the evidence lacks a part.
    """
    try:
        body = join(section(evidence) for section in _SECTIONS)
        title = text(evidence["title"])
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"The evidence is incomplete or damaged: {error!r}.") from error
    style = files("grmu_sk.audit").joinpath("data", "evidence.css").read_text(encoding="utf-8")
    # even if a text got through as HTML, nothing could be loaded or run
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(_plain_title(title))}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n{element('main', body)}\n</body>\n</html>\n"
    )


def _plain_title(title: Markup) -> Markup:
    return Markup(title.replace("<bdi>", "").replace("</bdi>", ""))


# sections ----------------------------------------------------------------------------------------


def _header(evidence: Mapping[str, Any]) -> Markup:
    gate, request = evidence["gate"], evidence["request"]
    statuses = [check["status"] for check in gate["checks"]]
    n_failed, n_open = statuses.count("failed"), statuses.count("inconclusive")
    if n_failed:
        kind, verdict = "failed", "Not accepted"
    elif gate["passed"]:
        kind, verdict = "passed", "Accepted"
    else:
        kind, verdict = "inconclusive", "Not decided"
    counted = (
        f"{_count(n_failed, 'check')} failed, {n_open} could not be decided, "
        f"{statuses.count('passed')} passed."
    )
    asked = (
        f"{_count(request['n_forgotten'], 'row')} of {request['n_rows']} were deleted from the "
        f"training data and unlearned by the method {evidence['method']['name']}."
    )
    return join(
        [
            element("h1", evidence["title"]),
            element("p", f"Written {_moment(evidence['created'])}", class_="soft"),
            element(
                "div",
                element("strong", verdict),
                element("p", counted),
                element("p", asked),
                class_=f"verdict {kind}",
            ),
            element("div", element("p", evidence["statement"]), class_="statement"),
        ]
    )


def _checks(evidence: Mapping[str, Any]) -> Markup:
    gate = evidence["gate"]
    checks = sorted(gate["checks"], key=lambda check: _rank(check["status"]))
    rows = [(check["name"], _status(check["status"]), check["detail"]) for check in checks]
    parts = [element("h2", "Checks"), table(["Check", "Result", "Why"], rows)]
    if gate["action"] == "retrained":
        said = "The first attempt did not pass, and the model was trained anew without the rows."
        parts.append(element("p", said))
        first = [
            (check["name"], _status(check["status"]), check["detail"])
            for check in gate["first_attempt"]
        ]
        parts.append(table(["Check of the first attempt", "Result", "Why"], first))
    return join(parts)


def _request(evidence: Mapping[str, Any]) -> Markup:
    request = evidence["request"]
    groups = join((_group(group) for group in request["groups"]), ", ")
    share = request["n_forgotten"] / max(1, request["n_rows"])
    return join(
        [
            element("h2", "What was asked"),
            terms(
                [
                    ("Request", request["id"]),
                    ("Received", request["received"]),
                    ("Reason", request["reason"]),
                    ("Training rows", request["n_rows"]),
                    ("Deleted rows", f"{request['n_forgotten']} ({percent(share)})"),
                    ("Remaining rows", request["n_remaining"]),
                    ("Requests carried out", request["n_requests"]),
                    ("Groups they came from", groups or "none"),
                ]
            ),
        ]
    )


def _group_mix(evidence: Mapping[str, Any]) -> Markup:
    title, mix = element("h2", "Who the request came from"), evidence["group_mix"]
    if mix is None:
        missing = "Not known: the training rows were not at hand when this was written."
        return join([title, element("p", missing)])
    n_trained = max(1, sum(row["trained"] for row in mix))
    n_forgotten = max(1, sum(row["forgotten"] for row in mix))
    n_remaining = max(1, sum(row["remaining"] for row in mix))
    rows = []
    for row in mix:
        before, asked = row["trained"] / n_trained, row["forgotten"] / n_forgotten
        bars = join([_bar("bar", before), _bar("bar request", asked)])
        rows.append(
            (
                _group(row),
                row["trained"],
                row["forgotten"],
                row["remaining"],
                percent(before),
                percent(row["remaining"] / n_remaining),
                f"{asked / before:.2f}" if before else NOT_KNOWN,
                element("div", bars, class_="bars"),
            )
        )
    header = ["Group", "Trained", "Deleted", "Remaining", "Share before", "Share after", "Skew", ""]
    key = join(
        [
            element("span", "", class_="key trained"),
            "share of the training rows",
            element("span", "", class_="key request"),
            "share of the request. Skew is the second over the first: 1 means that the request "
            "is spread as the training rows are.",
        ]
    )
    return join([title, table(header, rows, numbers=range(1, 7)), element("p", key, class_="soft")])


def _metrics(evidence: Mapping[str, Any]) -> Markup:
    scores, measuring = evidence["scores"], evidence["measuring"]
    title = element("h2", "How well the model works")
    if scores["after"] is None:
        return join([title, element("p", "Not measured: no test rows were given.")])
    rows = []
    for name in [*_METRICS, *(set(scores["after"]["metrics"]) - set(_METRICS))]:
        found = [_metric(scores[model], name) for model in _MODELS]
        if any(value is not None for value in found):
            called, explained = _METRICS.get(name, (name, ""))
            term = join([f"{called} ({name})", element("span", explained, class_="explained")])
            rows.append((term, *(_score(value) for value in found)))
    said = (
        f"On {measuring['n_test_rows']} test rows; below each value its "
        f"{percent(measuring['confidence'], 0)} confidence interval, from "
        f"{measuring['n_bootstrap']} bootstrap samples of the rows. Retrained is the gold "
        "standard: a new model trained on the remaining rows, with every group weighted as before."
    )
    header = ["Metric", *_MODELS.values()]
    return join([title, element("p", said), table(header, rows, numbers=range(1, 4))])


def _group_accuracy(evidence: Mapping[str, Any]) -> Markup:
    scores = evidence["scores"]
    if scores["after"] is None:
        return Markup("")
    by_model = {
        model: {(group["label"], group["attribute"]): group for group in scores[model]["groups"]}
        for model in _MODELS
        if scores[model] is not None
    }
    forgotten = {(group["label"], group["attribute"]) for group in evidence["request"]["groups"]}
    groups, rows = list(by_model["after"]), []
    for pair in groups:
        n_rows = by_model["after"][pair]["n_rows"]
        notes = ["of the request"] if pair in forgotten else []
        notes += ["few test rows"] if n_rows < _FEW_ROWS else []
        explained = element("span", ", ".join(notes), class_="explained")
        name = join([_group({"label": pair[0], "attribute": pair[1]}), explained])
        cells = [_score(by_model.get(model, {}).get(pair, {}).get("accuracy")) for model in _MODELS]
        rows.append((name, n_rows, *cells))
    header = ["Group", "Test rows", *_MODELS.values()]
    return join(
        [
            element("h2", "Accuracy of each group"),
            _figure(groups, by_model),
            table(header, rows, numbers=range(1, 5), caption="With Wilson intervals."),
        ]
    )


def _attacks(evidence: Mapping[str, Any]) -> Markup:
    title, attacks = element("h2", "Attacks on the model"), evidence["attacks"]
    if not attacks:
        said = "No attack was run: nothing is known about what the model gives away."
        return join([title, element("p", said)])
    said = (
        "A membership attack tries to tell from the model's answers whether a row was trained on. "
        "Its power is the same value on the original model, which did train on the rows: an "
        "attack that finds nothing there proves nothing, and counts as not decided. Of an AUC, 0.5 "
        "is what guessing gives; far below is telling too."
    )
    ordered = sorted(attacks, key=lambda attack: _rank(_VERDICTS.get(attack["verdict"])))
    rows = [
        (
            attack["name"],
            attack["group"],
            _interval(attack["value"], attack["low"], attack["high"]),
            _plain_number(attack["power"]),
            element("span", attack["verdict"], class_=f"status {_VERDICTS[attack['verdict']]}"),
        )
        for attack in ordered
    ]
    header = ["Attack", "Group", "Unlearned model", "Power", "Verdict"]
    return join([title, element("p", said), table(header, rows, numbers=(2, 3))])


def _residue(evidence: Mapping[str, Any]) -> Markup:
    title, residue = element("h2", "Residue"), evidence["residue"]
    if residue is None:
        said = "No scan was run: copies of the deleted rows may be left in files and caches."
        return join([title, element("p", said)])
    kind = _SCANS[residue["verdict"]]
    searched = f"{residue['n_places']} places with {residue['n_bytes']} bytes were searched."
    parts = [
        title,
        element(
            "p",
            element("span", _FOUND[residue["verdict"]], class_=f"status {kind}"),
            f". {searched}",
        ),
    ]
    if residue["findings"]:
        rows = [
            (
                finding["kind"],
                element("span", finding["place"], class_="code"),
                finding["encoding"],
                ", ".join(map(str, (finding["rows"] or finding["tensors"])[:10])),
            )
            for finding in residue["findings"][:_MOST_LISTED]
        ]
        parts.append(table(["Found", "Where", "As", "Which"], rows))
    if residue["not_searched"]:
        parts.append(element("p", "What could not be looked into:"))
        listed = residue["not_searched"][:_MOST_LISTED]
        parts.append(element("ul", *(element("li", reason) for reason in listed)))
    n_left_out = sum(
        max(0, len(residue[name]) - _MOST_LISTED) for name in ("findings", "not_searched")
    )
    if n_left_out:
        parts.append(element("p", f"{n_left_out} more are listed in the JSON.", class_="soft"))
    return join(parts)


def _method(evidence: Mapping[str, Any]) -> Markup:
    method = evidence["method"]
    net = method["net"]
    parameters = join(
        (
            element("div", element("code", f"{name} = {value}"))
            for name, value in method["parameters"].items()
        )
    )
    described = (
        f"{net['module']} with {net['n_parameters']} weights, {net['optimizer']}, learning rate "
        f"{net['lr']}, batches of {net['batch_size']}, {net['max_epochs']} epochs"
    )
    rows = [
        (
            run["phase"],
            f"{run['first_epoch']} to {run['last_epoch']}",
            _plain_number(run["last_loss"], 4),
        )
        for run in method["history"][:_MOST_LISTED]
    ]
    return join(
        [
            element("h2", "How it was done"),
            terms(
                [
                    ("Method", f"{method['name']} ({method['class']})"),
                    ("Parameters", parameters),
                    ("Seed", method["seed"]),
                    ("Net", described),
                ]
            ),
            table(["Phase", "Epochs", "Last loss"], rows, numbers=(2,)),
        ]
    )


def _provenance(evidence: Mapping[str, Any]) -> Markup:
    model, environment = evidence["model"], evidence["environment"]
    packages = ", ".join(f"{name} {found}" for name, found in environment["packages"].items())
    return join(
        [
            element("h2", "Which model, and with what"),
            terms(
                [
                    ("Hash before (SHA-256)", _code(model["hash_before"])),
                    ("Hash after (SHA-256)", _code(model["hash_after"])),
                    ("Python", environment["python"]),
                    ("System", f"{environment['system']}, {environment['machine']}"),
                    ("Packages", packages),
                    ("Seed of the intervals", evidence["measuring"]["random_state"]),
                ]
            ),
        ]
    )


def _glossary(evidence: Mapping[str, Any]) -> Markup:
    entries = [
        ("Row", "One example of the training data, such as one person's record or picture."),
        ("Group", "All rows with the same label and the same protected attribute."),
        ("Unlearning", "Changing a trained model so that it is as if rows had never been there."),
        ("Retrained", "A model trained without the rows from the start: exact, and costly."),
        ("Not decided", "The check could not be made, or has too little power to say anything."),
        ("Residue", "Deleted rows, or weights trained on them, left in a file or in memory."),
    ]
    return join([element("h2", "Words used here"), terms(entries)])


_SECTIONS = (
    _header,
    _checks,
    _request,
    _group_mix,
    _metrics,
    _group_accuracy,
    _attacks,
    _residue,
    _method,
    _provenance,
    _glossary,
)


# pieces ------------------------------------------------------------------------------------------


def _moment(written: Any) -> str:
    return str(written).replace("T", " ").replace("+00:00", " UTC")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _rank(status: Any) -> int:
    return ORDER.index(status) if status in ORDER else 0


def _status(status: str) -> Markup:
    known = status if status in _STATUS else "failed"
    return element("span", _STATUS[known], class_=f"status {known}")


def _group(pair: Mapping[str, Any]) -> Markup:
    if pair["attribute"] == "":
        return text(pair["label"])
    return join(["(", pair["label"], ", ", pair["attribute"], ")"])


def _bar(kind: str, share: float) -> Markup:
    if not share:
        return Markup("")
    return element("span", "", class_=kind, style=f"width:{100 * share:.1f}%")


def _code(value: str) -> Markup | str:
    return element("code", value) if value else ""


def _metric(scores: Mapping[str, Any] | None, name: str) -> Mapping[str, Any] | None:
    return None if scores is None else scores["metrics"].get(name)


def _score(score: Mapping[str, Any] | None) -> Markup:
    if score is None or to_number(score["value"]) is None:
        return text(NOT_KNOWN)
    if to_number(score["low"]) is None:
        return text(percent(score["value"]))
    interval = f" [{percent(score['low'])}, {percent(score['high'])}]"
    return join([percent(score["value"]), element("small", interval, class_="soft")])


def _interval(value: Any, low: Any, high: Any) -> Markup:
    shown = _plain_number(value)
    if to_number(low) is None or to_number(high) is None:
        return text(shown)
    ends = f" [{_plain_number(low)}, {_plain_number(high)}]"
    return join([shown, element("small", ends, class_="soft")])


def _plain_number(value: Any, digits: int = 3) -> str:
    number = to_number(value)
    return NOT_KNOWN if number is None else f"{number:.{digits}f}"


# the figure --------------------------------------------------------------------------------------

_WIDTH, _LEFT, _RIGHT, _ROW, _TOP = 400, 8, 8, 58, 14
_LABEL_LETTERS = 48


def _figure(groups: list[tuple[str, str]], by_model: Mapping[str, Any]) -> Markup:
    """Draw the accuracy of each group: a mark for each model, a line for its interval."""
    height = _TOP + _ROW * len(groups) + 26
    drawn = [_axis(height)]
    for place, pair in enumerate(groups):
        top = _TOP + place * _ROW
        name = f"({pair[0]}, {pair[1]})" if pair[1] else pair[0]
        name = name if len(name) <= _LABEL_LETTERS else name[: _LABEL_LETTERS - 1] + "…"
        drawn.append(element("text", _plain_title(text(name)), x=_LEFT, y=top + 12))
        for lane, model in enumerate(model for model in _MODELS if model in by_model):
            group = by_model[model].get(pair)
            if group is not None:
                drawn.append(_mark(model, group["accuracy"], top + 22 + 12 * lane))
    label = "Accuracy of each group, with intervals: the figures are in the table below."
    svg = element(
        "svg",
        *drawn,
        viewBox=f"0 0 {_WIDTH} {height}",
        role="img",
        aria_label=label,
        xmlns="http://www.w3.org/2000/svg",
    )
    shapes = {"before": "○ before", "after": "● after", "gold": "◇ retrained"}
    key = ", ".join(shapes[model] for model in _MODELS if model in by_model)
    return element("figure", svg, element("figcaption", f"{key}. Lines are confidence intervals."))


def _at(share: float) -> float:
    return round(_LEFT + min(1.0, max(0.0, share)) * (_WIDTH - _LEFT - _RIGHT), 1)


def _axis(height: int) -> Markup:
    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x = _at(tick)
        parts.append(element("line", x1=x, x2=x, y1=_TOP - 8, y2=height - 22, stroke="#d0d7de"))
        anchor = "start" if tick == 0 else "end" if tick == 1 else "middle"
        shown = f"{100 * tick:.0f}%"
        parts.append(element("text", shown, x=x, y=height - 6, text_anchor=anchor, class_="soft"))
    return join(parts)


def _mark(model: str, score: Mapping[str, Any], y: float) -> Markup:
    value, low, high = (to_number(score[name]) for name in ("value", "low", "high"))
    if value is None:
        return Markup("")
    colour = {"before": "#57606a", "after": "#1f4e8c", "gold": "#b3541e"}[model]
    parts = []
    if low is not None and high is not None:
        parts.append(
            element("line", x1=_at(low), x2=_at(high), y1=y, y2=y, stroke=colour, stroke_width=2)
        )
    x = _at(value)
    paint = {"stroke": colour, "stroke_width": 2, "fill": colour if model == "after" else "#fff"}
    if model == "gold":
        points = f"{x},{y - 5} {x + 5},{y} {x},{y + 5} {x - 5},{y}"
        parts.append(element("polygon", points=points, **paint))
    else:
        parts.append(element("circle", cx=x, cy=y, r=4, **paint))
    return join(parts)
