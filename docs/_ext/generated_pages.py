"""Pages made from the code: the table of methods, the API reference, the bibliography.

A new method, metric or display appears on them without an edit.
"""

import importlib
import inspect
import re
from pathlib import Path

from grmu_sk.unlearners import all_unlearners

# headings of the API reference: module, title, what stands above the list
SECTIONS = [
    ("grmu_sk.metrics", "Metrics", "Plain functions in the style of :mod:`sklearn.metrics`."),
    (
        "grmu_sk.scorers",
        "Scorers",
        "For scikit-learn's model selection; see :doc:`/guide/sklearn`.",
    ),
    ("grmu_sk.model_selection", "Model selection", "Folds and comparisons."),
    ("grmu_sk.plotting", "Displays", "Figures, as scikit-learn's Display classes."),
    ("grmu_sk.persistence", "Saving and loading", "Without pickle; see :doc:`/guide/persistence`."),
    (
        "grmu_sk.distributed",
        "Several devices",
        "Needs the extra ``distributed``; see :doc:`/guide/processes`.",
    ),
    ("grmu_sk.datasets", "Data sets", "A built-in one that needs no download, and readers."),
    ("grmu_sk.resampling", "Resampling", "For imbalanced-learn; needs the extra ``imblearn``."),
    ("grmu_sk.nets", "Nets", "Small ones, for examples and tests."),
    ("grmu_sk.audit", "Audit", "Requests that never come back, residue, evidence, acceptance."),
    ("grmu_sk.comparison", "Comparison", "Comparing methods, and tuning them with equal effort."),
    ("grmu_sk.results", "Results", "Tables of results."),
    ("grmu_sk.benchmark", "Benchmark", "The paper's protocol; see :doc:`/guide/paper`."),
    (
        "grmu_sk.benchmark.nets",
        "The paper's nets",
        "With random weights or pretrained ones; BERT needs the extra ``text``.",
    ),
    ("grmu_sk.mutual_information", "Mutual information", "The parts of :class:`~grmu_sk.MINE`."),
    ("grmu_sk.base", "Base classes", "For those who write a method."),
    ("grmu_sk.utils", "Utilities", "For those who write or compare methods."),
    (
        "grmu_sk.utils.estimator_checks",
        "Checks",
        "For those who write a method; see also scikit-learn's own.",
    ),
]
BUILDING_BLOCKS = [
    "MINE",
    "ReweightSampler",
    "sample_forget_set",
    "UnlearningCheckpoint",
    "CheckpointError",
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


def listing(module, names):
    """Return an autosummary of names, with a page each."""
    entries = "".join(f"   ~{module}.{name}\n" for name in names)
    return f".. autosummary::\n   :toctree: .\n   :nosignatures:\n\n{entries}\n"


def documented(module_name):
    """Return the classes and functions of a module that are not listed above it."""
    module = importlib.import_module(module_name)
    return [
        name
        for name in sorted(module.__all__, key=str.lower)
        if inspect.isclass(getattr(module, name)) or inspect.isfunction(getattr(module, name))
        if name not in BUILDING_BLOCKS
    ]


def instances(module_name):
    """Return the public names of a module that are objects, such as ready-made scorers."""
    module = importlib.import_module(module_name)
    return sorted(set(module.__all__) - {*documented(module_name), *BUILDING_BLOCKS})


def api_reference():
    """Return the page with all public names."""
    page = heading("API reference", "=")
    page += "Every public name. Whatever is not listed here may change without notice.\n\n"
    page += heading("Unlearners", "-")
    page += ":doc:`/guide/methods` says which to choose.\n\n"
    page += listing("grmu_sk", [cls.__name__ for _, cls in all_unlearners()])
    page += heading("Building blocks", "-") + listing("grmu_sk", BUILDING_BLOCKS)
    for module, title, text in SECTIONS:
        page += heading(title, "-") + f".. py:module:: {module}\n\n.. py:currentmodule:: None\n\n"
        page += f"``{module}``. {text}\n\n"
        page += listing(module, documented(module))
        if objects := instances(module):
            page += "Objects: " + ", ".join(f"``{name}``" for name in objects) + ".\n\n"
    return page


# the bibliography --------------------------------------------------------------------------------


def public_objects():
    """Yield full name and object of everything in the API reference."""
    grmu_sk = importlib.import_module("grmu_sk")
    for name in [cls.__name__ for _, cls in all_unlearners()] + BUILDING_BLOCKS:
        yield f"grmu_sk.{name}", getattr(grmu_sk, name)
    for module_name, _, _ in SECTIONS:
        for name in documented(module_name):
            yield f"{module_name}.{name}", getattr(importlib.import_module(module_name), name)


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
        "api/index.rst": api_reference(),
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
