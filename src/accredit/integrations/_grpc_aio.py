"""The interceptors for channels of ``grpc.aio``, and the calls that they give back."""

# The task that watches a call is a function beside it, so that it does not hold on to the call.
# ruff: noqa: SLF001

from __future__ import annotations

import asyncio
import functools
import inspect
import weakref
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import grpc
from grpc import aio

from accredit.core.token import AccessToken
from accredit.errors import AccreditError
from accredit.integrations._grpc_outcome import LocalOutcome, NoTokenError, deadline_exceeded, locally_cancelled
from accredit.integrations._grpc_plan import Plan, Planner
from accredit.integrations._grpc_requests import Requests, Single, requests_of_async

__all__ = ["interceptors_for"]

_REFUSED = grpc.StatusCode.UNAUTHENTICATED
# What grpc.aio says in place of the server's status when a request could not be written any more, since the server had
# ended the call (grpc/grpc#36066). Which of the two it says last is a matter of luck.
_LOST = (grpc.StatusCode.INTERNAL, "Internal error from Core")
# The other end is there already or, nearly always, a few turns of the loop away.
_PAUSES = (*[0.0] * 8, *[0.001] * 8, *[0.01] * 8)


def interceptors_for(planner: Planner) -> list[aio.ClientInterceptor]:
    """Return one interceptor for each kind of call: a channel takes an object for one kind only."""
    return [_UnaryUnary(planner), _UnaryStream(planner), _StreamUnary(planner), _StreamStream(planner)]


class _Attempts:
    """What it takes to send a call, and to send it again."""

    def __init__(self, planner: Planner, continuation: Any, details: Any, given: Any, requests: Requests) -> None:
        self.requests = requests
        self._given = given
        self._tokens = planner.tokens
        self._planner = planner
        self._continuation = continuation
        self._details = details
        self._retried = False
        self.plan: Plan | None = None

    async def first(self) -> Any:
        """Send the call for the first time, with a token if it is to have one.

        Raises:
            LocalOutcome: no token could be had in time.

        """
        failure: AccreditError
        try:
            self.plan = plan = self._planner.plan(self._details)
            if plan is None:
                return await self._continuation(self._details, self._given)
            token = await self._tokens.obtain_async(plan.slot, plan.remaining())
        except AccreditError as error:
            failure = error.fresh()
        else:
            return await self._send(plan, token)
        raise deadline_exceeded() if self.plan is not None and self.plan.is_over() else NoTokenError(failure)

    async def another(self, call: Any, end: LocalOutcome | None = None) -> Any | None:
        """Send the call once more if its end is a refusal that this may heal; None when the call ends with it.

        Args:
            call: an attempt that has ended.
            end: its true end, if the attempt itself does not tell it.

        """
        plan = self.plan
        told = call if end is None else end
        if plan is None or await _ask(told.code) is not _REFUSED or isinstance(call, LocalOutcome):
            return end
        metadata = await _ask(told.trailing_metadata) or ()
        replayable = self.requests.end()
        retried, self._retried = self._retried, True
        if not plan.is_worth_a_retry(metadata, replayable=replayable, retried=retried):
            return end
        assert plan.token is not None
        newer = await self._tokens.replacement_async(plan.slot, plan.token, plan.origin, plan.remaining())
        if plan.is_over():
            return deadline_exceeded()
        return end if newer is None else await self._send(plan, newer)

    async def _send(self, plan: Plan, token: AccessToken) -> Any:
        details = self._details
        attempt = aio.ClientCallDetails(
            details.method,
            plan.remaining(),
            aio.Metadata(*plan.metadata(details.metadata, token)),
            None,
            details.wait_for_ready,
        )
        return await self._continuation(attempt, self.requests.begin())


class _Interceptor:
    def __init__(self, planner: Planner) -> None:
        """Take what decides about each call."""
        self._planner = planner

    async def _stand_in(
        self, kind: type[_Call], continuation: Any, details: Any, given: Any, requests: Requests
    ) -> Any:
        attempts = _Attempts(self._planner, continuation, details, given, requests)
        call = await attempts.first()
        return call if attempts.plan is None else kind(attempts, call)


