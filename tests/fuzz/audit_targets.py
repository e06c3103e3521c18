"""Valid calls of the public names in ``audit``, ``benchmark``, ``datasets`` and ``plotting``."""

import copy
import functools
import shutil

import numpy as np
import official_trees as trees
import torch
from contract import Call
from matplotlib import pyplot as plt
from PIL import Image
from result_rows import full_results
from sklearn.utils import Bunch
from targets import (
    FORGET_PAIR,
    _fitted,
    fitted,
    folder,
    inputs,
    losses,
    rows,
    saved_model,
    small_net,
    target,
)

from grmu_sk import audit, benchmark, datasets, plotting

# audit -------------------------------------------------------------------------------------------


@target("audit.AcceptanceGate")
def _():
    tolerances = dict.fromkeys(("test_accuracy", "worst_group", "forgotten_groups", "eo"), 0.1)
    arguments = {**tolerances, "leakage": True, "residue": True, "compare_to": "before"}
    arguments |= {"rule": "point", "allow_inconclusive": False}
    return Call(audit.AcceptanceGate, arguments)


@functools.cache
def _measured():
    y, _, a = rows()
    return audit.measure(_fitted(), inputs(), y, a, n_bootstrap=2)


def an_attack():
    return audit.AttackResult("RMIA AUC", "all", 0.5, 0.4, 0.6, 0.8, "no leak found")


@target("audit.AcceptanceGate.decide")
def _():
    arguments = {"after": _measured(), "before": _measured(), "gold": None}
    arguments |= {"attacks": [an_attack()], "residue": audit.ResidueScan()}
    return Call(audit.AcceptanceGate().decide, arguments)


@target("audit.AcceptanceGate.check", costly=("n_bootstrap",))
def _():
    y, _, a = rows()
    unlearner = fitted()
    arguments = {"unlearner": unlearner, "X": inputs(), "y": y, "groups": a, "before": None}
    arguments |= {"gold": None, "attacks": [an_attack()], "residue": None, "n_bootstrap": 2}
    documents = (audit.AcceptanceGate.check, audit.measure)
    return Call(audit.AcceptanceGate().check, arguments, documents=documents, subject=unlearner)


@target("audit.AcceptanceGate.enforce", costly=("n_bootstrap",), slow=True)
def _():
    y, _, a = rows()
    unlearner = fitted()
    arguments = {"unlearner": unlearner, "idx": np.array([3, 7]), "X": inputs(), "y": y}
    arguments |= {"groups": a, "on_failure": "refuse", "gold": None, "attacks": ()}
    arguments |= {"residue": None, "training": None, "n_bootstrap": 2}
    documents = (audit.AcceptanceGate.enforce, audit.measure, unlearner.unlearn)
    return Call(audit.AcceptanceGate().enforce, arguments, documents=documents, subject=unlearner)


@target("audit.AttackResult")
def _():
    numbers = {"value": 0.5, "low": 0.4, "high": 0.6, "power": 0.8}
    arguments = {"name": "RMIA", "group": "all", **numbers, "verdict": "no leak found"}
    return Call(audit.AttackResult, arguments)


@target("audit.AttackResult.from_dict")
def _():
    return Call(audit.AttackResult.from_dict, {"fields": an_attack().to_dict()})


@target("audit.ModelScores.from_dict")
def _():
    return Call(audit.ModelScores.from_dict, {"fields": _measured().to_dict()})


@target("audit.ModelScores")
def _():
    arguments = {"metrics": dict(_measured().metrics), "groups": [], "n_rows": 3}

    def use(**fields):
        audit.AcceptanceGate().decide(audit.ModelScores(**fields))

    documents = (audit.ModelScores, audit.AcceptanceGate.decide)
    return Call(use, arguments, documents=documents, names=("after",))


@target("audit.Finding")
def _():
    arguments = {"kind": "forgotten row", "place": "file", "encoding": "float32", "rows": (1,)}

    def show(**fields):
        finding = audit.Finding(**fields)
        return str(finding), finding.to_dict()

    return Call(show, {**arguments, "tensors": (), "offset": None}, documents=(audit.Finding,))


