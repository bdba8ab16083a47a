"""Outages of the authorization server, played with real processes and real sockets, under load."""
