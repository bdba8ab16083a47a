"""The Redis store: tokens, leases, holds and suspicions of a fleet, in Redis 6.2 or newer, or Valkey.

Needs the extra ``accredit[redis]``. Each verb is one script in one round trip (:mod:`accredit.stores._redis_scripts`),
and ends after ``timeout`` seconds whatever Redis does. A failure of Redis never reaches a caller that wants a token.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import wraps
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from accredit.core.client_auth import SecretGiven, as_secret_source
from accredit.core.effects import SuspectOutcome
from accredit.core.events import Event, RecordRefused
from accredit.core.identity import DEFAULT_PREFIX, Identity
from accredit.core.records import Claimed, Held, Hold, Lead, Record, Satisfied, Stored, Wait
from accredit.errors import AccreditError
from accredit.stores.codec import PLAIN, SCHEMA, RecordCodec, UnreadableRecord
from accredit.stores.contract import Entry
from accredit.stores.envelope import ALGORITHM, Keyring
from accredit.stores.reports import Reports

_MISSING = None
try:
    import redis

    from accredit.stores._redis_faults import store_error
    from accredit.stores._redis_link import Link, Pools
    from accredit.stores._redis_management import Management
    from accredit.stores._redis_nodes import Router, make_nodes
    from accredit.stores._redis_scripts import SCRIPTS, Script, Scripts
    from accredit.stores._redis_settings import Login, from_client, from_url, wrong
except ImportError as _error:
    if (_error.name or "").partition(".")[0] != "redis":
        raise
    _MISSING = "the Redis store needs the extra 'redis': pip install 'accredit[redis]'"
if _MISSING is not None:
    raise ImportError(_MISSING, name="redis")

TIMEOUT: Final = 0.25
MAX_CONNECTIONS: Final = 8
_LOW: Final = 0xFFFFFFFF
#: Most times that a claim looks: again after a record that will not do, a damaged hold, a key that was just given.
_MOST_LOOKS: Final = 4
_NEW_KEY: Final = "new key"
_PREFIX_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:._-/")


P = ParamSpec("P")
T = TypeVar("T")


def _sound(verb: Callable[P, T]) -> Callable[P, T]:
    """Make what is no answer of Redis, so that taking it apart fails, a failure of the store like others."""

    @wraps(verb)
    def checked(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return verb(*arguments, **named)
        except (TypeError, ValueError, LookupError) as error:
            # An error of this library says more than that.
            problem = error.fresh() if isinstance(error, AccreditError) else None
        raise problem or store_error("not Redis", "that address")

    return checked


class RedisStore:
    """Tokens of a fleet, in Redis or Valkey. Safe for threads, for forks, and to be shared between managers."""

    def __init__(
        self,
        redis: str | Any,
        *,
        prefix: str = DEFAULT_PREFIX,
        keyring: Keyring | None = None,
        timeout: float = TIMEOUT,
        max_connections: int = MAX_CONNECTIONS,
        username: str | None = None,
        password: SecretGiven | None = None,
        sentinel_username: str | None = None,
        sentinel_password: SecretGiven | None = None,
        ca_file: str | Path | None = None,
        client_certificate: tuple[str | Path, str | Path] | None = None,
        connect_threads: bool = True,
    ) -> None:
        """Read the settings. Nothing is opened until the first verb, so Redis may be down.

        Args:
            redis: a URL, ``redis://HOST:PORT/DB``, ``rediss://…`` (TLS), ``unix:///PATH``,
                ``redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB``, ``redis+cluster://HOST:PORT,…``, with
                ``rediss+…`` for TLS; or a client of redis-py (single, Sentinel or Cluster, synchronous or not), of
                which the settings are taken and never a connection.
            prefix: what all keys begin with.
            keyring: encrypts what is stored, and refuses what is not encrypted; plain records without one.
            timeout: seconds that one operation may take in all, connecting included.
            max_connections: most connections to one server; who finds none free waits within ``timeout``.
            username: of an ACL user; that of the URL unless given.
            password: a text, a Secret, or a source of one, read at each log-in; that of the URL unless given.
            sentinel_username: for the sentinels, which have logins of their own.
            sentinel_password: likewise.
            ca_file: certificates to trust instead of the system's (PEM), for TLS.
            client_certificate: files of a certificate and its key (PEM), for mutual TLS.
            connect_threads: False where no threads can run, as with ``renewal="inline"``: connections are then opened
                on the caller's thread, and looking up a host name may take longer than ``timeout``.

        Raises:
            ConfigurationError: a setting is wrong.

        """
        if not prefix or not set(prefix) <= _PREFIX_CHARACTERS:
            raise wrong("the prefix is empty or holds other characters than A-Z a-z 0-9 : . _ - /", "", "prefix")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 60:
            raise wrong("timeout is not above 0 and at most 60.", "Give seconds.", "timeout")
        if isinstance(max_connections, bool) or not isinstance(max_connections, int) or max_connections < 1:
            raise wrong("max_connections is below 1.", "Give a whole number.", "max_connections")
        if isinstance(redis, str):
            settings = from_url(
                redis,
                username=username,
                password=None if password is None else as_secret_source(password),
                sentinel_login=_login(sentinel_username, sentinel_password),
                ca_file=None if ca_file is None else Path(ca_file),
                client_certificate=client_certificate and (Path(client_certificate[0]), Path(client_certificate[1])),
            )
        else:
            given = (username, password, sentinel_username, sentinel_password, ca_file, client_certificate)
            if any(value is not None for value in given):
                raise wrong("a client brings its own login and TLS.", "Give a URL to use others.", "client")
            settings = from_client(redis)
        self._settings = settings
        self._prefix = prefix
        self._timeout = float(timeout)
        self._codec = RecordCodec(keyring)
        self._keyring = keyring
        self._reports = Reports()
        self._pools = Pools(
            database=settings.database,
            login=settings.login,
            context=settings.context,
            most=max_connections,
            threads=connect_threads,
        )
        self._sentinel_pools = Pools(
            database=0,
            login=settings.sentinel_login,
            context=settings.context,
            most=max_connections,
            threads=connect_threads,
        )
        self._nodes = make_nodes(settings, self._pools, self._sentinel_pools)
        self._router = Router(self._nodes, self._pools)
        self._scripts: Scripts = SCRIPTS
        self._management = Management(prefix, self._pools, self._nodes, self._run, timeout)

    def __repr__(self) -> str:
        """Return where it is, without user name and password."""
        return f"RedisStore({str(self._settings)!r}, prefix={self._prefix!r})"

    @property
    def in_process(self) -> bool:
        """False: verbs go over the network."""
        return False

    @property
    def tag_key(self) -> bytes | None:
        """The key of the tags that tell credentials apart in the whole fleet; None without a keyring."""
        return self._codec.tag_key

    def report_to(self, report: Callable[[Event], None]) -> None:
        """Tell ``report`` of records that are not used; see :class:`accredit.stores.contract.ReportingStore`."""
        self._reports.add(report)

    # -- verbs ---------------------------------------------------------------------------------------

    @_sound
    def read(self, identity: Identity) -> Stored | None:
        """See :meth:`accredit.stores.contract.Store.read`; a record that cannot be read is none.

        Raises:
            StoreError: Redis gave no answer.

        """
        found, others = self._run(self._scripts.read, self._keys(identity), self._forms())
        stored, reasons = self._decoded(identity, found, others)
        if _NEW_KEY in reasons:
            found, others = self._run(self._scripts.read, self._keys(identity), self._forms())
            stored, _ = self._decoded(identity, found, others)
        return stored

    @_sound
    def claim(
        self,
        identity: Identity,
        *,
        newer_than: int | None,
        credential: str,
        owner: str,
        lease: float,
    ) -> Claimed:
        """See :meth:`accredit.stores.contract.Store.claim`.

        Raises:
            StoreError: Redis gave no answer.

        """
        keys = self._keys(identity)
        rest = (credential, owner, _milliseconds(lease))
        led, no_holds = False, ""
        looks = 0
        while True:
            looks += 1
            forms = self._forms()
            kind, found, others, *more = self._run(
                self._scripts.claim, keys, forms, *_split(newer_than), *rest, no_holds
            )
            stored, reasons = self._decoded(identity, found, others)
            hold = self._hold(more[1], more[0]) if kind == b"held" else None
            led = led or kind == b"lead"
            if looks == _MOST_LOOKS:
                break
            if kind == b"satisfied" and reasons:
                # It will do for nobody who reads it as this process does: one of them asks for all, and publishes anew.
                newer_than = _generation(found)
            elif kind == b"held" and hold is None:
                no_holds = "1"  # Damaged: it holds nobody.
            elif _NEW_KEY not in reasons:
                break
        if led and kind != b"lead":
            # The record that this process can read by now is what it took the lease for.
            self.fail(identity, owner=owner, hold=None)
        match kind:
            case b"satisfied":
                return Claimed(stored, Satisfied())
            case b"held" if hold is not None:
                return Claimed(stored, Held(hold))
            case b"wait":
                return Claimed(stored, Wait(more[0] / 1000))
            case _:
                return Claimed(stored, Lead(int(more[0]) if kind == b"lead" else 0))

    @_sound
    def publish(
        self,
        identity: Identity,
        *,
        owner: str,
        record: Record,
        remaining: float,
        credential: str,
        based_on: int | None,
    ) -> Stored:
        """See :meth:`accredit.stores.contract.Store.publish`. What has no life left, or no end, is not kept.

        Raises:
            StoreError: Redis gave no answer.

        """
        own = Stored(record, remaining)
        milliseconds = _milliseconds(min(remaining, record.lifetime)) if math.isfinite(remaining) else 0
        if milliseconds <= 0:
            self.fail(identity, owner=owner, hold=None)
            return own
        keys = self._keys(identity)
        data = self._codec.encode(record, store_key=keys[0])
        _, low = _split(record.generation)
        found = self._run(
            self._scripts.publish,
            keys,
            self._forms(),
            *_split(based_on),
            owner,
            milliseconds,
            credential,
            low,
            data,
        )
        stored, _ = self._decoded(identity, found, (b"?",) if found is None else ())
        # None where others keep something else under this key, and where one that cannot be used lives longer.
        return own if stored is None else stored

    @_sound
    def fail(self, identity: Identity, *, owner: str, hold: Hold | None) -> None:
        """See :meth:`accredit.stores.contract.Store.fail`.

        Raises:
            StoreError: Redis gave no answer.

        """
        keys = self._keys(identity)
        if hold is None:
            self._run(self._scripts.fail, keys, owner, "", "", "", "")
            return
        data = self._codec.encode_hold(hold)
        milliseconds = _milliseconds(hold.seconds)
        self._run(self._scripts.fail, keys, owner, hold.credential, milliseconds, hold.failures, data)

    @_sound
    def suspect(self, identity: Identity, *, generation: int, origin: str) -> SuspectOutcome:
        """See :meth:`accredit.stores.contract.Store.suspect`.

        Raises:
            StoreError: Redis gave no answer.

        """
        outcome: bytes = self._run(
            self._scripts.suspect, self._keys(identity), self._forms(), origin, *_split(generation)
        )
        return _OUTCOMES[outcome]

    @_sound
    def cool(self, identity: Identity, *, origin: str, seconds: float) -> None:
        """See :meth:`accredit.stores.contract.Store.cool`.

        Raises:
            StoreError: Redis gave no answer.

        """
        self._run(self._scripts.cool, self._keys(identity), origin, _milliseconds(seconds))

    @_sound
    def remove(self, identity: Identity) -> None:
        """See :meth:`accredit.stores.contract.Store.remove`.

        Raises:
            StoreError: Redis gave no answer.

        """
        self._run(self._scripts.remove, self._keys(identity))

    @_sound
    def endpoint_hold(self, key: str) -> Hold | None:
        """See :meth:`accredit.stores.contract.Store.endpoint_hold`.

        Raises:
            StoreError: Redis gave no answer.

        """
        name = self._throttle(key)
        answer = self._run(self._scripts.endpoint_hold, (name,))
        # None also where it is another version's, or under another key: who can read it heeds it.
        return None if answer is None else self._hold(answer[1], answer[0])

    @_sound
    def hold_endpoint(self, key: str, hold: Hold) -> None:
        """See :meth:`accredit.stores.contract.Store.hold_endpoint`.

        Raises:
            StoreError: Redis gave no answer.

        """
        name = self._throttle(key)
        data = self._codec.encode_hold(hold)
        self._run(self._scripts.hold_endpoint, (name,), _milliseconds(hold.seconds), data)

    def after_fork(self) -> None:
        """Forget, in a forked child, what the parent has open."""
        self._pools.after_fork()
        self._sentinel_pools.after_fork()
        self._nodes.after_fork()

    def close(self) -> None:
        """Close the connections that are idle; a verb that comes later opens new ones."""
        self._pools.clear()
        self._sentinel_pools.clear()

    # -- for operators -------------------------------------------------------------------------------

    @_sound
    def entries(self, *, registration: str | None = None) -> Iterable[Entry]:
        """See :meth:`accredit.stores.contract.ManagedStore.entries`.

        Raises:
            StoreError: Redis gave no answer.

        """
        return self._management.entries(self._scripts.look, registration)

    @_sound
    def remove_key(self, key: str) -> bool:
        """See :meth:`accredit.stores.contract.ManagedStore.remove_key`.

        Raises:
            StoreError: Redis gave no answer.

        """
        return self._management.remove_key(self._scripts.remove, key)

    @_sound
    def purge(self, *, registration: str | None = None) -> int:
        """See :meth:`accredit.stores.contract.ManagedStore.purge`. A lease that runs ends by itself.

        Raises:
            StoreError: Redis gave no answer.

        """
        return self._management.purge(self._scripts.remove, registration)

    # -- inside --------------------------------------------------------------------------------------

    def _keys(self, identity: Identity) -> tuple[str, str, str]:
        key = identity.store_key(self._prefix)
        return key, f"{key}:lease", f"{key}:hold"

    def _throttle(self, key: str) -> str:
        return f"{self._prefix}:throttle:{{{sha256(key.encode()).hexdigest()[:32]}}}"

    def _run(self, script: Script, keys: tuple[str, ...], *arguments: str | int | bytes) -> Any:
        tail = (len(keys), *keys, *arguments)

        def operation(link: Link) -> Any:
            try:
                return link.ask("EVALSHA", script.digest, *tail)
            except redis.exceptions.NoScriptError:
                pass  # The server was restarted, or is another one: it learns the script with this call.
            return link.ask("EVAL", script.text, *tail)

        return self._router.run(keys[0].encode(), time.monotonic() + self._timeout, operation)

    def _forms(self) -> str:
        """Return the forms of records that this process can read, the one it writes first."""
        if self._keyring is None:
            return f"{SCHEMA}:{PLAIN}"
        return " ".join(f"{SCHEMA}:{ALGORITHM}:{key.id}" for key in self._keyring.load())

    def _decoded(self, identity: Identity, found: Any, others: Iterable[bytes]) -> tuple[Stored | None, set[str]]:
        """Return the record of an answer, and why there are some that cannot be used."""
        reasons = {self._reason(form) for form in others}
        stored: Stored | None = None
        if found:
            remaining, _, low, suspect, data = found
            generation = _generation(found)
            try:
                record = self._codec.decode(data, store_key=identity.store_key(self._prefix), identity=identity)
            except UnreadableRecord as error:
                reasons.add(error.reason)
            else:
                if record.generation & _LOW == int(low) and record.generation <= generation:
                    stored = Stored(replace(record, generation=generation), remaining / 1000, suspect == 1)
                else:
                    # Another record's bytes were put beside these numbers.
                    reasons.add("generation")
        for reason in sorted(reasons - {_NEW_KEY}):
            self._reports.tell(RecordRefused(identity.registration, identity.principal, reason))
        return stored, reasons

    def _reason(self, form: bytes) -> str:
        """Return why a record of that form is not used."""
        if form == b"?":
            return "foreign"
        if form.startswith(b"!"):
            return "format"
        schema, _, rest = form.decode("ascii", "replace").partition(":")
        if schema != str(SCHEMA):
            return "schema"
        if rest == PLAIN:
            return "plaintext"
        if self._keyring is None:
            return "encrypted"
        algorithm, _, key_id = rest.partition(":")
        if algorithm != ALGORITHM:
            return "algorithm"
        # Looking for it makes the keyring look again: a key that was just given is there now.
        return "key" if self._keyring.find(key_id) is None else _NEW_KEY

    def _hold(self, data: bytes, milliseconds: int) -> Hold | None:
        try:
            return self._codec.decode_hold(data, milliseconds / 1000)
        except UnreadableRecord:
            return None


_OUTCOMES: Final[dict[bytes, SuspectOutcome]] = {b"suspect": "suspect", b"newer": "newer", b"cooling": "cooling"}


def _login(username: str | None, password: SecretGiven | None) -> Login:
    return Login(username, None if password is None else as_secret_source(password))


def _split(generation: int | None) -> tuple[str, str]:
    return ("", "") if generation is None else (str(generation >> 32), str(generation & _LOW))


def _generation(found: Any) -> int:
    _, high, low, _, _ = found
    return int(high) << 32 | int(low)


def _milliseconds(seconds: float) -> int:
    # Down, never up: nothing is kept a moment longer than it lives.
    return int(seconds * 1000)
