"""The interceptor for channels of ``grpc``, and the calls that it gives back.

A blocking call has ended when its interceptor gets it back, so its refusal is healed on the thread of the caller. A
future or a stream of responses has only begun: then the caller gets a call that stands for both attempts, and what is
to be done after a refusal is done where the news comes in, waiting nowhere.
"""

from __future__ import annotations

import contextvars
import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import grpc

from accredit.core.token import AccessToken
from accredit.errors import AccreditError
from accredit.integrations._grpc_outcome import LocalOutcome, NoTokenError, deadline_exceeded, locally_cancelled
from accredit.integrations._grpc_plan import CallDetails, Plan, Planner
from accredit.integrations._grpc_requests import Requests, Single, requests_of

__all__ = ["Interceptor"]

_REFUSED = grpc.StatusCode.UNAUTHENTICATED
# An interrupt is noticed between two waits, on every system.
_WAIT = 0.2


class Interceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Attaches the token to the calls of a channel, and sends a refused one once more with a newer token."""

    def __init__(self, planner: Planner) -> None:
        """Take what decides about each call."""
        self._planner = planner
        self._tokens = planner.tokens

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Run a call with one request and one response."""
        return self._run(continuation, client_call_details, request, Single(request))

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Run a call with one request and a stream of responses."""
        return self._run(continuation, client_call_details, request, Single(request))

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Run a call with a stream of requests and one response."""
        return self._run(continuation, client_call_details, request_iterator, None)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Run a call with a stream of requests and a stream of responses."""
        return self._run(continuation, client_call_details, request_iterator, None)

    def _run(self, continuation: Any, details: Any, given: Any, requests: Requests | None) -> Any:
        begun = self._begin(details)
        if begun is None:
            return continuation(details, given)
        if isinstance(begun, LocalOutcome):
            return begun
        plan, token = begun
        attempts = _Attempts(self._planner, plan, continuation, details, requests or requests_of(given))
        call = attempts.send(token)
        return _heal(attempts, call) if _is_over(call) else _Call(attempts, call)

    def _begin(self, details: Any) -> tuple[Plan, AccessToken] | LocalOutcome | None:
        plan: Plan | None = None
        try:
            plan = self._planner.plan(details)
            if plan is None:
                return None
            return plan, self._tokens.obtain(plan.slot, plan.remaining())
        except AccreditError as error:
            failure = error.fresh()
        return deadline_exceeded() if plan is not None and plan.is_over() else NoTokenError(failure)


class _Attempts:
    """What it takes to send a call, and to send it again."""

    def __init__(self, planner: Planner, plan: Plan, continuation: Any, details: Any, requests: Requests) -> None:
        self.tokens = planner.tokens
        self.plan = plan
        self.requests = requests
        self.retried = False
        self._continuation = continuation
        self._details = details

    def send(self, token: AccessToken) -> Any:
        details = self._details
        attempt = CallDetails(
            details.method,
            self.plan.remaining(),
            self.plan.metadata(details.metadata, token),
            None,
            getattr(details, "wait_for_ready", None),
            getattr(details, "compression", None),
        )
        return self._continuation(attempt, self.requests.begin())

    def is_worth_another(self, call: Any) -> bool:
        """Tell whether a call that has ended is to be sent once more, and do what else follows from its end."""
        if call.code() is not _REFUSED or isinstance(call, LocalOutcome):
            return False
        # Nothing else may be asked here: other events of the call wait for this thread, if it is gRPC's.
        metadata = call.trailing_metadata() or ()
        replayable = self.requests.end()
        retried, self.retried = self.retried, True
        return self.plan.is_worth_a_retry(metadata, replayable=replayable, retried=retried)


def _is_over(call: Any) -> bool:
    """Tell whether a call was over before it was handed on, so that its caller expects to wait.

    A future, or a stream, may have ended by now as well, if the service was quick; its caller is not to wait for all
    that. gRPC tells nobody which of them was asked for, but those two can be iterated, and what a blocking call ends
    with cannot.
    """
    return call.done() and (isinstance(call, LocalOutcome) or not isinstance(call, Iterator))


def _heal(attempts: _Attempts, call: Any) -> Any:
    """Return a call that has ended, or the one that was made in its place."""
    if not attempts.is_worth_another(call):
        return call
    plan = attempts.plan
    assert plan.token is not None
    newer = attempts.tokens.replacement(plan.slot, plan.token, plan.origin, plan.remaining())
    if plan.is_over():
        return deadline_exceeded()
    if newer is None:
        return call
    again = attempts.send(newer)
    if not _is_over(again):
        return _Call(attempts, again)
    attempts.is_worth_another(again)
    return again


class _Call(grpc.Call, grpc.Future):  # type: ignore[type-arg]  # generic in the stubs alone
    """A call that is under way: the attempt that is in the air, and after a refusal the one in its place."""

    def __init__(self, attempts: _Attempts, call: Any) -> None:
        self._attempts = attempts
        # A second attempt begins on another thread, where what the caller's context holds has to be found as well.
        self._context = contextvars.copy_context()
        self._condition = threading.Condition()
        self._call = call  # the latest attempt, or what the call ended with in its place
        self._final = False  # nothing will come after it
        turn = object()
        self._turn: object | None = turn  # of the latest attempt, until its end was noticed
        self._between = False  # it was refused, and a newer token is on its way
        self._again_then: _Again | None = None  # what happens then
        self._unwanted = False  # somebody cancelled it
        self._reading = 0  # threads that wait for a response
        self._judge_later = False
        self._answered = False
        self._callbacks: list[Callable[[], None]] = []
        self._timer: threading.Timer | None = None
        self._watch(call, turn)

    # -- from attempt to attempt ------------------------------------------------------------------------------

    def _watch(self, call: Any, turn: object) -> None:
        # Weakly, and without the attempt: gRPC keeps these callbacks for as long as the attempt lasts, but cancels one
        # that its caller dropped.
        if not call.add_callback(functools.partial(_weakly(_Call._on_end, self), turn)):
            self._on_end(turn)

    def _on_end(self, turn: object) -> None:
        with self._condition:
            if self._final or self._turn is not turn:
                return
            self._turn = None
            call = self._call
            if self._reading:
                # A thread may have a response in hand, and only it knows.
                self._judge_later = True
                return
        self._judge(call)

    def _judge(self, call: Any) -> None:
        """Decide what the end of an attempt means. Runs once for each, on whatever thread the news came to."""
        attempts = self._attempts
        if self._answered or not attempts.is_worth_another(call):
            self._settle(call)
            return
        again = _Again(_weakly(_Call._again, self), call)
        with self._condition:
            if self._final:
                return
            # Who cancels an attempt that was refused already must not get another one for it.
            goes_on = not self._unwanted
            if goes_on:
                self._between = True
                self._again_then = again
                self._hold_on()
                self._start_timer()
        if not goes_on:
            self._settle(call)
            return
        plan = attempts.plan
        assert plan.token is not None
        attempts.tokens.replacement_then(plan.slot, plan.token, plan.origin, again)

    def _again(self, newer: AccessToken | None, call: Any) -> None:
        if newer is None:
            self._settle(call)
            return
        with self._condition:
            if self._final:
                return
        another: Any = None
        try:
            another = self._context.run(self._attempts.send, newer)
        except Exception:  # the channel was closed meanwhile, or an interceptor after this one gave up
            another = None
        if another is None:
            self._settle(call)
            return
        turn = object()
        with self._condition:
            unwanted = self._final
            if not unwanted:
                self._call = another
                self._turn = turn
                self._between = False
                self._let_go()
                self._condition.notify_all()
        if unwanted:
            another.cancel()
            return
        if self._callbacks:
            another.add_callback(functools.partial(_nothing, self))
        self._watch(another, turn)

    def _settle(self, call: Any) -> bool:
        with self._condition:
            if self._final:
                return False
            self._call = call
            self._final = True
            self._between = False
            self._let_go()
            callbacks, self._callbacks = self._callbacks, []
            self._condition.notify_all()
        for callback in callbacks:
            callback()
        return True

    def _start_timer(self) -> None:
        remaining = self._attempts.plan.remaining()
        if remaining is not None:
            self._timer = threading.Timer(remaining, _weakly(_Call._settle, self), (deadline_exceeded(),))
            self._timer.daemon = True
            self._timer.start()

    def _hold_on(self) -> None:
        # As long as somebody is to be called back, the call is not dropped.
        if self._again_then is not None and self._callbacks:
            self._again_then.owner = self

    def _let_go(self) -> None:
        if self._again_then is not None:
            self._again_then.owner = None
            self._again_then = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- waiting ------------------------------------------------------------------------------------------------

    def _current(self) -> Any:
        """Return the attempt that is in the air, or what the call ended with."""
        with self._condition:
            while self._between:
                self._condition.wait(_WAIT)
            return self._call

    def _is_last(self, call: Any) -> bool:
        """Wait until an attempt that has ended was judged; tell whether the call ended with it."""
        with self._condition:
            while self._call is call and not self._final:
                self._condition.wait(_WAIT)
            return self._call is call

    def _end(self) -> Any:
        while True:
            call = self._current()
            call.code()
            if self._is_last(call):
                return call

    # -- grpc.Call ----------------------------------------------------------------------------------------------

    def initial_metadata(self) -> Any:
        while True:
            call = self._current()
            metadata = call.initial_metadata()
            # A refusal has none; then it is the other attempt's that counts.
            if metadata or not call.done() or self._is_last(call):
                return metadata

    def trailing_metadata(self) -> Any:
        return self._end().trailing_metadata()

    def code(self) -> Any:
        return self._end().code()

    def details(self) -> Any:
        return self._end().details()

    def debug_error_string(self) -> Any:
        return self._end().debug_error_string()

    def is_active(self) -> bool:
        return not self._final

    def time_remaining(self) -> Any:
        return self._attempts.plan.remaining()

    def cancel(self) -> bool:
        with self._condition:
            self._unwanted = True
            between, call = self._between, self._call
        if between and self._settle(locally_cancelled()):
            return True
        return bool(call.cancel())

    def add_callback(self, callback: Callable[[], None]) -> bool:
        with self._condition:
            if self._final:
                return False
            self._callbacks.append(callback)
            call, turn = self._call, self._turn
            self._hold_on()
        # A call that somebody waits for in this way must not be dropped.
        if not call.add_callback(functools.partial(_nothing, self)) and turn is not None:
            # The attempt has ended, and the news may be on its way to a call that is dropped by then.
            self._on_end(turn)
        return True

    # -- grpc.Future ----------------------------------------------------------------------------------------------

    def cancelled(self) -> bool:
        return self._final and bool(self._call.cancelled())

    def running(self) -> bool:
        return not self._final

    def done(self) -> bool:
        return self._final

    def _await(self, timeout: float | None) -> Any:
        with self._condition:
            if not self._condition.wait_for(lambda: self._final, timeout):
                raise grpc.FutureTimeoutError
            return self._call

    def result(self, timeout: float | None = None) -> Any:
        return self._await(timeout).result()

    def exception(self, timeout: float | None = None) -> Any:
        return self._await(timeout).exception()

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        trace: TracebackType | None = self._await(timeout).traceback()
        return trace

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        if not self.add_callback(functools.partial(fn, self)):
            fn(self)

    # -- a stream of responses --------------------------------------------------------------------------------

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        while True:
            call = self._current()
            with self._condition:
                self._reading += 1
            answered = False
            try:
                response = next(call)
            except StopIteration:
                raise
            except grpc.RpcError:
                if call is self._call and self._final:
                    raise
                failed = call
            else:
                answered = True
                return response
            finally:
                self._read(call, answered=answered)
            if self._is_last(failed):
                # The error is the call itself, as it is with gRPC.
                return next(failed)

    def next(self) -> Any:
        return self.__next__()

    def _read(self, call: Any, *, answered: bool) -> None:
        with self._condition:
            self._reading -= 1
            self._answered = self._answered or answered
            judge = self._judge_later and not self._reading
            if judge:
                self._judge_later = False
        if judge:
            self._judge(call)


class _Again:
    """What comes after a renewal. It holds on to its call only while that is its owner."""

    def __init__(self, then: Callable[..., None], refused: Any) -> None:
        self._then = then
        self._refused = refused
        self.owner: _Call | None = None

    def __call__(self, newer: AccessToken | None) -> None:
        self._then(newer, self._refused)


def _weakly(method: Callable[..., Any], owner: Any) -> Callable[..., None]:
    reference = weakref.ref(owner)

    def call(*arguments: Any) -> None:
        it = reference()
        if it is not None:
            method(it, *arguments)

    return call


def _nothing(_owner: object) -> None:
    """Do nothing but hold on to the owner."""
