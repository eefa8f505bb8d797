-- Hands out what may be: first what comes again, then what is new; under a lease, and with its attempt counted.
-- ARGV: prefix, subscription, how many, how many bytes, lease in us, token, whether ordered.
local name, left, room, lease, token, ordered =
    ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], ARGV[7] == '1'
if redis.call('HEXISTS', KEYS[1], name) == 0 then return { 'gone' } end
local now, k = now_us(), keys_of(name)
local found, lost, seen = {}, 0, 0

local function give(id, fields, attempts, line, failures)
    write_note(k, id, attempts, token, line, failures)
    redis.call('ZADD', k.lease, num(now + lease), id)
    table.insert(found, { id, attempts, failures, fields })
    left = left - 1
    for _, text in ipairs(fields) do room = room - #text end
end

-- What fell due, or was not settled in time.
local function again(id)
    local attempts, _, line, failures = read_note(k, id)
    local entry = redis.call('XRANGE', k.q, id, id)[1]
    if not entry then
        lost = lost + 1
        return forget(k, id, line, now)
    end
    redis.call('ZREM', k.due, id)
    redis.call('ZREM', k.lease, id)
    if ordered and line == '-' then line = line_of(entry[2]) end
    if not is_first(k, line, id) then
        redis.call('XACK', k.q, 'abe', id)
        return stand_in_line(k, line, id, attempts, failures)
    end
    redis.pcall('XCLAIM', k.q, 'abe', 'abe', 0, id, 'FORCE', 'RETRYCOUNT', attempts + 1, 'JUSTID')
    give(id, entry[2], attempts + 1, line, failures)
end

for _, key in ipairs({ k.due, k.lease }) do
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', num(now), 'LIMIT', 0, math.max(left, 0))) do
        if left > 0 and room > 0 then again(id) end
    end
end

while left > 0 and room > 0 and seen < 1000 do
    local read = redis.pcall('XREADGROUP', 'GROUP', 'abe', 'abe', 'COUNT', math.min(left, 16), 'STREAMS', k.q, '>')
    if not read then break end
    if read.err then
        -- The stream or its group was removed.
        if #found == 0 then return { 'gone' } end
        break
    end
    for _, entry in ipairs(read[1][2]) do
        local id, fields = entry[1], entry[2]
        seen = seen + 1
        local due = tonumber(field(fields, 'abe-due') or 0) or 0
        if redis.call('HEXISTS', k.note, id) == 1 then
            -- Known: the group was removed, and made again from the first entry on.
            if not redis.call('ZSCORE', k.lease, id) then redis.call('XACK', k.q, 'abe', id) end
        elseif due > now then
            redis.call('XACK', k.q, 'abe', id)
            redis.call('ZADD', k.due, num(due), id)
            write_note(k, id, 0, '-', '-', '')
        else
            local line = ordered and line_of(fields) or '-'
            if is_first(k, line, id) then
                give(id, fields, 1, line, '')
            else
                redis.call('XACK', k.q, 'abe', id)
                stand_in_line(k, line, id, 0, '')
            end
        end
    end
end

local next
for _, key in ipairs({ k.due, k.lease }) do
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
    if first and (not next or tonumber(first) < next) then next = tonumber(first) end
end
local total, leased, delayed = counts(k, now)
local wait = -1
if next then wait = math.max(next - now, 0) end
if seen >= 1000 then wait = 0 end
return { found, num(now), total, leased, delayed, num(wait), lost }
