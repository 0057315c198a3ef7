"""Processes of a local cluster: one is killed, and nothing is lost; weights travel once."""

import os
import signal
import time
import uuid
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

import lkcanet
from lkcanet.models import save_model

from .images import attentive, counts, local, placed

dask = pytest.importorskip("dask", reason="dask is not installed")
distributed = pytest.importorskip("distributed", reason="distributed is not installed")


def slowly(block: np.ndarray, folder: str) -> np.ndarray:
    """The block, and a file that says that it was read."""
    time.sleep(0.2)
    Path(folder, uuid.uuid4().hex).touch()
    return block


@pytest.mark.slow
def test_what_a_killed_worker_had_is_computed_again(tmp_path: Path) -> None:
    (tmp_path / "read").mkdir()
    save_model(attentive(), tmp_path / "net.safetensors", extra={"peak": 5000.0})
    image = placed(counts()).chunk({"y": 10, "x": 9})
    expected = lkcanet.super_resolve(tmp_path / "net.safetensors", image, tile=(16, 14)).values
    # read with a mark and a rest, band by band
    image = image.chunk({"band": 1}).copy(data=image.chunk({"band": 1}).data.map_blocks(slowly, str(tmp_path / "read")))
    sharp = lkcanet.super_resolve(str(tmp_path / "net.safetensors"), image, tile=(16, 14))
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        before = client.run(os.getpid)
        assert len(set(before.values()) - {os.getpid()}) == 2
        future, end = client.compute(sharp), time.monotonic() + 240
        while time.monotonic() < end:
            holds = {worker: len(keys) for worker, keys in client.has_what().items() if worker in before}
            if len(list((tmp_path / "read").iterdir())) >= 12 and any(holds.values()):
                break
            time.sleep(0.05)
        assert not future.done()
        os.kill(before[max(holds, key=holds.get)], signal.SIGKILL)
        result = future.result(timeout=240)
    assert np.array_equal(result.values, expected)
    assert result.rio.transform() == sharp.rio.transform()
    blocks = image.data.npartitions
    assert len(list((tmp_path / "read").iterdir())) > blocks, "the killed worker had something that was needed"


@pytest.mark.parametrize("options", [{"tile": (16, 14)}, {}])
def test_weights_are_in_the_graph_once_or_by_name(options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network in one task, of a checkpoint in none; in the graph as it is sent, too."""
    monkeypatch.setattr("lkcanet.cluster.stacks.CHUNK_BYTES", 1 << 13)
    image = placed(counts(rows=80)).chunk({"y": 10, "x": 9})
    model = local()
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    save_model(model, tmp_path / "net.safetensors")
    for given, expected in ((model, 1), (tmp_path / "net.safetensors", 0)):
        sharp = lkcanet.super_resolve(given, image, peak=1.0, **options)
        assert sharp.data.npartitions > 3
        for graph in (dict(sharp.__dask_graph__()), dict(dask.optimize(sharp)[0].__dask_graph__())):
            assert sum(len(cloudpickle.dumps(task)) > size for task in graph.values()) == expected
    again = lkcanet.super_resolve(model, image, peak=1.0, **options)
    assert again.data.name == lkcanet.super_resolve(model, image, peak=1.0, **options).data.name
    next(iter(model.parameters())).data.add_(1e-3)
    assert again.data.name != lkcanet.super_resolve(model, image, peak=1.0, **options).data.name


def test_another_checkpoint_on_the_worker_is_told(tmp_path: Path) -> None:
    save_model(attentive(), tmp_path / "net.safetensors")
    sharp = lkcanet.super_resolve(tmp_path / "net.safetensors", placed(counts()), peak=5000.0)
    save_model(attentive(), tmp_path / "net.safetensors", extra={"other": True})
    with pytest.raises(ValueError, match="is another checkpoint than the one the work was planned for"):
        sharp.compute()
