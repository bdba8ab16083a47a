"""A spike, no product: the store contract over Redis, to see that each verb can be one script in one round trip.

What it proves is in ``docs/decisions/0003-store-contract.md``. It lacks what a store for use needs (encryption, schema
versions, time-outs, clusters, secrets), and nothing imports it but its test.

Keys, hashes all: ``K`` (the record), ``K:lease`` (owner and end) and ``K:hold`` (holds and cool-downs), where ``K`` is
``Identity.store_key()``. Its braces are the hash tag, so the three are in one slot of a cluster.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from typing import Any

import redis

from accredit import errors
from accredit.core.effects import SuspectOutcome
from accredit.core.identity import DEFAULT_PREFIX, Identity
from accredit.core.records import Claimed, Held, Hold, Lead, Record, Satisfied, Stored, Wait

REMEMBERED_MS = 120_000

# Times are whole milliseconds of the server's own clock (plus an offset that only tests use). A generation travels as
# two numbers, since the numbers of Lua are doubles: its high 32 bits order, and the low ones are only compared.
_COMMON = """
local function time()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[1])
end
local now = time()
-- Keys go by themselves some time after what they hold has ended; what counts is the end inside.
local function keep(key, ends) redis.call('PEXPIRE', key, math.max(1, ends - now) + 1000) end
local function record()
  local r = redis.call('HMGET', KEYS[1], 'ends', 'high', 'low', 'suspect', 'data')
  if not r[1] or tonumber(r[1]) <= now then return nil end
  return {ends = tonumber(r[1]), high = tonumber(r[2]), low = r[3], suspect = r[4] == '1', data = r[5]}
end
local function reply(r)
  if not r then return false end
  return {r.ends - now, r.high, r.low, r.suspect and 1 or 0, r.data}
end
local function newer(r, high, low)
  return high == '' or r.high > tonumber(high) or (r.high == tonumber(high) and r.low ~= low)
end
local function release(owner)
  if redis.call('HGET', KEYS[2], 'owner') == owner then redis.call('DEL', KEYS[2]) end
end
"""

READ = _COMMON + "return reply(record())"

# ARGV: offset, newer_than (high, low), credential, owner, lease
CLAIM = (
    _COMMON
    + """
local r = record()
if r and not r.suspect and newer(r, ARGV[2], ARGV[3]) then return {'satisfied', reply(r)} end
local failures = 0
for _, field in ipairs({'hold:', 'hold:' .. ARGV[4]}) do
  local held = redis.call('HGET', KEYS[3], field)
  if held then
    local ends, count, data = string.match(held, '^(%d+) (%d+) (.*)$')
    if tonumber(ends) > now then return {'held', reply(r), tonumber(ends) - now, data} end
    if tonumber(ends) + %d > now then failures = math.max(failures, tonumber(count)) end
  end
end
local lease = redis.call('HMGET', KEYS[2], 'owner', 'ends')
local ends = tonumber(lease[2] or 0)
if ends and lease[1] and lease[1] ~= ARGV[5] and ends > now then return {'wait', reply(r), ends - now} end
ends = now + tonumber(ARGV[6])
redis.call('HSET', KEYS[2], 'owner', ARGV[5], 'ends', ends)
keep(KEYS[2], ends)
return {'lead', reply(r), failures}
""".replace("%d >", f"{REMEMBERED_MS} >")
)

# ARGV: offset, based_on (high, low), owner, remaining, credential, low, data
PUBLISH = (
    _COMMON
    + """
release(ARGV[4])
local r = record()
local remaining = tonumber(ARGV[5])
if r and not r.suspect and newer(r, ARGV[2], ARGV[3]) and r.ends - now >= remaining then return reply(r) end
local high = math.max(tonumber(ARGV[2]) or 0, r and r.high or 0) + 1
r = {ends = now + remaining, high = high, low = ARGV[7], suspect = false, data = ARGV[8]}
redis.call('HSET', KEYS[1], 'ends', r.ends, 'high', r.high, 'low', r.low, 'suspect', '0', 'data', r.data)
keep(KEYS[1], r.ends)
redis.call('HDEL', KEYS[3], 'hold:', 'hold:' .. ARGV[6])
return reply(r)
"""
)

# ARGV: offset, owner, credential, seconds (or empty), failures, data
FAIL = (
    _COMMON
    + f"""
release(ARGV[2])
if ARGV[4] ~= '' then
  local ends = now + tonumber(ARGV[4])
  redis.call('HSET', KEYS[3], 'hold:' .. ARGV[3], string.format('%.0f %s %s', ends, ARGV[5], ARGV[6]))
  local left = redis.call('PTTL', KEYS[3])
  if left < ends - now + {REMEMBERED_MS} then keep(KEYS[3], ends + {REMEMBERED_MS}) end
end
"""
)

# ARGV: offset, origin, high, low
SUSPECT = (
    _COMMON
    + """
local cooling = redis.call('HGET', KEYS[3], 'cool:' .. ARGV[2])
if cooling and tonumber(cooling) > now then return 'cooling' end
local r = record()
if not r then return 'suspect' end
if r.high ~= tonumber(ARGV[3]) or r.low ~= ARGV[4] then return 'newer' end
redis.call('HSET', KEYS[1], 'suspect', '1')
return 'suspect'
"""
)

# ARGV: offset, origin, seconds
COOL = (
    _COMMON
    + """
local ends = now + tonumber(ARGV[3])
redis.call('HSET', KEYS[3], 'cool:' .. ARGV[2], ends)
if redis.call('PTTL', KEYS[3]) < ends - now then keep(KEYS[3], ends) end
"""
)

REMOVE = "redis.call('DEL', KEYS[1], KEYS[3])"

ENDPOINT_HOLD = (
    _COMMON
    + """
