"""An API on Django REST Framework in one file, guarded in five lines.

Run it::

    ACCREDIT_ISSUER=https://idp.example.com AUDIENCE=https://api.example.com gunicorn guarded_rest_framework:app
"""

import os
from typing import Any

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", os.urandom(32).hex()),
    REST_FRAMEWORK={"UNAUTHENTICATED_USER": None},
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402 - Django is configured first
from django.urls import path  # noqa: E402 - as above
from rest_framework.response import Response  # noqa: E402 - as above
from rest_framework.views import APIView  # noqa: E402 - as above

from accredit.resource_server import Guard  # noqa: E402 - as above
from accredit.resource_server.rest_framework import requires_by_method, token_authentication  # noqa: E402 - as above
from accredit.verifier import TokenVerifier, TrustedIssuer  # noqa: E402 - as above

verifier = TokenVerifier(TrustedIssuer(os.environ["ACCREDIT_ISSUER"], os.environ["AUDIENCE"]))
Authentication = token_authentication(Guard(verifier))


class Orders(APIView):  # type: ignore[misc]  # the framework is untyped
    """Orders, for whoever may read and write them."""

    authentication_classes = (Authentication,)
    permission_classes = (requires_by_method({"GET": "orders:read", "POST": "orders:write"}),)

    def get(self, request: Any) -> Any:
        """Answer whoever may read orders."""
        return Response({"orders": ["espresso"], "caller": request.auth.client_id})

    def post(self, request: Any) -> Any:
        """Take an order of whoever may write orders."""
        return Response({"ordered": True, "caller": request.auth.client_id}, status=201)


class Health(APIView):  # type: ignore[misc]  # as above
    """Answers everybody."""

    authentication_classes = ()

    def get(self, request: Any) -> Any:
        """Answer everybody."""
        del request
        return Response({"status": "up"})


urlpatterns = [path("orders", Orders.as_view()), path("health", Health.as_view())]
app = get_wsgi_application()
