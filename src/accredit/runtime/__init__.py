"""The runtime: what runs flows in production. Waiters, worker threads, the guard of the store, the keeper."""
