-- Renews leases of those who hold the token. ARGV: prefix, subscription, lease in us, count; of each: entry, token.
local now, k, kept = now_us(), keys_of(ARGV[2]), {}
for each = 1, tonumber(ARGV[4]) do
    local id, token = ARGV[3 + each * 2], ARGV[4 + each * 2]
    local _, holder = read_note(k, id)
    kept[each] = 0
    if holder == token then
        redis.call('ZADD', k.lease, 'XX', num(now + tonumber(ARGV[3])), id)
        kept[each] = 1
    end
end
return kept
