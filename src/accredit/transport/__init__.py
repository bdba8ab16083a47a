"""The one synchronous transport for token, discovery, JWKS and introspection requests.

It is not the HTTP client that calls the protected API: no redirects, cookies, netrc, cache or content codings, one
connection per request, one deadline for all of it, and an outcome that is always a value.

Why HTTP/1.1 is driven here through h11 (which httpx2 stands on) and not through httpx2's own client: its connection
layer writes the response headers, and whatever a peer sent that is not HTTP, to the DEBUG log, and a server that echoes
a credential would put it there. Trust stores are httpx2's (``httpx2.create_ssl_context``).
"""

from accredit.transport.client import HttpTransport
from accredit.transport.settings import ClientCertificate, ResolveName, TransportSettings

__all__ = ["ClientCertificate", "HttpTransport", "ResolveName", "TransportSettings"]
