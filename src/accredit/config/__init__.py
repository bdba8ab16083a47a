"""Registrations, and where their tokens are kept, from a TOML file and the environment: :func:`load`.

Nothing is read but the file that was named, by argument or by ``ACCREDIT_CONFIG``; ``ACCREDIT_`` variables go over it.
:mod:`accredit.config.environment` documents the variables.
"""

from accredit.config.loading import Configuration, load, load_configuration
from accredit.config.store import StoreSettings

__all__ = ["Configuration", "StoreSettings", "load", "load_configuration"]
