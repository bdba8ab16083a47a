"""``accredit store``, and the store that token, call and renew use by themselves."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from accredit.devserver import DevServer
from accredit.stores.envelope import Keyring, generate_key
from accredit.stores.sqlite import SqliteStore
from tests.cli.support import Run


def file_of(home: Path) -> Path:
    (found,) = home.glob("**/tokens.sqlite3")
    return found


@pytest.fixture
def home(elsewhere: Path) -> Path:
    return elsewhere.parent / "home"


# -- the default store --------------------------------------------------------------------------------


def test_a_second_run_finds_the_token_of_the_first(server: DevServer, run: Run, home: Path) -> None:
    first, second = run("token"), run("token")
    assert first.out == second.out
    assert (first.err, second.err) == ("", "")
    assert server.count("/token") == 1
    assert stat.S_IMODE(file_of(home).stat().st_mode) == 0o600 or os.name != "posix"
    assert run("token", "--scope", "orders:write").out != first.out
    assert server.count("/token") == 2


def test_call_and_renew_use_it_too(server: DevServer, run: Run) -> None:
    run("token")
    assert run("call", f"{server.api_url}/hello").code == 0
    assert "kept" in run("renew", "--within", "60").err
    assert server.count("/token") == 1
    assert "renewed" in run("renew", "--within", "7200").err
    assert server.count("/token") == 2
    run("token")
    assert server.count("/token") == 2


@pytest.mark.parametrize("command", ["token", "call", "renew"])
def test_no_store_neither_reads_nor_keeps(server: DevServer, run: Run, home: Path, command: str) -> None:
    arguments = {"token": ["token"], "call": ["call", f"{server.api_url}/hello"], "renew": ["renew", "--within", "60"]}
    for count in (1, 2):
        assert run(*arguments[command], "--no-store").code == 0
        assert server.count("/token") == count
    assert list(home.iterdir()) == []


def test_memory_as_the_configured_store_does_the_same(
    server: DevServer, run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCREDIT_STORE_URL", "memory:")
    run("token")
    run("token")
    assert server.count("/token") == 2
    assert list(home.iterdir()) == []
    ran = run("store", "list")
    assert (ran.code, ran.out) == (3, b"")
    assert "memory of each process" in ran.err


def test_a_configured_file_and_key(
    server: DevServer, run: Run, home: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("store", "keygen", "--id", "k1", "--output", "key")
    monkeypatch.setenv("ACCREDIT_STORE_URL", f"sqlite:{elsewhere / 'mine.sqlite3'}")
    monkeypatch.setenv("ACCREDIT_STORE_ENCRYPTION_FILE", "key")
    token = run("token").text.strip()
    assert run("token").text.strip() == token
    assert server.count("/token") == 1
    assert token.encode() not in (elsewhere / "mine.sqlite3").read_bytes()
    assert list(home.iterdir()) == []
    assert "  k1" in run("store", "list").text
    # Without the key, it is a miss; the file is left as it is, and what is new is kept beside it.
    monkeypatch.delenv("ACCREDIT_STORE_ENCRYPTION_FILE")
    assert run("token").text.strip() != token
    monkeypatch.setenv("ACCREDIT_STORE_ENCRYPTION_FILE", "key")
    assert run("token").text.strip() == token
    assert server.count("/token") == 2


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_a_place_that_cannot_be_used_is_one_notice(server: DevServer, run: Run, home: Path) -> None:
    home.chmod(0o777)
    ran = run("token")
    assert (ran.code, ran.text.count(".")) == (0, 2)
    assert ran.err.count("\n") == 1
    assert ran.err.startswith("accredit: notice: ")
    assert "other users can write to it" in ran.err
    assert "This command goes on without it." in ran.err
    assert run("token", "--no-store").err == ""
    assert run("store", "list").code == 1
    assert server.count("/token") == 2


def test_a_wrong_key_is_a_matter_of_the_configuration(
    server: DevServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCREDIT_STORE_URL", "sqlite:")
    monkeypatch.setenv("ACCREDIT_STORE_ENCRYPTION", "not-a-key")
    ran = run("token")
    assert (ran.code, ran.out) == (3, b"")
    assert "store.encryption" in ran.err
    assert "not-a-key" not in ran.err
    assert server.count("/token") == 0


# -- accredit store -----------------------------------------------------------------------------------


def test_list_shows_what_is_kept_and_no_token(server: DevServer, run: Run, home: Path) -> None:
    empty = run("store", "list")
    assert (empty.code, empty.out) == (0, b"")
    assert "no tokens are kept" in empty.err
    token = run("token", "--scope", "orders:read", "--principal", "tenant:7").text.strip()
    listed = run("store", "list")
    assert str(file_of(home)) in listed.err
    headings, row = listed.text.splitlines()
    assert headings.split() == ["REGISTRATION", "PRINCIPAL", "EXPIRES", "IN", "GENERATION", "KEY", "ID"]
    assert row.split()[:2] == ["default", "tenant:7"]
    assert 3500 < int(row.split()[2]) <= 3600
    assert row.endswith("(plaintext)")
    (line,) = run("store", "list", "--json").text.splitlines()
    members = json.loads(line)
    assert members["registration"] == "default"
    assert members["key"].startswith("oauth2:client:default:tenant%3A7:{")
    assert (members["key_id"], members["schema"], members["suspect"]) == ("", 1, False)
    for part in (token, token.split(".")[1], token.split(".")[2]):
        assert part not in listed.text + listed.err + line
    assert run("store", "list", "other").out == b""


def test_list_shows_a_token_that_an_api_refused(server: DevServer, run: Run, home: Path) -> None:
    run("token")
    store = SqliteStore(file_of(home))
    (entry,) = store.entries()
    store._database.write(lambda connection: connection.execute("UPDATE record_1 SET suspect = 1"))
    store.close()
    assert run("store", "list").text.splitlines()[1].endswith("refused by an API")
    assert entry.suspect is False


def test_remove(server: DevServer, run: Run) -> None:
    run("token")
    other = run("token", "--scope", "orders:write").out
    assert run("store", "remove").err == "accredit: removed\n"
    assert run("store", "remove").err == "accredit: there was nothing to remove\n"
    assert run("token", "--scope", "orders:write").out == other
    assert server.count("/token") == 2
    run("token")
    assert server.count("/token") == 3
    key = json.loads(run("store", "list", "--json").text.splitlines()[0])["key"]
    assert run("store", "remove", "--key", key).err == "accredit: removed\n"
    assert run("store", "remove", "--key", key).err == "accredit: there was nothing under that key\n"
    assert run("store", "remove", "unknown").code == 3


def test_purge(server: DevServer, run: Run, home: Path) -> None:
    token = run("token").text.strip()
    run("token", "--scope", "orders:write")
    assert run("store", "purge", "other").err == "accredit: purged 0 tokens\n"
    assert run("store", "purge").err == "accredit: purged 2 tokens\n"
    assert token.encode() not in file_of(home).read_bytes()
    run("token")
    assert run("store", "purge", "default").err == "accredit: purged 1 token\n"


def test_list_and_purge_need_no_registration(run: Run) -> None:
    assert run("store", "list").code == 0
    assert run("store", "purge").code == 0
    assert run("store", "remove", "--key", "x").code == 0
    assert run("store", "remove").code == 3


def test_looking_after_a_store_needs_no_key(
    server: DevServer, run: Run, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = elsewhere / "store.key"
    assert run("store", "keygen", "--output", str(key)).code == 0
    monkeypatch.setenv("ACCREDIT_STORE_URL", "sqlite:")
    monkeypatch.setenv("ACCREDIT_STORE_ENCRYPTION_FILE", str(key))
    assert run("token").code == 0
    key.unlink()
    (line,) = run("store", "list", "--json").out.splitlines()
    entry = json.loads(line)
    assert entry["key_id"]
    assert "removed" in run("store", "remove", "--key", entry["key"]).err
    assert run("store", "purge").code == 0
    # To hand out a token there has to be one.
    assert run("token").code == 3
    assert server.count("/token") == 1


def test_list_tells_where_without_who(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from accredit.cli import store
    from accredit.stores.sqlite import SqliteStore

    class Elsewhere(SqliteStore):
        path = None  # type: ignore[assignment]  # as a store on a server has none

    monkeypatch.setenv("ACCREDIT_STORE_URL", "redis://canary@127.0.0.1:6379/1")
    monkeypatch.setattr(store, "open_store", lambda _: Elsewhere())
    ran = run("store", "list")
    assert "redis://127.0.0.1:6379/1" in ran.err
    assert "canary" not in ran.err


def test_keygen(run: Run, elsewhere: Path) -> None:
    text = run("store", "keygen").text
    assert Keyring(text).writing.id == text.split(".")[1]
    assert run("store", "keygen").text != text
    assert run("store", "keygen", "--id", "2026").text.startswith("A256GCM.2026.")
    assert run("store", "keygen", "--id", "no good").code == 3


def test_keygen_writes_a_private_file_and_never_over_another(run: Run, elsewhere: Path) -> None:
    ran = run("store", "keygen", "--output", "key")
    assert (ran.code, ran.out, ran.err) == (0, b"", "")
    key = elsewhere / "key"
    text = key.read_text()
    assert Keyring(text).writing.id in text
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 or os.name != "posix"
    again = run("store", "keygen", "--output", "key")
    assert again.code == 1
    assert "cannot be written" in again.err
    assert key.read_text() == text
    assert run("store", "keygen", "--output", "no/folder").code == 1


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["list", "--what"], ["keygen", "x"]])
def test_wrong_use(run: Run, arguments: list[str]) -> None:
    ran = run("store", *arguments)
    assert (ran.code, ran.out) == (2, b"")
    assert ran.err.startswith("accredit: usage: ")


def test_a_store_that_cannot_be_listed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from accredit.cli import store
    from accredit.stores.memory import MemoryStore

    monkeypatch.setattr(store, "open_store", lambda _: MemoryStore())
    ran = run("store", "list")
    assert ran.code == 3
    assert "cannot be listed" in ran.err


def test_help_tells_what_there_is(run: Run) -> None:
    text = run("store", "--help").text
    for action in ("list", "remove", "purge", "keygen"):
        assert action in text
    assert generate_key("k").reveal()[:8] not in text
