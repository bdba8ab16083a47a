"""Keys and envelopes: what was sealed comes back, whatever was touched does not, and keys are seen nowhere."""

from __future__ import annotations

import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from accredit import Secret
from accredit.core.secret import LiteralSecret
from accredit.core.strict import b64url_encode
from accredit.errors import ConfigurationError
from accredit.stores import envelope
from accredit.stores.envelope import EncryptionKey, Keyring, generate_key, seal, unseal

KEY = EncryptionKey("k1", bytes(range(32)))
ENCODED = b64url_encode(bytes(range(32)))
TEXT = f"A256GCM.k1.{ENCODED}"


def key(key_id: str) -> str:
    return generate_key(key_id).reveal()


# -- envelopes ----------------------------------------------------------------------------------------


@given(st.binary(max_size=300), st.binary(max_size=40), st.binary(min_size=1, max_size=10))
def test_what_was_sealed_comes_back(content: bytes, bound_to: bytes, purpose: bytes) -> None:
    body = seal(content, KEY, purpose=purpose, bound_to=bound_to)
    assert len(body) == len(content) + envelope.OVERHEAD
    assert unseal(body, KEY, purpose=purpose, bound_to=bound_to).content == content


def test_every_bit_counts_and_so_does_every_byte_that_is_missing() -> None:
    body = seal(b"a token", KEY, purpose=b"p", bound_to=b"b")
    for place in range(len(body)):
        for bit in range(8):
            touched = bytearray(body)
            touched[place] ^= 1 << bit
            assert unseal(bytes(touched), KEY, purpose=b"p", bound_to=b"b").content is None
        assert unseal(body[:place], KEY, purpose=b"p", bound_to=b"b").content is None
    assert unseal(body + b"\x00", KEY, purpose=b"p", bound_to=b"b").content is None


@pytest.mark.parametrize(
    ("other", "purpose", "bound_to"),
    [
        (EncryptionKey("k2", bytes(range(32))), b"p", b"b"),
        (EncryptionKey("k1", bytes(range(1, 33))), b"p", b"b"),
        (KEY, b"q", b"b"),
        (KEY, b"p", b"c"),
        (KEY, b"p", b""),
    ],
)
def test_another_key_id_key_purpose_or_place_opens_nothing(
    other: EncryptionKey, purpose: bytes, bound_to: bytes
) -> None:
    body = seal(b"a token", KEY, purpose=b"p", bound_to=b"b")
    assert unseal(body, other, purpose=purpose, bound_to=bound_to).content is None
    assert unseal(body, KEY, purpose=b"p", bound_to=b"b").content == b"a token"


def test_each_message_has_a_salt_a_nonce_and_a_key_of_its_own() -> None:
    bodies = [seal(b"the same", KEY, purpose=b"p", bound_to=b"b") for _ in range(500)]
    assert len({body[:16] for body in bodies}) == 500
    assert len({body[16:28] for body in bodies}) == 500
    assert len({KEY.derive(b"p", body[:16]) for body in bodies}) == 500


@given(st.binary(max_size=32), st.binary(min_size=1, max_size=16))
def test_derived_keys_are_those_of_hkdf(salt: bytes, purpose: bytes) -> None:
    info = b"accredit\x00A256GCM\x00k1\x00" + purpose
    expected = HKDF(hashes.SHA256(), 32, salt or None, info).derive(bytes(range(32)))
    assert KEY.derive(purpose, salt) == expected


# -- keys ---------------------------------------------------------------------------------------------


def test_a_generated_key_is_one_of_its_kind() -> None:
    texts = {generate_key().reveal() for _ in range(100)}
    assert len(texts) == 100
    assert len({text.split(".")[1] for text in texts}) == 100
    assert Keyring(*texts).writing.id in {text.split(".")[1] for text in texts}
    assert generate_key("2026-11").reveal().startswith("A256GCM.2026-11.")
    with pytest.raises(ConfigurationError, match="key id"):
        generate_key("no good")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "k1",
        ENCODED,
        f"k1.{ENCODED}",
        f"A256GCM.k1.{ENCODED}=",
        f"A256GCM.k1.{ENCODED[:-1]}",
        f"A256GCM.k1.{b64url_encode(bytes(range(16)))}",
        f"A256GCM.k1.{b64url_encode(bytes(range(33)))}",
        f"A256GCM.k1.{b64url_encode(bytes(32))}",
        f"A256GCM.k1.{b64url_encode(b'x' * 32)}",
        f"A128GCM.k1.{ENCODED}",
        f"a256gcm.k1.{ENCODED}",
        f"A256GCM..{ENCODED}",
        f"A256GCM.{'k' * 33}.{ENCODED}",
        f"A256GCM.k:1.{ENCODED}",
        f"A256GCM.k1.{ENCODED}.x",
        f"{TEXT} and more",
        " ".join(f"A256GCM.k{number}.{ENCODED}" for number in range(65)),
    ],
)
def test_what_is_not_a_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Keyring(Secret(text))
    said = "".join(traceback.format_exception(raised.value)) + repr(raised.value) + str(raised.value)
    assert ENCODED[:8] not in said
    assert "keygen" in str(raised.value)
    assert raised.value.key == "encryption"


def test_a_keyring_needs_a_key() -> None:
    with pytest.raises(ConfigurationError, match="no key"):
        Keyring()


def test_the_first_key_writes_and_all_read() -> None:
    keyring = Keyring(key("new"), f"{key('old')}\n{key('older')}\n")
    assert [each.id for each in keyring.load()] == ["new", "old", "older"]
    assert keyring.writing.id == "new"
    assert keyring.find("older") is keyring.load()[2]
    assert keyring.find("unknown") is None


