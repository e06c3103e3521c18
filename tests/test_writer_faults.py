"""Faults while a model is saved: what was there before is there afterwards, whole.

All writers share one function. It runs in a forked process of its own here, where the disk is
really full and the folder really read-only.
"""

import errno
import os
import resource
import stat
import tempfile
import traceback
from functools import partial
from pathlib import Path

import pytest
from conftest import make_net, make_table

from grmu_sk import FineTuneUnlearner, persistence
from grmu_sk.audit import create_key_file

NOBODY = 65534


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


def start_child(action):
    """Run in a forked process; return its number, and where it will say how it went."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    os.close(reading)
    text = ""
    try:
        action()
    except BaseException:
        text = traceback.format_exc()
    finally:
        os.write(writing, text.encode()[-60_000:])
        os._exit(0)


def end_of(child):
    """Return the text of the error, or an empty one."""
    pid, reading = child
    with os.fdopen(reading, "rb") as file:
        text = file.read().decode()
    assert os.waitpid(pid, 0)[1] == 0
    return text


def in_child(action):
    return end_of(start_child(action))


def listed(writer):
    return sorted(path.name for path in writer.folder.iterdir())


def test_full_disk(writer):
    before = listed(writer)

    def fill_up():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        writer.write(2)

    error = in_child(fill_up).splitlines()[-1]
    assert error.startswith("OSError") and "File too large" in error
    assert writer.version() == 1 and listed(writer) == before


def test_read_only_folder(writer):
    before = listed(writer)
    for path in (*writer.folder.iterdir(), writer.folder):
        path.chmod(0o555)

    def write_as_nobody():
        if os.geteuid() == 0:  # to whom nothing is read-only
            os.setuid(NOBODY)
        writer.write(2)

    error = in_child(write_as_nobody).splitlines()[-1]
    assert error.startswith("PermissionError") and str(writer.folder) in error
    assert writer.version() == 1 and listed(writer) == before


@pytest.mark.parametrize("fault", [OSError(errno.EIO, "broken disk"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_fault_at_the_last_moment(writer, fault, step, monkeypatch):
    before = listed(writer)
    called = []

    def fail(*_):
        called.append(step)
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(type(fault)):
            writer.write(2)
    assert called
    assert writer.version() == 1 and listed(writer) == before


def test_two_processes_at_once(writer):
    def write(version):
        for _ in range(5):
            writer.write(version)

    children = [start_child(partial(write, version)) for version in (2, 3)]
    assert [end_of(child) for child in children] == ["", ""]
    assert writer.version() in (2, 3)
    assert not [name for name in listed(writer) if name.endswith(".tmp")]


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

    assert "File too large" in in_child(fill_up)
    assert not (tmp_path / "key").exists(), "half a key would be taken for a whole one"
