r"""How a token lies in a shared store: a strict text of its own, never a pickle, sealed when there is a keyring.

Every value begins with a header that says what it is::

    accredit:1:plain:{"token": ...}                           without a keyring
    accredit:1:A256GCM:<key id>:<salt><nonce><ciphertext and tag>     with one

The number is the schema version. A process reads its own version and leaves others alone, so that old and new ones can
share a store while they are being replaced. With a keyring, plaintext is not read: a value that somebody put there
would otherwise be handed out as a token.

For whoever writes a store: what :meth:`RecordCodec.decode` refuses is a miss. Leave the entry where it is, report a
:class:`~accredit.core.events.RecordRefused` with its ``reason``, and go on as if it were not there.
"""

from __future__ import annotations

import json
import math
import re
from typing import Final, NamedTuple

from accredit.core.identity import Identity, encode
from accredit.core.records import Hold, Record
from accredit.core.strict import (
    StrictError,
    b64url_decode,
    b64url_encode,
    check_scope_token,
    parse_access_token,
    parse_json_object,
)
from accredit.errors import (
    AuthorizationServerError,
    CredentialRefusedError,
    DiscoveryError,
    MalformedResponseError,
    RequestRefusedError,
    StoreError,
    ThrottledError,
    UnreachableError,
)
from accredit.stores.envelope import ALGORITHM, KEY_ID, Keyring, seal, unseal

SCHEMA: Final = 1
PLAIN: Final = "plain"
#: Most bytes of a value that is read or written.
MAX_BYTES: Final = 512 * 1024
#: Most seconds that a token can live, and thus a record: that of ``max_lifetime`` of a registration.
MAX_LIFETIME: Final = 366 * 86400.0
_MAGIC: Final = b"accredit:"
_HEADER: Final = re.compile(rb"accredit:([1-9][0-9]{0,3}):(?:(plain)|([A-Za-z0-9-]{1,16}):([A-Za-z0-9_-]{1,32})):")
_MAX_GENERATION: Final = 1 << 96
_MAX_TIME: Final = 2.0**53
_RECORD: Final = b"record"
_HOLD: Final = b"hold"
_TAG: Final = b"credential tag"


class UnreadableRecord(StoreError):  # noqa: N818 - what it is, to those who write a store
    """A stored value is not used: a miss. It is left in place.

    Attributes:
        reason: a stable word: ``"foreign"`` (not a value of accredit), ``"schema"`` (another version's),
            ``"plaintext"`` (though there is a keyring), ``"encrypted"`` (though there is none), ``"algorithm"``,
            ``"key"`` (an unknown key id), ``"tampered"``, ``"format"``, ``"identity"``, ``"lifetime"`` or ``"size"``.

    """

    def __init__(self, reason: str) -> None:
        """Keep the reason, which never quotes the value."""
        super().__init__(f"a stored value is not used: {reason}.", advice="Another process may be able to.")
        self.reason = reason

    def fresh(self) -> UnreadableRecord:
        """Return an equal error without traceback, cause, context or notes."""
        return type(self)(self.reason)


class Header(NamedTuple):
    """What a value says of itself.

    Attributes:
        schema: version of the schema.
        algorithm: ``"plain"`` or ``"A256GCM"``; other names are those of other versions.
        key_id: id of the key; empty for plaintext.
        size: bytes of the header.

    """

    schema: int
    algorithm: str
    key_id: str
    size: int

    @property
    def form(self) -> str:
        """Schema, algorithm and key in one text, as in :attr:`RecordCodec.form`."""
        return ":".join(filter(None, (str(self.schema), self.algorithm, self.key_id)))


def read_header(data: bytes) -> Header | None:
    """Return the header of a stored value, without a key; None when it is no value of accredit."""
    found = _HEADER.match(data)
    if found is None:
        return None
    schema, plain, algorithm, key_id = found.groups()
    return Header(int(schema), (plain or algorithm).decode(), (key_id or b"").decode(), found.end())


