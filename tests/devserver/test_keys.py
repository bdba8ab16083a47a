"""Which keys are published when, and what the ledger of tokens keeps."""

from __future__ import annotations

import json

import pytest

from accredit.devserver import ledger as ledgers
from accredit.devserver.core import Authority
from accredit.devserver.forms import Incoming
from accredit.devserver.keys import KeyRing, RingKey, new_signing_key, private_pem
from accredit.devserver.ledger import IssuedToken, Ledger, digest_of, serial_of
from tests.devserver.test_checks import CONFIG, KEY, NOW, issue

OTHERS = [new_signing_key() for _ in range(3)]


def published(server: Authority, now: float) -> list[str]:
    answer = server.handle(Incoming("GET", "/jwks"), now=now, random_id="r").response
    return [key["kid"] for key in json.loads(answer.body)["keys"]]


def test_a_retired_key_is_published_until_its_last_token_has_expired() -> None:
    server = Authority(CONFIG, [KEY])
    issue(server)
    server.token_lifetime = 60
    issue(server)  # expires sooner: the longest life counts
    new = server.rotate(OTHERS[0])
    assert published(server, NOW + 3599) == [new.kid, KEY.kid]
    assert published(server, NOW + 3600) == [new.kid]


def test_a_key_that_signed_nothing_goes_at_once() -> None:
    server = Authority(CONFIG, [KEY])
    server.rotate(OTHERS[0])
    assert published(server, NOW) == [OTHERS[0].kid]


def test_a_staged_key_is_published_and_signs_after_the_next_rotation() -> None:
    server = Authority(CONFIG, [KEY])
    issue(server)
    server.ring.stage(OTHERS[0])
    server.ring.stage(OTHERS[1])  # there is one already
    assert published(server, NOW) == [KEY.kid, OTHERS[0].kid]
    assert server.ring.current.key is KEY
    assert published(server, NOW + 1e9) == [KEY.kid, OTHERS[0].kid]  # neither of them retires by itself
    assert server.rotate(OTHERS[2]) is OTHERS[0]
    assert published(server, NOW) == [OTHERS[0].kid, KEY.kid]


def test_old_keys_are_forgotten_and_their_number_is_bounded() -> None:
    told: list[tuple[str, bool]] = []
    ring = KeyRing([KEY], lambda entry, there: told.append((entry.role, there)))
    for number in range(25):
        ring.signed(NOW + number)
        ring.rotate(OTHERS[number % 3], forget_old=False)
    assert len(ring.entries) == 20
    assert ring.forgotten == 0
    ring.rotate(OTHERS[0], forget_old=True)
    assert [entry.role for entry in ring.entries] == ["current"]
    assert ring.forgotten == 1
    assert told.count(("retired", False)) == 26  # each of those that ever signed and stopped


def test_a_private_key_is_given_to_the_state_file_only() -> None:
    assert "PRIVATE KEY" in private_pem(KEY)
    assert "PRIVATE" not in repr(RingKey(KEY, "current"))


def token(serial: int, client_id: str = "c") -> IssuedToken:
    return IssuedToken(f"{serial}.x", client_id, (), ("a",), int(NOW), int(NOW) + 60, "jwt", digest_of(str(serial)))


def test_the_ledger_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_MAX_TOKENS", "_MAX_DENIED", "_MAX_USED"):
        monkeypatch.setattr(ledgers, name, 3)
    ledger = Ledger()
    gone = [ledger.add(token(serial)) for serial in range(1, 6)]
    assert gone == [(), (), (), ("1.x",), ("2.x",)]
    assert [kept.token_id for kept in ledger.newest_first()] == ["5.x", "4.x", "3.x"]
    assert ledger.find("1") is None
    assert ledger.find("5") == ledger.get("5.x")
    assert ledger.issued == 5
    for serial in range(5):
        ledger.deny(f"{serial}.x")
    assert [ledger.is_denied(f"{serial}.x", "c") for serial in range(5)] == [False, False, True, True, True]
    # What was used is never forgotten before its time: then nothing new is let in.
    for number in range(3):
        assert ledger.use("n", str(number), until=NOW + 10 + number, now=NOW)
    assert not ledger.use("n", "more", until=NOW + 10, now=NOW)
    assert not ledger.use("n", "0", until=NOW + 10, now=NOW)
    assert ledger.use("n", "more", until=NOW + 30, now=NOW + 10)


@pytest.mark.parametrize(
    ("token_id", "serial"), [("12.x", 12), ("", 0), ("x.1", 0), ("1" * 30, 0), ("٣.x", 0), ("-1.x", 0)]
)
def test_serial_numbers(token_id: str, serial: int) -> None:
    assert serial_of(token_id) == serial
