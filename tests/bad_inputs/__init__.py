"""Bad inputs: what servers, networks, configurations and clocks do wrong, each row by its id.

``manifest.py`` names every row. ``rows/`` and ``test_wire.py`` hold those that are one answer of a server, as tables;
the other rows are tests of their own, marked with ``covers``. ``test_manifest.py`` fails when a row has neither.
"""
