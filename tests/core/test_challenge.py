"""WWW-Authenticate: what is read from it, and whether a 401 concerns the token."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit.core.challenge import Challenge, _Reader, concerns_token, nonce_demanded, parse_challenges

TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

tokens = st.text(TOKEN, min_size=1, max_size=8)
params = st.dictionaries(tokens.map(str.lower), st.text(max_size=12), max_size=4)
token68s = st.from_regex(r"[A-Za-z0-9._~+/-]{1,12}={0,2}", fullmatch=True)
challenges_strategy = st.lists(
    st.builds(lambda scheme, values: Challenge(scheme.lower(), None, values), tokens, params)
    | st.builds(lambda scheme, value: Challenge(scheme.lower(), value, {}), tokens, token68s),
    max_size=4,
)


def quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def written(challenge: Challenge, separator: str = ", ") -> str:
    values = separator.join(f"{name}={quote(value)}" for name, value in challenge.params.items())
    return f"{challenge.scheme} {challenge.token68 or values}"


def plain(*values: str) -> list[tuple[str, str | None, dict[str, str]]]:
    return [(found.scheme, found.token68, dict(found.params)) for found in parse_challenges(values)]


class TestParse:
    def test_the_example_of_rfc_9110(self) -> None:
        text = 'Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""'
        assert plain(text) == [
            ("basic", None, {"realm": "simple"}),
            ("newauth", None, {"realm": "apps", "type": "1", "title": 'Login to "apps"'}),
        ]

    @given(challenges_strategy, st.sampled_from([", ", ",", " , ,", ",\t"]))
    def test_there_and_back(self, challenges: list[Challenge], separator: str) -> None:
        expected = [(found.scheme, found.token68, dict(found.params)) for found in challenges]
        assert plain(separator.join(map(written, challenges))) == expected
        assert plain(*map(written, challenges)) == expected

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (
                ['Basic realm="x"', 'Bearer error="invalid_token"'],
                [("basic", {"realm": "x"}), ("bearer", {"error": "invalid_token"})],
            ),
            (['bearer ERROR="invalid_token"'], [("bearer", {"error": "invalid_token"})]),
            (['BEARER Error = "invalid_token"'], [("bearer", {"error": "invalid_token"})]),
            (["Bearer"], [("bearer", {})]),
            (["Bearer "], [("bearer", {})]),
            (["Bearer,"], [("bearer", {})]),
            (["Bearer , ,, Basic,"], [("bearer", {}), ("basic", {})]),
            ([",, Bearer"], [("bearer", {})]),
            (['Bearer realm="x",'], [("bearer", {"realm": "x"})]),
            (['Bearer realm=""'], [("bearer", {"realm": ""})]),
            (['Bearer realm="a, b", scope="c d"'], [("bearer", {"realm": "a, b", "scope": "c d"})]),
            (['Bearer realm="x, Basic y=\\"z\\""'], [("bearer", {"realm": 'x, Basic y="z"'})]),
            (["Bearer error=invalid_token"], [("bearer", {"error": "invalid_token"})]),
            (
                ["Bearer uri=https://as.example/a?b=c, error=x"],
                [("bearer", {"uri": "https://as.example/a?b=c", "error": "x"})],
            ),
            (['Bearer realm="x" error="y"'], [("bearer", {"realm": "x", "error": "y"})]),
            (['Bearer realm="x"; error="y"'], [("bearer", {"realm": "x", "error": "y"})]),
            (["Bearer d=The token expired, error=y"], [("bearer", {"d": "The", "error": "y"})]),
            (['Bearer d=The "a, Basic b", error=y'], [("bearer", {"d": "The", "error": "y"})]),
            (['Bearer error="y'], [("bearer", {"error": "y"})]),
            (['Bearer error="y\\'], [("bearer", {"error": "y"})]),
            (['Bearer error="y', "Basic"], [("bearer", {"error": "y"}), ("basic", {})]),
            (['Bearer realm="x"', 'error="y"'], [("bearer", {"realm": "x", "error": "y"})]),
            (['error="y"'], []),
            (['error="y", Bearer'], [("bearer", {})]),
            (["???=?, (Bearer), Basic"], [("basic", {})]),
            (["Bearer \x00, Basic"], [("bearer", {}), ("basic", {})]),
            (["é, Bearer"], [("bearer", {})]),
            ([""], []),
            ([], []),
            ([" \t"], []),
            (['"'], []),
            (["\\"], []),
        ],
        ids=[
            "E11",
            "E12-case",
            "E12-spaces",
            "E12-alone",
            "E12-alone-space",
            "E12-trailing-comma",
            "E12-empty-elements",
            "E12-leading-commas",
            "E12-trailing-comma-after-param",
            "E12-empty-value",
            "comma-in-quotes",
            "challenge-in-quotes",
            "unquoted",
            "unquoted-url",
            "no-comma",
            "semicolon",
            "unquoted-sentence",
            "quotes-in-a-sentence",
            "open-quotes",
            "open-escape",
            "open-quotes-end-with-the-field",
            "E11-one-challenge-in-two-fields",
            "no-scheme",
            "no-scheme-first",
            "junk",
            "control",
            "not-ascii",
            "empty",
            "none",
            "blank",
            "quote",
            "backslash",
        ],
    )
    def test_forms(self, values: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
        assert plain(*values) == [(scheme, None, found) for scheme, found in expected]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Negotiate YWJj==", [("negotiate", "YWJj==", {})]),
            ("Negotiate abc, Bearer x=y", [("negotiate", "abc", {}), ("bearer", None, {"x": "y"})]),
            ("Bearer abc/def+~ ,Basic", [("bearer", "abc/def+~", {}), ("basic", None, {})]),
            ("Bearer abc def", [("bearer", None, {})]),
            ('Bearer realm=, error="x"', [("bearer", "realm=", {"error": "x"})]),
        ],
        ids=["E12-token68", "then-another", "E12-bearer", "not-quite", "E12-empty-param"],
    )
    def test_token68(self, text: str, expected: list[tuple[str, str | None, dict[str, str]]]) -> None:
        assert plain(text) == expected

    def test_e15_a_parameter_given_twice(self) -> None:
        assert plain('Bearer error="a", ERROR=b, error="a", x=1, x="1"') == [("bearer", None, {"x": "1"})]

    @given(st.lists(st.text() | st.text('Bearer Dpop,="\\ \terror;é')))
    def test_never_raises(self, values: list[str]) -> None:
        for found in parse_challenges(values):
            assert found.scheme == found.scheme.lower()
            assert found.scheme
            assert all(name and name == name.lower() for name in found.params)
        assert concerns_token(parse_challenges(values)) in {True, False}

    def test_the_limit(self) -> None:
        basic = "Basic x=" + "y" * (16 * 1024 - 9)
        assert len(plain(basic)) == 1
        assert plain(basic + "y") == []
        assert plain(basic, "") == []
        assert concerns_token(parse_challenges([basic + "y"]))

    def test_no_more_than_64_challenges(self) -> None:
        assert len(plain("Basic," * 64)) == 64
        assert plain("Basic," * 65) == []
        assert plain(*["Basic"] * 65) == []
        assert concerns_token(parse_challenges(["Basic," * 65]))

    @pytest.mark.parametrize(
        "piece", ['"', "\\", "a", "a ", "a=", 'a="', "a,", "=", '\\"', ' "\\', ";", "a =", "a\t\t\t"]
    )
    def test_time_is_linear(self, piece: str) -> None:
        # Beyond the limit, so that it shows: a second or so when linear, minutes when not.
        reader = _Reader()
        before = time.thread_time()
        reader.read("Bearer " + piece * (64 * 1024 // len(piece)))
        assert time.thread_time() - before < 10

    def test_spaces_take_linear_time(self) -> None:
        reader = _Reader()
        before = time.thread_time()
        reader.read("Bearer a" + " " * 100_000 + "b")
        reader.read("a" + " " * 100_000 + "a" + " " * 100_000 + "=")
        assert time.thread_time() - before < 10
        assert [scheme for scheme, _, _ in reader.challenges] == ["bearer", "a"]


class TestConcernsToken:
    @pytest.mark.parametrize(
        "values",
        [
            [],
            [""],
            ['Bearer error="invalid_token"'],
            ['bearer ERROR="Invalid_Token"'],
            ['DPoP error="invalid_token", algs="ES256"'],
            ["Bearer"],
            ['Bearer realm="x"'],
            ["Bearer abc"],
            ['Bearer error=""'],
            ['DPoP algs="ES256"'],
            ["Custom"],
            ['GNAP as_uri="https://as.example"'],
            ['Basic realm="x"', 'Bearer realm="x"'],
            ["Basic, Custom"],
            ['Basic realm="x", Bearer error="invalid_token"'],
            ['Bearer error="insufficient_scope", DPoP error="invalid_token"'],
            ['Bearer error="invalid_token", error="insufficient_scope"'],
            ['Bearer error="invalid_request", error="insufficient_scope"'],
            ['Custom error="insufficient_scope"'],
            ['Basic error="invalid_token"'],
        ],
        ids=[
            "no-challenge",
            "empty",
            "invalid-token",
            "E12",
            "dpop-invalid-token",
            "bearer",
            "bearer-realm",
            "bearer-token68",
            "empty-error",
            "dpop",
            "unknown",
            "gnap",
            "basic-and-bearer",
            "basic-and-unknown",
            "E11-one-field",
            "two-errors",
            "E15",
            "E15-neither-ours",
            "unknown-with-error",
            "basic-invalid-token",
        ],
    )
    def test_it_does(self, values: list[str]) -> None:
        assert concerns_token(parse_challenges(values))

    @pytest.mark.parametrize(
        "values",
        [
            ['Basic realm="x"'],
            ['Digest realm="x", nonce="y"'],
            ["Negotiate"],
            ["Negotiate YWJj"],
            ["NTLM"],
            ["Negotiate, NTLM", 'BASIC realm="x"'],
            ['Bearer error="insufficient_scope", scope="a b"'],
            ['Bearer error="invalid_request"'],
            ['Basic realm="x", Bearer error="insufficient_scope"'],
            ['Bearer error="insufficient_scope", DPoP algs="ES256"'],
            ['Bearer error="insufficient_scope"', "Custom"],
            ['DPoP error="use_dpop_nonce"'],
            ['DPoP error="invalid_dpop_proof"'],
            ['Bearer error="insufficient_user_authentication"'],
        ],
    )
    def test_it_does_not(self, values: list[str]) -> None:
        assert not concerns_token(parse_challenges(values))

    @given(challenges_strategy)
    def test_invalid_token_always_does(self, challenges: list[Challenge]) -> None:
        assert concerns_token([*challenges, Challenge("bearer", None, {"error": "invalid_token"})])


class TestNonceDemanded:
    @pytest.mark.parametrize(
        "text",
        [
            'DPoP error="use_dpop_nonce"',
            'dpop error=use_dpop_nonce, algs="ES256"',
            'Bearer, DPoP error="use_dpop_nonce"',
        ],
    )
    def test_e17_it_is(self, text: str) -> None:
        assert nonce_demanded(parse_challenges([text]))

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "DPoP",
            'DPoP error="invalid_token"',
            'Bearer error="use_dpop_nonce"',
            'DPoP error="use_dpop_nonce", Bearer error="invalid_token"',
            'DPoP error="use_dpop_nonce", error="invalid_token"',
        ],
    )
    def test_it_is_not(self, text: str) -> None:
        assert not nonce_demanded(parse_challenges([text]))
