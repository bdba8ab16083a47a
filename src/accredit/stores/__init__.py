"""Stores: where tokens are kept and shared, and the contract that every store keeps."""

from accredit.stores.contract import Store
from accredit.stores.memory import MemoryStore

__all__ = ["MemoryStore", "Store"]
