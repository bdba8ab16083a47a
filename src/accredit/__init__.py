"""OAuth 2.0 access tokens for services: obtained, kept, renewed and shared for you.

The public face. Importing it imports no HTTP library and no cryptography.
"""

from accredit.core.client_auth import ClientSecretBasic, ClientSecretPost
from accredit.core.registration import ClientRegistration
from accredit.core.secret import Secret
from accredit.core.token import AccessToken
from accredit.errors import (
    AccreditError,
    AuthorizationServerError,
    ConfigurationError,
    CredentialRefusedError,
    DiscoveryError,
    InvalidTokenError,
    MalformedResponseError,
    RequestRefusedError,
    StoreError,
    ThrottledError,
    UnreachableError,
)
from accredit.manager import AsyncTokenManager, TokenManager
from accredit.stores.memory import MemoryStore

__version__ = "0.1.0"

__all__ = [
    "AccessToken",
    "AccreditError",
    "AsyncTokenManager",
    "AuthorizationServerError",
    "ClientRegistration",
    "ClientSecretBasic",
    "ClientSecretPost",
    "ConfigurationError",
    "CredentialRefusedError",
    "DiscoveryError",
    "InvalidTokenError",
    "MalformedResponseError",
    "MemoryStore",
    "RequestRefusedError",
    "Secret",
    "StoreError",
    "ThrottledError",
    "TokenManager",
    "UnreachableError",
    "__version__",
]
