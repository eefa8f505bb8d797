-- What all scripts share. A script runs alone on its server, and its effects are written down together or not at all.
local prefix = ARGV[1]

local function now_us()
    local time = redis.call('TIME')
    return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function num(number)
    return string.format('%.0f', number)
end

-- The keys of a subscription.
local function keys_of(name)
    local q = prefix .. ':q:' .. name
    return { q = q, due = q .. ':due', lease = q .. ':lease', note = q .. ':note', head = q .. ':head', line = q .. ':line' }
end

-- What is there, handed out, and waits for its time.
local function counts(k, now)
    local delayed = redis.call('ZCOUNT', k.due, '(' .. num(now), '+inf')
    return redis.call('XLEN', k.q), redis.call('ZCARD', k.lease), delayed
end

-- A note: how many attempts, who holds it or `-`, its line or `-`, and why attempts failed.
local function read_note(k, id)
    local note = redis.call('HGET', k.note, id)
    if not note then return 0, '-', '-', '' end
    local attempts, token, line, failures = string.match(note, '^(%d+) (%S+) (%S+) (.*)$')
    return tonumber(attempts), token, line, failures
end

local function write_note(k, id, attempts, token, line, failures)
    redis.call('HSET', k.note, id, num(attempts) .. ' ' .. token .. ' ' .. line .. ' ' .. failures)
end

local function field(fields, name)
    for at = 1, #fields, 2 do
        if fields[at] == name then return fields[at + 1] end
    end
end

-- The line in which a message stands: that of its key.
local function line_of(fields)
    local key = field(fields, 'ce-partitionkey')
    if key then return redis.sha1hex(key) end
    return '-'
end

-- When an entry was stored, as a score, so that what is given back keeps its place.
local function place_of(id, now)
    local ms, seq = string.match(id, '^(%d+)-(%d+)$')
    return math.min(tonumber(ms) * 1000 + math.min(tonumber(seq), 999), now)
end

-- Whether an entry is the first of its line; if there is none, it becomes the first.
local function is_first(k, line, id)
    if line == '-' then return true end
    local first = redis.call('HGET', k.head, line)
    if not first then
        redis.call('HSET', k.head, line, id)
        return true
    end
    return first == id
end

local function stand_in_line(k, line, id, attempts, failures)
    local ms, seq = string.match(id, '^(%d+)-(%d+)$')
    local place = string.rep('0', 20 - #ms) .. ms .. string.rep('0', 20 - #seq) .. seq
    redis.call('ZADD', k.line, 0, line .. ':' .. place .. ':' .. id)
    write_note(k, id, attempts, '-', line, failures)
end

-- The first of a line has ended: the next one may be handed out.
local function advance(k, line, id, now)
    if line == '-' or redis.call('HGET', k.head, line) ~= id then return end
    local next = redis.call('ZRANGEBYLEX', k.line, '[' .. line .. ':', '(' .. line .. ';', 'LIMIT', 0, 1)[1]
    if not next then
        redis.call('HDEL', k.head, line)
        return
    end
    local other = string.match(next, '([^:]+)$')
    redis.call('ZREM', k.line, next)
    redis.call('HSET', k.head, line, other)
    redis.call('ZADD', k.due, num(place_of(other, now)), other)
end

-- An entry has ended, or was taken away from outside.
local function forget(k, id, line, now)
    redis.call('XACK', k.q, 'abe', id)
    redis.call('XDEL', k.q, id)
    redis.call('ZREM', k.lease, id)
    redis.call('ZREM', k.due, id)
    redis.call('HDEL', k.note, id)
    advance(k, line, id, now)
end
