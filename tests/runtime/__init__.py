"""The engine and its faces, over real sockets."""