@target("audit.ResidueScan")
def _():
    arguments = {"findings": [audit.Finding("forgotten row", "x", "text")], "not_searched": ["a"]}

    def show(**fields):
        scan = audit.ResidueScan(**fields)
        return str(scan), scan.to_dict(), scan.verdict

    arguments |= {"n_places": 1, "n_bytes": 1}
    return Call(show, arguments, documents=(audit.ResidueScan,))


@target("audit.GateError")
def _():
    result = audit.GateResult([audit.GateCheck("Accuracy", "failed", "fell")], passed=False)
    return Call(audit.GateError, {"result": result})


@target("audit.build_evidence", costly=("n_bootstrap",))
def _():
    y, _, a = rows()
    arguments = {"unlearner": fitted(forgotten=True), "X": inputs(), "y": y, "groups": a}
    arguments |= {"before": None, "gold": _measured(), "remaining": None, "forgotten": None}
    arguments |= {"training": None, "attacks": [an_attack()], "residue": None, "gate": None}
    arguments |= {"title": "t", "request_id": "", "received": "", "reason": "", "hash_before": ""}
    arguments |= {"n_bootstrap": 2, "confidence": 0.9, "random_state": 0}
    return Call(audit.build_evidence, arguments, subject=arguments["unlearner"])


@functools.cache
def _evidence():
    return audit.build_evidence(_fitted(forgotten=True))


@target("audit.write_report")
def _():
    arguments = {"unlearner": copy.deepcopy(_evidence()), "path": folder() / "report.html"}
    arguments |= {"X": None, "y": None, "groups": None}
    return Call(audit.write_report, arguments)


@target("audit.read_evidence")
def _():
    path = folder() / "evidence.json"
    if not path.exists():
        audit.write_report(_evidence(), path.with_suffix(".html"))
    return Call(audit.read_evidence, {"path": path})


@target("audit.create_key_file")
def _():
    path = folder() / "a.key"
    path.unlink(missing_ok=True)
    return Call(audit.create_key_file, {"path": path})


@target("audit.measure", costly=("n_bootstrap",))
def _():
    y, _, a = rows()
    arguments = {"estimator": fitted(), "X": inputs(), "y": y, "groups": a}
    arguments |= {"forget_groups": [FORGET_PAIR], "remaining": (inputs(), rows()[0])}
    arguments |= {"forgotten": (inputs(4), rows(4)[0]), "n_bootstrap": 2, "confidence": 0.9}
    return Call(audit.measure, {**arguments, "random_state": 0})


@target("audit.model_hash")
def _():
    return Call(audit.model_hash, {"unlearner": fitted()})


@target("audit.preflight", slow=True)
def _():
    table = fitted()
    X, (y, _, a) = inputs(48), rows(48)
    arguments = {"unlearner": table, "forget_idx": np.array([1, 5]), "X": X, "y": y, "groups": a}
    arguments |= {"methods": ("retrain",), "min_rows": 5, "min_share": 0.5}
    return Call(audit.preflight, {**arguments, "short_enough": 60.0, "budget": 0.01}, subject=table)


@target("audit.scan_residue", costly=("n_rows",))
def _():
    gone = inputs(3)
    arguments = {"path_or_object": {"cache": gone + 1}, "rows": gone, "original": None}
    arguments |= {"mean": None, "std": None, "remaining": inputs()[3:], "n_rows": 24}
    arguments |= {"forget_idx": np.arange(3), "chunk_size": 1 << 16}
    return Call(audit.scan_residue, arguments)


@target("audit.scan_residue#path")
def _():
    arguments = {"path_or_object": saved_model(), "rows": inputs(3), "original": fitted()}
    return Call(audit.scan_residue, arguments)


@functools.cache
def _ledger_file():
    path = folder() / "start.ledger"
    audit.DeletionLedger(path).add(["3", "4"], reason="letter")
    return path


def a_ledger():
    path = folder() / "a.ledger"
    shutil.copy(_ledger_file(), path)
    return audit.DeletionLedger(path, timeout=0.1)


