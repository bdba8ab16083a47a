"""What every integration stands on: the manager's two faces, and the consequences of a 401."""

# This is the one place outside manager.py that knows what the two faces of a manager have in common.
# ruff: noqa: SLF001

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Self

from accredit.core.calls import Choice, Texts, judge_refusal, second_report
from accredit.core.flows import COOL_DOWN
from accredit.core.token import AccessToken
from accredit.errors import AccreditError, ConfigurationError
from accredit.manager import AsyncTokenManager, TokenManager, newer_token
from accredit.runtime.flight import Flight
from accredit.runtime.slot import Landing, Slot

_MOST_REPORTS = 256
#: Most places (scheme and authority of a URL) that an object remembers its token to be allowed at.
MOST_PLACES: Final = 256
#: Stands where no slot is known yet: it never has a token, so the short way ends here.
NOWHERE: Final = Slot.__new__(Slot)
NOWHERE.fresh = None


class Tokens:
    """Both faces of a manager. Shared by an auth object and those that its ``using()`` returns.

    Attributes:
        synchronous: the face for threads.
        asynchronous: the face for tasks.
        now: the local clock.
        fixed: registrations do not change at run time.

    """

    __slots__ = ("_reports", "asynchronous", "fixed", "now", "synchronous")

    def __init__(self, manager: TokenManager | AsyncTokenManager) -> None:
        """Take either face.

        Raises:
            ConfigurationError: it is no manager.

        """
        self.synchronous: TokenManager
        self.asynchronous: AsyncTokenManager
        if isinstance(manager, TokenManager):
            self.synchronous, self.asynchronous = manager, manager.asynchronous()
        elif isinstance(manager, AsyncTokenManager):
            self.synchronous, self.asynchronous = manager.synchronous(), manager
        else:
            raise ConfigurationError(
                f"manager is a {type(manager).__name__}.",
                advice="Give a TokenManager or an AsyncTokenManager.",
                key="manager",
            )
        self.now: Callable[[], float] = manager._now
        self.fixed: bool = manager._fixed
        self._reports: dict[tuple[bytes, str], tuple[int, float]] = {}

    def slot(self, choice: Choice) -> Slot:
        """Return the slot of the token that was chosen.

        Raises:
            ConfigurationError: the registration does not exist, or a value is wrong.

        """
        return self.synchronous._slot(
            choice.registration, choice.scope, choice.resource, choice.audience, choice.principal
        )

    def goes_to_any_https(self, slot: Slot) -> bool:
        """Tell whether the token may go to every https origin."""
        return slot.request.registration.origins is None

    def allows(self, slot: Slot, origin: str) -> bool:
        """Tell whether the token may go to that origin; an event when it may not."""
        return self.synchronous._allows(slot, origin)

    def obtain(self, slot: Slot, timeout: float | None = None) -> AccessToken:
        """Return a token, waiting on this thread if need be. Raises the typed errors of ``TokenManager.get``."""
        return self.synchronous._obtain(slot, None, _shorter(slot, timeout))

    async def obtain_async(
        self,
        slot: Slot,
        timeout: float | None = None,  # noqa: ASYNC109 - a time-out object costs more than the whole call
    ) -> AccessToken:
        """Return a token, waiting in this task if need be. Raises the typed errors of ``TokenManager.get``."""
        return await self.asynchronous._obtain(slot, None, _shorter(slot, timeout))

    def obtain_then(self, slot: Slot, done: Callable[[AccessToken | AccreditError], None]) -> None:
        """Hand a token or a typed error to ``done``, at once or on the thread of the flight; waits for nothing.

        With ``renewal="inline"`` there is no other thread: then this one flies.
        """
        engine = self.synchronous._engine
        result: AccessToken | AccreditError | Flight[Landing]
        try:
            result = engine.acquire(slot)
        except AccreditError as error:
            result = error.fresh()
        if isinstance(result, Flight):
            flight = result
            flight.notify(lambda: self._landed_then(slot, flight, done))
        else:
            done(result)

    def _landed_then(
        self, slot: Slot, flight: Flight[Landing], done: Callable[[AccessToken | AccreditError], None]
    ) -> None:
        result: AccessToken | AccreditError | None
        try:
            result = self.synchronous._engine.landed(slot, flight, None)
        except AccreditError as error:
            result = error.fresh()
        if result is None:
            self.obtain_then(slot, done)
        else:
            done(result)

    def worth_a_retry(
        self,
        slot: Slot,
        token: AccessToken,
        challenges: Sequence[str],
        *,
        origin: str,
        carried: bool,
        replayable: bool,
        retried: bool,
    ) -> bool:
        """Deal with a 401: tell whether to send the call once more, and remember what else follows from it.

        Args:
            slot: the slot of the token.
            token: the token that the call was sent with.
            challenges: every ``WWW-Authenticate`` field.
            origin: the origin that answered.
            carried: the request that was answered carried the token.
            replayable: its body can be sent again.
            retried: it was sent again already.

        """
        verdict = judge_refusal(challenges, carried=carried, replayable=replayable, retried=retried)
        if verdict == "surface" or not self.allows(slot, origin):
            return False
        if verdict == "final":
            self.synchronous._engine.refused_again(slot, origin)
        elif verdict == "report":
            self._report(slot, token, origin)
        return verdict == "retry"

    def _report(self, slot: Slot, token: AccessToken, origin: str) -> None:
        engine = self.synchronous._engine
        key = (token.fingerprint, origin)
        if second_report(self._reports.get(key), token.generation, self.now(), within=COOL_DOWN):
            # Without a retry there is no second refusal, so the next call has to count as one.
            engine.refused_again(slot, origin)
            return
        if len(self._reports) >= _MOST_REPORTS:
            self._reports.clear()
        self._reports[key] = (token.generation, self.now())
        try:
            engine.refused(slot, token, origin)
        except AccreditError:
            return  # The manager is closed: the caller has its 401 all the same.

    def replacement(
        self, slot: Slot, token: AccessToken, origin: str, timeout: float | None = None
    ) -> AccessToken | None:
        """Return a newer token, waiting on this thread; None when the 401 is to reach the caller."""
        try:
            return self.synchronous._replacement(slot, token, origin, _shorter(slot, timeout))
        except AccreditError:
            return None

    async def replacement_async(
        self,
        slot: Slot,
        token: AccessToken,
        origin: str,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> AccessToken | None:
        """Return a newer token, waiting in this task; None when the 401 is to reach the caller."""
        try:
            return await self.asynchronous._replacement(slot, token, origin, _shorter(slot, timeout))
        except AccreditError:
            return None

    def replacement_then(
        self, slot: Slot, token: AccessToken, origin: str, done: Callable[[AccessToken | None], None]
    ) -> None:
        """Hand a newer token to ``done``, or None when the 401 is to reach the caller; waits for nothing."""
        got: AccessToken | Flight[Landing] | None
        try:
            got = self.synchronous._engine.refused(slot, token, origin)
        except AccreditError:
            got = None
        if isinstance(got, Flight):
            flight = got
            flight.notify(lambda: done(newer_token(flight.outcome, token)))
        else:
            done(got)


def _shorter(slot: Slot, timeout: float | None) -> float | None:
    """Return the seconds to wait for; None when the registration's own deadline comes first anyway."""
    return None if timeout is None or timeout >= slot.request.registration.deadline else max(timeout, 0.0)


class Attachment:
    """What every object that attaches tokens is made of: a manager, and whose token it attaches."""

    def __init__(
        self,
        manager: TokenManager | AsyncTokenManager,
        registration: str | None = None,
        *,
        scope: Texts | None = None,
        resource: Texts | None = None,
        audience: str | None = None,
        principal: str | None = None,
    ) -> None:
        """Choose whose token is attached.

        Args:
            manager: either face of a manager; any kind of client works with either.
            registration: id of the registration; the default one when None.
            scope: scopes instead of the registration's (RFC 6749, section 3.3).
            resource: resource indicators instead of the registration's (RFC 8707).
            audience: audience instead of the registration's.
            principal: principal instead of the registration's.

        Raises:
            ConfigurationError: ``manager`` is not a manager.

        """
        choice = Choice().vary(registration, scope=scope, resource=resource, audience=audience, principal=principal)
        self._settle(Tokens(manager), choice)

    def _settle(self, tokens: Tokens, choice: Choice) -> None:
        self._tokens = tokens
        self._choice = choice
        self._now = tokens.now
        # For the short way. Where registrations are fixed, what was found once holds for as long as this object does;
        # where they may change at run time, nothing is remembered and every call is looked at in full.
        self._quick: Slot = NOWHERE

    def using(
        self,
        registration: str | None = None,
        *,
        scope: Texts | None = None,
        resource: Texts | None = None,
        audience: str | None = None,
        principal: str | None = None,
    ) -> Self:
        """Return one that attaches another token of the same manager.

        One that names a registration starts from that registration; else what is not given stays as it is here.
        """
        other = type(self).__new__(type(self))
        choice = self._choice.vary(registration, scope=scope, resource=resource, audience=audience, principal=principal)
        other._settle(self._tokens, choice)
        return other
