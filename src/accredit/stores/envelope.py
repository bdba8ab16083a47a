"""Keys for records at rest, and the sealed envelope: AES-256-GCM, the key chosen by its id and nothing else.

A key is a text, ``A256GCM.<id>.<32 random bytes in base64url>``, so that an id stands for one algorithm and one key.
The first key of a :class:`Keyring` writes; all of them read. What a key is for is derived from it with HKDF (RFC 5869):
each message is sealed under a key of its own, from 128 random bits of its envelope, so that no number of messages comes
near the limit of random nonces (NIST SP 800-38D, section 8.3).

pyca/cryptography is needed as soon as there is a key: the extra ``crypto``.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, final

from accredit.core.fault import StrictError
from accredit.core.secret import CallableSecret, EnvironmentSecret, FileSecret, LiteralSecret, Secret, SecretSource
from accredit.core.strict import b64url_decode, b64url_encode
from accredit.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ALGORITHM: Final = "A256GCM"
KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
KEY_BYTES: Final = 32
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
#: What an envelope is longer than what it holds.
OVERHEAD: Final = SALT_BYTES + NONCE_BYTES + TAG_BYTES
_MAX_FILE_BYTES: Final = 64 * 1024
_MOST_KEYS: Final = 64
# A variable or a function is asked again this often (seconds), and when a key id is not known.
_LOOK_AGAIN: Final = 60.0
_LOOK_AGAIN_FOR_UNKNOWN: Final = 1.0
_ADVICE: Final = "Make a key with 'accredit store keygen' and give it as it is printed."
KeySource = str | Secret | SecretSource
Stamp = tuple[int, int, int, int]


@final
class EncryptionKey:
    """A key by its id. It prints as ``EncryptionKey('id')`` and refuses to be pickled."""

    __slots__ = ("_secret", "id")

    def __init__(self, key_id: str, secret: bytes) -> None:
        """Keep a key of 32 bytes under its id."""
        self.id: str = key_id
        self._secret = secret

    def derive(self, purpose: bytes, salt: bytes = b"") -> bytes:
        """Return 32 bytes for that purpose: HKDF-SHA-256 of the key (RFC 5869), with the key's id in the info."""
        extracted = hmac.digest(salt or bytes(32), self._secret, "sha256")
        info = b"accredit\x00%s\x00%s\x00%s\x01" % (ALGORITHM.encode(), self.id.encode(), purpose)
        return hmac.digest(extracted, info, "sha256")

    def same_as(self, other: EncryptionKey) -> bool:
        """Tell whether both are the very same key."""
        return self.id == other.id and hmac.compare_digest(self._secret, other._secret)

    def __repr__(self) -> str:
        """Return ``EncryptionKey('id')``."""
        return f"EncryptionKey({self.id!r})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled."""
        del self  # not to hang on the traceback
        msg = "an EncryptionKey refuses to be pickled: give the other process its own source (file, environment)"
        raise TypeError(msg)


def generate_key(key_id: str | None = None) -> Secret:
    """Return a new key as a text for a key file or a variable.

    Args:
        key_id: ``[A-Za-z0-9_-]{1,32}``; eight random digits behind a ``k`` unless given.

    Raises:
        ConfigurationError: the id is of another form.

    """
    key_id = f"k{secrets.token_hex(4)}" if key_id is None else key_id
    if not KEY_ID.fullmatch(key_id):
        raise ConfigurationError(
            "the key id is not of the form [A-Za-z0-9_-]{1,32}.", advice="Choose another one.", key="key_id"
        )
    return Secret(f"{ALGORITHM}.{key_id}.{b64url_encode(secrets.token_bytes(KEY_BYTES))}")