@target("audit.DeletionLedger", costly=("timeout",))
def _():
    arguments = {"path": a_ledger().path, "key": None, "key_file": None, "create": True}
    return Call(audit.DeletionLedger, {**arguments, "timeout": 0.1})


def _on_ledger(method, **arguments):
    @target(f"audit.DeletionLedger.{method}")
    def _():
        ledger = a_ledger()
        fresh = {name: copy.deepcopy(value) for name, value in arguments.items()}
        return Call(getattr(ledger, method), fresh, subject=ledger.history())


_on_ledger("add", ids=["5", "6"], reason="why")
_on_ledger("tokens", ids=["5", "6"])
_on_ledger("requests_of", ids=["5", "3"])
_on_ledger("requests", state="received")
_on_ledger("verify", head=None)


@target("audit.DeletionLedger.returned_rows")
def _():
    return Call(a_ledger().returned_rows, {"unlearner": fitted()})


@target("audit.DeletionLedger.run")
def _():
    unlearner = fitted()
    arguments = {"unlearner": unlearner, "requests": [1], "retry_failed": True, "unknown": "raise"}
    arguments["checkpoint"] = folder() / "run.checkpoint"
    ledger = a_ledger()
    return Call(ledger.run, arguments, subject=unlearner)


@target("audit.DeletionLedger.run_file")
def _():
    path = folder() / "model.to.change"
    shutil.copy(saved_model(), path)
    X, (y, _, a) = inputs(48), rows(48)
    arguments = {"path": path, "estimator": small_net(), "data": {"X": X, "y": y, "groups": a}}
    arguments |= {"requests": [1], "retry_failed": False, "unknown": "raise"}
    arguments["checkpoint"] = folder() / "run.checkpoint"
    return Call(a_ledger().run_file, arguments)


@target("audit.DeletionLedger.process")
def _():
    unlearner = fitted()
    arguments = {"unlearner": unlearner, "ids": ["5"], "reason": "why"}
    arguments["checkpoint"] = folder() / "run.checkpoint"
    documents = (audit.DeletionLedger.process, unlearner.unlearn)
    return Call(a_ledger().process, arguments, documents=documents, subject=unlearner)


# datasets ----------------------------------------------------------------------------------------


def _tree(name):
    """Return a small data set in its official layout, written once."""
    root = folder() / "trees" / name
    if not root.exists():
        root.mkdir(parents=True)
        make = {
            "adult": lambda: trees.adult_tree(root),
            "celeba": lambda: trees.celeba_tree(root, n_each=1, size=(8, 8)),
            "fairface": lambda: trees.fairface_tree(root, n_each=2, size=8),
            "waterbirds": lambda: trees.waterbirds_tree(root, n_each=1),
            "multinli": lambda: trees.multinli_tree(root, inputs="tensor"),
            "table": lambda: trees.image_table_tree(root),
            "folders": lambda: trees.image_folder_tree(root),
        }
        make[name]()
    return root


@target("datasets.load_adult")
def _():
    arguments = {"root": _tree("adult"), "attribute": "sex", "missing": "category"}
    arguments |= {"drop_columns": ("race",), "validation_size": 0.2, "random_state": 0}
    return Call(datasets.load_adult, arguments)


@target("datasets.load_celeba")
def _():
    arguments = {"root": _tree("celeba"), "images": None, "target": "Blond_Hair"}
    return Call(datasets.load_celeba, {**arguments, "attribute": "Male"})


@target("datasets.load_fairface")
def _():
    arguments = {"root": _tree("fairface"), "images": None, "target": "age", "attribute": "race"}
    arguments |= {"service_test_only": True, "validation_size": 0.2, "random_state": 0}
    return Call(datasets.load_fairface, arguments)


@target("datasets.load_waterbirds")
def _():
    return Call(datasets.load_waterbirds, {"root": _tree("waterbirds")})


@target("datasets.load_multinli", costly=("max_length",))
def _():
    arguments = {"root": _tree("multinli"), "tokenizer": None, "max_length": 8}
    return Call(datasets.load_multinli, arguments)


@target("datasets.load_image_folder")
def _():
    arguments = {"root": _tree("folders"), "attributes": None, "groups": None, "path": "file"}
    arguments |= {"validation_size": 0.2, "test_size": 0.2, "random_state": 0}
    return Call(datasets.load_image_folder, arguments)


