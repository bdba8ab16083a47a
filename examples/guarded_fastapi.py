"""An API on FastAPI, guarded in five lines.

Run it::

    ACCREDIT_ISSUER=https://idp.example.com AUDIENCE=https://api.example.com uvicorn guarded_fastapi:app
"""

import os
from typing import Annotated

from fastapi import FastAPI

from accredit.resource_server.fastapi import FastApiGuard
from accredit.verifier import TokenVerifier, TrustedIssuer, VerifiedToken

verifier = TokenVerifier(TrustedIssuer(os.environ["ACCREDIT_ISSUER"], os.environ["AUDIENCE"]))
guard = FastApiGuard(verifier)
Reader = Annotated[VerifiedToken, guard.requires("orders:read")]
Writer = Annotated[VerifiedToken, guard.requires("orders:write")]

app = FastAPI()


@app.get("/orders")
async def list_orders(token: Reader) -> dict[str, object]:
    """Answer whoever may read orders."""
    return {"orders": ["espresso"], "caller": token.client_id}


@app.post("/orders", status_code=201)
async def order(token: Writer) -> dict[str, object]:
    """Take an order of whoever may write orders."""
    return {"ordered": True, "caller": token.client_id}


@app.get("/health")
async def health() -> dict[str, object]:
    """Answer everybody."""
    return {"status": "up"}
