"""Faults while a model is saved: what was there before is there afterwards, whole.

All writers share one function.
"""

import errno
import multiprocessing
import os
import stat

import pytest
from conftest import disk_of, make_net, make_table

from grmu_sk import FineTuneUnlearner, persistence
from grmu_sk.audit import create_key_file


class Model:
    """A saved model, of which each version has a seed of its own."""

    def __init__(self, folder):
        self.folder, self.path = folder, folder / "model"
        table = make_table(40)
        self.net = make_net(module__hidden=(400,), max_epochs=1)
        self.unlearner = FineTuneUnlearner(self.net, max_epochs=1, random_state=0)
        self.unlearner.fit(table.X, table.y, table.a)
        self.write(1)

    def write(self, *versions):
        for seed in versions:
            self.unlearner.seed_ = seed
            persistence.save(self.unlearner, self.path)

    def version(self):
        return persistence.load(self.path, self.net).seed_

    def listed(self):
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def writer(tmp_path):
    return Model(tmp_path)


def test_no_room(writer, tmp_path):
    before = writer.listed()
    with disk_of(1000), pytest.raises(OSError, match="File too large"):
        writer.write(2)
    assert writer.version() == 1 and writer.listed() == before
    with disk_of(10), pytest.raises(OSError, match="File too large"):
        create_key_file(tmp_path / "key")
    assert not (tmp_path / "key").exists(), "half a key would be taken for a whole one"


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
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=writer.write, args=[seed] * 5) for seed in (2, 3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0] and writer.version() in (2, 3)
    assert not [name for name in writer.listed() if name.endswith(".tmp")]


def test_devices_and_pipes_are_not_replaced(writer):
    os.unlink(writer.path)
    os.mkfifo(writer.path)
    with pytest.raises(OSError, match="device or a pipe"):
        writer.write(2)
    assert stat.S_ISFIFO(os.stat(writer.path).st_mode)