@target("datasets.load_image_table")
def _():
    table, images = _image_table()
    arguments = {"table": table, "image_folder": images, "target": "animal", "groups": "sex"}
    arguments |= {"split": None, "path": "file", "validation_size": 0.2, "test_size": 0.2}
    return Call(datasets.load_image_table, {**arguments, "random_state": 0})


@functools.cache
def _image_table():
    root = _tree("table")
    table = next(path for path in sorted(root.rglob("*.csv")))
    return table, table.parent / "images"


@target("datasets.load_digits_on_backgrounds")
def _():
    arguments = {"correlation": 0.9, "noise": 0.1, "contrast": 1.0, "n_validation": 20}
    return Call(datasets.load_digits_on_backgrounds, {**arguments, "n_test": 20, "random_state": 0})


@functools.cache
def _images():
    place = folder() / "images"
    place.mkdir()
    for number in range(4):
        Image.new("RGB", (10, 8), (60 * number, 0, 0)).save(place / f"{number}.png")
    return place


def image_files():
    return datasets.ImageFiles(_images(), [f"{number}.png" for number in range(4)])


@target("datasets.ImageFiles")
def _():
    arguments = {"root": _images(), "filenames": ["0.png", "1.png"], "transform": None}

    def read(**given):
        return len(datasets.ImageFiles(**given))

    return Call(read, arguments, documents=(datasets.ImageFiles,))


@target("datasets.ImageFiles.take")
def _():
    return Call(image_files().take, {"rows": np.array([1, 2])})


@target("datasets.ImageFiles.pixels")
def _():
    return Call(image_files().pixels, {"row": 1})


@target("datasets.ImageFiles.with_transform")
def _():
    return Call(image_files().with_transform, {"transform": datasets.EvaluationTransform(8)})


@target("datasets.decode_images", costly=("size", "n_jobs"))
def _():
    arguments = {"files": image_files(), "cache_path": folder() / "decoded.npy", "size": 4}
    return Call(datasets.decode_images, {**arguments, "centre_crop": True, "n_jobs": 1})


def _pixels():
    return np.random.default_rng(0).integers(0, 255, size=(4, 8, 8, 3), dtype=np.uint8)


@target("datasets.ImageRows")
def _():
    arguments = {"images": _pixels(), "transform": None, "rows": np.array([0, 2])}
    return Call(datasets.ImageRows, arguments)


@target("datasets.ImageRows#tensor")
def _():
    def use(**arguments):
        made = datasets.ImageRows(**arguments)
        return made.precompute(), made.to("cpu").precompute()

    arguments = {"images": torch.from_numpy(_pixels()), "rows": np.array([True, False, True, True])}
    documents = (datasets.ImageRows, datasets.ImageRows.batch)
    return Call(use, arguments, documents=documents)


@target("datasets.ImageRows.to")
def _():
    arguments = {"device": "cpu"}
    return Call(datasets.ImageRows(torch.from_numpy(_pixels())).to, arguments)


@target("datasets.ImageRows.batch")
def _():
    return Call(datasets.ImageRows(_pixels()).batch, {"rows": np.array([0, 2])})


@target("datasets.ImageRows.take")
def _():
    return Call(datasets.ImageRows(_pixels()).take, {"rows": np.array([0, 2])})


@target("datasets.EvaluationTransform", costly=("size",))
def _():
    def use(**arguments):
        return datasets.EvaluationTransform(**arguments)(torch.zeros(3, 8, 8, dtype=torch.uint8))

    arguments = {"size": 4, "centre_crop": True}
    return Call(use, arguments, documents=(datasets.EvaluationTransform,))


@target("datasets.EvaluationTransform.batch")
def _():
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    return Call(datasets.EvaluationTransform(4).batch, {"images": images})


@target("datasets.TrainingTransform", costly=("size",))
def _():
    def use(**arguments):
        with torch.random.fork_rng():
            transform = datasets.TrainingTransform(**arguments)
            return transform(torch.zeros(3, 8, 8, dtype=torch.uint8))

    arguments = {"size": 4, "scale": (0.1, 1.0), "ratio": (0.75, 1.3), "flip": 0.5}
    return Call(use, arguments, documents=(datasets.TrainingTransform,))


