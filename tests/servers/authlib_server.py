"""Authlib's authorization server on Flask, and one small API that it protects.

Nothing of the protocol is written here: only the storage that Authlib asks for, the routes and a counter. Run as a
program; ``tests.servers.process`` says how it talks to the tests.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol

from authlib.integrations.flask_oauth2 import AuthorizationServer, ResourceProtector  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749 import ClientMixin, TokenMixin  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant  # type: ignore[import-untyped]
from authlib.oauth2.rfc6750 import BearerTokenGenerator, BearerTokenValidator  # type: ignore[import-untyped]
from authlib.oauth2.rfc7009 import RevocationEndpoint  # type: ignore[import-untyped]
from authlib.oauth2.rfc7662 import IntrospectionEndpoint  # type: ignore[import-untyped]
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url  # type: ignore[import-untyped]
from flask import Flask, Response, jsonify, request
from werkzeug.serving import make_server

SCOPES = ("api:read", "api:write")
GRANT = "client_credentials"
METHODS = ("client_secret_basic", "client_secret_post")


@dataclass(frozen=True)
class RegisteredClient(ClientMixin):  # type: ignore[misc] # Authlib is untyped
    """A client of the settings."""

    client_id: str
    client_secret: str
    method: str
    lifetime: int

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str | None) -> str:
        return " ".join(name for name in (scope or "").split() if name in SCOPES)

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(self.client_secret.encode(), client_secret.encode())

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == self.method or endpoint != "token"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == GRANT


@dataclass
class IssuedToken(TokenMixin):  # type: ignore[misc] # Authlib is untyped
    """An access token that was handed out."""

    value: str
    client_id: str
    scope: str
    issued_at: float
    expires_in: int
    revoked: bool = False

    def check_client(self, client: RegisteredClient) -> bool:
        return self.client_id == client.client_id

    def get_scope(self) -> str:
        return self.scope

    def get_expires_in(self) -> int:
        return self.expires_in

    def is_expired(self) -> bool:
        return time.time() >= self.issued_at + self.expires_in

    def is_revoked(self) -> bool:
        return self.revoked


class Authenticated(Protocol):
    """Authlib's token request, once its client is known."""

    client: RegisteredClient


class Storage:
    """Clients and tokens, in memory."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Take the clients from the settings."""
        self._lock = threading.Lock()
        self._tokens: dict[str, IssuedToken] = {}
        self._clients = {
            item["client_id"]: RegisteredClient(
                item["client_id"], item["client_secret"], item["method"], item["lifetime"] or settings["lifetime"]
            )
            for item in settings["clients"]
        }

    def client(self, client_id: str) -> RegisteredClient | None:
        return self._clients.get(client_id)

    def token(self, value: str) -> IssuedToken | None:
        with self._lock:
            return self._tokens.get(value)

    def save(self, token: dict[str, Any], oauth_request: Authenticated) -> None:
        issued = IssuedToken(
            value=token["access_token"],
            client_id=oauth_request.client.client_id,
            scope=token.get("scope", ""),
            issued_at=time.time(),
            expires_in=token["expires_in"],
        )
        with self._lock:
            self._tokens[issued.value] = issued


