"""Pages made from the code: the table of methods, the API reference, the bibliography.

A new method, metric or display appears on them without an edit.
"""

import importlib
import inspect
import re
from pathlib import Path
from typing import NamedTuple

from grmu_sk.unlearners import all_unlearners


class Part(NamedTuple):
    """Names of a module under one heading; no names are all that stand under no other one."""

    title: str
    module: str
    names: tuple[str, ...] = ()
    text: str = ""


# pages of the API reference, by what somebody wants to do: file, title, what stands above, parts
GROUPS = [
    (
        "reweighting",
        "Reweighting and groups",
        "REWEIGHT as sampling probabilities, and functions that draw forget sets.",
        [
            Part("Sampling by group", "grmu_sk", ("ReweightSampler", "sample_forget_set")),
            Part(
                "For imbalanced-learn",
                "grmu_sk.resampling",
                text="Needs the extra ``imblearn``.",
            ),
        ],
    ),
    (
        "metrics",
        "Metrics and scorers",
        "How close a model is to one that never saw the rows; see :doc:`/guide/metrics`.",
        [
            Part(
                "Metrics",
                "grmu_sk.metrics",
                text="Plain functions in the style of :mod:`sklearn.metrics`.",
            ),
            Part(
                "Scorers",
                "grmu_sk.scorers",
                text="For scikit-learn's model selection; see :doc:`/guide/sklearn`.",
            ),
        ],
    ),
    (
        "model_selection",
        "Model selection",
        "Choosing parameters and methods, on rows that are not used to judge them.",
        [
            Part("Folds", "grmu_sk.model_selection"),
            Part("Comparison in memory", "grmu_sk.comparison"),
            Part(
                "Tables of results",
                "grmu_sk.results",
                ("Row", "read_results", "summarize", "format_table", "check_results"),
            ),
        ],
    ),
    (
        "evidence",
        "Evidence",
        "To answer a request and show what was done; see :doc:`/guide/trust`.",
        [
            Part(
                "Ledger of requests",
                "grmu_sk.audit",
                (
                    "DeletionLedger",
                    "DeletionRequest",
                    "LedgerEntry",
                    "create_key_file",
                    "model_hash",
                    "LedgerError",
                    "LedgerBusyError",
                    "LedgerDamagedError",
                    "LedgerWriteError",
                ),
            ),
            Part(
                "Checkpoints of long requests",
                "grmu_sk",
                ("UnlearningCheckpoint", "CheckpointError"),
            ),
            Part("Residue", "grmu_sk.audit", ("scan_residue", "ResidueScan", "Finding")),
            Part(
                "Leakage",
                "grmu_sk.audit",
                (
                    "audit_unlearning",
                    "ReferenceModels",
                    "LeakageAudit",
                    "LeakageFinding",
                    "lira_scores",
                    "rmia_scores",
                ),
            ),
            Part("Preflight, report and gate", "grmu_sk.audit"),
        ],
    ),
    (
        "saving",
        "Saving and several devices",
        "",
        [
            Part(
                "Saving and loading",
                "grmu_sk.persistence",
                text="Without pickle; see :doc:`/guide/persistence`.",
            ),
            Part(
                "Several devices",
                "grmu_sk.distributed",
                text="By ``torch.distributed``; see :doc:`/guide/processes`.",
            ),
        ],
    ),
    (
        "datasets",
        "Data sets and nets",
        "Two built-in data sets that need no download, readers of others, and small nets.",
        [
            Part("Data sets", "grmu_sk.datasets"),
            Part("Nets", "grmu_sk.nets"),
        ],
    ),
    (
        "figures",
        "Figures",
        "As scikit-learn's Display classes, and the colours they use, for figures of your own.",
        [Part("Displays", "grmu_sk.plotting")],
    ),
    (
        "extending",
        "Extending",
        "For those who write a method; see :doc:`/guide/extending`.",
        [
            Part(
                "Base classes",
                "grmu_sk.unlearners.approximate",
                ("ApproximateUnlearner", "RetainingUnlearner"),
            ),
            Part("What a method is given", "grmu_sk.base", ("BaseUnlearner", "Request")),
            Part("What a method returns", "grmu_sk.training", ("Phase", "Batch")),
            Part(
                "Parameters",
                "grmu_sk.parameters",
                (
                    "parameter",
                    "one_of",
                    "WithParameters",
                    "COUNT",
                    "LEARNING_RATE",
                    "NOT_NEGATIVE",
                    "POSITIVE",
                    "SHARE",
                ),
            ),
            Part("Reading a net", "grmu_sk.outputs", ("log_probabilities",)),
            Part("Mutual information", "grmu_sk", ("MINE",)),
            Part("Parts of MINE", "grmu_sk.mutual_information"),
            Part("Registry", "grmu_sk.unlearners", ("all_unlearners",)),
            Part("Checks", "grmu_sk.testing"),
        ],
    ),
    (
        "paper",
        "The paper's protocol",
        "What the commands ``grmu bench``, ``table`` and ``figure`` are made of; see "
        ":doc:`/guide/paper`.",
        [
            Part("Problems, settings, jobs, tables", "grmu_sk.benchmark"),
            Part("Callbacks of its trainings", "grmu_sk.benchmark.recipes"),
            Part(
                "Nets",
                "grmu_sk.benchmark.nets",
                text="With random weights or pretrained ones; BERT needs the extra ``text``.",
            ),
        ],
    ),
]
REFERENCE = re.compile(r"^\.\. \[\d+\] (.+(?:\n[ ]+.+)*)", re.MULTILINE)


