"""Every row: its id, what it is about, and the tests that show it. ``python -m tests.bad_inputs.manifest`` prints it.

A row is an id here and a case in a table, or a test that says ``@covers``, or it is deferred with a reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent

ROWS: Mapping[str, str] = {
    # Answers of the token endpoint that are, or look like, a grant.
    "A01": "a minimal answer; life counts from the sending",
    "A02": "token_type in any case",
    "A03": "no token_type",
    "A04": "a token_type that is not Bearer",
    "A06": "DPoP that nobody asked for",
    "A07": "no access_token, or one that is not a text",
    "A08": "characters in the token that do not belong into a header",
    "A09": "spaces or a scheme around the token",
    "A10": "characters that servers in use put into tokens",
    "A11": "tokens of 16 KiB, and beyond 64 KiB",
    "A13": "no expires_in",
    "A14": "a life of nothing",
    "A15": "expires_in as a text of digits",
    "A16": "expires_in as a text that only resembles a number",
    "A17": "expires_in with a fraction",
    "A18": "expires_in of another kind",
    "A19": "expires_in that is no finite number",
    "A20": "a life of ten years",
    "A21": "a life of five seconds",
    "A22": "a token that is over when it arrives",
    "A23": "expires_in null",
    "A25": "the same member twice, also in disguise",
    "A28": "less scope than was asked for",
    "A30": "the scope in another order",
    "A31": "a scope that is none",
    "A32": "a refresh token that nobody asked for",
    "A33": "hundreds of members that nobody knows",
    "A35": "a token and an error in one answer",
    "A36": "a login page",
    "A37": "JSON that does not say so",
    "A40": "a byte order mark",
    "A42": "JSON that is no object, or no JSON",
    "A44": "JSON too deep",
    "A45": "numbers too long",
    "A46": "lone surrogates",
    "A47": "a body too long, or without end",
    "A48": "content codings and bombs in them",
    "A49": "an answer that is cut off",
    "A51": "a flood of interim answers",
    "A53": "an answer that may be cached by anyone",
    "A54": "authorization details that differ",
    "A55": "members about the token that bind nothing",
    "A56": "the same token for two identities",
    "A57": "the token that was just refused, again",
    # Refusals and faults.
    "B01": "the credential is refused",
    "B02": "the credential is refused with a challenge",
    "B04": "the request is refused",
    "B05": "a nonce is demanded",
    "B06": "a nonce is demanded for ever",
    "B08": "attestation challenges",
    "B09": "come back later",
    "B10": "come back at a time that makes no sense",
    "B14": "the proxy refuses",
    "B16": "an error code that is none",
    "B17": "the refusal repeats the secret",
    "B18": "an error_uri that is dangerous or huge",
    "B19": "a refusal with nothing, or nonsense, in it",
    "B20": "names that do not resolve",
    "B21": "connections that do not come about",
    "B23": "the connection is closed as the request is sent",
    "B25": "the answer comes too late",
    "B26": "the server goes away in mid-protocol",
    "B27": "header fields without measure",
    "B28": "the answer to another request",
    "B29": "a herd and a dead server",
    "B30": "an outage as long as the token lives",
    "B31": "a server that fails every other time",
    "B32": "a server that answers, but always too late",
    # Redirects.
    "C02": "a redirect to another origin that keeps the body",
    "C03": "a redirect to plain http",
    "C05": "an API call that is redirected to another origin",
    "C06": "a redirect with a proof of possession",
    "C07": "a redirect that turns POST into GET",
    "C08": "a redirect to an origin that is allowed",
    "C12": "a redirect of a metadata document",
    # Building requests.
    "D01": "odd characters in id and secret",
    "D03": "servers that do not decode them",
    "D04": "line breaks in secrets",
    "D05": "controls in id and secret",
    "D06": "empty id or secret",
    "D08": "a scope that is none, configured",
    "D09": "extra parameters that would replace ours",
    "D10": "resources that are none, and their order",
    "D11": "two authentications in one request",
    "D14": "an assertion without an audience",
    "D15": "the life of an assertion",
    "D17": "keys that are too weak",
    "D18": "keys that cannot be read",
    "D21": "URLs that only look like loopback",
    "D22": "URLs open to two readings",
    "D24": "parameters in the log",
    "D28": "variables with quotes or a byte order mark",
    # Attaching tokens.
    "E06": "insufficient_scope",
    "E07": "other refusals of the API",
    "E08": "a body that cannot be sent again",
    "E11": "challenges in several fields",
    "E12": "challenges in odd spellings",
    "E15": "a challenge that contradicts itself",
    "E17": "a nonce demanded by an API",
    "E25": "a refusal of an old token",
    "E26": "a caller that is cancelled while its 401 is healed",
    # What a guard answers (I06 and I07 as well).
    "F37": "a token in more than one place",
    "F40": "an oracle for whoever forges tokens",
    # Tokens that an API is called with.
    "F01": "no algorithm, or none that is one",
    "F05": "a token that brings its own key",
    "F06": "an algorithm that is not the one of the key",
    "F08": "odd ECDSA signatures",
    "F09": "odd RSA signatures",
    "F10": "two names for Ed25519, and points of small order",
    "F12": "a payload that is not encoded",
    "F13": "a JWS that is not compact",
    "F14": "segments too few, too many, or empty",
    "F15": "characters that are not base64url",
    "F17": "a header that is not strict JSON",
    "F18": "a JWT of another kind",
    "F20": "an issuer that is almost ours",
    "F21": "the key of another issuer",
    "F22": "an audience that is not ours",
    "F23": "the end of life",
    "F24": "the beginning of life",
    "F25": "a token for ten years",
    "F26": "claims that have to be there",
    "F28": "claims that are no object",
    "F29": "texts that only look alike",
    "F30": "a JWT in a JWT",
    "F31": "a token that was revoked",
    "F33": "key ids that are more than ids",
    "F34": "no key id",
    "F39": "a verifier without an issuer or an audience",
    # Keys of others.
    "G01": "a malformed key among good ones",
    "G02": "a key set that is none",
    "G03": "the keys are gone for a while",
    "G05": "a key that is not known",
    "G06": "a flood of keys that are not known",
    "G07": "keys that are rotated",
    "G09": "two keys of one name",
    "G11": "private keys for all to read",
    "G13": "RSA keys too weak, too large, or broken",
    "G14": "points that are not on their curve",
    "G15": "a private key that is not that of its public part",
    "G16": "a key set too large",
    "G17": "how long a key set may be kept",
    "G19": "keys for no algorithm, or for a symmetric one",
    "G20": "media types of a key set",
    "G21": "thumbprints of keys in odd spellings",
    "G22": "a renewal that fails in the background",
    # Encryption, signed introspection.
    "H04": "an encrypted token with odd parameters",
    "H05": "an encrypted token around unsigned claims",
    "H06": "an encrypted token with a point off its curve",
    "H07": "an encrypted token for a thousand recipients",
    "H08": "an encrypted token for another of our keys",
    "H09": "an encrypted token in an encrypted token",
    "H10": "a signed introspection response that is none, or not for us",
    "H11": "a signed introspection response as a token",
    # Introspection.
    "I01": "active, and nothing else",
    "I04": "active and expired",
    "I06": "the server refuses this API",
    "I07": "the server gives no answer",
    "I08": "a thousand checks of one token",
    "I09": "a flood of made-up tokens",
    "I10": "what a verdict is kept under",
    "I11": "a token bound to a key",
    "I12": "a token with characters of a form",
    "I13": "an answer without measure",
    "I15": "a revocation that has to wait",
    # Discovery.
    "J01": "another issuer",
    "J04": "an endpoint that cannot be used",
    "J07": "a name that is rebound",
    "J08": "a name with good and bad addresses",
    "J09": "a document that is elsewhere",
    "J10": "a document that is none",
    "J11": "methods that are not named",
    "J12": "a server that does not know our method",
    "J13": "signed metadata",
    "J14": "a document that changes",
    "J15": "no document at the start, but a copy",
    "J17": "aliases for mutual TLS",
    "J18": "metadata of another resource",
    "J19": "a resource that names unknown servers",
    "J20": "an issuer that is the beginning of another",
    "J21": "algorithms for proofs that are too weak",
    "J23": "documents and credentials",
    # TLS.
    "K01": "certificates that are wrong",
    "K02": "protocol versions that are too old",
    "K03": "verification switched off",
    "K05": "one connection for two names",
    # What lies in Redis.
    "M13": "a key that goes while its token is in hand",
    "M14": "two writers at once",
    "M16": "scopes in any form and order",
    "M20": "a Redis that loses everything",
    "M21": "errors that Redis answers",
    "M23": "a client that decodes its answers",
    # Redis and the way to it.
    "N01": "down when the process starts",
    "N02": "hung",
    "N03": "slow",
    "N04": "down, and back",
    "N05": "everybody at once",
    "N06": "a connection that breaks in an answer",
    "N07": "a fail-over",
    "N08": "two primaries at once",
    "N09": "a replica that is behind",
    "N11": "a password that is rotated",
    "N12": "no connection free",
    "N13": "callers that are cancelled",
    "N14": "callers whose time is up",
    "N15": "a thread that is interrupted in the middle",
    "N16": "a client that does other things",
    "N17": "event loops that come and go",
    "N19": "operations that are done twice",
    "N21": "servers that differ",
    # One flight in a fleet.
    "O01": "a leader that is killed",
    "O02": "a leader that is stopped",
    "O03": "a server slower than the lease",
    "O04": "a lease given back too late",
    "O06": "a lease without an end",
    "O07": "hundreds that wait",
    "O09": "a leader that fails",
    "O10": "one lease for two identities",
    "O12": "the first caller is cancelled",
    "O13": "an error for many",
    "O16": "a lock over several servers",
    # Records at rest.
    "M03": "a sealed record that was cut, or touched",
    "M04": "a record under the key of another registration",
    "M05": "a record that was moved to another key of the store",
    "M06": "a record under a key that this process does not know",
    "M07": "a record that names a weaker algorithm",
    "M08": "an old record that was put back",
    "M09": "plaintext where encryption is required",
    "M10": "a life that makes no sense",
    "M22": "a pickle",
    # Time.
    "P02": "the wall clock steps back",
    "P03": "a suspend of eight hours",
    "P04": "a clock that leaps",
    "P06": "a machine whose clock is slow",
    "P07": "a server whose clock differs",
    "P08": "an assertion refused for its time",
    "P09": "dates at the edge of what can be written",
    "P10": "a clock that loses a microsecond",
    "P13": "tolerances that make no sense",
    "P14": "clocks that others replace",
    # Processes, threads, loops.
    "Q01": "fork with everything in the air",
    "Q02": "fork while a flight is up",
    "Q03": "pickled configuration",
    "Q04": "death at each step",
    "Q05": "SIGTERM during a renewal",
    "Q06": "interpreter shutdown",
    "Q08": "a hundred event loops, one after the other",
    "Q09": "other event loops",
    "Q10": "the synchronous face inside an event loop",
    "Q11": "many threads at once",
    "Q13": "sub-interpreters",
    "Q18": "hooks and log handlers that raise",
    "Q20": "a cache on a full disk",
    "Q21": "answers that would exhaust the memory",
    # The authorization server's side (the development server).
    "R03": "parameters that are repeated or empty",
    "R04": "parameters that nobody knows",
    "R05": "how a grant is answered",
    "R07": "Basic credentials that are none",
    "R08": "secrets that are not ASCII",
    "R09": "two ways of client authentication at once",
    "R10": "assertions that prove nothing",
    "R12": "identifiers that serve once, of several kinds",
    "R13": "scopes that are not for the client",
    "R14": "resources that are unknown, several, or none",
    "R15": "another grant, or none",
    "R16": "a client named like a user",
    "R21": "a place where a development server must not run",
    "R27": "time travel by anybody",
    # Leaks and supply chain.
    "T02": "tracebacks with variables",
    "T03": "spans of instrumented HTTP",
    "T04": "labels that others control",
    "T07": "debug output of the interpreter",
    "T08": "control characters in logs",
    "T10": "dependencies with known faults",
    "T11": "extras that are not installed",
    "T12": "secrets in memory",
    "T13": "checks that no test would miss",
    "T14": "configuration that somebody else put there",
}

_BOUND = "needs tokens that are bound to a key (RFC 9449), which this version does not issue requests for"
_ASSERTION = "concerns signed client assertions, which this version does not send"

DEFERRED: Mapping[str, str] = {
    "B05": _BOUND,
    "B06": _BOUND,
    "B08": "concerns attested clients, which this version does not know",
    "C06": _BOUND,
    "D14": _ASSERTION,
    "D15": _ASSERTION,
    "D17": _ASSERTION,
    "D18": _ASSERTION,
    "E17": _BOUND,
    "J17": "concerns mutual TLS as client authentication, which this version does not have",
    "J21": _BOUND,
    "P08": _ASSERTION,
    "T03": "concerns the OpenTelemetry subscriber, which this version does not have",
    "T10": "concerns the doctor command, which this version does not have",
}


@dataclass(frozen=True)
class Shown:
    """What shows one row.

    Attributes:
        where: the test.
        outcome: what it shows.
        asserts: how many assertions it makes of its own, or how many of its expectations are looked at.

    """

    where: str
    outcome: str
    asserts: int


def covered_in(source: str, name: str) -> Iterator[tuple[str, Shown]]:
    """Return the rows that the tests in a module say they cover."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "covers":
                rows = [ast.literal_eval(argument) for argument in decorator.args]
                outcome = "".join(str(ast.literal_eval(keyword.value)) for keyword in decorator.keywords)
                runs = 0 if not node.name.startswith("test_") else _asserts(node)
                yield from ((row, Shown(f"{name}::{node.name}", outcome, runs)) for row in rows)


