-- Stores messages for every subscription that takes them: all of them, or none.
-- ARGV: prefix, delay in us, count; of each message: topic, count of fields and values, these.

local function is_taken(pattern, topic)
    if pattern == topic then return true end
    if not string.find(pattern, '[*>]') then return false end
    local segments = string.gmatch(topic, '[^.]+')
    for wanted in string.gmatch(pattern, '[^.]+') do
        local segment = segments()
        if not segment then return false end
        if wanted == '>' then return true end
        if wanted ~= '*' and wanted ~= segment then return false end
    end
    return segments() == nil
end

-- A record: whether it is ordered, then the patterns.
local function takes(record, topic)
    for pattern in string.gmatch(string.sub(record, 3), '%S+') do
        if is_taken(pattern, topic) then return true end
    end
    return false
end

local now, delay = now_us(), tonumber(ARGV[2])
local records = redis.call('HGETALL', KEYS[1])
local known, touched, deliveries, at = {}, {}, 0, 4
for _ = 1, tonumber(ARGV[3]) do
    local topic, length = ARGV[at], tonumber(ARGV[at + 1])
    if not known[topic] then
        known[topic] = {}
        for record = 1, #records, 2 do
            if takes(records[record + 1], topic) then table.insert(known[topic], records[record]) end
        end
    end
    local fields = {}
    for each = 1, length do fields[each] = ARGV[at + 1 + each] end
    if delay > 0 then
        table.insert(fields, 'abe-due')
        table.insert(fields, num(now + delay + 1))
    end
    at = at + 2 + length
    for _, name in ipairs(known[topic]) do
        redis.call('XADD', prefix .. ':q:' .. name, '*', unpack(fields))
        touched[name] = true
        deliveries = deliveries + 1
    end
end
local told = {}
for name in pairs(touched) do
    local total, leased, delayed = counts(keys_of(name), now)
    table.insert(told, { name, total, leased, delayed })
    -- Only a hint: whoever may not publish is still served by those who look now and then.
    redis.pcall('PUBLISH', prefix .. ':more', name)
end
return { deliveries, num(now), told }
