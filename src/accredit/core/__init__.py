"""The core: the protocol and the life of a token, pure. No sockets, threads, clocks, environment or async."""
