"""What goes wrong on demand: by command, and by a request where the configuration lets requests ask."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit.devserver import DevConfig, DevServer
from accredit.devserver.faults import FAULT_HEADER, FAULT_PARAMETER, GARBAGE, make_fault, parse_fault
from accredit.devserver.handle import Switches

FORM = {"grant_type": "client_credentials"}
CREDENTIALS = ("api-client", "dev-secret")
METADATA = "/.well-known/oauth-authorization-server"


def ask(http: httpx2.Client, server: Switches, **more: Any) -> httpx2.Response:
    return http.post(server.token_endpoint, data=FORM, auth=CREDENTIALS, **more)


def call(http: httpx2.Client, server: Switches, token: str) -> httpx2.Response:
    return http.get(f"{server.api_url}/hello", headers={"Authorization": f"Bearer {token}"})


class TestByCommand:
    def test_a_status_and_the_truth_again(self, server: Switches, http: httpx2.Client) -> None:
        server.inject(status=429, error="slow_down", retry_after="Wed, 21 Oct 2026 07:28:00 GMT", times=1)
        refused = ask(http, server)
        assert (refused.status_code, refused.json()["error"]) == (429, "slow_down")
        assert refused.headers["retry-after"] == "Wed, 21 Oct 2026 07:28:00 GMT"
        assert ask(http, server).status_code == 200
        assert [entry.fault for entry in server.requests("/token")] == ["status 429", None]

    def test_retry_after_alone_is_a_503(self, server: Switches, http: httpx2.Client) -> None:
        server.inject(retry_after="3", times=1)
        assert (ask(http, server).status_code, server.requests("/token")[0].status) == (503, 503)

    def test_an_expired_key(self, server: Switches, http: httpx2.Client) -> None:
        server.inject(expired_key=True, times=1)
        bad, good = (ask(http, server).json()["access_token"] for _ in range(2))
        assert call(http, server, good).status_code == 200
        refused = call(http, server, bad)
        assert (refused.status_code, refused.json()["reason"]) == (401, "unknown_key")

    def test_a_wrong_issuer(self, server: Switches, http: httpx2.Client) -> None:
        server.inject(wrong_issuer=True, times=1)
        server.inject(wrong_issuer=True, times=1, path=METADATA)
        refused = call(http, server, ask(http, server).json()["access_token"])
        assert (refused.status_code, refused.json()["reason"]) == (401, "issuer")
        issuers = [http.get(f"{server.url}{METADATA}").json()["issuer"] for _ in range(2)]
        assert issuers == [f"{server.issuer}/other", server.issuer]

    @pytest.mark.parametrize("side", ["as", "api"])
    def test_a_hang_up(self, server: Switches, http: httpx2.Client, side: Any) -> None:
        token = ask(http, server).json()["access_token"]
        server.inject(hang_up=True, times=1, path="*", server=side)
        with pytest.raises(httpx2.TransportError):
            ask(http, server) if side == "as" else call(http, server, token)
        assert ask(http, server).status_code == call(http, server, token).status_code == 200
        gone = [entry for entry in server.requests() if entry.fault]
        assert [(entry.fault, entry.status, entry.server) for entry in gone] == [("hang-up", None, side)]

    def test_a_slow_drip_is_whole_in_the_end(self, server: Switches, http: httpx2.Client) -> None:
        server.inject(drip=0.0001, times=1)
        pieces = []
        with http.stream("POST", server.token_endpoint, data=FORM, auth=CREDENTIALS) as answer:
            pieces = list(answer.iter_raw())
        assert len(pieces) > 3
        assert json.loads(b"".join(pieces))["token_type"] == "Bearer"

    def test_a_drip_ends_when_the_client_leaves(self, server: Switches) -> None:
        server.inject(drip=3600.0, times=1, path="/jwks")
        where = urlsplit(server.url)
        with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
            connection.sendall(b"GET /jwks HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert server.wait_for_requests(1, "/jwks") == 1

    def test_an_answer_that_is_true_but_cut_off(self, server: Switches, http: httpx2.Client) -> None:
        server.inject(truncate=True, times=1)
        with pytest.raises(httpx2.RemoteProtocolError):
            ask(http, server)
        server.inject(truncate=True, drip=0.0001, times=1)
        with pytest.raises(httpx2.RemoteProtocolError):
            ask(http, server)

    def test_a_late_answer(self, server: Switches, http: httpx2.Client) -> None:
        server.inject(latency=0.2, times=1)
        began = time.monotonic()
        assert ask(http, server).status_code == 200
        assert time.monotonic() - began >= 0.2

    def test_faults_of_the_api(self, server: Switches, http: httpx2.Client) -> None:
        token = ask(http, server).json()["access_token"]
        server.inject(status=500, server="api", path="/hello", times=1)
        server.inject(drip=0.0001, server="api", path="/orders", times=1)
        orders = http.get(f"{server.api_url}/orders", headers={"Authorization": f"Bearer {token}"})
        assert orders.json()["orders"]
        assert [call(http, server, token).status_code for _ in range(2)] == [500, 200]

    def test_recovery_ends_everything(self, server: Switches, http: httpx2.Client) -> None:
        server.inject(status=500, path="*")
        server.inject(hang_up=True)
        server.recover()
        assert ask(http, server).status_code == 200
        server.inject(status=500)
        server.inject(status=500, times=0)
        assert ask(http, server).status_code == 200

    @pytest.mark.parametrize(
        "wrong",
        [
            {"status": 99}, {"status": 600}, {"status": True}, {"latency": -1}, {"latency": float("inf")},
            {"drip": 1e9}, {"garbage": "nothing"}, {"garbage": "html", "status": 500},
            {"status": 500, "expired_key": True}, {"retry_after": "1\r\nset-cookie: x"},
        ],
        ids=str,
    )  # fmt: skip
    def test_plans_that_make_no_sense(self, server: Switches, http: httpx2.Client, wrong: dict[str, Any]) -> None:
        with pytest.raises((ValueError, RuntimeError)) as caught:
            server.inject(**wrong)
        assert "set-cookie" not in str(caught.value)
        assert ask(http, server).status_code == 200


@pytest.fixture(scope="module")
def open_server() -> Iterator[DevServer]:
    with DevServer(DevConfig(faults_by_request=True)) as server:
        yield server


class TestByRequest:
    WAYS: tuple[tuple[str, Callable[[str], dict[str, Any]]], ...] = (
        ("header", lambda text: {"headers": {FAULT_HEADER: text}}),
        ("parameter", lambda text: {"data": {**FORM, FAULT_PARAMETER: text}}),
        ("query", lambda text: {"params": {FAULT_PARAMETER: text}}),
    )

    @pytest.mark.parametrize("way", WAYS, ids=lambda way: way[0])
    def test_three_ways_to_ask(self, open_server: DevServer, http: httpx2.Client, way: Any) -> None:
        more = {"data": FORM, **way[1]("status=503; retry-after=7")}
        refused = http.post(open_server.token_endpoint, auth=CREDENTIALS, **more)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "7")
        assert ask(http, open_server).status_code == 200

    def test_each_kind(self, open_server: DevServer, http: httpx2.Client) -> None:
        def wish(text: str) -> httpx2.Response:
            return ask(http, open_server, headers={FAULT_HEADER: text})

        assert wish("garbage=html").text.startswith("<!doctype")
        assert wish("error=invalid_scope; status=400").json() == {"error": "invalid_scope"}
        assert call(http, open_server, wish("expired-key").json()["access_token"]).json()["reason"] == "unknown_key"
        assert call(http, open_server, wish("wrong-issuer").json()["access_token"]).json()["reason"] == "issuer"
        assert wish("drip=0.0001").json()["token_type"] == "Bearer"
        assert wish("latency=0.01").status_code == 200
        for text in ("hang-up", "truncate"):
            with pytest.raises(httpx2.TransportError):
                wish(text)
        late = http.get(f"{open_server.api_url}/hello", headers={FAULT_HEADER: "status=502"})
        assert late.status_code == 502

    def test_only_that_request_is_concerned(self, open_server: DevServer, http: httpx2.Client) -> None:
        def one(number: int) -> int:
            more: Any = {"headers": {FAULT_HEADER: "status=500"}} if number % 2 else {}
            return httpx2.post(open_server.token_endpoint, data=FORM, auth=CREDENTIALS, timeout=30, **more).status_code

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(one, range(24))) == [200, 500] * 12

    @pytest.mark.parametrize(
        "text", ["", "nothing", "status", "status=5000", "hang-up=1", "status=500;status=500", "drip=nan"]
    )
    def test_a_wish_that_is_none(self, open_server: DevServer, http: httpx2.Client, text: str) -> None:
        for answer in (
            ask(http, open_server, headers={FAULT_HEADER: text}),
            http.get(f"{open_server.api_url}/hello", headers={FAULT_HEADER: text}),
        ):
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")

    def test_two_wishes(self, open_server: DevServer, http: httpx2.Client) -> None:
        more = {"headers": {FAULT_HEADER: "hang-up"}, "params": {FAULT_PARAMETER: "hang-up"}}
        assert ask(http, open_server, **more).status_code == 400

    def test_nobody_asks_where_it_is_not_allowed(self, server: Switches, http: httpx2.Client) -> None:
        for _, more in self.WAYS:
            answer = http.post(server.token_endpoint, auth=CREDENTIALS, **{"data": FORM, **more("status=503")})
            assert answer.status_code == 200


@given(
    st.text(max_size=60) | st.from_regex(r"(status|latency|drip|garbage|hang-up|error)(=[0-9a-z.]{0,6})?(; ?[a-z-]+)?")
)
def test_any_text_is_a_fault_or_a_value_error(text: str) -> None:
    try:
        fault = parse_fault(text)
    except ValueError:
        return
    assert fault.label() != "none"
    assert 0 <= fault.latency <= 3600


@pytest.mark.parametrize("kind", GARBAGE)
def test_every_kind_of_garbage_is_one(kind: str) -> None:
    fault = make_fault(garbage=kind)
    assert fault.response is not None
    assert fault.response.body == GARBAGE[kind][1]
    assert parse_fault(f"garbage={kind}").response == fault.response