class _UnaryUnary(_Interceptor, aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Run the call to its end: gRPC does so in a task of the call's own."""
        attempts = _Attempts(self._planner, continuation, client_call_details, request, Single(request))
        call = await attempts.first()
        if attempts.plan is None:
            return call
        try:
            while (another := await attempts.another(call)) is not None:
                call = another
                if isinstance(call, LocalOutcome):
                    raise call
        except asyncio.CancelledError:
            call.cancel()
            raise
        return call


class _UnaryStream(_Interceptor, aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Begin the call; what comes back stands for both attempts."""
        return await self._stand_in(_UnaryStreamCall, continuation, client_call_details, request, Single(request))


class _StreamUnary(_Interceptor, aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Begin the call; what comes back stands for both attempts."""
        requests = requests_of_async(request_iterator)
        return await self._stand_in(_StreamUnaryCall, continuation, client_call_details, request_iterator, requests)


class _StreamStream(_Interceptor, aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Begin the call; what comes back stands for both attempts."""
        requests = requests_of_async(request_iterator)
        return await self._stand_in(_StreamStreamCall, continuation, client_call_details, request_iterator, requests)


class _Call(aio.Call):
    """A call that is under way: the attempt that is in the air, and after a refusal the one in its place."""

    def __init__(self, attempts: _Attempts, call: Any) -> None:
        """Begin to watch how the attempt ends."""
        self._attempts = attempts
        self._call = call
        self._between = False  # it was refused, and a newer token is on its way
        self._reading = 0
        self._quiet = asyncio.Event()  # nobody waits for a response
        self._quiet.set()
        self._answered = False
        self._callbacks: list[Callable[[Any], None]] = []
        self._turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # until an attempt was judged
        # A call that its caller dropped is cancelled by gRPC, as calls are: nothing that runs may hold on to this one.
        self._watcher = asyncio.get_running_loop().create_task(_watch(weakref.ref(self)))
        self._watcher.add_done_callback(functools.partial(_on_final, weakref.ref(self)))

    async def _goes_on(self, call: Any, ends: _Ends) -> bool:
        """Judge an attempt that has ended; tell whether there is another one in its place."""
        await self._quiet.wait()
        if self._answered:
            return False
        self._between = True
        try:
            another = await self._attempts.another(call, await ends.true_end())
        except asyncio.CancelledError:
            another = locally_cancelled()
        finally:
            self._between = False
        if another is None:
            return False
        self._call = another
        return not isinstance(another, LocalOutcome)

    def _next_turn(self) -> None:
        self._end_turn()
        self._turn = asyncio.get_running_loop().create_future()

    def _end_turn(self) -> None:
        if not self._turn.done():
            self._turn.set_result(None)

    def _finish(self) -> None:
        self._end_turn()
        self._attempts.requests.close()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    async def _end(self) -> Any:
        """Wait for the end, and return the attempt that it is the end of."""
        if not self._watcher.done():
            await asyncio.wait({self._watcher})
        return self._call

    async def _is_last(self, call: Any) -> bool:
        """Wait until an attempt that has ended was judged; tell whether the call ended with it."""
        if self._call is call and not self._turn.done():
            await asyncio.wait({self._turn})
        return self._call is call

    # -- grpc.aio.Call ----------------------------------------------------------------------------------------

    async def initial_metadata(self) -> Any:
        """Return what the server sent first."""
        while True:
            call = self._call
            metadata = await _ask(call.initial_metadata)
            # A refusal has none; then it is the other attempt's that counts.
            if metadata or not call.done() or await self._is_last(call):
                return metadata

    async def trailing_metadata(self) -> Any:
        """Return what the server sent last."""
        return await _ask((await self._end()).trailing_metadata)

    async def code(self) -> grpc.StatusCode:
        """Return the status code, once the call is over."""
        code: grpc.StatusCode = await _ask((await self._end()).code)
        return code

    async def details(self) -> str:
        """Return the text beside the status code."""
        details: str = await _ask((await self._end()).details)
        return details

    async def debug_error_string(self) -> Any:
        """Return what gRPC says for those who look for defects."""
        return await _ask((await self._end()).debug_error_string)

    async def wait_for_connection(self) -> None:
        """Wait until the call is on its way."""
        await _ask(self._call.wait_for_connection)

    def cancelled(self) -> bool:
        """Tell whether the call was cancelled."""
        return self.done() and bool(self._call.cancelled())

    def done(self) -> bool:
        """Tell whether the call is over."""
        return self._watcher.done()

    def time_remaining(self) -> Any:
        """Return the seconds that are left, or None when there is no limit."""
        plan = self._attempts.plan
        return None if plan is None else plan.remaining()

    def cancel(self) -> bool:
        """Cancel the call, also between two attempts."""
        if self.done():
            return False
        return self._watcher.cancel() if self._between else bool(self._call.cancel())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call ``callback`` with this call when it is over."""
        if self.done():
            callback(self)
        else:
            self._callbacks.append(callback)

    # -- for the kinds below ------------------------------------------------------------------------------------

    @property
    def _done_writing_flag(self) -> bool:
        # gRPC looks at it before it takes a request from its caller.
        return bool(getattr(self._call, "_done_writing_flag", False))

    async def _write(self, request: Any) -> None:
        await self._call.write(request)

    async def _done_writing(self) -> None:
        await self._call.done_writing()

    def _response(self) -> Generator[Any, Any, Any]:
        try:
            call = yield from self._end().__await__()
        except asyncio.CancelledError:
            self.cancel()  # as with any call of gRPC's, to cancel the task that waits is to cancel the call
            raise
        if isinstance(call, LocalOutcome):
            if call.cancelled():
                raise asyncio.CancelledError
            raise call
        return (yield from call.__await__())

    async def _responses(self) -> AsyncIterator[Any]:
        while True:
            call = self._call
            if isinstance(call, LocalOutcome):
                raise asyncio.CancelledError if call.cancelled() else call
            responses = aiter(call)
            try:
                while True:
                    yield await self._read(responses)
            except StopAsyncIteration:
                return
            except aio.AioRpcError:
                if await self._stays(call):
                    raise

    async def _stays(self, call: Any) -> bool:
        try:
            return await self._is_last(call)
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def _read(self, responses: AsyncIterator[Any]) -> Any:
        self._reading += 1
        self._quiet.clear()
        try:
            response = await anext(responses)
            self._answered = True
            return response
        finally:
            self._reading -= 1
            if not self._reading:
                self._quiet.set()


class _UnaryStreamCall(_Call, aio.UnaryStreamCall):  # type: ignore[type-arg]  # generic in the stubs alone
    _iterator: AsyncIterator[Any] | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        """Return the responses."""
        if self._iterator is None:
            self._iterator = self._responses()
        return self._iterator

    async def read(self) -> Any:
        """Return the next response, or ``grpc.aio.EOF``."""
        async for response in self:
            return response
        return aio.EOF


class _StreamUnaryCall(_Call, aio.StreamUnaryCall):  # type: ignore[type-arg]  # generic in the stubs alone
    def __await__(self) -> Generator[Any, Any, Any]:
        """Return the response."""
        return self._response()

    async def write(self, request: Any) -> None:
        """Send a request."""
        await self._write(request)

    async def done_writing(self) -> None:
        """Say that there are no more."""
        await self._done_writing()


class _StreamStreamCall(_UnaryStreamCall, aio.StreamStreamCall):  # type: ignore[type-arg]  # generic in the stubs alone
    async def write(self, request: Any) -> None:
        """Send a request."""
        await self._write(request)

    async def done_writing(self) -> None:
        """Say that there are no more."""
        await self._done_writing()


async def _watch(reference: weakref.ref[_Call]) -> None:
    goes_on = True
    while goes_on and (call := reference()) is not None:
        attempt = call._call
        del call
        ends = _Ends(attempt)
        await _ask(attempt.code)
        call = reference()
        goes_on = call is not None and await call._goes_on(attempt, ends)
        if call is not None and goes_on:
            call._next_turn()
        del call, attempt, ends


class _Ends:
    """The ends that an attempt tells of, one after the other: there may be two, and the last may be the wrong one."""

    def __init__(self, attempt: Any) -> None:
        self._attempt = weakref.ref(attempt)
        self._told: list[LocalOutcome] = []
        attempt.add_done_callback(self._note)

    def _note(self, _attempt: Any = None) -> None:
        attempt = self._attempt()
        if attempt is not None:
            code, details, metadata = _now(attempt.code()), _now(attempt.details()), _now(attempt.trailing_metadata())
            if code is not None:
                self._told.append(LocalOutcome(code, details or "", tuple(metadata or ())))

    async def true_end(self) -> LocalOutcome | None:
        """Return what the server said, if the attempt says something else; None as a rule."""
        if not any(_is_lost(end) for end in self._told):
            self._note()
        if not any(_is_lost(end) for end in self._told):
            return None
        for pause in _PAUSES:
            true = next((end for end in self._told if not _is_lost(end)), None)
            if true is not None:
                return true
            await asyncio.sleep(pause)
            self._note()
        return None


def _is_lost(end: LocalOutcome) -> bool:
    return (end.code(), end.details()) == _LOST


def _now(answer: Any) -> Any:
    """Return what a coroutine of a call that is over gives: it has nothing to wait for."""
    try:
        answer.send(None)
    except StopIteration as end:
        return end.value
    finally:
        answer.close()
    return None


def _on_final(reference: weakref.ref[_Call], watcher: asyncio.Task[None]) -> None:
    if not watcher.cancelled():
        watcher.exception()  # looked at: whoever asks the call is told by the call
    call = reference()
    if call is not None:
        call._finish()


async def _ask(method: Callable[[], Any]) -> Any:
    value = method()
    return await value if inspect.isawaitable(value) else value
