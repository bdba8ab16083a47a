"""Tests of the integrations over real sockets."""