@target("datasets.TrainingTransform.batch")
def _():
    def use(images):
        with torch.random.fork_rng():
            return datasets.TrainingTransform(4).batch(images)

    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    return Call(use, {"images": images}, documents=(datasets.TrainingTransform.batch,))


# benchmark ---------------------------------------------------------------------------------------


@functools.cache
def _results():
    return full_results("celeba", seeds=2)


def splits():
    y, _, a = rows()
    parts = {
        name: benchmark.Split(inputs(), y.copy(), a.copy())
        for name in ("train", "validation", "test")
    }
    return benchmark.Splits("made_up", **parts, forget_groups=[FORGET_PAIR])


@target("benchmark.Split")
def _():
    y, _, a = rows()

    def use(X, y, groups):
        split = benchmark.Split(X, y, groups)
        made = benchmark.Splits("made_up", split, split, split, [FORGET_PAIR])
        return benchmark.draw_forget_set(made, [FORGET_PAIR], 0.5, 0)

    documents = (benchmark.Split, benchmark.draw_forget_set)
    return Call(use, {"X": inputs(), "y": y, "groups": a}, documents=documents)


@target("benchmark.Splits.from_bunch")
def _():
    y, _, a = rows()
    parts = np.array_split(np.arange(24), 3)
    bunch = Bunch(data=inputs(), target=y, groups=a, smallest_group=FORGET_PAIR)
    bunch |= {"target_names": [0, 1], "group_names": [0, 1]}
    bunch |= dict(zip(("train", "validation", "test"), parts, strict=True))
    return Call(benchmark.Splits.from_bunch, {"name": "made_up", "bunch": bunch})


@target("benchmark.draw_forget_set")
def _():
    arguments = {"splits": splits(), "pairs": [FORGET_PAIR], "ratio": 0.5, "seed": 0}
    return Call(benchmark.draw_forget_set, {**arguments, "stratified": False})


def forget_set():
    return benchmark.draw_forget_set(splits(), [FORGET_PAIR], 0.5, 0)


@target("benchmark.ForgetSet.from_dict")
def _():
    arguments = {"stored": forget_set().to_dict(), "splits": splits()}
    return Call(benchmark.ForgetSet.from_dict, arguments)


@target("benchmark.ForgetSet.mask", costly=("n_rows",))
def _():
    return Call(forget_set().mask, {"n_rows": 24})


@target("benchmark.ForgetSet.require")
def _():
    return Call(forget_set().require, {"fingerprint": forget_set().fingerprint, "step": "x"})


@target("benchmark.ForgetSet.check")
def _():
    return Call(forget_set().check, {"splits": splits()})


@target("benchmark.candidates_for")
def _():
    return Call(benchmark.candidates_for, {"names": ["miu"], "parameters": {"miu": {"lam": 2.0}}})


@target("benchmark.Candidate.build")
def _():
    candidate = benchmark.candidates_for(["fine_tune"])[-1]
    return Call(candidate.build, {"net": small_net(), "pretrained": small_net(), "seed": 0})


def _load(seed):
    return splits()


@target("benchmark.compare", costly=("seeds", "n_jobs"), slow=True)
def _():
    arguments = {"net": small_net(), "load": _load, "candidates": benchmark.candidates_for([])}
    return Call(benchmark.compare, {**arguments, "ratio": 0.5, "seeds": (0,), "n_jobs": 1})


@target("benchmark.tune", costly=("seeds", "n_jobs"), slow=True)
def _():
    arguments = {"net": small_net(), "load": _load, "candidates": benchmark.candidates_for([])}
    return Call(benchmark.tune, {**arguments, "ratio": 0.5, "seeds": (0,), "n_jobs": 1})


@target("benchmark.make_table", costly=("n_draws",))
def _():
    arguments = {"number": 1, "results": _results(), "dataset": "celeba", "selection": "best"}
    return Call(benchmark.make_table, {**arguments, "n_draws": 5, "seed": 0})


