-- Carries out verdicts by those who hold the token, and nobody else.
-- ARGV: prefix, subscription, count; of each: entry, token, verdict, delay in us, failures, time in ms, id of the message.
-- Verdicts: A ack, D dead letter, R retry, C release with its attempt counted, L release.
local name = ARGV[2]
local now, k, outcomes = now_us(), keys_of(ARGV[2]), {}
local dead, ids = prefix .. ':dead', prefix .. ':dead:ids'

-- Stores a dead letter; an older one of the same message goes.
local function bury(id, attempts, failures, at, message)
    local entry = redis.call('XRANGE', k.q, id, id)[1]
    if not entry then return end
    local place = name .. ' ' .. message
    local fields = { 'abe-subscription', name, 'abe-attempts', num(attempts), 'abe-failures', failures, 'abe-at', at, 'abe-id', message }
    if #entry[2] > 2000 then
        -- Of no message of ours, and more than a call of a command takes.
        entry[2] = { 'data', cmsgpack.pack(entry[2]) }
    end
    for at = 1, #entry[2], 2 do
        local field = entry[2][at]
        if string.sub(field, 1, 4) ~= 'abe-' then
            table.insert(fields, field)
            table.insert(fields, entry[2][at + 1])
        end
    end
    local stored = redis.pcall('XADD', dead, '*', unpack(fields))
    if type(stored) == 'table' and stored.err then return stored.err end
    local older = redis.call('HGET', ids, place)
    if older then redis.call('XDEL', dead, older) end
    redis.call('HSET', ids, place, stored)
end

local function settle(id, token, verdict, delay, failures, at, message)
    local attempts, holder, line, before = read_note(k, id)
    if holder ~= token then return 0 end
    if verdict == 'D' then
        local refused = bury(id, attempts, failures, at, message)
        if refused then return refused end
    end
    if verdict == 'A' or verdict == 'D' then
        forget(k, id, line, now)
        return 1
    end
    if verdict == 'L' then attempts = attempts - 1 end
    if verdict == 'R' then before = failures end
    redis.call('XACK', k.q, 'abe', id)
    redis.call('ZREM', k.lease, id)
    write_note(k, id, attempts, '-', line, before)
    local due = place_of(id, now)
    if delay > 0 then due = now + delay + 1 end
    redis.call('ZADD', k.due, num(due), id)
    return 1
end

local at = 4
for each = 1, tonumber(ARGV[3]) do
    outcomes[each] = settle(ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]), ARGV[at + 4], ARGV[at + 5], ARGV[at + 6])
    at = at + 7
end
local total, leased, delayed = counts(k, now)
redis.pcall('PUBLISH', prefix .. ':more', name)
return { outcomes, num(now), total, leased, delayed }
