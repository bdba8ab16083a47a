"""The Lua scripts of the Redis store: one for each verb, each one atomic step and one round trip.

``KEYS``: the record ``K``, ``K:lease`` and ``K:hold``, hashes all, in one slot (the braces of ``K`` are a hash tag).
A throttle has a key, and a slot, of its own. What a hash holds:

``K``        ``accredit`` (whose it is), and per form (schema version, algorithm and key id) ``FORM:ends``,
             ``FORM:high``, ``FORM:low``, ``FORM:suspect`` and ``FORM:data``, so that processes of other versions or
             with other keys share a store and leave each other's records alone
``K:lease``  ``owner``, ``ends``, ``length``
``K:hold``   ``hold:TAG`` -> ``ends length failures data`` and ``cool:ORIGIN`` -> ``ends length``

Times are whole milliseconds of the server's own clock. What ends carries its end inside; the expiry of a key only
sweeps, except for a record, whose key goes exactly with the life of its token. It also carries its length: where a
replica with another clock has taken over, more may be left than there ever was, and then it has ended.

Lua counts in doubles, so a generation travels as two numbers: its high bits order, its low 32 are only compared. Where
nothing is left to count on from, the count begins with the server's clock: beyond every number that was used before,
so that a process that remembers one takes what is new.

Whatever stands where a number should and is not one as it is written here counts as not there: no value, of whoever
wrote it, makes a verb fail or anything last for ever.
Nothing is read as code here, and no key is touched that is not named in ``KEYS``.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

REMEMBERED_MS: Final = 120_000
#: Most bytes of a stored record; what is larger was not written by this library.
MOST_BYTES: Final = 512 * 1024
#: Most milliseconds that a record may live, and that a hold, a lease or a cool-down may run, as in the SQLite store.
LONGEST_LIFE_MS: Final = 366 * 86_400_000
LONGEST_MARK_MS: Final = 3_600_000
#: Most digits of a number: those that a double holds exactly.
MOST_DIGITS: Final = 15
#: Most failures in a row that are told, as the codec has it.
MOST_FAILURES: Final = 1_000_000
#: Most holds and cool-downs of one identity; what has ended is swept when there are more.
MOST_FIELDS: Final = 256

CLOCK: Final = "local t = redis.call('TIME')\nlocal now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

_LIBRARY = """
local function expire(key, left) redis.call('PEXPIRE', key, string.format('%.0f', math.max(1, left))) end
-- What others keep under a key of ours is neither read nor touched: it counts as nothing there.
local function ours(answer)
  if type(answer) == 'table' and answer.err then
    if string.find(answer.err, 'WRONGTYPE', 1, true) then return nil end
    error(answer.err)
  end
  return answer
end
local function whole(text)
  return text and #text <= MOST_DIGITS and string.match(text, '^%d+$') and tonumber(text) or nil
end
local function left(ends, length)
  ends, length = whole(ends), whole(length)
  if not ends or not length or length > LONGEST_MARK or ends <= now or ends - now > length then return nil end
  return ends - now
end
""".replace("MOST_DIGITS", str(MOST_DIGITS)).replace("LONGEST_MARK", str(LONGEST_MARK_MS))

# ARGV[1]: the forms that the caller can read, the one it writes first.
_RECORD = """
local function fields(form)
  return form .. ':ends', form .. ':high', form .. ':low', form .. ':suspect', form .. ':data'
end
local function record()
  local best = nil
  for form in string.gmatch(ARGV[1], '%S+') do
    local r = ours(redis.pcall('HMGET', KEYS[1], fields(form)))
    if not r then return nil end
    local ends, high, low = whole(r[1]), whole(r[2]), whole(r[3])
    if ends and high and low and low < 4294967296 and r[5] and ends > now and ends - now <= LONGEST_LIFE
        and #r[5] <= MOST_BYTES and (not best or high > best.high or (high == best.high and ends > best.ends)) then
      low = string.format('%.0f', low)
      best = {form = form, ends = ends, high = high, low = low, suspect = r[4] == '1', data = r[5]}
    end
  end
  return best
end
local function reply(r)
  if not r then return false end
  return {r.ends - now, r.high, r.low, r.suspect and 1 or 0, r.data}
end
local function newer(r, high, low)
  return high == '' or r.high > tonumber(high) or (r.high == tonumber(high) and r.low ~= low)
