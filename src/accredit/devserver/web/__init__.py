"""The page of the development server: one self-contained HTML page that works without JavaScript."""

from accredit.devserver.web.shield import allowed_origins
from accredit.devserver.web.site import WebPage

__all__ = ["WebPage", "allowed_origins"]
