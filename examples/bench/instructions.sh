#!/bin/sh
# Instructions per message, by callgrind: what our code costs, without the scheduler and the neighbours.
# Run twice, with n and with 2n messages: what is done once cancels out.
set -eu
cd "$(dirname "$0")/../.."
command -v valgrind >/dev/null || { echo "valgrind is not installed; nothing counted"; exit 0; }
cargo build --release --quiet --example bench
bench="${CARGO_TARGET_DIR:-target}/release/examples/bench"
count() { # row, contestant, messages
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$bench" one "$1" "$2" "$3" 2>&1 | sed -n 's/.*Collected : //p'
}
printf '%-12s %-44s %s\n' row contestant 'instructions per message'
while IFS='|' read -r row contestant; do
    once=$(count "$row" "$contestant" 20000)
    twice=$(count "$row" "$contestant" 40000)
    printf '%-12s %-44s %s\n' "$row" "$contestant" $(((twice - once) / 20000))
done <<ROWS
shared-1|tokio mpsc(1024) loop, no protection
shared-1|loop + guard, timeout, 5 attempts, metrics
shared-1|abe-events
json|from_slice + call in one loop, no queue
json|mpsc(1024) of bytes, from_slice + call
json|abe-events
ROWS
