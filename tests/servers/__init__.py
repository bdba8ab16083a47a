"""Real authorization servers, written by others, for the tests to talk to over sockets.

Each server is a process of its own on a free port of 127.0.0.1. It reads its settings as one JSON line from stdin,
prints one JSON line once it listens, and ends when stdin ends, so none outlives the test process that started it.
"""
