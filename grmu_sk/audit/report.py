"""Write the evidence: a page to read, and a document for programs."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base import BaseUnlearner
from ..utils._files import require_replaceable
from ..utils.arguments import about, check_types
from ._page import render_page
from .evidence import FORMAT, FORMAT_VERSION, build_evidence

__all__ = ["read_evidence", "write_report"]


def write_report(
    unlearner: BaseUnlearner | Mapping[str, Any],
    path: str | os.PathLike[str],
    X: Any = None,
    y: Any = None,
    groups: Any = None,
    **evidence: Any,
) -> dict[str, Any]:
    """Write one self-contained HTML page, and the same as JSON beside it.

    The page needs no network, prints, and runs no script; whatever comes from outside (labels,
    attribute values, reasons, places of findings) is shown as text. What failed or could not be
    decided stands first. The JSON has the page's name with the suffix ``.json``.

    Parameters
    ----------
    unlearner : BaseUnlearner or mapping
        Fitted, after the request; or evidence that was built or read before.
    path : str or path-like
        The page; an existing one is replaced, in one step.
    X, y, groups : array-like, default=None
        Test rows.
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
    check_types(write_report, locals())
    page = Path(path)
    for place in (page, page.with_suffix(".json") if page.name else page):
        require_replaceable(place)
    if page.suffix.lower() == ".json":
        raise ValueError(f"{page} is the name of the JSON beside the page: give the page's own.")
    if isinstance(unlearner, Mapping):
        if evidence or X is not None:
            raise ValueError("Evidence that was built already takes no further arguments.")
        content = dict(unlearner)
    else:
        content = build_evidence(unlearner, X, y, groups, **evidence)
    with about("unlearner"):
        document = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    html = render_page(content)
    _replace({page.with_suffix(".json"): document + "\n", page: html})
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
        If it is something else, or of a newer format.

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
    check_types(read_evidence, locals())
    raw = Path(path).read_bytes()
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not evidence that write_report wrote: {error}.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is not evidence that write_report wrote: it has another format.")
    found = content.get("format_version")
    if type(found) is not int or not 1 <= found <= FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {found!r}; this version of grmu_sk reads up to "
            f"{FORMAT_VERSION}. Update grmu_sk."
        )
    return content


def _replace(texts: dict[Path, str]) -> None:
    """Write files beside their places and move them there once all of them are whole."""
    temporary = {path: path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp") for path in texts}
    try:
        for path, text in texts.items():
            # a label may hold half of a surrogate pair, which no encoding can write
            with open(temporary[path], "xb") as file:
                file.write(text.encode("utf-8", errors="replace"))
                file.flush()
                os.fsync(file.fileno())
        for path in texts:
            os.replace(temporary[path], path)
    except BaseException:
        for place in temporary.values():
            place.unlink(missing_ok=True)
        raise
