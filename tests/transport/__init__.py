"""The transport over real sockets, against servers that misbehave."""