def test_one_id_is_one_key() -> None:
    assert [each.id for each in Keyring(TEXT, TEXT).load()] == ["k1"]
    with pytest.raises(ConfigurationError, match="two different encryption keys have the id 'k1'"):
        Keyring(TEXT, key("k1"))


def test_keys_are_seen_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(TEXT)
    for keyring in (
        Keyring(TEXT),
        Keyring(Secret(TEXT)),
        Keyring(LiteralSecret(Secret(TEXT))),
        Keyring(Secret.from_file(file)),
    ):
        keyring.load()
        shown = [keyring, keyring.writing, keyring.load(), *vars(keyring).values(), *keyring._sources]
        shown += [getattr(source, name) for source in keyring._sources for name in type(source).__slots__]
        for value in shown:
            text = f"{value!r} {value}"
            assert ENCODED[:8] not in text
            assert repr(bytes(range(32)))[2:10] not in text
    assert repr(Keyring(TEXT)) == "Keyring('k1')"
    with pytest.raises(TypeError, match="refuses to be pickled"):
        pickle.dumps(Keyring(TEXT).writing)


# -- sources ------------------------------------------------------------------------------------------


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(key("k1") + "\n")
    keyring = Keyring(Secret.from_file(file))
    assert keyring.writing.id == "k1"
    before = keyring.writing
    other = tmp_path / "other"
    other.write_text(f"{key('k2')}\n{key('k1')}\n")
    other.replace(file)
    assert [each.id for each in keyring.load()] == ["k2", "k1"]
    assert keyring.load()[1] is not before


def test_a_file_that_goes_away_or_turns_to_nonsense_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(key("k1"))
    keyring = Keyring(Secret.from_file(file))
    assert keyring.writing.id == "k1"
    file.unlink()
    assert keyring.writing.id == "k1"
    for nonsense in (b"", b"nonsense", b"\xff\xfe", b"x" * (64 * 1024 + 1)):
        file.write_bytes(nonsense)
        assert keyring.writing.id == "k1"
    file.write_text(key("k3"))
    assert keyring.writing.id == "k3"


def test_a_source_that_fails_does_not_keep_others_from_being_read(tmp_path: Path) -> None:
    gone, other = tmp_path / "gone", tmp_path / "other"
    gone.write_text(key("k1"))
    other.write_text(key("k2"))
    keyring = Keyring(Secret.from_file(gone), Secret.from_file(other))
    keyring.load()
    gone.unlink()
    other.write_text(f"{key('k3')} {key('k4')}")
    assert [each.id for each in keyring.load()] == ["k1", "k3", "k4"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        (b"nonsense", "not a key"),
        (b"", "holds no key"),
        (b"\xff\xfe", "not ASCII"),
        (b"x" * (64 * 1024 + 1), "too large"),
    ],
)
def test_a_file_that_never_was_good_is_an_error_each_time(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    keyring = Keyring(Secret.from_file(file))
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=says):
            keyring.load()
    file.write_text(key("k1"))
    assert keyring.writing.id == "k1"


def test_a_variable_and_a_function_are_asked_once_a_minute_and_for_unknown_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("accredit.stores.envelope.time.monotonic", lambda: now[0])
    calls: list[str] = []

    def function() -> str:
        calls.append("x")
        return key(f"f{len(calls)}")

    monkeypatch.setenv("THE_KEYS", key("e1"))
    keyring = Keyring(Secret.from_environment("THE_KEYS"), Secret.from_function(function))
    assert [each.id for each in keyring.load()] == ["e1", "f1"]
    monkeypatch.setenv("THE_KEYS", key("e2"))
    assert [each.id for each in keyring.load()] == ["e1", "f1"]
    now[0] += 0.5
    assert keyring.find("e2") is None  # no more than once a second, whatever turns up
    now[0] += 0.6
    assert keyring.find("e2") is keyring.writing
    assert len(calls) == 2
    now[0] += 61.0
    assert [each.id for each in keyring.load()] == ["e2", "f3"]


@pytest.mark.parametrize("answer", [None, 7, b"A256GCM"])
def test_a_function_must_give_a_text(answer: object) -> None:
    with pytest.raises(ConfigurationError, match="returned a"):
        Keyring(Secret.from_function(lambda: answer)).load()  # type: ignore[arg-type,return-value]


def test_a_function_that_raises_is_told_by_type_alone() -> None:
    def function() -> str:
        raise OSError(TEXT)

    with pytest.raises(ConfigurationError, match="raised OSError") as raised:
        Keyring(Secret.from_function(function)).load()
    assert raised.value.__context__ is None
    assert TEXT not in str(raised.value)
    assert Keyring(Secret.from_function(lambda: Secret(TEXT))).writing.id == "k1"


def test_a_variable_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THE_KEYS", raising=False)
    with pytest.raises(ConfigurationError, match="the environment variable THE_KEYS is not set"):
        Keyring(Secret.from_environment("THE_KEYS")).load()


def test_without_the_package_a_keyring_says_which_extra_is_missing() -> None:
    code = (
        "import sys\n"
        "sys.modules['cryptography'] = None\n"
        "from accredit.stores.codec import RecordCodec\n"
        "from accredit.stores.envelope import Keyring, generate_key\n"
        "RecordCodec()\n"
        "try:\n    Keyring(generate_key())\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "accredit[crypto]" in done.stdout
