"""The columns of a table of results, and the metrics of a model."""

from __future__ import annotations

RESULT_COLUMNS = [
    "dataset",
    "forget",
    "ratio",
    "seed",
    "selection",
    "method",
    "reweight",
    "variant",
    "metric",
    "value",
]

#: What every model is measured by, in percent.
METRICS = ("RA", "UA", "TA", "MIA", "MIA_balanced", "EO", "GA", "DP", "EP", "WG")

#: Which epoch of the nets that are trained from scratch is kept: best on validation rows, or last.
SELECTIONS = ("best", "last")