def register_protocol(server: AuthorizationServer, storage: Storage) -> None:
    """Tell Authlib which grants and endpoints there are, and where their data is."""

    class Grant(ClientCredentialsGrant):  # type: ignore[misc] # Authlib is untyped
        TOKEN_ENDPOINT_AUTH_METHODS = METHODS

    class Introspection(IntrospectionEndpoint):  # type: ignore[misc] # Authlib is untyped
        CLIENT_AUTH_METHODS = METHODS

        def query_token(self, token_string: str, token_type_hint: str | None) -> IssuedToken | None:
            del token_type_hint
            return storage.token(token_string)

        def check_permission(self, token: IssuedToken, client: RegisteredClient, oauth_request: object) -> bool:
            del oauth_request
            return token.check_client(client)

        def introspect_token(self, token: IssuedToken) -> dict[str, Any]:
            issued_at = int(token.issued_at)
            expires_at = issued_at + token.expires_in
            return {"client_id": token.client_id, "scope": token.scope, "iat": issued_at, "exp": expires_at}

    class Revocation(RevocationEndpoint):  # type: ignore[misc] # Authlib is untyped
        CLIENT_AUTH_METHODS = METHODS

        def query_token(self, token_string: str, token_type_hint: str | None) -> IssuedToken | None:
            del token_type_hint
            return storage.token(token_string)

        def revoke_token(self, token: IssuedToken, oauth_request: object) -> None:
            del oauth_request
            token.revoked = True

    server.register_grant(Grant)
    server.register_endpoint(Introspection)
    server.register_endpoint(Revocation)
    server.register_token_generator(
        GRANT,
        BearerTokenGenerator(
            access_token_generator=lambda **_: secrets.token_urlsafe(32),
            expires_generator=lambda client, _grant_type: client.lifetime,
        ),
    )


def make_app(settings: dict[str, Any], origin: str) -> tuple[Flask, dict[str, str]]:
    """Build the application and its addresses; the issuer has a path when the settings say so."""
    storage = Storage(settings)
    mount = settings["path"]
    issuer = origin + mount
    addresses = {
        "issuer": issuer,
        "token_endpoint": f"{issuer}/token",
        "introspection_endpoint": f"{issuer}/introspect",
        "revocation_endpoint": f"{issuer}/revoke",
    }
    metadata = AuthorizationServerMetadata(
        **addresses,
        scopes_supported=list(SCOPES),
        response_types_supported=["none"],  # required to be there and, by Authlib, not to be empty
        grant_types_supported=[GRANT],
        token_endpoint_auth_methods_supported=list(METHODS),
        introspection_endpoint_auth_methods_supported=list(METHODS),
        revocation_endpoint_auth_methods_supported=list(METHODS),
    )

    app = Flask(__name__)
    app.config["OAUTH2_SCOPES_SUPPORTED"] = list(SCOPES)
    server = AuthorizationServer(app, storage.client, storage.save)
    register_protocol(server, storage)

    class Validator(BearerTokenValidator):  # type: ignore[misc] # Authlib is untyped
        def authenticate_token(self, token_string: str) -> IssuedToken | None:
            return storage.token(token_string)

    protector = ResourceProtector()
    protector.register_token_validator(Validator(realm="api"))

    counts: Counter[str] = Counter()
    lock = threading.Lock()

    @app.before_request
    def count() -> None:
        if request.path != "/__requests":
            with lock:
                counts[request.path] += 1

    @app.get("/__requests")
    def requests() -> Response:
        with lock:
            return jsonify(dict(counts))

    @app.get(get_well_known_url(issuer))
    def well_known() -> Response:
        metadata.validate()
        return jsonify(dict(metadata))

    @app.post(f"{mount}/token")
    def token() -> Response:
        response: Response = server.create_token_response()
        return response

    @app.post(f"{mount}/introspect")
    def introspect() -> Response:
        response: Response = server.create_endpoint_response(IntrospectionEndpoint.ENDPOINT_NAME)
        return response

    @app.post(f"{mount}/revoke")
    def revoke() -> Response:
        response: Response = server.create_endpoint_response(RevocationEndpoint.ENDPOINT_NAME)
        return response

    @app.get("/api")
    def api() -> Response:
        with protector.acquire(request.args.get("scope")) as access_token:
            return jsonify(scopes=access_token.get_scope().split())

    return app, {**addresses, "api": f"{origin}/api"}


def main() -> None:
    """Serve until stdin ends."""
    settings = json.loads(sys.stdin.readline())
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # plain http, on loopback only
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    http_server = make_server("127.0.0.1", 0, Flask("starting"), threaded=True)
    http_server.app, ready = make_app(settings, f"http://127.0.0.1:{http_server.server_port}")
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
