"""Loaders that are given damaged files, and commands that are given odd arguments."""

import functools
import shutil
from unittest import mock

import numpy as np
from audit_targets import _evidence, _images, _ledger_file, _tree, compared, results_file
from broken_values import Arguments, Content
from click.testing import CliRunner
from contract import Call
from leakage_targets import forgotten, nonmembers, remaining
from targets import fitted, folder, inputs, rows, saved_model, small_net, target

from grmu_sk import (
    FineTuneUnlearner,
    UnlearningCheckpoint,
    audit,
    benchmark,
    datasets,
    persistence,
)
from grmu_sk.cli import main

# files -------------------------------------------------------------------------------------------


def _damaged(name, load, original, document, **options):
    """Register a loader that reads a file whose content is broken."""

    @target(f"{name}#damaged", **options)
    def _():
        def read(content):
            path = folder() / f"damaged{original().suffix}"
            path.write_bytes(content)
            path.chmod(0o600)
            return load(path)

        return Call(read, {"content": Content(original().read_bytes())}, documents=(document,))


def _written(name, write):
    @functools.cache
    def path():
        place = folder() / name
        write(place)
        return place

    return path


def _load_model(path):
    return persistence.load(path, small_net())


_damaged("persistence.load", _load_model, saved_model, persistence.load)
_damaged(
    "audit.read_evidence",
    audit.read_evidence,
    _written("whole.json", lambda path: audit.write_report(_evidence(), path.with_suffix(".html"))),
    audit.read_evidence,
)
_damaged("audit.DeletionLedger", audit.DeletionLedger, _ledger_file, audit.DeletionLedger)
_damaged(
    "audit.DeletionLedger#key",
    lambda path: audit.DeletionLedger(_fresh("keyed.ledger"), key_file=path),
    _written("whole.key", audit.create_key_file),
    audit.DeletionLedger,
)
_damaged("benchmark.read_results", benchmark.read_results, results_file, benchmark.read_results)
PRESET = '["digits/small_cnn".retrain]\nlr = 0.1\nbatch_size = 32\nepochs = 3\n'
_damaged(
    "benchmark.get_preset",
    benchmark.get_preset,
    _written("preset.toml", lambda path: path.write_text(PRESET)),
    benchmark.get_preset,
)
_damaged(
    "datasets.ImageFiles.pixels",
    lambda path: datasets.ImageFiles(path.parent, [path.name]).pixels(0),
    lambda: _images() / "1.png",
    datasets.ImageFiles.pixels,
)


def _fresh(name):
    place = folder() / name
    place.unlink(missing_ok=True)
    return place


@functools.cache
def _checkpoint_file():
    """A checkpoint with the state of a request that is still to be made."""
    path = folder() / "whole.checkpoint"
    checkpoint = UnlearningCheckpoint(path, every_steps=1, keep=True)
    fitted("miu").unlearn([1, 5], checkpoint=checkpoint)
    checkpoint._previous.unlink()
    return path


@target("BaseUnlearner.unlearn#damaged checkpoint")
def _():
    unlearner = fitted("miu")
    path = folder() / "damaged.checkpoint"

    def resume(content):
        path.write_bytes(content)
        return unlearner.unlearn([1, 5], checkpoint=path)

    content = Content(_checkpoint_file().read_bytes())
    return Call(resume, {"content": content}, documents=(unlearner.unlearn,), subject=unlearner)


@functools.cache
def _cached_answers():
    """The cache of reference models, and what they answer."""
    place = folder() / "answers"
    return place, _references(place).log_odds_


def _references(cache):
    models = audit.ReferenceModels(small_net(), 4, remaining_per_group=2, cache=cache)
    return models.fit(forgotten(), remaining(), nonmembers())


@target("audit.ReferenceModels.fit#damaged cache", slow=True)
def _():
    place, expected = _cached_answers()
    first = min(place.rglob("output.pkl"))

    def read(content):
        first.write_bytes(content)
        assert np.array_equal(_references(place).log_odds_, expected)

    documents = (audit.ReferenceModels, audit.ReferenceModels.fit)
    return Call(read, {"content": Content(first.read_bytes())}, documents=documents)


