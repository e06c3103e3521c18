"""
Gradient boosting, from a request to the evidence
=================================================

A classifier of scikit-learn on a table, and people who ask to be deleted from it: record the
request, check it, retrain with REWEIGHT, attack the result, report.
"""

# %%
# The rows
# --------
# Real people: if the environment variable ``GRMU_ADULT`` names a folder with the official file
# ``adult.data`` of `UCI Adult <https://doi.org/10.24432/C5XW20>`_, these are census incomes by sex,
# with text columns and missing values, which this classifier takes as they are. Otherwise they are
# embedded photographs that come with the package, gender by race.
import os
import tempfile
from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import train_test_split

from grmu_sk import RetrainUnlearner, sample_forget_set
from grmu_sk.audit import (
    AcceptanceGate,
    DeletionLedger,
    ReferenceModels,
    audit_unlearning,
    preflight,
    write_report,
)
from grmu_sk.datasets import load_embedded_faces
from grmu_sk.plotting import LeakageDisplay

NAMES = [
    "age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation",
    "relationship", "race", "sex", "capital_gain", "capital_loss", "hours_per_week",
    "native_country", "income",
]  # fmt: skip

if folder := os.environ.get("GRMU_ADULT"):
    file = Path(folder) / "adult.data"
    table = pd.read_csv(file, names=NAMES, skipinitialspace=True, na_values="?")
    y, groups = table.pop("income").to_numpy(), table["sex"].to_numpy()
    texts = table.columns.difference(table.select_dtypes("number").columns)
    X, asking = table.astype(dict.fromkeys(texts, "category")), (">50K", "Female")
else:
    faces = load_embedded_faces(target="gender", attribute="race")
    X = pd.DataFrame(faces.data).add_prefix("f")
    y = np.array(faces.target_names)[faces.target]
    groups = np.array(faces.group_names)[faces.groups]
    asking = ("Female", "Black")

rng = np.random.default_rng(0)
some = np.sort(rng.choice(len(y), 6000, replace=False))  # so that this page takes seconds
train, held_out = train_test_split(some, test_size=0.5, stratify=y[some], random_state=0)
unseen, test = np.array_split(held_out, 2)


def rows(which):
    """Return inputs, labels and attribute of rows."""
    return X.iloc[which], y[which], groups[which]


# %%
# The model
# ---------
# It is trained as usual, with an id for each person; ``groups`` are who must not be harmed.
classifier = HistGradientBoostingClassifier(max_iter=50)
unlearner = RetrainUnlearner(classifier, random_state=0)
unlearner.fit(*rows(train), sample_id=[f"person-{row}" for row in train])
before = deepcopy(unlearner)  # for the audit; delete it afterwards

# %%
# The request
# -----------
# Half of one group asks. The ledger keeps the request whatever happens to this process.
y_train, groups_train = y[train], groups[train]
forget = sample_forget_set(y_train, groups_train, forget_groups=asking, random_state=0)
temporary = tempfile.TemporaryDirectory()
ledger = DeletionLedger(Path(temporary.name) / "requests.db")
ledger.add([f"person-{row}" for row in train[forget]], reason="letters of May")
print(preflight(unlearner, forget))

# %%
# Retraining without these rows, with REWEIGHT: here by weights, since the classifier takes them.
ledger.run(unlearner)
print(len(unlearner.forget_idx_), "rows forgotten, reweighted by", unlearner.reweighted_by_)

# %%
# The audit
# ---------
# Retraining is exact. The audit shows what attacks can tell at all: of the model before, and of
# this one.
audit = audit_unlearning(
    unlearner,
    before,
    forgotten=rows(train[forget]),
    nonmembers=rows(unseen),
    references=ReferenceModels(unlearner, 8),
)
print(audit.verdict)
LeakageDisplay.from_audit(audit)

# %%
# The evidence
# ------------
# One page and the same as JSON, with what the gate decided; from it the letter to those who asked.
evidence = write_report(
    unlearner,
    Path(temporary.name) / "report.html",
    *rows(test),
    before=before,
    attacks=audit,
    gate=AcceptanceGate(residue=False, allow_inconclusive=True),
    request=ledger.requests()[0],
)
for check in evidence["gate"]["checks"]:
    if check["status"] == "failed":
        print(f"{check['name']}: {check['detail']}")

# %%
# The gate compares with the model before. What is above failed; if nothing is, nothing did. Nothing
# better than this model can be made without these rows, so a loss is what the request costs, and
# whoever runs the model has to know it before they accept.
letter = Path(temporary.name) / "reply.md"
write_report(evidence, letter, kind="reply")
print(letter.read_text())
temporary.cleanup()

# sphinx_gallery_thumbnail_number = -1
plt.show()
