"""Worlds that are drawn by a cluster of Dask, which is one of the executors that there are."""

from __future__ import annotations

import pytest

from trio_send.testing import explore, random_world

distributed = pytest.importorskip("distributed")

SEEDS = range(120)


# What others warn of, and what they leave to the garbage collector, is not ours.
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_finds_the_same() -> None:
    options = {"cancels": 2, "orders": 1, "seeds": SEEDS}
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
        ) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as executor,
    ):
        workers = client.scheduler_info()["workers"]
        assert len(workers) == 2
        found = explore(random_world, executor=executor, **options)
    assert found == explore(random_world, **options)
    assert found.runs == len(SEEDS)