@target("datasets.decode_images#damaged")
def _():
    files = datasets.ImageFiles(_images(), ["0.png", "1.png"])
    cache = _fresh("some.cache")
    expected = np.array(datasets.decode_images(files, cache, n_jobs=1))
    whole = cache.read_bytes()

    def read(content):
        cache.unlink(missing_ok=True)
        cache.write_bytes(content)
        images = datasets.decode_images(files, cache, n_jobs=1)
        # a foot that is whole stands for the file, as in the first test of the cache
        assert images.shape == expected.shape

    return Call(read, {"content": Content(whole)}, documents=(datasets.decode_images,))


def _damaged_tree(loader, tree, file, **arguments):
    @target(f"datasets.{loader}#damaged {file}", slow=True)
    def _():
        root = folder() / "damaged" / tree
        if not root.exists():
            shutil.copytree(_tree(tree), root)
        damaged = next(root.rglob(file))
        whole = next(_tree(tree).rglob(file)).read_bytes()
        function = getattr(datasets, loader)

        def read(content):
            damaged.write_bytes(content)
            if tree == "table":
                return function(damaged, damaged.parent / "images", **arguments)
            return function(root, **arguments)

        return Call(read, {"content": Content(whole)}, documents=(function,))


_damaged_tree("load_adult", "adult", "adult.data")
_damaged_tree("load_celeba", "celeba", "list_attr_celeba.txt")
_damaged_tree("load_fairface", "fairface", "fairface_label_train.csv")
_damaged_tree("load_waterbirds", "waterbirds", "metadata.csv")
_damaged_tree("load_multinli", "multinli", "metadata*.csv")
_damaged_tree("load_multinli", "multinli", "cached*")
_damaged_tree("load_image_table", "table", "*.csv", target="animal", groups="sex")


@target("datasets.load_waterbirds#zip")
def _():
    zipped = folder() / "waterbirds.zip"
    if not zipped.exists():
        shutil.make_archive(str(zipped.with_suffix("")), "zip", _tree("waterbirds"))
    damaged = folder() / "damaged.zip"

    def read(content):
        damaged.write_bytes(content)
        return datasets.load_waterbirds(damaged)

    content = Content(zipped.read_bytes())
    return Call(read, {"content": content}, documents=(datasets.load_waterbirds,))


# commands ----------------------------------------------------------------------------------------

#: 0 done, 1 failure, 2 bad usage, 3 refused by the gate, 130 interrupted: as `grmu --help` says.
EXIT_CODES = (0, 1, 2, 3)


#: The costs of two methods, timed for an instant.
QUICKLY = {"methods": ("retrain", "fine_tune"), "budget": 0.01}


class CommandRefused(Exception):
    """A command ended with one of the exit codes of a failure, and said why."""

    is_on_purpose = True


def run_command(arguments):
    """Run ``grmu`` with these arguments.

    Raises
    ------
    CommandRefused
        If it refuses them.
    """
    # what would take minutes is not what is tried here
    results = compared()
    with (
        mock.patch.object(benchmark, "compare", lambda *args, **kwargs: results),
        mock.patch.object(benchmark, "tune", lambda *args, **kwargs: (args[2], _search())),
        mock.patch.object(audit, "preflight", functools.partial(audit.preflight, **QUICKLY)),
    ):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in EXIT_CODES, result.exit_code
    assert "Traceback" not in result.output
    if result.exit_code:
        assert result.output.strip(), "a command failed and said nothing"
        raise CommandRefused(result.output.strip()[-200:])


def _search():
    import pandas as pd

    return pd.DataFrame({"setting": [{}], "seconds": [0.1]})


def _npz(name, **arrays):
    def write(path):
        np.savez(path, **arrays)

    return _written(name, write)


@functools.cache
def training_file():
    X, (y, _, a) = inputs(48), rows(48)
    return _npz("training.npz", X=X, y=y, groups=a)()


@functools.cache
def default_model():
    """A model with the default net, which a command can load without code."""
    X, (y, _, a) = inputs(48), rows(48)
    path = folder() / "default.model"
    FineTuneUnlearner(max_epochs=1, random_state=0).fit(X, y, a).unlearn([2, 9]).save(path)
    return path


