"""Guard an API: let in who has a good access token, and answer everybody else as RFC 6750 has it.

Each module is for one kind of application, and is imported only by who uses it: ``asgi`` and ``wsgi`` (any
application), ``starlette``, ``fastapi``, ``flask``, ``django``, ``rest_framework`` (Django REST Framework).
"""

from accredit.core.guard_rules import GuardRule, public, rule
from accredit.core.guarding import Refusal, RequiredScope
from accredit.core.protected_resource import ResourceMetadata
from accredit.resource_server.guard import AsyncVerifier, Guard, Verified, Verifier

__all__ = [
    "AsyncVerifier",
    "Guard",
    "GuardRule",
    "Refusal",
    "RequiredScope",
    "ResourceMetadata",
    "Verified",
    "Verifier",
    "public",
    "rule",
]
