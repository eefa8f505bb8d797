-- Makes sure of a subscription. ARGV: prefix, subscription, its record, whether ordered.
local name, record, ordered = ARGV[2], ARGV[3], ARGV[4] == '1'
local now, k = now_us(), keys_of(ARGV[2])
local before = redis.call('HGET', KEYS[1], name)
if before and string.sub(before, 1, 1) ~= string.sub(record, 1, 1) then
    if redis.call('ZCOUNT', k.lease, '(' .. num(now), '+inf') > 0 then return { 'in use' } end
    if ordered then
        -- What has begun without order stands in lines from now on.
        local begun = redis.call('ZRANGE', k.due, 0, -1)
        for _, id in ipairs(redis.call('ZRANGE', k.lease, 0, -1)) do table.insert(begun, id) end
        table.sort(begun, function(a, b) return place_of(a, math.huge) < place_of(b, math.huge) end)
        for _, id in ipairs(begun) do
            local entry = redis.call('XRANGE', k.q, id, id)[1]
            local attempts, _, line, failures = read_note(k, id)
            if entry and line == '-' then
                line = line_of(entry[2])
                if is_first(k, line, id) then
                    write_note(k, id, attempts, '-', line, failures)
                else
                    redis.call('ZREM', k.due, id)
                    redis.call('ZREM', k.lease, id)
                    redis.call('XACK', k.q, 'abe', id)
                    stand_in_line(k, line, id, attempts, failures)
                end
            end
        end
    end
end
redis.call('HSET', KEYS[1], name, record)
local made = redis.pcall('XGROUP', 'CREATE', k.q, 'abe', '0', 'MKSTREAM')
if type(made) == 'table' and made.err and not string.find(made.err, 'BUSYGROUP') then return made end
local total, leased, delayed = counts(k, now)
return { 'open', num(now), total, leased, delayed }