def _evidence_file():
    path = folder() / "gate.json"
    if not path.exists():
        audit.write_report(_evidence(), path.with_suffix(".html"))
    return path


def _rows_file():
    path = folder() / "rows.txt"
    path.write_text("1\n5\n")
    return path


def _command(name, make, **options):
    @target(f"cli.{name}", tags=("command",), **options)
    def _():
        arguments = Arguments([*name.split(), *map(str, make())])
        return Call(run_command, {"arguments": arguments})


_command("demo", lambda: ["--seeds", 1, "--methods", "miu", "--ratio", 0.5, "--out", "demo"])
_command(
    "bench",
    lambda: ["--dataset", "digits", "--ratios", 0.5, "--seeds", 1, "--out", "bench", "--dry-run"],
    slow=True,
)
_command("table", lambda: [1, "--results", results_file(), "--format", "text", "--out", "t.txt"])
_command("figure", lambda: [4, "--results", results_file(), "--out", "figures"], slow=True)
_command("gate", lambda: [_evidence_file(), "--test-accuracy", 0.1, "--rule", "point"])
_command(
    "preflight",
    lambda: [default_model(), "--training", training_file(), "--forget", _rows_file(), "--json"],
    slow=True,
)
_command(
    "report",
    lambda: [
        *(default_model(), "--test", training_file(), "--training", training_file()),
        *("--scan", _images(), "--bootstrap", 2, "--out", "page.html", "--title", "t"),
    ],
    slow=True,
)


def _a_ledger():
    return shutil.copy(_ledger_file(), folder() / "command.ledger")


@functools.cache
def original_model():
    """The default model before it forgot."""
    X, (y, _, a) = inputs(48), rows(48)
    path = folder() / "original.model"
    FineTuneUnlearner(max_epochs=1, random_state=0).fit(X, y, a).save(path)
    return path


_nonmembers_file = _npz(
    "nonmembers.npz", **dict(zip(("X", "y", "groups"), nonmembers(), strict=True))
)

_command(
    "audit",
    lambda: [
        *(default_model(), "--original", original_model(), "--training", training_file()),
        *("--nonmembers", _nonmembers_file(), "--models", 4, "--cache", "references"),
        *("--tolerance", 0.1, "--seed", 0, "--out", "attacks.json", "--decisive"),
    ],
    slow=True,
)
_command("requests new-key", lambda: [_fresh("new.key")])
_command("requests add", lambda: [_a_ledger(), "7", "8", "--reason", "why", "--timeout", 0.1])
_command("requests status", lambda: [_a_ledger(), "--json", "--timeout", 0.1])
_command("requests verify", lambda: [_a_ledger(), "--model", default_model()])


def _a_model():
    return shutil.copy(default_model(), folder() / "command.model")


_command(
    "requests run",
    lambda: [
        *(_a_ledger(), _a_model(), "--data", training_file(), "--retry-failed"),
        *("--checkpoint", folder() / "command.checkpoint", "--checkpoint-every", 0.5),
    ],
    slow=True,
)

#: Stand for files that a command needs besides the damaged one.
PLACES = {"ROWS": _rows_file, "ORIGINAL": original_model, "TRAINING": training_file}

DAMAGED_FILES = {
    "preflight": ("--training", training_file, ["--forget", "ROWS"]),
    "report": ("--test", training_file, ["--bootstrap", "2", "--out", "page.html"]),
    "audit": (
        "--nonmembers",
        _nonmembers_file,
        ["--original", "ORIGINAL", "--training", "TRAINING", "--models", "4"],
    ),
}


def _command_with_damage(name, option, original, more):
    @target(f"cli.{name}#damaged", slow=True)
    def _():
        def run(content):
            path = folder() / f"damaged-{name}{original().suffix}"
            path.write_bytes(content)
            rest = [PLACES[word]() if word in PLACES else word for word in more]
            run_command([name, default_model(), option, path, *rest])

        content = Content(original().read_bytes())
        return Call(run, {"content": content}, documents=(run_command,))


for _name, _parts in DAMAGED_FILES.items():
    _command_with_damage(_name, *_parts)
