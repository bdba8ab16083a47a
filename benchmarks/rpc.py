"""What a token costs a gRPC call: a unary call on loopback, client and service in one process."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
from grpc import aio

from accredit.integrations.grpc import AccreditAuth
from benchmarks.fake import TOKEN, fresh_manager
from benchmarks.measure import Timed, interleaved, minus, over, repeated, scaled
from benchmarks.model import Effort, Row, Section

_METHOD = "/bench.Echo/Get"
_METADATA = (("authorization", f"Bearer {TOKEN}"),)


class _Static(grpc.UnaryUnaryClientInterceptor):
    """The floor of an interceptor: it puts the same metadata on each call."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(details._replace(metadata=_METADATA), request)


class _AioStatic(aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details._replace(metadata=aio.Metadata(*_METADATA)), request)


def run(effort: Effort) -> list[Section]:
    section = Section(
        "rpc",
        "A gRPC call",
        "CPU time of one unary call over loopback without TLS, client and service in one process. The floor sends the"
        " same header as metadata of the call; a static interceptor is what any interceptor costs in gRPC for Python.",
        {"one call": "µs", "over the floor": "µs", "to the floor": "ratio"},
    )
    with ExitStack() as stack:
        samples = _blocking(stack, effort)
        _report(section, samples, "")
    samples = asyncio.run(_tasks(effort))
    _report(section, samples, ", grpc.aio")
    return [section]


def _report(section: Section, samples: dict[str, list[float]], mode: str) -> None:
    base = samples["floor"]
    for name in ("accredit", "floor", "static interceptor"):
        cells: dict[str, Any] = {
            "one call": scaled(samples[name], 1e6),
            "over the floor": scaled(minus(samples[name], base), 1e6),
            "to the floor": scaled(over(samples[name], base), 1),
        }
        section.rows.append(Row(name + mode, cells))


def _blocking(stack: ExitStack, effort: Effort) -> dict[str, list[float]]:
    target = _serve(stack)
    plain = stack.enter_context(grpc.insecure_channel(target))
    carrying = stack.enter_context(AccreditAuth(fresh_manager()).insecure_channel(target))
    bare: Any = plain.unary_unary(_METHOD)
    static: Any = grpc.intercept_channel(plain, _Static()).unary_unary(_METHOD)
    ours: Any = carrying.unary_unary(_METHOD)
    subjects: dict[str, Timed] = {
        "floor": repeated(lambda: bare(b"", metadata=_METADATA)),
        "static interceptor": repeated(lambda: static(b"")),
        "accredit": repeated(lambda: ours(b"")),
    }
    return interleaved(subjects, rounds=effort.of(40, 8), number=effort.of(200, 60))


async def _tasks(effort: Effort) -> dict[str, list[float]]:
    with ExitStack() as stack:
        target = _serve(stack)
        async with (
            aio.insecure_channel(target) as plain,
            aio.insecure_channel(target, interceptors=[_AioStatic()]) as static,
            AccreditAuth(fresh_manager()).aio_insecure_channel(target) as carrying,
        ):
            bare: Any = plain.unary_unary(_METHOD)
            fixed: Any = static.unary_unary(_METHOD)
            ours: Any = carrying.unary_unary(_METHOD)
            subjects: dict[str, Callable[[], Any]] = {
                "floor": lambda: bare(b"", metadata=_METADATA),
                "static interceptor": lambda: fixed(b""),
                "accredit": lambda: ours(b""),
            }
            samples: dict[str, list[float]] = {name: [] for name in subjects}
            for _ in range(effort.of(40, 8)):
                for name, call in subjects.items():
                    samples[name].append(await _timed(call, effort.of(200, 60)))
            return samples


async def _timed(call: Callable[[], Any], number: int) -> float:
    start = time.process_time_ns()
    for _ in range(number):
        await call()
    return (time.process_time_ns() - start) / number / 1e9


def _serve(stack: ExitStack) -> str:
    server = grpc.server(ThreadPoolExecutor(2))
    handlers: Any = {"Get": grpc.unary_unary_rpc_method_handler(lambda request, _context: request)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench.Echo", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    stack.callback(lambda: server.stop(0).wait())
    return f"127.0.0.1:{port}"