class Keyring:
    """The keys of a fleet: the first one writes, all of them read.

    To rotate: give the new key to every process as a further one to read, then put it first everywhere, and drop the
    old one when the longest-lived token is over. Nothing has to be flushed, and no process has to be restarted: a
    file is read again when it changes, a variable or function once a minute and when an unknown key id turns up.
    """

    def __init__(self, *sources: KeySource) -> None:
        """Take the keys, or where they come from.

        Args:
            sources: each a key as a text, or a source of a text (file, environment, function) with one key or several,
                separated by blanks or line breaks.

        Raises:
            ConfigurationError: there is none, or a text given here is not a key.
            ImportError: pyca/cryptography is not installed.

        """
        _require_cryptography()
        if not sources:
            raise ConfigurationError("the keyring has no key.", advice=_ADVICE, key="encryption")
        self._sources: tuple[_Source, ...] = tuple(map(_Source, sources))
        self._keys: tuple[EncryptionKey, ...] = ()
        if all(source.is_literal for source in self._sources):
            self.load()

    def load(self, *, look_again: bool = False) -> tuple[EncryptionKey, ...]:
        """Return all keys, the writing one first; read them if there is need.

        Args:
            look_again: also ask variables and functions that were asked a short while ago.

        Raises:
            ConfigurationError: they could not be read, and never were before; or two keys have one id.

        """
        limit = _LOOK_AGAIN_FOR_UNKNOWN if look_again else _LOOK_AGAIN
        # Assigned whole, so two threads that read at once do no harm, and a fork needs no lock to be replaced.
        changed = [source.refresh(limit) for source in self._sources]
        problem = next((source.problem for source in self._sources if source.problem is not None), None)
        if problem is None and (any(changed) or not self._keys):
            merged = _merged(key for source in self._sources for key in source.keys)
            if isinstance(merged, ConfigurationError):
                problem = merged
            else:
                self._keys = merged
        if not self._keys:
            raise problem.fresh() if problem is not None else _no_key()
        return self._keys

    @property
    def writing(self) -> EncryptionKey:
        """The key that new records are sealed with."""
        return self.load()[0]

    def find(self, key_id: str) -> EncryptionKey | None:
        """Return the key of that id; None when there is none, even after another look."""
        for look_again in (False, True):
            for key in self.load(look_again=look_again):
                if key.id == key_id:
                    return key
        return None

    def __repr__(self) -> str:
        """Show the ids of the keys that were read."""
        return f"Keyring({', '.join(repr(key.id) for key in self._keys)})"


class Sealed(NamedTuple):
    """The body of an envelope could be opened, or could not.

    Attributes:
        content: what it holds; None when it, its key or what it is bound to is not what it was.

    """

    content: bytes | None


def seal(content: bytes, key: EncryptionKey, *, purpose: bytes, bound_to: bytes) -> bytes:
    """Return salt, nonce, ciphertext and tag (16, 12, n and 16 bytes) of ``content``, bound to ``bound_to``."""
    salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
    return salt + nonce + _cipher(key, purpose, salt).encrypt(nonce, content, bound_to)


def unseal(body: bytes, key: EncryptionKey, *, purpose: bytes, bound_to: bytes) -> Sealed:
    """Open what :func:`seal` returned; whatever is not exactly that gives no content."""
    from cryptography.exceptions import InvalidTag

    if len(body) < OVERHEAD:
        return Sealed(None)
    salt, nonce = body[:SALT_BYTES], body[SALT_BYTES : SALT_BYTES + NONCE_BYTES]
    try:
        return Sealed(_cipher(key, purpose, salt).decrypt(nonce, body[SALT_BYTES + NONCE_BYTES :], bound_to))
    except InvalidTag:
        return Sealed(None)


def _cipher(key: EncryptionKey, purpose: bytes, salt: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key.derive(purpose, salt))


# -- reading keys -----------------------------------------------------------------------------------


class _Source:
    """One source of keys, and what it gave last."""

    __slots__ = ("_asked_at", "_stamp", "_text", "keys", "problem", "source")

    def __init__(self, source: KeySource) -> None:
        if isinstance(source, str):
            source = Secret(source)
        self.source: SecretSource = LiteralSecret(source) if isinstance(source, Secret) else source
        self.keys: tuple[EncryptionKey, ...] = ()
        self.problem: ConfigurationError | None = None
        self._asked_at: float | None = None
        self._stamp: Stamp | None = None
        self._text: Secret | None = None

    @property
    def is_literal(self) -> bool:
        return isinstance(self.source, LiteralSecret)

    def refresh(self, limit: float) -> bool:
        """Read again if it is time to; tell whether there are other keys now. What cannot be read changes nothing."""
        if not self._is_due(limit):
            return False
        text = _text_of(self.source)
        if isinstance(text, ConfigurationError):
            return self._fail(text)
        if text == self._text:
            self.problem = None
            return False
        keys = _parsed(text, _name_of(self.source))
        if isinstance(keys, ConfigurationError):
            return self._fail(keys)
        self.keys, self.problem, self._text = keys, None, text
        return True

    def _fail(self, problem: ConfigurationError) -> bool:
        # Half a swap of files, a variable on its way out: what was read before goes on being used.
        self.problem = None if self.keys else problem
        self._stamp = None
        return False

    def _is_due(self, limit: float) -> bool:
        match self.source:
            case LiteralSecret():
                return self._text is None and self.problem is None
            case FileSecret(path):
                stamp = _stamp(path)
                due = stamp is None or stamp != self._stamp
                self._stamp = stamp
                return due
        now = time.monotonic()
        if self._asked_at is not None and self.keys and now < self._asked_at + limit:
            return False
        self._asked_at = now
        return True


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()  # follows symbolic links, so a swapped link shows as another file
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


