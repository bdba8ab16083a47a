"""An API on Flask, guarded in five lines.

Run it::

    ACCREDIT_ISSUER=https://idp.example.com AUDIENCE=https://api.example.com flask --app guarded_flask run
"""

import os

from flask import Flask

from accredit.resource_server.flask import FlaskGuard, verified_token
from accredit.verifier import TokenVerifier, TrustedIssuer

verifier = TokenVerifier(TrustedIssuer(os.environ["ACCREDIT_ISSUER"], os.environ["AUDIENCE"]))
guard = FlaskGuard(verifier)

app = Flask(__name__)


@app.get("/orders")
@guard.requires("orders:read")
def list_orders() -> dict[str, object]:
    """Answer whoever may read orders."""
    return {"orders": ["espresso"], "caller": verified_token().client_id}


@app.post("/orders")
@guard.requires("orders:write")
def order() -> tuple[dict[str, object], int]:
    """Take an order of whoever may write orders."""
    return {"ordered": True, "caller": verified_token().client_id}, 201


@app.get("/health")
def health() -> dict[str, object]:
    """Answer everybody."""
    return {"status": "up"}
