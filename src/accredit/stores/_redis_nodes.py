"""Which server an operation goes to: the one there is, the one the sentinels name, or the one that has the slot."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import redis
from redis.crc import key_slot

from accredit.errors import StoreError
from accredit.stores._redis_faults import reason_of, store_error
from accredit.stores._redis_link import Link, Pool, Pools, perform
from accredit.stores._redis_settings import Place, Settings, place_of

#: Servers that one operation may be sent to, the first included: a move, and an ask behind it.
MOST_HOPS: Final = 3
#: Part of the time that is left which one of several servers may take to answer a question about the others.
SHARE: Final = 0.5
_LEAST_SHARE: Final = 0.02


class Nodes(Protocol):
    """Where operations go."""

    def place(self, key: bytes, deadline: float) -> Place:
        """Return the server for ``key``.

        Raises:
            StoreError: it could not be found out by ``deadline``.

        """

    def lost(self, place: Place) -> bool:
        """Note that a server is not there, or not what it was; tell whether another one may be."""

    def moved(self, key: bytes, place: Place) -> None:
        """Note that a server said who has the slot of ``key``."""

    def masters(self, deadline: float) -> Sequence[Place]:
        """Return all servers that keep records."""

    def after_fork(self) -> None:
        """Replace locks."""


class Single:
    """One server, or whatever is behind one name."""

    def __init__(self, place: Place) -> None:
        """Keep the place."""
        self._place = place

    def place(self, key: bytes, deadline: float) -> Place:
        """Return the server."""
        del key, deadline
        return self._place

    def lost(self, place: Place) -> bool:
        """Say that there is no other."""
        del place
        return False

    def moved(self, key: bytes, place: Place) -> None:
        """Ignore it: a part of a cluster is not what was configured."""
        del key, place

    def masters(self, deadline: float) -> Sequence[Place]:
        """Return the server."""
        del deadline
        return (self._place,)

    def after_fork(self) -> None:
        """Do nothing."""


def settled(pool: Pool, deadline: float, operation: Callable[[Link], Any]) -> Any:
    """Run an operation on that server and no other.

    Raises:
        StoreError: there was no answer by ``deadline``, or it was an error.

    """
    problem: StoreError | None = None
    try:
        return perform(pool, deadline, operation)
    except redis.ResponseError as error:
        problem = store_error(reason_of(error), str(pool.place))
    raise problem


def _ask_around(places: Iterable[Place], pools: Pools, deadline: float, question: Callable[[Link], Any]) -> Any:
    """Ask one server after the other until one gives a sound answer; none may use up the time of the rest.

    Returns:
        the server that answered and its answer.

    Raises:
        StoreError: of the last one.

    """
    last = store_error("connection", "no known server")
    for place in places:
        rest = deadline - time.monotonic()
        if rest <= 0:
            break
        until = time.monotonic() + min(rest, max(rest * SHARE, _LEAST_SHARE))
        try:
            answer = perform(pools.pool(place), until, question)
        except StoreError as error:
            last = error.fresh()
        except redis.ResponseError as error:
            last = store_error(reason_of(error), str(place))
        else:
            if answer is not None:
                return place, answer
            last = store_error("not known there", str(place))
    raise last


class Sentinels:
    """The server that the sentinels name; they are asked again whenever it does not answer as one should."""

    def __init__(self, settings: Settings, pools: Pools) -> None:
        """Ask nobody yet. ``pools`` are those of the sentinels."""
        self._service = settings.service
        self._pools = pools
        self._lock = threading.Lock()
        self._sentinels = list(settings.places)
        self._master: Place | None = None

    def place(self, key: bytes, deadline: float) -> Place:
        """Return the server; asks the sentinels if it is not known."""
        del key
        master = self._master
        if master is None:
            sentinel, master = _ask_around(list(self._sentinels), self._pools, deadline, self._question)
            with self._lock:
                # The one that answered is asked first the next time, and the ones that did not come last.
                ahead = self._sentinels[: self._sentinels.index(sentinel)]
                self._sentinels = [sentinel, *(one for one in self._sentinels if one != sentinel and one not in ahead)]
                self._sentinels += ahead
                self._master = master
        return master

    def lost(self, place: Place) -> bool:
        """Forget the server: the sentinels may name another."""
        with self._lock:
            if self._master == place:
                self._master = None
        return True

    def moved(self, key: bytes, place: Place) -> None:
        """Ignore it."""
        del key, place

    def masters(self, deadline: float) -> Sequence[Place]:
        """Return the server."""
        return (self.place(b"", deadline),)

    def after_fork(self) -> None:
        """Replace the lock."""
        self._lock = threading.Lock()

    def _question(self, link: Link) -> Place | None:
        answer = link.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
        return None if not answer else place_of(answer[0].decode(), int(answer[1]))


class Cluster:
    """The server that has the slot of a key. The map is asked for when it is missing or was wrong."""

    def __init__(self, settings: Settings, pools: Pools) -> None:
        """Ask nobody yet."""
        self._startup = settings.places
        self._pools = pools
        self._lock = threading.Lock()
        self._slots: dict[int, Place] = {}
        self._ranges: list[tuple[int, int, Place]] = []
        self._known: list[Place] = list(settings.places)
        self._stale = True

    def place(self, key: bytes, deadline: float) -> Place:
        """Return the server that has the slot."""
        slot = key_slot(key)
        if self._stale:
            self._refresh(deadline)
        found = self._slots.get(slot)
        if found is None:
            found = next((place for first, last, place in self._ranges if first <= slot <= last), None)
        if found is None:
            self._stale = True
            raise store_error("cluster down", f"slot {slot}")
        return found

    def lost(self, place: Place) -> bool:
        """Ask for the map again, another server first."""
        with self._lock:
            self._stale = True
            if place in self._known:
                self._known.remove(place)
                self._known.append(place)
        return True

    def moved(self, key: bytes, place: Place) -> None:
        """Believe it for this slot, and ask for the map before the next operation."""
        with self._lock:
            self._slots[key_slot(key)] = place
            self._stale = True

    def masters(self, deadline: float) -> Sequence[Place]:
        """Return the servers that have slots."""
        if self._stale:
            self._refresh(deadline)
        return tuple(dict.fromkeys(place for _, _, place in self._ranges))

    def after_fork(self) -> None:
        """Replace the lock."""
        self._lock = threading.Lock()

    def _refresh(self, deadline: float) -> None:
        asked = list(dict.fromkeys((*self._known, *self._startup)))
        source, (ranges, everyone) = _ask_around(asked, self._pools, deadline, self._question)
        with self._lock:
            self._ranges, self._slots, self._stale = ranges, {}, False
            self._known = [source, *(place for place in everyone if place != source)]
        self._pools.keep_only({*everyone, *self._startup})

    @staticmethod
    def _question(link: Link) -> tuple[list[tuple[int, int, Place]], list[Place]] | None:
        ranges = []
        everyone: dict[Place, None] = {}
        for first, last, *servers in link.ask("CLUSTER", "SLOTS"):
            # A server that does not know its own name leaves it away: it is the one that was asked.
            places = [place_of((host or b"").decode() or link.place.host, int(port)) for host, port, *_ in servers]
            everyone.update(dict.fromkeys(places))
            if places:
                ranges.append((int(first), int(last), places[0]))
        return (ranges, list(everyone)) if ranges else None


def make_nodes(settings: Settings, pools: Pools, sentinel_pools: Pools) -> Nodes:
    """Return where operations go."""
    if settings.kind == "single":
        return Single(settings.places[0])
    if settings.kind == "sentinel":
        return Sentinels(settings, sentinel_pools)
    return Cluster(settings, pools)


class Router:
    """Sends an operation to its server, by a deadline, and nowhere twice that may have done it."""

    def __init__(self, nodes: Nodes, pools: Pools) -> None:
        """Keep both."""
        self._nodes = nodes
        self._pools = pools

    def run(self, key: bytes, deadline: float, operation: Callable[[Link], Any]) -> Any:
        """Run an operation on the server for ``key``.

        Raises:
            StoreError: there was no answer by ``deadline``, or it was an error.

        """
        place = self._nodes.place(key, deadline)
        asking = False
        seen = {place}
        problem = store_error("cluster moving", str(place))
        for _ in range(MOST_HOPS):
            pool = self._pools.pool(place)
            redirect: Place | None = None
            try:
                return perform(pool, deadline, _asking(operation) if asking else operation)
            except redis.exceptions.AskError as error:
                # Moved is a kind of ask. The server did nothing but say where to go.
                redirect = place_of(error.host or place.host, int(error.port))
                asking = not isinstance(error, redis.exceptions.MovedError)
                problem = store_error("cluster moving", str(place))
            except redis.ResponseError as error:
                problem = store_error(reason_of(error), str(place))
            except StoreError as error:
                problem = error.fresh()
            if redirect is not None:
                if not asking:
                    self._nodes.moved(key, redirect)
                place = redirect
                continue
            redirect = self._elsewhere(key, place, pool, problem, deadline)
            if redirect is None or redirect in seen:
                raise problem
            place = redirect
            seen.add(place)
            asking = False
        raise problem

    def _elsewhere(self, key: bytes, place: Place, pool: Pool, problem: StoreError, deadline: float) -> Place | None:
        """Return who else may be the server now, if the operation surely was not done; None to give up."""
        if problem.reason not in _NOT_THE_SERVER:
            return None
        # Its connections are as dead as the one that was tried, or lead to a server that was demoted.
        pool.clear()
        if not self._nodes.lost(place) or problem.reason not in _NOT_DONE:
            return None
        try:
            return self._nodes.place(key, deadline)
        except StoreError:
            return None


_NOT_THE_SERVER: Final = {"connection", "unreachable", "timeout", "read-only", "cluster down", "loading", "certificate"}
# What was sent and broke off may have been done; what was refused as a whole was not.
_NOT_DONE: Final = {"read-only", "cluster down", "loading", "unreachable"}


def _asking(operation: Callable[[Link], Any]) -> Callable[[Link], Any]:
    def ask(link: Link) -> Any:
        link.ask("ASKING")
        return operation(link)

    return ask
