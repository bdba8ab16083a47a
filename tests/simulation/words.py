"""What happens, in words for the trace."""

from __future__ import annotations

from accredit.core import effects
from accredit.core.identity import Identity
from accredit.core.records import Record, StoreDown

#: What scope an identity stands for.
SCOPES: dict[bytes, str] = {}


def describe(effect: object) -> str:
    """Return a readable line for a store effect."""
    match effect:
        case effects.Claim(identity, newer_than, _, _, lease):
            newer = "" if newer_than is None else f", newer than {newer_than >> 32}"
            return f"claims {_scope(identity)}{newer} for {lease:.2f} s"
        case effects.Publish(identity, _, record, remaining, _, _):
            return f"publishes {record.value} of {_scope(identity)}, {remaining:.1f} s left"
        case effects.Fail(identity, _, hold):
            return f"fails {_scope(identity)}" + ("" if hold is None else f" and holds {hold.seconds:.2f} s")
        case effects.Suspect(identity, generation, origin):
            return f"suspects generation {generation >> 32} of {_scope(identity)} ({origin or 'reported'})"
        case effects.Cool(identity, origin, seconds):
            return f"cools {_scope(identity)} for {origin}, {seconds:.0f} s"
        case effects.Remove(identity):
            return f"removes {_scope(identity)}"
        case effects.EndpointHold():
            return "looks for a throttle"
        case effects.HoldEndpoint(_, hold):
            return f"throttles for {hold.seconds:.2f} s"
        case _:
            return type(effect).__name__


def told(answer: object) -> str:
    """Return a readable answer of the store."""
    if isinstance(answer, StoreDown):
        return "no answer"
    directive = getattr(answer, "directive", None)
    if directive is not None:
        stored = getattr(answer, "stored", None)
        there = "" if stored is None else f", there is {_record(stored.record)} ({stored.remaining:.1f} s left)"
        return f"{type(directive).__name__}{there}"
    record = getattr(answer, "record", None)
    return f"{_record(record)} is kept" if isinstance(record, Record) else str(answer) if answer is not None else "done"


def _record(record: Record) -> str:
    return f"{record.value} of generation {record.generation >> 32}"


def _scope(identity: Identity) -> str:
    return SCOPES.get(identity.encoded, identity.fingerprint.hex()[:6])
