"""Published vectors: Wycheproof's JWS and JWK sets, the figures of the RFCs, the JOSE cookbook.

They are read from the folder that ``ACCREDIT_TEST_VECTORS`` names and are no part of this project. Each disagreement
is decided below; one that is not is a failure, and so is a decision that nothing needs any more.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from accredit.core.jose import ALGORITHMS, import_private_jwk, import_public_jwk, parse_jws, verify_jws
from accredit.core.jwk import JwkError
from accredit.core.jwks import KeySet, read_jwks
from accredit.errors import InvalidTokenError

VARIABLE = "ACCREDIT_TEST_VECTORS"
FOLDER = Path(os.environ.get(VARIABLE, ""))
pytestmark = pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no folder with vectors")
FILES = ("json_web_signature_test.json", "json_web_key_test.json", "json_web_crypto_test.json")


class Vector(NamedTuple):
    file: str
    number: int
    comment: str
    key: dict[str, Any]
    jws: object
    valid: bool

    @property
    def name(self) -> str:
        return f"{self.file.removeprefix('json_web_').removesuffix('_test.json')} {self.number}: {self.comment}"


def vectors() -> Iterator[Vector]:
    for file in FILES:
        for group in json.loads((FOLDER / "wycheproof" / file).read_text(encoding="utf-8"))["testGroups"]:
            for test in group["tests"]:
                if "jws" in test:
                    key = group.get("public") or group.get("private")
                    yield Vector(file, test["tcId"], test["comment"], key, test["jws"], test["result"] == "valid")


def accepts(key: dict[str, Any], token: object) -> bool:
    """Verify as the library does: keys are imported first, each with its one algorithm."""
    if not isinstance(token, str):
        return False
    try:
        if "keys" in key:
            read = read_jwks(key)
            if isinstance(read, str):
                return False
            keys = read
        else:
            keys = KeySet((import_public_jwk(key),))
        jws = parse_jws(token, algorithms=ALGORITHMS, max_bytes=2**20)
        verify_jws(jws, keys.select(algorithm=jws.algorithm, kid=jws.kid if "kid" in members(key) else None))
    except (InvalidTokenError, JwkError):
        return False
    return True


def members(key: dict[str, Any]) -> set[str]:
    return {name for each in key.get("keys", [key]) for name in each}


def decision(vector: Vector) -> str | None:
    """Return why a vector that is called valid is refused here; None where it may not be."""
    kinds = {each.get("kty") for each in vector.key.get("keys", [vector.key])}
    algorithm = algorithm_of(vector.jws)
    if "oct" in kinds and algorithm.startswith("HS"):
        return "symmetric"  # No API holds the secret that signs its tokens.
    if isinstance(vector.jws, str) and ".." in vector.jws:
        return "payload"  # An empty one, as a detached JWS has it, is no token.
    if vector.key.get("alg", algorithm) != algorithm:
        return "binding"  # Figures 20 and 27 of RFC 7520: a key that says what it is for is used for nothing else.
    return None


def algorithm_of(jws: object) -> str:
    head = jws.partition(".")[0] if isinstance(jws, str) else ""
    try:
        return str(json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))).get("alg"))
    except (ValueError, AttributeError):
        return ""


def test_wycheproof() -> None:
    seen = agreed = 0
    undecided: list[str] = []
    decided: dict[str, int] = {}
    for vector in vectors():
        seen += 1
        got = accepts(vector.key, vector.jws)
        if got == vector.valid:
            agreed += 1
        elif got:
            undecided.append(f"accepted: {vector.name}")  # There is no good reason to accept what is called invalid.
        else:
            why = decision(vector)
            if why is None:
                undecided.append(f"refused: {vector.name}")
            else:
                decided[why] = decided.get(why, 0) + 1
    assert undecided == [], "\n".join(undecided)
    assert seen >= 470
    assert agreed + sum(decided.values()) == seen
    assert set(decided) == {"symmetric", "payload", "binding"}


def figures(folder: str) -> list[Path]:
    return sorted((FOLDER / "jose-cookbook" / folder).glob("*.json"))


def test_the_jose_cookbook_of_rfc_7520() -> None:
    verified = refused = 0
    for path in figures("jws"):
        document = json.loads(path.read_text(encoding="utf-8"))
        token = document["output"].get("compact")
        key = document["input"]["key"]
        if token is None or isinstance(key, list):
            continue
        good = accepts({**key}, token)
        algorithm = algorithm_of(token)
        if key["kty"] == "oct" or (key.get("alg") or algorithm) != algorithm or ".." in token:
            # Symmetric, detached, or (figures 20 and 27) under a key that says it is for another algorithm.
            assert not good, path.name
            refused += 1
        elif key["kty"] == "RSA" and algorithm != "RS256":
            assert not good, path.name
            named = import_public_jwk({**key, "alg": algorithm})
            verify_jws(parse_jws(token, algorithms=ALGORITHMS), [named])
            verified += 1
        else:
            assert good, path.name
            verified += 1
    assert verified >= 3
    assert verified + refused >= 5


def test_the_keys_of_rfc_7520() -> None:
    for path in figures("jwk"):
        key = json.loads(path.read_text(encoding="utf-8"))
        if key["kty"] == "oct":
            with pytest.raises(JwkError):
                import_public_jwk(key)
        elif "d" in key and key.get("use") == "sig":
            signer = import_private_jwk(key)
            assert import_public_jwk(dict(signer.public_jwk)).verifies(b"x", signer.sign(b"x"))
        else:
            assert import_public_jwk(key).thumbprint


def test_the_figures_of_the_rfcs() -> None:
    document = json.loads((FOLDER / "rfc_vectors.json").read_text(encoding="utf-8"))
    text = json.dumps(document)
    assert "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" in text  # RFC 7638, section 3.1
    found = 0
    for key in jwks_of(document):
        thumbprints = {import_public_jwk(each).thumbprint for each in (key, dict(reversed(key.items())))}
        assert len(thumbprints) == 1
        found += thumbprints.pop() in text
    assert found >= 1


def jwks_of(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if value.get("kty") in {"RSA", "EC", "OKP"} and ("n" in value or "x" in value):
            yield value
        for each in value.values():
            yield from jwks_of(each)
    elif isinstance(value, list):
        for each in value:
            yield from jwks_of(each)
