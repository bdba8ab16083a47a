"""Pools of processes, by each way to start one."""

from __future__ import annotations

import multiprocessing
import pickle
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from accredit.devserver import DevServer
from tests.runtimes import pool_worker

METHODS = multiprocessing.get_all_start_methods()
PROCESSES = 2


@contextmanager
def quiet_fork() -> Iterator[None]:
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork while other threads live, which is what happens here on purpose.
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork.*", category=DeprecationWarning)
        yield


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_whose_processes_make_their_own_manager(server: DevServer, method: str) -> None:
    context = multiprocessing.get_context(method)
    with quiet_fork(), context.Pool(PROCESSES, pool_worker.start, (server.token_endpoint,)) as pool:
        found = pool.map(pool_worker.use, range(40), chunksize=1)
        pool.close()
        pool.join()
    assert len(found) == 40
    tokens: dict[int, set[str]] = {}
    for pid, token in found:
        tokens.setdefault(pid, set()).add(token)
    assert [len(each) for each in tokens.values()] == [1] * len(tokens)
    # One request for each process that had anything to do.
    assert server.count("/token") == len(tokens) <= PROCESSES


@pytest.mark.parametrize("method", METHODS)
def test_an_executor(server: DevServer, method: str) -> None:
    context = multiprocessing.get_context(method)
    with (
        quiet_fork(),
        ProcessPoolExecutor(PROCESSES, context, pool_worker.start, (server.token_endpoint,)) as executor,
    ):
        found = list(executor.map(pool_worker.use, range(20)))
    assert server.count("/token") == len({pid for pid, _ in found}) == len({token for _, token in found})


@pytest.mark.skipif("fork" not in METHODS, reason="this platform has no fork")
def test_a_fork_brings_the_manager_and_its_token_along(server: DevServer) -> None:
    context = multiprocessing.get_context("fork")
    with pool_worker.make(server.token_endpoint) as manager, manager.keep_fresh():
        token = manager.get().value
        with quiet_fork(), context.Pool(PROCESSES, pool_worker.adopt, (manager,)) as pool:
            found = pool.map(pool_worker.use, range(20), chunksize=1)
            pool.close()
            pool.join()
    assert {value for _, value in found} == {token}
    assert server.count("/token") == 1


def test_nothing_that_holds_a_secret_is_sent_to_another_process(server: DevServer) -> None:
    """Where processes are not forked, each makes its own manager; a try to send one says no."""
    with pool_worker.make(server.token_endpoint) as manager:
        auth: Any
        from accredit.integrations.httpx2 import AccreditAuth

        auth = AccreditAuth(manager)
        for each in (manager, manager.asynchronous(), auth, manager.get()):
            with pytest.raises(TypeError, match="pickle"):
                pickle.dumps(each)
