"""How a client proves who it is at the token endpoint: one small value per IANA method name.

A method says where its secret comes from (``source``, None when it needs none) and how the secret goes into
a token request (:meth:`ClientAuthentication.apply`). More methods are more values of the same shape.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import field
from typing import Literal, Protocol, runtime_checkable
from urllib.parse import quote

from accredit.core.secret import (
    CallableSecret,
    EnvironmentSecret,
    FileSecret,
    LiteralSecret,
    Secret,
    SecretSource,
)
from accredit.core.value import Value, frozen
from accredit.errors import ConfigurationError

Parameters = tuple[tuple[str, str], ...]
SecretGiven = str | Secret | SecretSource | Callable[[], str | Secret]


@runtime_checkable
class ClientAuthentication(Protocol):
    """A client authentication method (RFC 6749, section 2.3)."""

    @property
    def method(self) -> str:
        """The name in the IANA registry "OAuth Token Endpoint Authentication Methods"."""

    @property
    def source(self) -> SecretSource | None:
        """Where the secret comes from; None for a method without one."""

    def apply(self, client_id: str, secret: Secret | None) -> tuple[Parameters, Parameters]:
        """Return the header fields and the form parameters that authenticate the client."""

    def check(self, client_id: str) -> None:
        """Refuse, with :class:`~accredit.errors.ConfigurationError`, what could never work."""


def as_secret_source(secret: SecretGiven) -> SecretSource:
    """Return the source for what a user gave: a text, a :class:`Secret`, or a source."""
    source = _source_or_problem(secret)
    # No frame of an error's traceback may hold the text: crash reports show local variables.
    del secret
    if isinstance(source, ConfigurationError):
        raise source
    return source


def _source_or_problem(secret: object) -> SecretSource | ConfigurationError:
    if isinstance(secret, LiteralSecret | EnvironmentSecret | FileSecret | CallableSecret):
        return secret
    if isinstance(secret, str):
        secret = Secret(secret)
    if isinstance(secret, Secret):
        return _problem_of(secret, "client_secret") or LiteralSecret(secret)
    if callable(secret):
        return CallableSecret(secret)
    return ConfigurationError(
        f"a client secret must be a text, a Secret, a source or a callable, not {type(secret).__name__}.",
        advice="Give the text, or Secret.from_file(...), Secret.from_environment(...), or a function.",
        key="client_secret",
    )


def checked_secret(secret: Secret, *, origin: str = "client_secret") -> Secret:
    """Return ``secret`` if it may be sent; raise ConfigurationError naming ``origin`` otherwise.

    Any characters but controls are legal (RFC 6749, appendix A.2 and 2.3.1); blank secrets are not.
    """
    problem = _problem_of(secret, origin)
    if problem is None:
        return secret
    del secret
    raise problem


def _problem_of(secret: Secret, origin: str) -> ConfigurationError | None:
    text = secret.reveal()
    if not text.strip():
        return ConfigurationError(
            f"the secret from {origin} is empty.",
            advice="Check that the file, variable or function gives the client secret.",
            key="client_secret",
        )
    bad = first_control(text)
    if bad is not None:
        position, code = bad
        return ConfigurationError(
            f"the secret from {origin} has the character U+{code:04X} at position {position}.",
            advice="A secret may hold any character except controls and lone surrogates; look for a stray line break.",
            key="client_secret",
        )
    return None


def first_control(text: str) -> tuple[int, int] | None:
    """Return position and code point of the first control character or lone surrogate, or None."""
    for position, character in enumerate(text):
        code = ord(character)
        if code < 0x20 or 0x7F <= code <= 0x9F or 0xD800 <= code <= 0xDFFF:
            return position, code
    return None


def percent_encode(text: str) -> str:
    """Encode for HTTP Basic (RFC 6749, section 2.3.1): UTF-8, ``%20`` for a space, ``-._~`` plain."""
    return quote(text, safe="-._~")


@frozen()
class ClientSecretBasic(Value):
    """``client_secret_basic``: id and secret in the ``Authorization`` header (RFC 6749, section 2.3.1).

    Attributes:
        secret: a text, a :class:`~accredit.Secret`, a source of one, or a synchronous callable.
        basic_encoding: ``"percent"`` (the RFC) or ``"raw"`` for servers that do not decode id and secret.

    """

    secret: SecretGiven = field(repr=False)
    basic_encoding: Literal["percent", "raw"] = "percent"

    def __init__(self, secret: SecretGiven, basic_encoding: Literal["percent", "raw"] = "percent") -> None:
        """Turn the secret into a source, so that no plain text is kept."""
        object.__setattr__(self, "basic_encoding", basic_encoding)
        source = _source_or_problem(secret)
        del secret
        if isinstance(source, ConfigurationError):
            raise source
        object.__setattr__(self, "secret", source)
        if self.basic_encoding not in {"percent", "raw"}:
            raise ConfigurationError(
                "basic_encoding is neither 'percent' nor 'raw'.",
                advice="Use 'percent' unless the server does not decode the id and the secret.",
                key="basic_encoding",
            )

    @property
    def method(self) -> str:
        """``client_secret_basic``."""
        return "client_secret_basic" if self.basic_encoding == "percent" else "client_secret_basic;raw"

    @property
    def source(self) -> SecretSource:
        """Where the secret comes from."""
        return as_secret_source(self.secret)

    def check(self, client_id: str) -> None:
        """Refuse a raw client id with a colon: the server could not tell where it ends (RFC 7617, section 2)."""
        if self.basic_encoding == "raw" and ":" in client_id:
            raise ConfigurationError(
                "a client id with a colon cannot be sent with basic_encoding 'raw'.",
                advice="Use basic_encoding 'percent', or client_auth 'client_secret_post'.",
                key="client_id",
            )

    def apply(self, client_id: str, secret: Secret | None) -> tuple[Parameters, Parameters]:
        """Return the ``Authorization`` header, and no form parameter."""
        text = secret.reveal() if secret is not None else ""
        if self.basic_encoding == "percent":
            pair = f"{percent_encode(client_id)}:{percent_encode(text)}"
        else:
            pair = f"{client_id}:{text}"
        return (("authorization", "Basic " + b64encode(pair.encode()).decode()),), ()


@frozen()
class ClientSecretPost(Value):
    """``client_secret_post``: id and secret as form parameters (RFC 6749, section 2.3.1).

    Attributes:
        secret: a text, a :class:`~accredit.Secret`, a source of one, or a synchronous callable.

    """

    secret: SecretGiven = field(repr=False)

    def __init__(self, secret: SecretGiven) -> None:
        """Turn the secret into a source, so that no plain text is kept."""
        source = _source_or_problem(secret)
        del secret
        if isinstance(source, ConfigurationError):
            raise source
        object.__setattr__(self, "secret", source)

    @property
    def method(self) -> str:
        """``client_secret_post``."""
        return "client_secret_post"

    @property
    def source(self) -> SecretSource:
        """Where the secret comes from."""
        return as_secret_source(self.secret)

    def check(self, client_id: str) -> None:
        """Accept every client id."""

    def apply(self, client_id: str, secret: Secret | None) -> tuple[Parameters, Parameters]:
        """Return no header, and the two form parameters."""
        text = secret.reveal() if secret is not None else ""
        return (), (("client_id", client_id), ("client_secret", text))