local held = redis.call('HMGET', KEYS[1], 'ends', 'data')
if held[1] and tonumber(held[1]) > now then return {tonumber(held[1]) - now, held[2]} end
return false
"""
)

# ARGV: offset, seconds, data
HOLD_ENDPOINT = (
    _COMMON
    + """
local ends = now + tonumber(ARGV[2])
if tonumber(redis.call('HGET', KEYS[1], 'ends') or 0) < ends then
  redis.call('HSET', KEYS[1], 'ends', ends, 'data', ARGV[3])
  keep(KEYS[1], ends)
end
"""
)


class RedisSpike:
    """The store contract over redis-py. ``offset`` is what a test adds to the server's clock, in seconds."""

    in_process = False

    def __init__(self, client: redis.Redis, offset: Callable[[], float] = lambda: 0.0) -> None:
        self._offset = offset
        self._lock = threading.Lock()
        texts = (READ, CLAIM, PUBLISH, FAIL, SUSPECT, COOL, REMOVE, ENDPOINT_HOLD, HOLD_ENDPOINT)
        self._scripts = {text: client.register_script(text) for text in texts}

    def _run(self, script: str, keys: list[str], *arguments: str | int) -> Any:
        return self._scripts[script](keys=keys, args=[_milliseconds(self._offset()), *arguments])

    def read(self, identity: Identity) -> Stored | None:
        return _stored(identity, self._run(READ, _keys(identity)))

    def claim(
        self, identity: Identity, *, newer_than: int | None, credential: str, owner: str, lease: float
    ) -> Claimed:
        answer = self._run(CLAIM, _keys(identity), *_split(newer_than), credential, owner, _milliseconds(lease))
        stored = _stored(identity, answer[1])
        match answer[0]:
            case b"satisfied":
                return Claimed(stored, Satisfied())
            case b"held":
                return Claimed(stored, Held(_hold(answer[3], answer[2])))
            case b"wait":
                return Claimed(stored, Wait(answer[2] / 1000))
            case _:
                return Claimed(stored, Lead(answer[2]))

    def publish(
        self, identity: Identity, *, owner: str, record: Record, remaining: float, credential: str, based_on: int | None
    ) -> Stored:
        data = json.dumps(
            [
                record.identity.hex(),
                record.value,
                record.lifetime,
                record.expires_at,
                record.granted_scope,
                record.refresh_in,
                record.members,
                record.refresh_token,
            ]
        )
        _, low = _split(record.generation)
        answer = self._run(
            PUBLISH, _keys(identity), *_split(based_on), owner, _milliseconds(remaining), credential, low, data
        )
        stored = _stored(identity, answer)
        assert stored is not None
        return stored

    def fail(self, identity: Identity, *, owner: str, hold: Hold | None) -> None:
        if hold is None:
            self._run(FAIL, _keys(identity), owner, "", "", "", "")
            return
        self._run(
            FAIL, _keys(identity), owner, hold.credential, _milliseconds(hold.seconds), hold.failures, _written(hold)
        )

    def suspect(self, identity: Identity, *, generation: int, origin: str) -> SuspectOutcome:
        outcome: SuspectOutcome = self._run(SUSPECT, _keys(identity), origin, *_split(generation)).decode()
        return outcome

    def cool(self, identity: Identity, *, origin: str, seconds: float) -> None:
        self._run(COOL, _keys(identity), origin, _milliseconds(seconds))

    def remove(self, identity: Identity) -> None:
        self._run(REMOVE, _keys(identity))

    def endpoint_hold(self, key: str) -> Hold | None:
        answer = self._run(ENDPOINT_HOLD, [_throttle(key)])
        return None if answer is None else _hold(answer[1], answer[0])

    def hold_endpoint(self, key: str, hold: Hold) -> None:
        self._run(HOLD_ENDPOINT, [_throttle(key)], _milliseconds(hold.seconds), _written(hold))

    def after_fork(self) -> None:
        """Do nothing: redis-py replaces its connections by process id."""

    def close(self) -> None:
        """Do nothing: the client belongs to the test."""


def _keys(identity: Identity) -> list[str]:
    key = identity.store_key()
    return [key, f"{key}:lease", f"{key}:hold"]


def _throttle(key: str) -> str:
    return f"{DEFAULT_PREFIX}:throttle:{{{hashlib.sha256(key.encode()).hexdigest()[:32]}}}"


def _split(generation: int | None) -> tuple[str, str]:
    return ("", "") if generation is None else (str(generation >> 32), str(generation & 0xFFFFFFFF))


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _stored(identity: Identity, answer: Any) -> Stored | None:
    if answer is None:
        return None
    remaining, high, low, suspect, data = answer
    encoded, value, lifetime, expires_at, scope, refresh_in, members, refresh_token = json.loads(data)
    record = Record(
        bytes.fromhex(encoded),
        value,
        lifetime,
        expires_at,
        high << 32 | int(low),
        None if scope is None else tuple(scope),
        refresh_in,
        tuple((name, text) for name, text in members),
        refresh_token,
    )
    return Stored(record, remaining / 1000, suspect == 1)


def _written(hold: Hold) -> str:
    error = hold.error
    return json.dumps([type(error).__name__, error.summary, error.advice, error._safe, hold.failures, hold.credential])


def _hold(data: bytes, milliseconds: int) -> Hold:
    kind, summary, advice, safe, failures, credential = json.loads(data)
    return Hold(milliseconds / 1000, getattr(errors, kind)(summary, advice=advice, **safe), failures, credential)
