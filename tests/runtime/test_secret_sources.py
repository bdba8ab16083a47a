"""Reading secrets: from where they are, as they are now, and never half of one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from accredit import ConfigurationError, Secret
from accredit.secret_sources import SecretReader
from tests.runtime.support import threads


def read_file(path: Path) -> str:
    return SecretReader().read(Secret.from_file(path)).reveal()


@pytest.mark.parametrize(
    ("data", "secret"),
    [
        (b"plain", "plain"),
        (b"plain\n", "plain"),
        (b"plain\r\n", "plain"),
        (b"\xef\xbb\xbfplain\n", "plain"),
        (b" with spaces \n", " with spaces "),
        ("über:%+&\n".encode(), "über:%+&"),
        (b'"quoted"', '"quoted"'),
        (b"x" * 65536, "x" * 65536),
    ],
)
def test_files(tmp_path: Path, data: bytes, secret: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(data)
    assert read_file(path) == secret


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"  \n", "is empty"),
        (b"one\n\n", "U\\+000A"),
        (b"one\ntwo\n", "U\\+000A"),
        (b"one\x00two", "U\\+0000"),
        (b"caf\xe9", "not UTF-8"),
        (b"\xff\xfeo\x00n\x00e\x00", "UTF-16"),
        (b"x" * 65537, "larger"),
    ],
)
def test_files_that_hold_no_secret(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=reason) as caught:
        read_file(path)
    assert str(path) in str(caught.value)
    assert caught.value.key == "client_secret"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            read_file(path)


def test_a_file_is_read_again_only_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    path.write_text("first")
    reader, source = SecretReader(), Secret.from_file(path)
    opened: list[Path] = []
    original: Callable[..., Any] = Path.open

    def opening(self: Path, *arguments: Any, **named: Any) -> Any:
        opened.append(self)
        return original(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", opening)
    assert [reader.read(source).reveal() for _ in range(5)] == ["first"] * 5
    assert len(opened) == 1
    path.write_text("other")
    os.utime(path, ns=(1, 1))
    assert reader.read(source).reveal() == "other"
    path.unlink()
    # A file that is gone is no secret: what it held has been withdrawn.
    with pytest.raises(ConfigurationError, match="cannot be read"):
        reader.read(source)
    path.write_text("third")
    assert reader.read(source).reveal() == "third"


def test_every_atomic_replacement_is_seen(tmp_path: Path) -> None:
    """Same length, same second: the inode tells."""
    path = tmp_path / "secret"
    reader, source = SecretReader(), Secret.from_file(path)
    for number in range(100):
        fresh = tmp_path / "fresh"
        fresh.write_text(f"{number:05}")
        fresh.replace(path)
        assert reader.read(source).reveal() == f"{number:05}"


def test_a_reader_under_replacement_never_sees_half_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("a" * 4096)
    reader, source = SecretReader(), Secret.from_file(path)
    stop = threading.Event()

    def rotate() -> None:
        for number in range(200):
            fresh = tmp_path / "fresh"
            fresh.write_text("ab"[number % 2] * 4096)
            fresh.replace(path)
        stop.set()

    def watch() -> set[str]:
        seen: set[str] = set()
        while not stop.is_set():
            seen.add(reader.read(source).reveal())
        return seen

    with threads([rotate, watch, watch, watch]) as answers:
        pass
    assert not answers.errors
    for seen in answers.results:
        assert seen is None or seen <= {"a" * 4096, "b" * 4096}


@pytest.mark.parametrize("value", ["plain", " spaces ", "it's", "'", "über", "plain\n", "plain\r\n"])
def test_the_environment(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("A_SECRET", value)
    assert SecretReader().read(Secret.from_environment("A_SECRET")).reveal() == value.rstrip("\r\n")


@pytest.mark.parametrize("value", [None, "", "  ", '"quoted"', "'quoted'", "\ufeffmarked", "two\nlines"])
def test_an_environment_without_a_secret(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("A_SECRET", raising=False)
    if value is not None:
        monkeypatch.setenv("A_SECRET", value)
    with pytest.raises(ConfigurationError, match="A_SECRET"):
        SecretReader().read(Secret.from_environment("A_SECRET"))


def test_the_environment_is_read_at_every_use(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, source = SecretReader(), Secret.from_environment("A_SECRET")
    for value in ("first", "second"):
        monkeypatch.setenv("A_SECRET", value)
        assert reader.read(source).reveal() == value


def test_functions() -> None:
    reader = SecretReader()
    values: Iterator[str | Secret] = iter(["first", Secret("second")])
    source = Secret.from_function(lambda: next(values))
    assert reader.read(source) == Secret("first")
    assert reader.read(source) == Secret("second")
    with pytest.raises(ConfigurationError, match="raised StopIteration"):
        reader.read(source)


@pytest.mark.parametrize(
    ("result", "reason"),
    [(b"bytes", "returned a bytes"), (None, "returned a NoneType"), ("", "is empty"), ("a\n", "U\\+000A")],
)
def test_functions_that_give_no_secret(result: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        SecretReader().read(Secret.from_function(lambda: result))


def test_a_coroutine_function_is_told_apart_and_leaves_no_warning() -> None:
    async def secret() -> str:
        return "never awaited"

    with pytest.raises(ConfigurationError, match="asynchronous"):
        SecretReader().read(Secret.from_function(secret))  # type: ignore[arg-type]


def test_a_function_never_runs_on_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may ask a vault: the thread of the loop is not the one that waits."""
    import asyncio

    from accredit import TokenManager
    from accredit.devserver import DevServer
    from tests.runtime.support import SECRET, registration

    ran_on: list[int] = []

    def secret() -> str:
        ran_on.append(threading.get_ident())
        return SECRET

    with DevServer() as server, TokenManager(registration(server, secret)) as manager:
        loop_thread: list[int] = []

        async def scenario() -> None:
            loop_thread.append(threading.get_ident())
            await manager.asynchronous().get()

        asyncio.run(scenario())
    assert ran_on
    assert loop_thread[0] not in ran_on
