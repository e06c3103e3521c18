import json
import os
import threading
import time
from contextlib import ExitStack
from importlib.metadata import version

import numpy as np
import pytest
import torch

from grmu_sk.benchmark import environment as module
from grmu_sk.benchmark.devices import DevicePool, device_identity, visible_devices
from grmu_sk.benchmark.environment import PeakMemory, environment

ON_LINUX = os.path.exists("/proc/self/clear_refs")


def test_versions_and_hardware_are_plain_values():
    found = environment("cpu")
    assert json.loads(json.dumps(found)) == found
    assert found["versions"]["torch"] == version("torch")
    assert found["threads"] == torch.get_num_threads()
    assert found["cores"] == os.cpu_count()
    assert found["processor"]
    assert (found["device"], found["device_name"]) == ("cpu", None)


def use_memory(megabytes):
    block = np.ones(megabytes * 2**17)
    return block.sum()


@pytest.mark.skipif(not ON_LINUX, reason="needs /proc")
def test_each_job_of_a_process_has_a_peak_of_its_own():
    with PeakMemory("cpu") as large:
        use_memory(300)
    with PeakMemory("cpu") as small:
        use_memory(1)
    assert large.scope == small.scope == "job"
    assert large.megabytes - small.megabytes > 250


@pytest.mark.skipif(not ON_LINUX, reason="needs /proc")
def test_where_the_peak_cannot_be_reset_that_is_said(monkeypatch, tmp_path):
    with PeakMemory("cpu") as large:
        use_memory(300)
    monkeypatch.setattr(module, "_CLEAR", tmp_path / "none" / "clear_refs")
    with PeakMemory("cpu") as small:
        use_memory(1)
    assert small.scope == "process"
    assert small.megabytes >= large.megabytes - 1


def test_without_proc_the_peak_of_the_process_is_taken(monkeypatch, tmp_path):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(module, "_CLEAR", tmp_path / "none" / "clear_refs")
    monkeypatch.setattr(module, "_STATUS", tmp_path / "none" / "status")
    with PeakMemory("cpu") as peak:
        pass
    assert peak.scope == "process"
    known = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert peak.megabytes == pytest.approx(known, rel=0.5)


# devices -------------------------------------------------------------------------------------


def pool(folder, devices=("fake:0", "fake:1"), **options):
    return DevicePool(devices, folder=folder, identify=str, **options)


def test_no_device_is_given_to_two_jobs(tmp_path):
    at_work = {"fake:0": 0, "fake:1": 0}
    most, used = [], []

    def job():
        with pool(tmp_path).device() as device:
            at_work[device] += 1
            most.append(at_work[device])
            used.append(device)
            time.sleep(0.1)
            at_work[device] -= 1

    threads = [threading.Thread(target=job) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6
    assert set(used) == {"fake:0", "fake:1"}


def test_jobs_share_a_device_only_where_asked(tmp_path):
    with ExitStack() as stack:
        given = [stack.enter_context(pool(tmp_path, jobs_per_device=2).device()) for _ in range(4)]
        assert given == ["fake:0", "fake:1", "fake:0", "fake:1"], "empty devices first"
        waiting = threading.Thread(target=lambda: pool(tmp_path)._wait()[1].release(), daemon=True)
        waiting.start()
        waiting.join(timeout=0.5)
        assert waiting.is_alive(), "there is no fifth place"
    waiting.join(timeout=10)
    assert not waiting.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_the_device_of_a_killed_job_is_free(tmp_path):
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        with pool(tmp_path, ["fake:0"]).device():
            os.write(writer, b"x")
            time.sleep(600)
    assert os.read(reader, 1) == b"x"
    place = next(iter(pool(tmp_path, ["fake:0"])._places()))[1]
    assert not place.acquire()
    os.kill(process, 9)
    os.waitpid(process, 0)
    os.close(reader)
    os.close(writer)
    with pool(tmp_path, ["fake:0"]).device() as device:
        assert device == "fake:0"


def test_different_names_of_one_device_are_one_device(tmp_path):
    first = DevicePool(["fake:0"], folder=tmp_path, identify=lambda name: "GPU-123/4")
    second = DevicePool(["fake:7"], folder=tmp_path, identify=lambda name: "GPU-123/4")
    with first.device():
        assert not next(iter(second._places()))[1].acquire()


def test_the_cpu_is_for_everybody(tmp_path):
    with pool(tmp_path, ["cpu"]).device() as one, pool(tmp_path, ["cpu"]).device() as other:
        assert one == other == "cpu"
    assert not list(tmp_path.iterdir())


def test_devices_of_this_machine():
    devices = visible_devices()
    assert devices == ["cpu"] if not torch.cuda.is_available() else devices[0] == "cuda:0"
    assert device_identity("cpu") == "cpu"


def test_no_device_and_no_place_are_refused(tmp_path):
    with pytest.raises(ValueError, match="devices is empty"):
        DevicePool([])
    with pytest.raises(ValueError, match="jobs_per_device must be at least 1"):
        DevicePool(["cpu"], 0)