class RecordCodec:
    """Encodes and decodes what a store keeps: records and holds.

    Args:
        keyring: without one, records are plaintext and encrypted ones are a miss; with one, they are sealed, and
            plaintext is a miss.

    """

    def __init__(self, keyring: Keyring | None = None) -> None:
        """Take the keyring; it is read when it is first needed."""
        self._keyring = keyring

    @property
    def form(self) -> str:
        """What this codec writes: ``"1:plain"`` or ``"1:A256GCM:<key id>"``.

        A store that keeps one value of each form lets processes with different keys, or of different versions, use it
        side by side instead of overwriting each other's.
        """
        if self._keyring is None:
            return f"{SCHEMA}:{PLAIN}"
        return f"{SCHEMA}:{ALGORITHM}:{self._keyring.writing.id}"

    @property
    def tag_key(self) -> bytes | None:
        """The key for tags of credentials, the same in the whole fleet; None without a keyring.

        It is derived from the writing key: while that is being replaced, tags of both sides merely differ.
        """
        return None if self._keyring is None else self._keyring.writing.derive(_TAG)

    def encode(self, record: Record, *, store_key: str) -> bytes:
        """Return the value to keep under ``store_key``.

        Raises:
            StoreError: the record is larger than 512 KiB, or holds what no record can.
            ConfigurationError: the keys cannot be read.

        """
        content = _record_content(record)
        if content is None:
            raise StoreError("a token cannot be kept in the store.", advice="It is larger than a store takes.")
        return self._seal(content, _RECORD, store_key, record.identity)

    def decode(self, data: bytes, *, store_key: str, identity: Identity) -> Record:
        """Return the record, if it is one of ``identity`` that was written for ``store_key``.

        Raises:
            UnreadableRecord: it is not; see its ``reason``.
            ConfigurationError: the keys cannot be read.

        """
        content = self._unseal(data, _RECORD, store_key, identity.encoded)
        del data
        outcome = _record(content, identity) if isinstance(content, bytes) else content
        del content
        if isinstance(outcome, str):
            raise UnreadableRecord(outcome)
        return outcome

    def encode_hold(self, hold: Hold) -> bytes:
        """Return the value to keep for a hold; its seconds are not part of it.

        Raises:
            ConfigurationError: the keys cannot be read.

        """
        return self._seal(_hold_content(hold), _HOLD, "", b"")

    def decode_hold(self, data: bytes, seconds: float) -> Hold:
        """Return the hold, with ``seconds`` of it left.

        Raises:
            UnreadableRecord: it is none of ours; see its ``reason``.
            ConfigurationError: the keys cannot be read.

        """
        content = self._unseal(data, _HOLD, "", b"")
        outcome = _hold(content, seconds) if isinstance(content, bytes) else content
        if isinstance(outcome, str):
            raise UnreadableRecord(outcome)
        return outcome

    # -- envelopes -----------------------------------------------------------------------------------

    def _seal(self, content: bytes, purpose: bytes, store_key: str, identity: bytes) -> bytes:
        if self._keyring is None:
            return b"%s%d:%s:%s" % (_MAGIC, SCHEMA, PLAIN.encode(), content)
        key = self._keyring.writing
        header = b"%s%d:%s:%s:" % (_MAGIC, SCHEMA, ALGORITHM.encode(), key.id.encode())
        return header + seal(content, key, purpose=purpose, bound_to=_bound_to(header, store_key, identity))

    def _unseal(self, data: bytes, purpose: bytes, store_key: str, identity: bytes) -> bytes | str:
        """Return the content of a value, or the reason why there is none."""
        if len(data) > MAX_BYTES:
            return "size"
        header = read_header(data)
        if header is None:
            return "foreign"
        if header.schema != SCHEMA:
            return "schema"
        if header.algorithm == PLAIN:
            return data[header.size :] if self._keyring is None else "plaintext"
        if self._keyring is None:
            return "encrypted"
        # The id stands for the algorithm too: what a value says of itself chooses nothing but the key.
        if header.algorithm != ALGORITHM or not KEY_ID.fullmatch(header.key_id):
            return "algorithm"
        key = self._keyring.find(header.key_id)
        if key is None:
            return "key"
        bound_to = _bound_to(data[: header.size], store_key, identity)
        content = unseal(data[header.size :], key, purpose=purpose, bound_to=bound_to).content
        return "tampered" if content is None else content


def _bound_to(header: bytes, store_key: str, identity: bytes) -> bytes:
    return encode([("header", (header.decode("ascii"),)), ("key", (store_key,)), ("identity", (identity.hex(),))])


# -- records ------------------------------------------------------------------------------------------

_NEEDED: Final = frozenset({"identity", "token", "lifetime", "expires_at", "generation"})
_ALLOWED: Final = _NEEDED | {"scope", "refresh_in", "members", "refresh_token"}
# RFC 6749, appendix A.17.
_REFRESH_TOKEN: Final = re.compile(r"[\x20-\x7e]{1,65536}")


def _record_content(record: Record) -> bytes | None:
    members: dict[str, object] = {
        "identity": b64url_encode(record.identity),
        "token": record.value,
        "lifetime": record.lifetime,
        "expires_at": record.expires_at,
        "generation": record.generation,
    }
    if record.granted_scope is not None:
        members["scope"] = record.granted_scope
    if record.refresh_in is not None:
        members["refresh_in"] = record.refresh_in
    if record.members:
        members["members"] = record.members
    if record.refresh_token is not None:
        members["refresh_token"] = record.refresh_token
    try:
        content = json.dumps(members, separators=(",", ":"), allow_nan=False).encode("ascii")
    except ValueError:  # an expiry that is no finite number
        return None
    return content if len(content) < MAX_BYTES - 1024 else None


