"""Faults while a model is saved: what was there before is there afterwards, whole.

All writers share one function. It runs in a forked process of its own here, where the disk is
really full and the folder really read-only.
"""

import errno
import multiprocessing
import os
import re
import resource
import stat
import tempfile
from pathlib import Path

import pytest
from conftest import make_net, make_table

from grmu_sk import FineTuneUnlearner, persistence
from grmu_sk.audit import create_key_file

NOBODY = 65534
FORK = multiprocessing.get_context("fork")


class Model:
    """A saved model, of which each version has a seed of its own."""

    def __init__(self, folder):
        self.folder, self.path = folder, folder / "model"
        table = make_table(40)
        self.net = make_net(module__hidden=(400,), max_epochs=1)
        self.unlearner = FineTuneUnlearner(self.net, max_epochs=1, random_state=0)
        self.unlearner.fit(table.X, table.y, table.a)

    def write(self, version):
        self.unlearner.seed_ = version
        persistence.save(self.unlearner, self.path)

    def version(self):
        return persistence.load(self.path, self.net).seed_

    def listed(self):
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def writer():
    with tempfile.TemporaryDirectory() as above:  # pytest's own folders are closed to others
        Path(above).chmod(0o755)
        folder = Path(above) / "folder"
        folder.mkdir()
        writer = Model(folder)
        writer.write(1)
        yield writer
        folder.chmod(0o755)


def in_children(*actions):
    """Run at once, each in a forked process; return how each of them ended."""
    ends = FORK.SimpleQueue()

    def run(action):
        try:
            ends.put(action() or "")
        except BaseException as error:
            ends.put(f"{type(error).__name__}: {error}")

    children = [FORK.Process(target=run, args=(action,)) for action in actions]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return [ends.get() for _ in actions]


def on_a_full_disk(writer):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    writer.write(2)


def in_a_read_only_folder(writer):
    for path in (*writer.folder.iterdir(), writer.folder):
        path.chmod(0o555)
    if os.geteuid() == 0:  # to whom nothing is read-only
        os.setuid(NOBODY)
    writer.write(2)


@pytest.mark.parametrize(
    ("write", "error"),
    [(on_a_full_disk, "OSError.*File too large"), (in_a_read_only_folder, "PermissionError.*")],
)
def test_no_room_and_no_right_to_write(writer, write, error):
    before = writer.listed()
    (said,) = in_children(lambda: write(writer))
    assert re.match(error, said) and (str(writer.folder) in said or "large" in said)
    assert writer.version() == 1 and writer.listed() == before


@pytest.mark.parametrize("fault", [OSError(errno.EIO, "broken disk"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_fault_at_the_last_moment(writer, fault, step, monkeypatch):
    before, called = writer.listed(), []

    def fail(*_):
        called.append(step)
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(type(fault)):
            writer.write(2)
    assert called and writer.version() == 1 and writer.listed() == before


def test_two_processes_at_once(writer):
    def write(version):
        for _ in range(5):
            writer.write(version)

    assert in_children(lambda: write(2), lambda: write(3)) == ["", ""]
    assert writer.version() in (2, 3)
    assert not [name for name in writer.listed() if name.endswith(".tmp")]


def test_devices_and_pipes_are_not_replaced(writer):
    os.unlink(writer.path)
    os.mkfifo(writer.path)
    with pytest.raises(OSError, match="device or a pipe"):
        writer.write(2)
    assert stat.S_ISFIFO(os.stat(writer.path).st_mode)


def test_key_on_a_full_disk_is_no_key(tmp_path):
    def fill_up():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
        create_key_file(tmp_path / "key")

    assert "File too large" in in_children(fill_up)[0]
    assert not (tmp_path / "key").exists(), "half a key would be taken for a whole one"
