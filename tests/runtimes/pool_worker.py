"""What the processes of a pool run: importable by name, as spawn and forkserver want it."""

from __future__ import annotations

import os

from accredit import ClientRegistration, ClientSecretBasic, TokenManager

_managers: list[TokenManager] = []


def make(token_endpoint: str) -> TokenManager:
    return TokenManager(
        ClientRegistration(
            id="api-client",
            token_endpoint=token_endpoint,
            client_id="api-client",
            client_auth=ClientSecretBasic("dev-secret"),
            deadline=30.0,
        )
    )


def start(token_endpoint: str) -> None:
    """Make the manager of this process: the initializer of a pool."""
    _managers.append(make(token_endpoint))


def adopt(manager: TokenManager) -> None:
    """Take over the manager that a fork brings along."""
    _managers.append(manager)


def use(_: int) -> tuple[int, str]:
    """Return which process this is and its token."""
    return os.getpid(), _managers[0].get().value