end
-- The forms of records that live and that the caller cannot read, with '!' before one that is broken; '?' for what is
-- not ours at all.
local function others(r)
  local found = {}
  if r then return found end
  local names = ours(redis.pcall('HKEYS', KEYS[1]))
  local marked = false
  for _, name in ipairs(names or {}) do
    marked = marked or name == 'accredit'
    local form = string.match(name, '^(.+):ends$')
    local ends = form and whole(redis.call('HGET', KEYS[1], name))
    if form and string.find(' ' .. ARGV[1] .. ' ', ' ' .. form .. ' ', 1, true) then
      if not ends or ends > now then table.insert(found, '!' .. form) end
    elseif form and (ends or 0) > now then
      table.insert(found, form)
    end
  end
  if not names or (#names > 0 and not marked) then return {'?'} end
  return found
end
""".replace("MOST_BYTES", str(MOST_BYTES)).replace("LONGEST_LIFE", str(LONGEST_LIFE_MS))

_LEASE = """
local function lease()
  local l = ours(redis.pcall('HMGET', KEYS[2], 'owner', 'ends', 'length'))
  -- One that says of no end, or is none, is replaced: nobody would ever give it back.
  if not l then redis.call('DEL', KEYS[2]) return nil end
  local rest = left(l[2], l[3])
  if not l[1] or not rest then return nil end
  return {owner = l[1], left = rest}
end
local function release(owner)
  local l = lease()
  if l and l.owner == owner then redis.call('DEL', KEYS[2]) end
end
"""

_HOLD = """
local function note(field, text, length)
  local count = ours(redis.pcall('HLEN', KEYS[3]))
  if not count then return end
  if count >= MOST_FIELDS then
    local all = redis.call('HGETALL', KEYS[3])
    for i = 1, #all, 2 do
      local ends = whole(string.match(all[i + 1], '^(%d+) '))
      if not ends or ends + REMEMBERED <= now then redis.call('HDEL', KEYS[3], all[i]) end
    end
    if redis.call('HLEN', KEYS[3]) >= MOST_FIELDS then return end
  end
  redis.call('HSET', KEYS[3], field, string.format('%.0f %.0f', now + length, length) .. text)
  local keep = length + REMEMBERED
  if redis.call('PTTL', KEYS[3]) < keep then expire(KEYS[3], keep) end
end
""".replace("MOST_FIELDS", str(MOST_FIELDS)).replace("REMEMBERED", str(REMEMBERED_MS))

_READ = _RECORD + "local r = record()\nreturn {reply(r), others(r)}"

# ARGV: forms, newer_than (high, low), credential, owner, lease, and '1' to look at no hold
_CLAIM = (
    _RECORD
    + _LEASE
    + """
local r = record()
if r and not r.suspect and newer(r, ARGV[2], ARGV[3]) then return {'satisfied', reply(r), {}} end
local function readable(data)
  for form in string.gmatch(ARGV[1], '%S+') do
    local start = 'accredit:' .. form .. ':'
    if string.sub(data, 1, #start) == start then return true end
  end
end
local failures = 0
local held = ARGV[7] ~= '1' and ours(redis.pcall('HMGET', KEYS[3], 'hold:', 'hold:' .. ARGV[4]))
for i = 1, held and (ARGV[4] == '' and 1 or 2) or 0 do
  if held[i] then
    local ends, length, count, data = string.match(held[i], '^(%d+) (%d+) (%d+) (.*)$')
    local rest = left(ends, length)
    if rest and readable(data) then return {'held', reply(r), others(r), rest, data} end
    ends = whole(ends)
    if ends and ends + REMEMBERED > now and ends <= now then
      failures = math.max(failures, math.min(whole(count) or 0, MOST_FAILURES))
    end
  end
end
local l = lease()
if l and l.owner ~= ARGV[5] then return {'wait', reply(r), others(r), l.left} end
local length = tonumber(ARGV[6])
redis.call('HSET', KEYS[2], 'owner', ARGV[5], 'ends', string.format('%.0f', now + length), 'length', ARGV[6])
expire(KEYS[2], length)
return {'lead', reply(r), others(r), failures}
""".replace("REMEMBERED", str(REMEMBERED_MS)).replace("MOST_FAILURES", str(MOST_FAILURES))
)

# ARGV: forms, based_on (high, low), owner, remaining, credential, low, data
_PUBLISH = (
    _RECORD
    + _LEASE
    + """
release(ARGV[4])
local names = ours(redis.pcall('HKEYS', KEYS[1]))
if not names or (#names > 0 and redis.call('HEXISTS', KEYS[1], 'accredit') == 0) then return false end
local remaining = tonumber(ARGV[5])
local r = record()
-- The very same one, written a moment ago: a server may be sent a command twice.
local patience = r and r.low == ARGV[7] and 1000 or 0
if r and not r.suspect and newer(r, ARGV[2], ARGV[3]) and r.ends - now + patience >= remaining then
  return reply(r)
end
local high = math.max(tonumber(ARGV[2]) or 0, r and r.high or 0) + 1
-- What was there may have ended, or been flushed, while processes remember it; and nothing is counted on without end.
if (ARGV[2] == '' and not r) or high >= MOST_HIGH then high = now end
local form = string.match(ARGV[1], '%S+')
r = {ends = now + remaining, high = high, low = ARGV[7], suspect = false, data = ARGV[8]}
redis.call('HSET', KEYS[1], 'accredit', '1', form .. ':ends', string.format('%.0f', r.ends),
  form .. ':high', string.format('%.0f', high), form .. ':low', r.low, form .. ':suspect', '0', form .. ':data', r.data)
-- The key goes with the token; only a record of another form beside it may live longer.
local last = r.ends
for _, name in ipairs(names) do
  local other = string.match(name, '^(.+):ends$')
  if other and other ~= form then
    local ends = whole(redis.call('HGET', KEYS[1], name))
    if ends and ends <= now then
      redis.call('HDEL', KEYS[1], fields(other))
    elseif ends and ends - now <= LONGEST_LIFE then
      last = math.max(last, ends)
    end
  end
end
expire(KEYS[1], last - now)
if ours(redis.pcall('HLEN', KEYS[3])) then redis.call('HDEL', KEYS[3], 'hold:', 'hold:' .. ARGV[6]) end
return reply(r)
""".replace("LONGEST_LIFE", str(LONGEST_LIFE_MS)).replace("MOST_HIGH", f"1e{MOST_DIGITS}")
)

# ARGV: owner, credential, length (or empty), failures, data
_FAIL = (
    _LEASE
    + _HOLD
    + """
release(ARGV[1])
if ARGV[3] ~= '' then note('hold:' .. ARGV[2], ' ' .. ARGV[4] .. ' ' .. ARGV[5], tonumber(ARGV[3])) end
"""
)

# ARGV: forms, origin, high, low
_SUSPECT = (
    _RECORD
    + """
local cooling = ours(redis.pcall('HGET', KEYS[3], 'cool:' .. ARGV[2]))
if cooling then
  local ends, length = string.match(cooling, '^(%d+) (%d+)$')
  if left(ends, length) then return 'cooling' end
end
local r = record()
if not r then return 'suspect' end
if r.high ~= tonumber(ARGV[3]) or r.low ~= ARGV[4] then return 'newer' end
redis.call('HSET', KEYS[1], r.form .. ':suspect', '1')
return 'suspect'
"""
)

# ARGV: origin, length
_COOL = _HOLD + "note('cool:' .. ARGV[1], '', tonumber(ARGV[2]))"

_REMOVE = """
local removed = 0
if ours(redis.pcall('HGET', KEYS[1], 'accredit')) then removed = redis.call('DEL', KEYS[1]) end
if ours(redis.pcall('HLEN', KEYS[3])) then redis.call('DEL', KEYS[3]) end
return removed
"""

# What there is to see of a record, whatever wrote it; never the record itself.
_LOOK = """
local found = {}
local names = ours(redis.pcall('HKEYS', KEYS[1]))
if not names or redis.call('HEXISTS', KEYS[1], 'accredit') == 0 then return found end
for _, name in ipairs(names) do
  local form = string.match(name, '^(.+):ends$')
  if form then
    local r = redis.call('HMGET', KEYS[1], name, form .. ':high', form .. ':low', form .. ':suspect')
    local ends = whole(r[1]) or 0
    if ends > now and ends - now <= LONGEST_LIFE and whole(r[2]) and whole(r[3]) then
      table.insert(found, {form, ends - now, r[2], r[3], r[4] == '1' and 1 or 0})
    end
  end
end
return found
""".replace("LONGEST_LIFE", str(LONGEST_LIFE_MS))

_ENDPOINT_HOLD = """
local held = ours(redis.pcall('HMGET', KEYS[1], 'ends', 'length', 'data'))
local rest = held and held[3] and left(held[1], held[2])
return rest and {rest, held[3]} or false
"""

# ARGV: length, data
_HOLD_ENDPOINT = """
local held = ours(redis.pcall('HMGET', KEYS[1], 'ends', 'length'))
if not held then return end
local length = tonumber(ARGV[1])
if (left(held[1], held[2]) or 0) >= length then return end
redis.call('HSET', KEYS[1], 'ends', string.format('%.0f', now + length), 'length', ARGV[1], 'data', ARGV[2])
expire(KEYS[1], length)
"""


class Script(NamedTuple):
    """A script as it is sent.

    Attributes:
        text: for ``EVAL``.
        digest: for ``EVALSHA``.

    """

    text: bytes
    digest: bytes


class Scripts(NamedTuple):
    """The scripts, by verb."""

    read: Script
    claim: Script
    publish: Script
    fail: Script
    suspect: Script
    cool: Script
    remove: Script
    endpoint_hold: Script
    hold_endpoint: Script
    look: Script


def make_scripts(clock: str = CLOCK) -> Scripts:
    """Return the scripts; a test may put another clock before them."""
    return Scripts(*(_script(clock + _LIBRARY + body) for body in _BODIES))


def _script(text: str) -> Script:
    data = text.encode()
    # Redis names scripts by their SHA-1; nothing depends on it being hard to find another text for.
    return Script(data, hashlib.sha1(data, usedforsecurity=False).hexdigest().encode())


_BODIES = (_READ, _CLAIM, _PUBLISH, _FAIL, _SUSPECT, _COOL, _REMOVE, _ENDPOINT_HOLD, _HOLD_ENDPOINT, _LOOK)
SCRIPTS: Final = make_scripts()
