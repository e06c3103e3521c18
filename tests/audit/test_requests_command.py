import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import make_net

from grmu_sk import RetrainUnlearner
from grmu_sk.audit import DeletionLedger, model_hash
from grmu_sk.cli import main
from grmu_sk.persistence import load, save

MODULE = """
import numpy as np
from conftest import make_net, make_table

def net():
    return make_net(max_epochs=1)

def data():
    table = make_table()
    return {"X": table.X, "y": table.y, "groups": table.a}
"""


def text(*arguments, code=0):
    result = CliRunner().invoke(main, ["requests", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_own_training.py").write_text(MODULE)
    return tmp_path


@pytest.fixture
def fitted(table):
    ids = [f"{row:03}" for row in range(table.n)]
    unlearner = RetrainUnlearner(make_net(max_epochs=1), random_state=0)
    return unlearner.fit(table.X, table.y, table.a, sample_id=ids)


@pytest.fixture
def expected(fitted):
    """What the model has to be in the end."""
    save(fitted, "model")
    return model_hash(fitted.unlearn([40, 41]))


def loaded():
    return load("model", make_net(max_epochs=1))


def save_csv(table, rows):
    frame = pd.DataFrame(table.X[rows], columns=list("abcd")).assign(
        label=table.y[rows], attribute=table.a[rows], person=[f"{row:03}" for row in rows]
    )
    frame.to_csv("data.csv", index=False)
    columns = ["--target", "label", "--group-column", "attribute", "--id-column", "person"]
    return ["--data", "data.csv", *columns]


def save_npz(table, **more):
    np.savez("data.npz", X=table.X, y=table.y, groups=table.a, **more)
    return ["--data", "data.npz"]


NET = ["--net", "my_own_training:net"]


@pytest.mark.parametrize("source", ["function", "npz", "csv"])
def test_requests_from_beginning_to_end(folder, table, expected, source):
    if source == "csv":  # in another order
        data = save_csv(table, np.random.default_rng(0).permutation(table.n))
    else:
        own = ["--data", "my_own_training:data"]
        data = save_npz(table) if source == "npz" else own
    (folder / "ids.txt").write_text("041\n\n")
    out = text("add", "ledger", "040", "--ids-file", "ids.txt", "--reason", "letter")
    assert "Request 1 received" in out
    assert "Nothing new" in text("add", "ledger", "041")
    assert "1 received, 0 running, 0 done, 0 failed" in text("status", "ledger")
    out = text("run", "ledger", "model", *NET, *data)
    assert f"Done: 1\nmodel has forgotten 2 of its {table.n} rows" in out and "row 40, 41" in out
    assert model_hash(loaded()) == expected
    assert "Nothing was waiting" in text("run", "ledger", "model", *NET, *data)
    (request,) = json.loads(text("status", "ledger", "--json"))
    assert (request["state"], request["reason"], request["n_ids"]) == ("done", "letter", 2)
    assert request["model_after"] == expected
    head = DeletionLedger("ledger").head
    assert head in text("verify", "ledger", "--model", "model", *NET)
    text("add", "ledger", "050")
    assert "as it was written" in text("verify", "ledger", "--head", head)
    assert "no entry has the hash" in text("verify", "ledger", "--head", head[::-1], code=1)


def test_rows_of_the_forgotten_may_be_gone(folder, table, expected):
    text("add", "ledger", "040")
    text("run", "ledger", "model", *NET, *save_csv(table, np.arange(table.n)))
    data = save_csv(table, np.delete(np.arange(table.n), 40)[::-1])
    text("add", "ledger", "041")
    text("run", "ledger", "model", *NET, *data)
    again = RetrainUnlearner(make_net(max_epochs=1), random_state=0)
    again.fit(table.X, table.y, table.a).unlearn([40]).unlearn([41])
    assert model_hash(loaded()) == model_hash(again)
    text("add", "ledger", "042")
    asked = ["report", "model", *NET, "--training", *data[1:], "--out", "r.json"]
    assert "no rows for the ids '040', which are" in CliRunner().invoke(main, asked).output
    out = text("run", "ledger", "model", *NET, *save_csv(table, np.arange(50, table.n)), code=1)
    assert "no rows for the ids '000'" in out
    assert model_hash(loaded()) == model_hash(again), "nothing was forgotten by halves"


@pytest.mark.filterwarnings("default:Request")
def test_old_copies_keys_and_unknown_ids(folder, table, expected):
    old, key, data = (folder / "model").read_bytes(), ["--key-file", "key"], save_npz(table)
    run, verify = ["run", "ledger", "model", *NET], ["verify", "ledger", "--model", "model", *NET]
    assert "at least one id" in text("add", "ledger", code=2)
    assert "There is no ledger" in text("status", "ledger", code=1)
    text("new-key", "key")
    assert "File exists" in text("new-key", "key", code=1)
    text("add", "ledger", "nobody", *key)
    text("add", "ledger", "040", *key)
    assert b'"040"' not in (folder / "ledger").read_bytes()
    assert "open it with its key" in text(*run, *data, code=1)
    out = text(*run, *data, *key, code=1)
    assert "Done: 2" in out and "Request 1 failed: 'hmac" in out and "Failed: 1" in out
    assert "error: 'hmac" in text("status", "ledger")
    assert '"040"' not in (folder / "model").read_bytes().decode("latin1")
    text(*verify, *key)
    (folder / "model").write_bytes(old)
    assert "row 40" in text(*verify, *key, code=1)
    assert "Failed: 1" in text(*run, *data, *key, "--retry-failed", code=1)
    text(*verify, *key)
    assert loaded().forget_idx_.tolist() == [40]


@pytest.mark.filterwarnings("default:Request")
def test_a_request_whose_data_is_none_has_failed(folder, table, expected):
    save_csv(table, np.arange(table.n))
    before = (folder / "model").read_bytes()
    for number, (data, message) in enumerate(
        (
            (["no_such_module:data"], "cannot be imported"),
            (["data.csv", "--target", "nothing"], "has no column 'nothing'"),
            (["data.csv"], "--target"),
        )
    ):
        text("add", "ledger", f"04{number}")
        assert message in text("run", "ledger", "model", *NET, "--data", *data, code=1)
        assert (folder / "model").read_bytes() == before
        assert DeletionLedger("ledger").counts()["failed"] == number + 1


@pytest.mark.parametrize(
    ("labels", "attributes"),
    [
        (["01", "1"], [("NA", 1.5), ("", 2.0)]),
        ([False, True], ["NA", "null"]),
        (["True", "False"], [True, False]),
        (["no", "nan"], ["001", "1"]),
    ],
)
def test_a_csv_file_is_read_as_the_types_of_fit(folder, table, labels, attributes):
    y, ids = np.array(labels)[table.y], [f"{row:03}" for row in range(table.n)]
    ids[7] = "NA"
    X = table.X.astype(np.float64) / 3  # digits that a fast reader of numbers gets wrong
    groups = pd.DataFrame([attributes[a] for a in table.a])
    groups.columns = [f"attribute {place}" for place in range(groups.shape[1])]
    unlearner = RetrainUnlearner(make_net(max_epochs=1), random_state=0)
    save(unlearner.fit(X, y, groups, sample_id=ids), "model")
    frame = pd.DataFrame(X, columns=list("abcd")).assign(label=y, person=ids).join(groups)
    frame.sample(frac=1, random_state=0).to_csv("data.csv", index=False)
    DeletionLedger("ledger").add(["NA"])
    options = ["--data", "data.csv", "--target", "label", "--id-column", "person"]
    options += [part for name in groups for part in ("--group-column", name)]
    text("run", "ledger", "model", *NET, *options)
    assert model_hash(loaded()) == model_hash(unlearner.unlearn([7]))
