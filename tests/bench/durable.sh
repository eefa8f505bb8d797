#!/usr/bin/env bash
# Prints every durable row with its budget, and at the end the budgets alone: holds, or MISSED.
#
#   tests/bench/durable.sh
#
# About eleven minutes once it is built. PostgreSQL's rows start servers of their own and are left out where none is installed.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=$(mktemp)
trap 'rm -f "$out"' EXIT
for bench in sqlite postgres latency; do
    cargo bench --locked -p abe-events --features sqlite,postgres --bench "$bench" | tee -a "$out"
done
(cd tests/peers && cargo run --locked --release --bin durable) | tee -a "$out"
echo
echo "budgets"
grep -E '^P[0-9]+ ' "$out"
