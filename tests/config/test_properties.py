"""Whatever a configuration says: registrations, or one error that tells nothing secret."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import tempfile
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accredit import ConfigurationError
from accredit.config import load
from accredit.config.environment import PREFIX
from accredit.config.schema import KEYS
from accredit.registrations import Registrations

# What stands where a secret belongs, and what somebody put in a wrong place.
SECRET = "secret-51c0be77"
CANARY = "canary-0b7d44e1"
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

texts = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20),
    st.sampled_from([CANARY, f"{CANARY}\n", "https://idp.example", "http://x", "client_secret_post", "raw", "a b", ""]),
)
leaves: st.SearchStrategy[Any] = st.one_of(
    texts,
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.datetimes(max_value=dt.datetime(9998, 1, 1)),  # noqa: DTZ001 - TOML has local times
    st.dates(),
    st.times(),
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
keys = st.sampled_from([*KEYS, "id", "scopes", CANARY])
tables = st.dictionaries(keys, values, max_size=6)
sound = {"issuer": "https://idp.example", "client_id": "c", "client_secret": SECRET}
registrations = st.one_of(tables, tables.map(lambda table: sound | table), values)
documents = st.one_of(
    st.dictionaries(
        st.sampled_from(["default", "registration", "other"]),
        st.one_of(values, st.dictionaries(st.sampled_from(["r", "s.t", "a b"]), registrations, max_size=2)),
        max_size=3,
    ),
    registrations.map(lambda table: {"registration": {"r": table}}),
)


def to_toml(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value).replace("\x7f", "\\u007f") if value.isascii() else quoted(value)
        case dict():
            return "{" + ", ".join(f"{to_toml(key)} = {to_toml(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(to_toml, value)) + "]"
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
    return repr(value)


def quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(character):08X}" for character in text) + '"'


def frames(trace: TracebackType | None) -> list[TracebackType]:
    found = []
    while trace is not None:
        found.append(trace)
        trace = trace.tb_next
    return found


def check(path: Path | None, environ: dict[str, str]) -> None:
    caught: ConfigurationError | None = None
    with contextlib.suppress(ConfigurationError):
        try:
            loaded = load(path, environ=environ)
        except ConfigurationError as error:
            caught = error
            raise
        assert isinstance(loaded, Registrations)
        assert len(loaded) > 0
        assert SECRET not in repr([*loaded])
    if caught is None:
        return
    assert caught.__cause__ is None
    assert caught.__context__ is None
    told = [str(caught), repr(caught), caught.advice, str(caught.key), *traceback.format_exception(caught)]
    # The first frame is that of this test.
    for trace in frames(caught.__traceback__)[1:]:
        told += [repr(value) for value in trace.tb_frame.f_locals.values()]
    text = "".join(told)
    assert SECRET not in text
    # Names of keys and registrations are no secrets.
    for name in (f"'{CANARY}' is not known", f".{CANARY}", f"registration '{CANARY}' does not exist"):
        text = text.replace(name, "").replace(name.replace("'", "\\'"), "")
    assert CANARY not in text


@quick
@given(documents)
def test_any_toml(document: dict[str, Any]) -> None:
    text = "\n".join(f"{to_toml(key)} = {to_toml(value)}" for key, value in document.items())
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "accredit.toml"
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        check(path, {})


@quick
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "accredit.toml"
        path.write_bytes(f'secret = "{CANARY}"\n'.encode() + data)
        path.chmod(0o600)
        check(path, {})


names = st.one_of(
    st.sampled_from([PREFIX + key.upper() for key in (*KEYS, "client_secret_file", "default")]),
    st.builds(
        lambda label, key: f"{PREFIX}REGISTRATION__{label}__{key}",
        st.sampled_from(["R", "DEFAULT", "A__B", "", "é"]),
        st.sampled_from([*map(str.upper, KEYS), "SCOPES", ""]),
    ),
)


@quick
@given(
    st.dictionaries(names, st.one_of(st.text(max_size=20), texts), max_size=8),
    st.booleans(),
)
def test_any_environment(environ: dict[str, str], complete: bool) -> None:
    base = {f"{PREFIX}{key.upper()}": value for key, value in sound.items()} if complete else {}
    check(None, base | environ)
