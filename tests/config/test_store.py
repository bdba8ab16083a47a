"""The table [store] and its variables: what they open, and what they refuse."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from accredit import TokenManager
from accredit.config import load, load_configuration
from accredit.config.store import NAMES, StoreSettings, read_settings
from accredit.core.secret import CallableSecret, FileSecret
from accredit.errors import ConfigurationError
from accredit.stores.envelope import generate_key
from accredit.stores.memory import MemoryStore
from accredit.stores.sqlite import SqliteStore
from accredit.testing.store_contract import make_identity, make_record

KEY = generate_key("k1").reveal()
REGISTRATION = """
[registration.api-client]
token_endpoint = "https://as.example/token"
client_id = "orders"
client_secret = { env = "ORDERS_SECRET" }
"""


def written(tmp_path: Path, store: str, name: str = "accredit.toml") -> Path:
    file = tmp_path / name
    file.write_text(f"{REGISTRATION}\n{store}")
    return file


def settings_of(tmp_path: Path, store: str = "", **environ: str) -> StoreSettings:
    environ = {"ORDERS_SECRET": "x", **environ}
    found = load_configuration(written(tmp_path, store), environ=environ).store
    assert found is not None
    return found


def refused(tmp_path: Path, store: str = "", **environ: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as raised:
        settings_of(tmp_path, store, **environ)
    assert raised.value.__context__ is None
    return raised.value


# -- what it opens ------------------------------------------------------------------------------------


def test_without_a_table_nothing_is_said_of_a_store(tmp_path: Path) -> None:
    assert load_configuration(written(tmp_path, ""), environ={}).store is None


def test_memory(tmp_path: Path) -> None:
    assert isinstance(settings_of(tmp_path, '[store]\nurl = "memory:"').open(), MemoryStore)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:", None),
        ("sqlite://", None),
        ("sqlite:tokens.sqlite3", "{folder}/tokens.sqlite3"),
        ("sqlite:a/b.sqlite3", "{folder}/a/b.sqlite3"),
        ("sqlite:/var/lib/a/tokens", "/var/lib/a/tokens"),
        ("sqlite:///var/lib/a/tokens", "/var/lib/a/tokens"),
    ],
)
def test_sqlite(tmp_path: Path, url: str, path: str | None) -> None:
    settings = settings_of(tmp_path, f'[store]\nurl = "{url}"')
    assert settings.path == (None if path is None else Path(path.format(folder=tmp_path)))
    store = settings.open()
    assert isinstance(store, SqliteStore)
    if path is not None:
        assert store.path == settings.path


def test_everything_at_once_and_the_store_is_used(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{KEY}\n{generate_key('old').reveal()}\n")
    settings = settings_of(
        tmp_path,
        '[store]\nurl = "sqlite:t"\nprefix = "fleet"\nencryption = [{ file = "keys" }, { env = "MORE" }]',
        MORE=generate_key("more").reveal(),
    )
    store = settings.open()
    assert isinstance(store, SqliteStore)
    identity = make_identity()
    store.publish(identity, owner="a", record=make_record(identity), remaining=60.0, credential="", based_on=None)
    (entry,) = store.entries()
    assert (entry.key, entry.key_id) == (identity.store_key("fleet"), "k1")
    store.close()


def test_variables_go_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").write_text(KEY)
    settings = settings_of(
        tmp_path,
        '[store]\nurl = "memory:"\nprefix = "file"\nencryption = { file = "nowhere" }',
        ACCREDIT_STORE_URL="sqlite:other",
        ACCREDIT_STORE_PREFIX="variable",
        ACCREDIT_STORE_ENCRYPTION_FILE="keys",
    )
    assert (settings.url, settings.prefix, settings.path) == ("sqlite:other", "variable", Path("other"))
    assert settings.encryption == (FileSecret(tmp_path / "keys"),)
    settings = settings_of(tmp_path, ACCREDIT_STORE_URL="sqlite:", ACCREDIT_STORE_ENCRYPTION=KEY)
    assert isinstance(settings.encryption[0], CallableSecret)
    settings.open()


def test_a_manager_uses_the_configured_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERS_SECRET", "x")
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    file = written(tmp_path, '[store]\nurl = "sqlite:tokens"')
    with TokenManager.from_config(file) as manager:
        assert isinstance(manager._engine.store._store, SqliteStore)
        assert manager._engine.store._store.path == tmp_path / "tokens"
    other = MemoryStore()
    with TokenManager.from_config(file, store=other) as manager:
        assert manager._engine.store._store is other
    with TokenManager.from_config(written(tmp_path, "")) as manager:
        assert isinstance(manager._engine.store._store, MemoryStore)


def test_a_redis_url_opens_the_redis_store_with_all_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    made: list[tuple[Any, dict[str, Any]]] = []
    module = types.ModuleType("accredit.stores.redis")
    module.RedisStore = lambda url, **named: made.append((url, named)) or MemoryStore()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "accredit.stores.redis", module)
    table = '[store]\nurl = "redis+sentinel://a:1,b:2/main/0"\nusername = "u"\npassword = { env = "P" }\nprefix = "f"'
    settings_of(tmp_path, table, P="secret", ACCREDIT_STORE_ENCRYPTION=KEY).open()
    ((url, named),) = made
    assert url == "redis+sentinel://a:1,b:2/main/0"
    assert {name: type(value).__name__ for name, value in named.items()} == {
        "username": "str",
        "password": "CallableSecret",
        "prefix": "str",
        "keyring": "Keyring",
    }
    settings_of(tmp_path, '[store]\nurl = "rediss://cache:6379/0"').open()
    assert made[1][1] == {}
    settings_of(tmp_path, '[store]\nurl = "rediss://cache"\nca_file = "ca.pem"').open()
    assert made[2][1] == {"ca_file": tmp_path / "ca.pem"}
    settings_of(tmp_path, '[store]\nurl = "rediss://cache"', ACCREDIT_STORE_CA_FILE=str(tmp_path / "x.pem")).open()
    assert made[3][1] == {"ca_file": tmp_path / "x.pem"}


def test_a_store_without_registrations_is_enough_to_look_after_it(tmp_path: Path) -> None:
    file = tmp_path / "accredit.toml"
    file.write_text('[store]\nurl = "memory:"')
    found = load_configuration(file, environ={}, needs_registration=False)
    assert found.registrations is None
    assert found.store is not None
    with pytest.raises(ConfigurationError, match="has no \\[registration.ID\\] table"):
        load_configuration(file, environ={})
    assert load(written(tmp_path, '[store]\nurl = "memory:"'), environ={}).default == "api-client"


# -- what it refuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("store", "key", "says"),
    [
        ("store = 7", "store", "a number, not a table"),
        ('[store]\nurl = ""', "store.url", "url is empty"),
        ("[store]\nurl = 7", "store.url", "a number, not a text"),
        ('[store]\nprefix = "x"', "store.url", "url is missing"),
        ('[store]\nurl = "postgres://x"', "store.url", "not that of a store"),
        ('[store]\nurl = "sqlit:"', "store.url", "Did you mean sqlite:?"),
        ('[store]\nurl = "redis:x"', "store.url", "not that of a store"),
        ('[store]\nurl = "memory"', "store.url", "not that of a store"),
        ('[store]\nurl = "sqlite:a\\nb"', "store.url", "control characters"),
        ('[store]\nurl = "redis://user:hunter2@host"', "store.url", "url holds a password"),
        ('[store]\nurl = "redis://:hunter2@host"', "store.url", "url holds a password"),
        ('[store]\nurl = "redis://host?password=hunter2"', "store.url", "url holds a password"),
        ('[store]\nurl = "sqlite:"\nencrypt = true', "store.encrypt", "Did you mean encryption?"),
        ('[store]\nurl = "sqlite:"\nencryption = []', "store.encryption", "names no key"),
        ('[store]\nurl = "sqlite:"\nencryption = true', "store.encryption", "not a source"),
        ('[store]\nurl = "sqlite:"\nencryption = { url = "x" }', "store.encryption", "not a source"),
        ('[store]\nurl = "sqlite:"\nencryption = { file = "~/k" }', "store.encryption", "not a source"),
        ('[store]\nurl = "sqlite:"\nencryption = { env = "A", file = "b" }', "store.encryption", "not a source"),
        ('[store]\nurl = "sqlite:"\npassword = { env = "P" }', "store.password", "no meaning for this store"),
        ('[store]\nurl = "sqlite:"\nusername = "u"', "store.username", "no meaning for this store"),
        ('[store]\nurl = "sqlite:"\nca_file = "x"', "store.ca_file", "no meaning for this store"),
        ('[store]\nurl = "rediss://h"\nca_file = 7', "store.ca_file", "a number, not a text"),
        ('[store]\nurl = "redis://h"\npassword = "hunter2"', "store.password", "stands in the configuration file"),
    ],
)
def test_what_the_file_must_not_say(tmp_path: Path, store: str, key: str, says: str) -> None:
    file = tmp_path / "accredit.toml"
    file.write_text(f"{store}\n{REGISTRATION}")
    with pytest.raises(ConfigurationError) as raised:
        load_configuration(file, environ={})
    assert raised.value.key == key
    assert says in str(raised.value)
    assert "hunter2" not in str(raised.value)
    with pytest.raises(ConfigurationError):
        load(file, environ={})


@pytest.mark.parametrize("name", ["accredit.toml", "pyproject.toml"])
def test_a_key_stands_in_no_configuration_file(tmp_path: Path, name: str) -> None:
    table = f'[store]\nurl = "sqlite:"\nencryption = "{KEY}"\n'
    text = f"{REGISTRATION}\n{table}"
    if name == "pyproject.toml":
        text = text.replace("[registration", "[tool.accredit.registration").replace("[store", "[tool.accredit.store")
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="stands in the configuration file itself") as raised:
        load_configuration(file, environ={})
    assert KEY[-10:] not in str(raised.value)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"ACCREDIT_STORE_ENCRYPTON": KEY}, "Did you mean ACCREDIT_STORE_ENCRYPTION?"),
        ({"ACCREDIT_STORE_WHATEVER": "x"}, "is not known"),
        (
            {"ACCREDIT_STORE_URL": "sqlite:", "ACCREDIT_STORE_ENCRYPTION": KEY, "ACCREDIT_STORE_ENCRYPTION_FILE": "k"},
            "both",
        ),
        ({"ACCREDIT_STORE_URL": ""}, "is empty"),
        ({"ACCREDIT_STORE_URL": '"sqlite:"'}, "quotes"),
        ({"ACCREDIT_STORE_URL": "sqlite:", "ACCREDIT_STORE_ENCRYPTION": ""}, "is empty"),
        ({"ACCREDIT_STORE_PREFIX": "x"}, "url is missing"),
        ({"ACCREDIT_STORE_URL": "redis://:hunter2@host"}, "url holds a password"),
    ],
)
def test_what_the_environment_must_not_say(tmp_path: Path, environ: dict[str, str], says: str) -> None:
    error = refused(tmp_path, **environ)
    assert says in str(error)
    assert KEY[-10:] not in str(error)
    assert "hunter2" not in str(error)


@pytest.mark.parametrize("content", [None, "nonsense", ""])
def test_keys_that_cannot_be_read_are_told_when_the_store_is_opened(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "keys").write_text(content)
    settings = settings_of(tmp_path, '[store]\nurl = "sqlite:t"\nencryption = { file = "keys" }')
    with pytest.raises(ConfigurationError) as raised:
        settings.open()
    assert raised.value.key == "store.encryption"
    assert str(tmp_path / "keys") in str(raised.value)


def test_a_variable_that_cannot_be_a_key_is_told_by_the_key_of_the_store(tmp_path: Path) -> None:
    assert refused(tmp_path, ACCREDIT_STORE_URL="sqlite:", ACCREDIT_STORE_ENCRYPTION="").key == "store.encryption"
    table = '[store]\nurl = "sqlite:"\nencryption = { env = "K" }'
    assert refused(tmp_path, table, K="a\nb").key == "store.encryption"
    assert refused(tmp_path, table.replace('"K"', '"no=name"')).key == "store.encryption"


def test_settings_show_no_secret(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path, '[store]\nurl = "redis://h"', ACCREDIT_STORE_ENCRYPTION=KEY, ACCREDIT_STORE_PASSWORD="hunter2"
    )
    assert "hunter2" not in repr(settings)
    assert KEY[-10:] not in repr(settings)


def test_known_variables_are_no_slips(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        settings_of(tmp_path, ACCREDIT_STORE_URL="memory:", ACCREDIT_STORE_PREFIX="p")
    assert caplog.text == ""
    assert read_settings(None, {}) is None