@target("benchmark.make_figure", slow=True)
def _():
    def draw(**arguments):
        try:
            return benchmark.make_figure(**arguments)
        finally:
            plt.close("all")

    arguments = {"number": 4, "results": _results(), "dataset": "celeba", "selection": "best"}
    arguments |= {"methods": ["miu"], "forget": None, "forget_groups": None}
    return Call(draw, arguments, documents=(benchmark.make_figure,))


@target("benchmark.paper_values")
def _():
    return Call(benchmark.paper_values, {"number": 3})


@functools.cache
def results_file():
    path = folder() / "results.csv"
    _results().to_csv(path, index=False)
    return path


@target("benchmark.read_results")
def _():
    return Call(benchmark.read_results, {"path": results_file()})


@functools.cache
def _comparison():
    frame = _results()
    return frame[["dataset", "ratio", "seed", "method", "reweight", "metric", "value"]]


@target("benchmark.summarize")
def _():
    return Call(benchmark.summarize, {"results": _comparison().copy()})


@functools.cache
def compared():
    return benchmark.compare(
        small_net(), _load, benchmark.candidates_for([]), seeds=(0,), ratio=0.5
    )


@target("benchmark.format_table")
def _():
    return Call(benchmark.format_table, {"results": compared().copy(), "metrics": ("RA", "GA")})


@target("benchmark.get_preset")
def _():
    return Call(benchmark.get_preset, {"name": "shared"})


@target("benchmark.Preset.training")
def _():
    arguments = {"problem": "celeba", "method": "retrain", "reweight": False}
    return Call(benchmark.get_preset("shared").training, arguments)


@target("benchmark.Preset.unlearning")
def _():
    arguments = {"problem": "celeba", "forget": "group", "ratio": 0.5, "method": "miu"}
    return Call(benchmark.get_preset("shared").unlearning, {**arguments, "reweight": False})


@target("benchmark.get_problem")
def _():
    return Call(benchmark.get_problem, {"name": "adult_sex", "data_root": _tree("adult")})


@target("benchmark.Problem.pairs")
def _():
    return Call(benchmark.get_problem("digits").pairs, {"forget": "group"})


# plotting ----------------------------------------------------------------------------------------


def _closing(function):
    def draw(**arguments):
        try:
            return function(**arguments)
        finally:
            plt.close("all")

    return draw


def _display(name, method, make, **options):
    function = getattr(getattr(plotting, name), method)

    @target(f"plotting.{name}.{method}", **options)
    def _():
        arguments = {**make(), "ax": None}
        return Call(_closing(function), arguments, documents=(function, getattr(plotting, name)))


def _test_rows():
    y, _, a = rows()
    return {"X": inputs(), "y": y, "groups": a}


_display(
    "GroupAccuracyDisplay",
    "from_estimator",
    lambda: {"unlearners": {"a": fitted()}, **_test_rows(), "gold": None, "forget_groups": None},
)
_display(
    "GroupAccuracyDisplay",
    "from_results",
    lambda: {"results": compared().copy(), "forget_groups": (), "methods": None},
)
_display(
    "LossDistributionDisplay",
    "from_losses",
    lambda: {
        "member_losses": losses(),
        "forget_losses": losses(5),
        "nonmember_losses": losses(seed=1),
        "random_state": 0,
    },
)
_display(
    "LossDistributionDisplay",
    "from_estimator",
    lambda: {
        "estimator": fitted(forgotten=True),
        "X": inputs(48),
        "y": rows(48)[0],
        "X_nonmember": inputs(),
        "y_nonmember": rows()[0],
        "random_state": 0,
    },
)
_display(
    "MethodComparisonDisplay",
    "from_results",
    lambda: {"results": compared().copy(), "metrics": None, "methods": None, "show_cost": True},
)
_display(
    "UnlearningHistoryDisplay", "from_estimator", lambda: {"estimator": fitted(forgotten=True)}
)
_display(
    "UnlearningRatioDisplay",
    "from_results",
    lambda: {
        "results": _comparison().copy(),
        "metrics": ("GA",),
        "methods": None,
        "spread": "auto",
    },
)
