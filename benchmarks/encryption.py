"""What encryption at rest costs: one record sealed and opened, beside plain ones, and in verbs of the SQLite store."""

import os
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from accredit.core.registration import token_request_for
from accredit.stores.codec import RecordCodec
from accredit.stores.envelope import Keyring, generate_key
from accredit.stores.sqlite import SqliteStore
from accredit.testing.store_suite import make_record
from benchmarks.fake import TOKEN, registration
from benchmarks.measure import Timed, interleaved, over, repeated, scaled
from benchmarks.model import Aim, Effort, Row, Section

_IDENTITY = token_request_for(registration()).identity
_KEY = _IDENTITY.store_key()
_RECORD = make_record(_IDENTITY, TOKEN, bits=1)
_LIMIT = 100.0


def run(effort: Effort) -> list[Section]:
    return [_codec(effort), _verbs(effort)]


def _codec(effort: Effort) -> Section:
    section = Section(
        "encryption",
        "A record at rest, sealed and plain",
        "CPU time to encode and to decode one record with a token of 1000 characters: strict JSON, and with a keyring"
        " a key derived for the message and AES-256-GCM. The floor is AES-256-GCM of pyca/cryptography alone, with a"
        " key set up once.",
        {"encode": "µs", "decode": "µs", "to plain": "ratio, both together"},
    )
    plain, sealed = RecordCodec(), RecordCodec(Keyring(generate_key()))
    values = {codec: codec.encode(_RECORD, store_key=_KEY) for codec in (plain, sealed)}
    cipher, nonce, content = AESGCM(os.urandom(32)), os.urandom(12), values[plain]
    encrypted = cipher.encrypt(nonce, content, b"bound")

    def encode(codec: RecordCodec) -> Timed:
        return repeated(lambda: codec.encode(_RECORD, store_key=_KEY))

    def decode(codec: RecordCodec) -> Timed:
        return repeated(lambda: codec.decode(values[codec], store_key=_KEY, identity=_IDENTITY))

    subjects: dict[str, Timed] = {
        "plain encode": encode(plain),
        "plain decode": decode(plain),
        "sealed encode": encode(sealed),
        "sealed decode": decode(sealed),
        "floor encode": repeated(lambda: cipher.encrypt(nonce, content, b"bound")),
        "floor decode": repeated(lambda: cipher.decrypt(nonce, encrypted, b"bound")),
    }
    samples = interleaved(subjects, rounds=effort.of(60, 10), number=effort.of(2_000, 300))
    both = {
        name: [one + other for one, other in zip(samples[f"{name} encode"], samples[f"{name} decode"], strict=True)]
        for name in ("plain", "sealed", "floor")
    }
    for name, subject in (("sealed", "sealed"), ("plain", "plain"), ("floor", "AES-256-GCM alone")):
        cells = {step: scaled(samples[f"{name} {step}"], 1e6) for step in ("encode", "decode")}
        section.rows.append(Row(subject, {**cells, "to plain": scaled(over(both[name], both["plain"]), 1)}))
    more = [sealed - plain for sealed, plain in zip(both["sealed"], both["plain"], strict=True)]
    section.aims.append(Aim("what sealing and opening a record adds", _LIMIT, scaled(more, 1e6).median, "µs"))
    return section


def _verbs(effort: Effort) -> Section:
    section = Section(
        "encryption",
        "Verbs of the SQLite store, sealed and plain",
        "CPU time of one verb on a file that is open: a claim that finds the record, and a publish that replaces it.",
        {"claim": "µs", "publish": "µs"},
    )
    with tempfile.TemporaryDirectory() as folder:
        stores = {
            "sealed": SqliteStore(Path(folder) / "sealed", keyring=Keyring(generate_key()), timeout=10.0),
            "plain": SqliteStore(Path(folder) / "plain", timeout=10.0),
        }
        subjects: dict[str, Timed] = {}
        for name, store in stores.items():
            _publish(store)
            subjects[f"{name} claim"] = repeated(lambda store=store: _claim(store))  # type: ignore[misc]  # of this turn
            subjects[f"{name} publish"] = repeated(lambda store=store: _publish(store))  # type: ignore[misc]
        samples = interleaved(subjects, rounds=effort.of(40, 8), number=effort.of(200, 40))
        for name, store in stores.items():
            cells = {verb: scaled(samples[f"{name} {verb}"], 1e6) for verb in ("claim", "publish")}
            section.rows.append(Row(name, dict(cells)))
            store.close()
    return section


def _claim(store: SqliteStore) -> object:
    return store.claim(_IDENTITY, newer_than=None, credential="", owner="a", lease=1.0)


def _publish(store: SqliteStore) -> object:
    return store.publish(_IDENTITY, owner="a", record=_RECORD, remaining=3600.0, credential="", based_on=(1 << 60) | 1)