# the methods -------------------------------------------------------------------------------------


def forgets_exactly(cls):
    """Whether no weight that a row to forget has shaped is left, by the method's construction."""
    no_trace = not cls._needs_trained_net or cls._keeps_unaffected_weights
    return no_trace and not cls._phases_that_read_forgotten


def group_need(cls):
    """Say whether a method needs groups: always, with REWEIGHT only, or never."""
    switch = inspect.signature(cls).parameters.get("reweight")
    if not isinstance(inspect.getattr_static(cls, "_needs_groups"), property):
        return "yes" if cls._needs_groups else "no"
    if switch is None:
        return "no"
    return f"with ``reweight`` (default: {'on' if switch.default else 'off'})"


def kind(cls):
    """Say how a method forgets."""
    if not cls._changes_net:
        return "not at all"
    return "exact" if forgets_exactly(cls) else "approximate"


def summary(obj):
    """Return the first sentence of a docstring."""
    return inspect.getdoc(obj).split("\n\n")[0].replace("\n", " ")


def method_table():
    """Return a list-table of all methods of the registry, exact ones first."""
    order = ["exact", "approximate", "not at all"]
    methods = sorted(all_unlearners(), key=lambda item: order.index(kind(item[1])))
    rows = [["Method", "What it does", "Forgets", "Needs groups", "Reads rows to forget in"]]
    for name, cls in methods:
        phases = ", ".join(f"``{phase}``" for phase in cls._phases_that_read_forgotten)
        link = f":class:`{name} <grmu_sk.{cls.__name__}>`"
        rows.append([link, summary(cls), kind(cls), group_need(cls), phases or "no phase"])
    lines = [".. list-table::", "   :header-rows: 1", "   :class: methods"]
    lines += ["   :widths: 17 38 13 18 14", ""]
    for row in rows:
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


# the API reference -------------------------------------------------------------------------------


def heading(text, mark):
    """Return a heading."""
    return f"{text}\n{mark * len(text)}\n\n"


def listing(names):
    """Return an autosummary of full names, with a page each."""
    entries = "".join(f"   ~{name}\n" for name in names)
    return f".. autosummary::\n   :toctree: .\n   :nosignatures:\n\n{entries}\n"


def is_described(obj):
    """Whether a public object has a page of its own; ready-made ones are only named."""
    return inspect.isclass(obj) or inspect.isfunction(obj)


def groups():
    """Yield file, title, text and parts of each page, the methods first."""
    methods = [cls for _, cls in all_unlearners()]
    titles = {"exact": "Exact", "approximate": "Approximate", "not at all": "Controls"}
    parts = [
        Part(title, "grmu_sk", tuple(cls.__name__ for cls in methods if kind(cls) == how))
        for how, title in titles.items()
    ]
    yield "methods", "Methods", ":doc:`/guide/methods` says which to choose.", parts
    yield from GROUPS


