"""A client that sends what no gRPC library would: HTTP/2 frames by hand (RFC 9113, RFC 7541)."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 6, 7, 9
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1


@dataclass(frozen=True)
class End:
    """How a call ended: with a status of gRPC's, or with the stream or the connection cut off."""

    status: int | None
    message: bytes = b""

    @property
    def was_cut_off(self) -> bool:
        return self.status is None


def call(port: int, path: bytes, fields: list[tuple[bytes, bytes]], *, body: bytes | None = b"a") -> End:
    """Make one call over plaintext, with these fields beside those that gRPC needs; None is a call that goes on."""
    block = b"".join(
        _literal(name, value)
        for name, value in [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"localhost"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            *fields,
        ]
    )
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b""))
        first, rest = block[:16_000], [block[at : at + 16_000] for at in range(16_000, len(block), 16_000)]
        sent = _frame(_HEADERS, 0 if rest else _END_HEADERS, 1, first)
        for number, part in enumerate(rest, 1):
            sent += _frame(_CONTINUATION, _END_HEADERS if number == len(rest) else 0, 1, part)
        if body is not None:
            sent += _frame(_DATA, _END_STREAM, 1, b"\x00" + len(body).to_bytes(4, "big") + body)
        try:
            sock.sendall(sent)
            return _read_end(sock)
        except ConnectionError:
            return End(None)


def _read_end(sock: socket.socket) -> End:
    reader = sock.makefile("rb")
    while len(head := reader.read(9)) == 9:
        kind, flags = head[3], head[4]
        payload = reader.read(int.from_bytes(head[:3], "big"))
        if kind == _SETTINGS and not flags & _ACK:
            sock.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            sock.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _HEADERS:
            # The encoder of gRPC writes names and values that it sends for the first time as they are.
            found = re.search(rb"grpc-status[\x01\x02](\d{1,2})", payload)
            if found is not None:
                return End(int(found[1]), payload)
        elif kind in {_RST_STREAM, _GOAWAY}:
            return End(None, payload)
    return End(None)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """Write a field without indexing, and as it is (RFC 7541, section 6.2.2)."""
    return b"\x00" + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    length = len(text)
    if length < 127:
        return bytes([length]) + text
    encoded, length = bytearray([127]), length - 127
    while length > 127:
        encoded.append(length & 127 | 128)
        length >>= 7
    encoded.append(length)
    return bytes(encoded) + text