def _record(content: bytes, identity: Identity) -> Record | str:
    """Return the record, or why it is none."""
    try:
        members = parse_json_object(content, max_bytes=MAX_BYTES, max_depth=4)
        # Who wrote it is looked at before what it says.
        if b64url_decode(_text(members.get("identity"))) != identity.encoded:
            return "identity"
        if not _NEEDED <= members.keys() <= _ALLOWED:
            return "format"
        record = Record(
            identity.encoded,
            parse_access_token(members["token"]),
            _number(members["lifetime"]),
            _number(members["expires_at"]),
            _generation(members["generation"]),
            _scope(members["scope"]) if "scope" in members else None,
            _number(members["refresh_in"]) if "refresh_in" in members else None,
            _pairs(members.get("members", [])),
            _matched(members["refresh_token"], _REFRESH_TOKEN) if "refresh_token" in members else None,
        )
    except StrictError:
        return "format"
    if not 0 < record.lifetime <= MAX_LIFETIME or not 0 < record.expires_at < _MAX_TIME:
        return "lifetime"
    if record.refresh_in is not None and not 0 < record.refresh_in <= MAX_LIFETIME:
        return "lifetime"
    return record


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise StrictError("not a string")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise StrictError("not a number")
    if abs(value) > _MAX_TIME:
        raise StrictError("a number out of all proportion")
    return float(value)


def _generation(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_GENERATION:
        raise StrictError("not a generation")
    return value


def _scope(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise StrictError("not a list")
    return tuple(check_scope_token(_text(item)) for item in value)


def _pairs(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list):
        raise StrictError("not a list")
    pairs = []
    for item in value:
        match item:
            case [str(name), str(text)]:
                pairs.append((name, text))
            case _:
                raise StrictError("not a pair of texts")
    return tuple(pairs)


# -- holds --------------------------------------------------------------------------------------------

_ERRORS: Final[dict[str, type[AuthorizationServerError]]] = {
    "credential": CredentialRefusedError,
    "request": RequestRefusedError,
    "throttled": ThrottledError,
    "malformed": MalformedResponseError,
    "unreachable": UnreachableError,
    "discovery": DiscoveryError,
}
_KINDS: Final = {kind: name for name, kind in _ERRORS.items()}
_HOLD_MEMBERS: Final = frozenset(
    {"error", "summary", "advice", "failures", "credential", "endpoint", "status", "code", "retry_after"}
)
_MOST_TEXT: Final = 2000
_MOST_FAILURES: Final = 1_000_000
# What a message must not hold, wherever it comes from: controls, line and paragraph separators, lone surrogates.
_NOT_IN_MESSAGE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ENDPOINT: Final = re.compile(r"https?://[\x21-\x7e]{1,2000}")
_CODE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_CREDENTIAL: Final = re.compile(r"[\x21-\x7e]{0,128}")


def _hold_content(hold: Hold) -> bytes:
    error = hold.error
    members: dict[str, object] = {
        "error": _KINDS.get(type(error), "unreachable"),
        "summary": _message(error.summary),
        "advice": _message(error.advice),
        "failures": min(hold.failures, _MOST_FAILURES),
        "credential": hold.credential,
        "endpoint": error.endpoint,
        "status": error.status,
        "code": error.error_code,
        "retry_after": error.retry_after,
    }
    kept = {name: value for name, value in members.items() if value is not None}
    return json.dumps(kept, separators=(",", ":")).encode("ascii")


def _message(text: str) -> str:
    return _NOT_IN_MESSAGE.sub("?", text[:_MOST_TEXT])


def _hold(content: bytes, seconds: float) -> Hold | str:
    """Return the hold, or why it is none. Its texts reach people, so each is held to the form that ours have."""
    try:
        members = parse_json_object(content, max_bytes=16 * 1024, max_depth=1)
        if not {"error", "summary", "advice", "failures", "credential"} <= members.keys() <= _HOLD_MEMBERS:
            return "format"
        kind = _ERRORS.get(_text(members["error"]))
        failures, status = _count(members["failures"], _MOST_FAILURES), members.get("status")
        if kind is None or not math.isfinite(seconds):
            return "format"
        error = kind(
            _matched(members["summary"], None),
            advice=_matched(members["advice"], None),
            endpoint=_matched(members["endpoint"], _ENDPOINT) if "endpoint" in members else None,
            status=None if status is None else _count(status, 999),
            error_code=_matched(members["code"], _CODE) if "code" in members else None,
            retry_after=abs(_number(members["retry_after"])) if "retry_after" in members else None,
        )
        return Hold(seconds, error, failures, _matched(members["credential"], _CREDENTIAL))
    except StrictError:
        return "format"


def _matched(value: object, pattern: re.Pattern[str] | None) -> str:
    text = _text(value)
    if pattern is None:
        if len(text) > _MOST_TEXT or _NOT_IN_MESSAGE.search(text):
            raise StrictError("not a message")
    elif not pattern.fullmatch(text):
        raise StrictError("not of the form that it must have")
    return text


def _count(value: object, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise StrictError("not a count")
    return value