def _name_of(source: SecretSource) -> str:
    match source:
        case FileSecret(path):
            return f"the key file {path}"
        case EnvironmentSecret(variable):
            return f"the environment variable {variable}"
        case CallableSecret():
            return "the function that gives the encryption keys"
    return "the encryption key"


def _text_of(source: SecretSource) -> Secret | ConfigurationError:
    problem = ""
    text = ""
    try:
        match source:
            case LiteralSecret(value):
                return value
            case EnvironmentSecret(variable):
                text = os.environ.get(variable, "")
                problem = "" if text else "is not set"
            case FileSecret(path):
                with path.open("rb") as file:
                    data = file.read(_MAX_FILE_BYTES + 1)
                text = data.decode("ascii") if len(data) <= _MAX_FILE_BYTES else ""
                problem = "" if len(data) <= _MAX_FILE_BYTES else "is too large"
            case CallableSecret(function):
                return _called(function)
    except OSError as error:
        problem = f"cannot be read ({error.strerror or type(error).__name__})"
    except UnicodeDecodeError:
        problem = "is not ASCII"
    if problem:
        return ConfigurationError(f"{_name_of(source)} {problem}.", advice=_ADVICE, key="encryption")
    return Secret(text)


def _called(function: Callable[[], str | Secret]) -> Secret | ConfigurationError:
    value: object = None
    problem = ""
    try:
        value = function()
    except Exception as error:
        problem = f"raised {type(error).__name__}"
    if isinstance(value, Secret):
        return value
    if isinstance(value, str):
        return Secret(value)
    return ConfigurationError(
        f"the function that gives the encryption keys {problem or f'returned a {type(value).__name__}'}.",
        advice="It must return a text or a Secret, and raise nothing.",
        key="encryption",
    )


def _parsed(text: Secret, name: str) -> tuple[EncryptionKey, ...] | ConfigurationError:
    """Return the keys of a text. No error repeats any of it: who has the wrong file has a secret in it."""
    words = text.reveal().split()
    problem = "" if words else "holds no key"
    if len(words) > _MOST_KEYS:
        problem = f"holds more than {_MOST_KEYS} keys"
    keys: list[EncryptionKey] = []
    for number, word in enumerate(words[:_MOST_KEYS], 1):
        key = _key(word)
        if key is None:
            problem = (
                problem or f"holds something that is not a key of the form {ALGORITHM}.<id>.<key> (number {number})"
            )
        else:
            keys.append(key)
    if problem:
        return ConfigurationError(f"{name} {problem}.", advice=_ADVICE, key="encryption")
    return tuple(keys)


def _key(word: str) -> EncryptionKey | None:
    algorithm, _, rest = word.partition(".")
    key_id, _, encoded = rest.partition(".")
    if algorithm != ALGORITHM or not KEY_ID.fullmatch(key_id):
        return None
    try:
        secret = b64url_decode(encoded)
    except StrictError:
        return None
    # Thirty-two times the same byte is a stand-in that somebody forgot to replace.
    return EncryptionKey(key_id, secret) if len(secret) == KEY_BYTES and len(set(secret)) > 1 else None


def _merged(keys: Iterable[EncryptionKey]) -> tuple[EncryptionKey, ...] | ConfigurationError:
    merged: dict[str, EncryptionKey] = {}
    for key in keys:
        known = merged.setdefault(key.id, key)
        if not known.same_as(key):
            return ConfigurationError(
                f"two different encryption keys have the id {key.id!r}.",
                advice="Give each key an id of its own: a record names its key by id alone.",
                key="encryption",
            )
    return tuple(merged.values())


def _no_key() -> ConfigurationError:
    return ConfigurationError("the keyring has no key.", advice=_ADVICE, key="encryption")


def _require_cryptography() -> None:
    missing = False
    try:
        import cryptography  # noqa: F401 - only to see that it is there
    except ImportError:
        missing = True
    if missing:
        msg = "encryption of stored tokens needs the package cryptography: pip install 'accredit[crypto]'"
        raise ImportError(msg, name="cryptography")
