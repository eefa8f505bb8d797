-- Takes dead letters away, or hands them back. ARGV: prefix, `purge` or `replay`, the letters' entries.
local dead, ids, count = prefix .. ':dead', prefix .. ':dead:ids', 0
for at = 3, #ARGV do
    local entry = redis.call('XRANGE', dead, ARGV[at], ARGV[at])[1]
    if entry then
        local name, message = field(entry[2], 'abe-subscription'), field(entry[2], 'abe-id')
        if ARGV[2] == 'replay' then
            if redis.call('HEXISTS', KEYS[1], name) == 0 then return { count, name } end
            local fields = { 'abe-id', message }
            for each = 1, #entry[2], 2 do
                local field = entry[2][each]
                if string.sub(field, 1, 4) ~= 'abe-' then
                    table.insert(fields, field)
                    table.insert(fields, entry[2][each + 1])
                end
            end
            redis.call('XADD', prefix .. ':q:' .. name, '*', unpack(fields))
            redis.pcall('PUBLISH', prefix .. ':more', name)
        end
        redis.call('XDEL', dead, ARGV[at])
        redis.call('HDEL', ids, name .. ' ' .. message)
        count = count + 1
    end
end
return { count, '' }
