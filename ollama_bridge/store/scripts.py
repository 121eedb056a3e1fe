"""What Redis does in one step, in its own language.

Knows: the shapes of the keys. Must not know: when a script is run.

    count:NAME    hash    r<second>, t<second> -> requests and tokens counted in that second of Redis' clock
    streams:NAME  zset    ticket -> until when (ms) its stream is taken for alive
    breakers      hash    name -> at, until, period (ms), writer, reason, each on a line
    probe:NAME    string  the process whose probe is on its way

Time is Redis' own, so the clocks of several machines may differ. Every key expires by itself.
"""

from __future__ import annotations

_NOW = """
local time = redis.call('TIME')
local second = tonumber(time[1])
local now = second * 1000 + math.floor(tonumber(time[2]) / 1000)
"""

# KEYS: count:NAME of each claim, then streams:NAME of each. ARGV: ticket, tokens, 1 for a stream, its lease (ms), then
# requests, tokens, streams of each claim. -> {-1, second}, or {which claim (from 0), kind, wait in ms or -1}.
# A second counts until it is 61 seconds old, as in policy/limits.
_TAKE = (
    _NOW
    + """
local ticket, tokens, stream, lease = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4])
local claims = #KEYS / 2

local function wait(uses, total, more, limit)
    if more > limit then return -1 end
    local seconds = {}
    for s in pairs(uses) do seconds[#seconds + 1] = s end
    table.sort(seconds)
    for _, s in ipairs(seconds) do
        total = total - uses[s]
        if total + more <= limit then return (s + 61) * 1000 - now end
    end
    return 0
end

for claim = 1, claims do
    local requests_limit, tokens_limit = tonumber(ARGV[claim * 3 + 2]), tonumber(ARGV[claim * 3 + 3])
    local streams_limit = tonumber(ARGV[claim * 3 + 4])
    if requests_limit > 0 or tokens_limit > 0 then
        local all = redis.call('HGETALL', KEYS[claim])
        local uses, sums, old = {r = {}, t = {}}, {r = 0, t = 0}, {}
        for n = 1, #all, 2 do
            local kind, s, count = string.sub(all[n], 1, 1), tonumber(string.sub(all[n], 2)), tonumber(all[n + 1])
            if s < second - 60 then
                old[#old + 1] = all[n]
            else
                uses[kind][s] = count
                sums[kind] = sums[kind] + count
            end
        end
        if #old > 0 then redis.call('HDEL', KEYS[claim], unpack(old)) end
        if requests_limit > 0 and sums.r + 1 > requests_limit then
            return {claim - 1, 'requests', wait(uses.r, sums.r, 1, requests_limit)}
        end
        if tokens_limit > 0 and sums.t + tokens > tokens_limit then
            return {claim - 1, 'tokens', wait(uses.t, sums.t, tokens, tokens_limit)}
        end
    end
    if stream and streams_limit > 0 then
        redis.call('ZREMRANGEBYSCORE', KEYS[claims + claim], '-inf', now)
        if redis.call('ZCARD', KEYS[claims + claim]) >= streams_limit then
            return {claim - 1, 'streams', 1000}
        end
    end
end

for claim = 1, claims do
    if tonumber(ARGV[claim * 3 + 2]) > 0 then redis.call('HINCRBY', KEYS[claim], 'r' .. second, 1) end
    if tonumber(ARGV[claim * 3 + 3]) > 0 then redis.call('HINCRBY', KEYS[claim], 't' .. second, tokens) end
    redis.call('EXPIRE', KEYS[claim], 62)
    if stream and tonumber(ARGV[claim * 3 + 4]) > 0 then
        redis.call('ZADD', KEYS[claims + claim], now + lease, ticket)
        redis.call('PEXPIRE', KEYS[claims + claim], lease)
    end
end
return {-1, second}
"""
)

# KEYS: count:NAME of each claim. ARGV: the second, how many tokens more.
_CORRECT = """
for _, key in ipairs(KEYS) do
    if redis.call('HEXISTS', key, 't' .. ARGV[1]) == 1 then redis.call('HINCRBY', key, 't' .. ARGV[1], ARGV[2]) end
end
return 1
"""

# KEYS: streams:NAME of each claim. ARGV: ticket.
_RELEASE = """
for _, key in ipairs(KEYS) do redis.call('ZREM', key, ARGV[1]) end
return 1
"""

# KEYS: streams:NAME. ARGV: the lease (ms), tickets whose streams are alive.
_RENEW = (
    _NOW
    + """
for n = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[n]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
"""
)

# KEYS: breakers. ARGV: name, writer, ms that it is open (0: closed), period (ms), reason.
_TELL = (
    _NOW
    + """
local record = table.concat({now, now + ARGV[3], ARGV[4], ARGV[2], ARGV[5]}, '\\n')
redis.call('HSET', KEYS[1], ARGV[1], record)
redis.call('EXPIRE', KEYS[1], 3600)
return 1
"""
)

# KEYS: breakers. -> now (ms), then name and record of each; those of long ago are forgotten.
_HEAR = (
    _NOW
    + """
local all = redis.call('HGETALL', KEYS[1])
local fresh = {now}
for n = 1, #all, 2 do
    if tonumber(string.match(all[n + 1], '^%d+\\n(%d+)')) < now - 600000 then
        redis.call('HDEL', KEYS[1], all[n])
    else
        fresh[#fresh + 1] = all[n]
        fresh[#fresh + 1] = all[n + 1]
    end
end
return fresh
"""
)

# KEYS: probe:NAME. ARGV: the process, for how long (ms). -> 1: it is the process' own.
_CLAIM = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""

# KEYS: probe:NAME. ARGV: the process.
_FREE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""

SCRIPTS = {
    "take": _TAKE, "correct": _CORRECT, "release": _RELEASE, "renew": _RENEW,
    "tell": _TELL, "hear": _HEAR, "claim": _CLAIM, "free": _FREE,
}  # fmt: skip