def _asserts(function: ast.AST) -> int:
    """Count assertions that can fail: not those of a constant."""
    return sum(isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant) for node in ast.walk(function))


def shown() -> dict[str, list[Shown]]:
    """Return what shows each row: the cases of the tables, and the tests that say so."""
    from tests.bad_inputs.rows import CASES
    from tests.bad_inputs.test_wire import CASES as WIRE

    found: dict[str, list[Shown]] = {}
    for case in CASES:
        where = f"test_answers.py::test_without_a_token[{case.name}]"
        found.setdefault(case.id, []).append(Shown(where, case.expect.outcome, len(case.expect.given())))
    for wire in WIRE:
        where = f"test_wire.py::test_over_a_socket[{wire.id}-{wire.variant}]"
        found.setdefault(wire.id, []).append(Shown(where, wire.outcome, 2))
    for file in sorted([*FOLDER.glob("test_*.py"), *FOLDER.parent.glob("*/test_redis*.py")]):
        for row, test in covered_in(file.read_text(encoding="utf-8"), file.name):
            found.setdefault(row, []).append(test)
    return found


def faults_of(rows: Mapping[str, str], deferred: Mapping[str, str], found: Mapping[str, list[Shown]]) -> list[str]:
    """Return what is wrong with a manifest."""
    faults = [f"{row} is neither tested nor deferred" for row in rows if row not in found and row not in deferred]
    faults += [f"{row} is both tested and deferred" for row in found if row in deferred]
    faults += [f"{row} is not a row" for row in (*found, *deferred) if row not in rows]
    faults += [f"{row} is deferred without a reason" for row, reason in deferred.items() if len(reason.split()) < 5]
    for row, tests in found.items():
        places = [test.where for test in tests]
        faults += [f"{row} has {place} twice" for place in sorted(set(places)) if places.count(place) > 1]
        faults += [f"{row}: {test.where} asserts nothing" for test in tests if test.asserts < 1]
        faults += [f"{row}: {test.where} has no outcome" for test in tests if not test.outcome]
    return faults


def main() -> None:
    """Print every row with its tests and what they show."""
    found = shown()
    for row, title in ROWS.items():
        print(f"{row}  {title}")  # noqa: T201 - this is what it is for
        for test in found.get(row, []):
            print(f"     {test.where}: {test.outcome}")  # noqa: T201
        if row in DEFERRED:
            print(f"     deferred: {DEFERRED[row]}")  # noqa: T201


if __name__ == "__main__":
    main()