def contents(part):
    """Return the public names of a part, those that are described and the others."""
    module = importlib.import_module(part.module)
    elsewhere = {name for *_, parts in groups() for other in parts for name in other.names}
    names = part.names or sorted(set(module.__all__) - elsewhere, key=str.lower)
    return (
        [name for name in names if is_described(getattr(module, name))],
        [name for name in names if not is_described(getattr(module, name))],
    )


def api_page(title, text, parts):
    """Return the page of a group."""
    page = heading(title, "=") + f"{text}\n\n"
    for part in parts:
        described, others = contents(part)
        page += heading(part.title, "-") + f"``{part.module}``. {part.text}\n\n"
        page += listing([f"{part.module}.{name}" for name in described])
        if others:
            page += "Objects: " + ", ".join(f"``{name}``" for name in others) + ".\n\n"
    return page


def api_index():
    """Return the page that leads to all others, with every name."""
    page = heading("API reference", "=")
    page += "Every public name. Whatever is not listed here may change without notice.\n\n"
    page += ".. toctree::\n   :hidden:\n\n"
    page += "".join(f"   {file}\n" for file, *_ in groups()) + "\n"
    modules = {part.module for *_, parts in groups() for part in parts}
    page += "".join(f".. py:module:: {name}\n" for name in sorted(modules))
    page += "\n.. py:currentmodule:: None\n\n"
    for file, title, text, parts in groups():
        page += heading(f":doc:`{title} <{file}>`", "-") + f"{text}\n\n"
        for part in parts:
            names = [f":obj:`~{part.module}.{name}`" for name in contents(part)[0]]
            page += f"**{part.title}**: {', '.join(names)}\n\n"
    return page


def public_objects():
    """Yield full name and object of everything in the API reference."""
    for *_, parts in groups():
        for part in parts:
            module = importlib.import_module(part.module)
            for name in contents(part)[0]:
                yield f"{part.module}.{name}", getattr(module, name)


# the bibliography --------------------------------------------------------------------------------


def title_of(reference):
    """Return the title of a work up to its first colon, in lower case."""
    quoted = re.search(r"\"([^\"]+)\"", reference)
    return (quoted.group(1) if quoted else reference).split(":")[0].lower().rstrip(".")


def bibliography():
    """Return the page of all works that docstrings refer to, and who refers to them."""
    works, cited_by = {}, {}
    for name, obj in public_objects():
        for match in REFERENCE.finditer(inspect.getdoc(obj) or ""):
            work = " ".join(match.group(1).split())
            key = title_of(work)
            works[key] = max(work, works.get(key, ""), key=len)
            cited_by.setdefault(key, []).append(name)
    page = heading("Bibliography", "=")
    page += "The works that the code follows, and where it does.\n\n"
    for key, work in sorted(works.items(), key=lambda item: surname(item[1]).lower()):
        names = ", ".join(f":obj:`~{name}`" for name in sorted(set(cited_by[key])))
        # an initial at the beginning would be read as the letter of a list
        page += re.sub(r"^([A-Z])\. ", r"\1\. ", work) + f"\n    {names}\n\n"
    return page


def surname(work):
    """Return a work without the initials it begins with."""
    return re.sub(r"^(?:[A-Z]\. ?)+", "", work)


# the gallery -------------------------------------------------------------------------------------


class QuickstartFirst:
    """Sort the examples by title, but the one to begin with."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def __call__(self, file):
        """Return what to sort by."""
        title = (self.folder / file).read_text("utf-8").splitlines()[1]
        return file != "plot_quickstart.py", title


# Sphinx ------------------------------------------------------------------------------------------


def write_pages(app, config):
    """Write all pages before Sphinx looks which there are."""
    folder = Path(app.srcdir) / "_generated"
    pages = {
        "methods.inc": method_table(),
        "api/index.rst": api_index(),
        **{f"api/{file}.rst": api_page(*group) for file, *group in groups()},
        "bibliography.rst": bibliography(),
    }
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def escape_attributes(app, what, name, obj, options, lines):
    """Keep the underscore of a type such as "ndarray of shape (n_features_in_,)" from linking."""
    lines[:] = [re.sub(r"^(\s*\w+ : .*\w)_,\)", r"\1\\_,)", line) for line in lines]


def setup(app):
    """Write the pages with every build."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("config-inited", write_pages)
    app.connect("autodoc-process-docstring", escape_attributes, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
