#!/bin/sh
# Proves that registration arrives across crates: debug, release, thin and fat LTO, with `link!` and without,
# through linkme and through inventory. Run from anywhere; one target directory for all.
set -eu
cd "$(dirname "$0")"

own='handler app.tick
event tick v1'
all='handler app.tick
handler orders.bill
handler orders.ship
event order.created v1
event order.created v2
event tick v1
link orders'

check() {
    expected=$1
    shift
    echo "cargo run $*"
    printed=$(cargo run --quiet --locked --package app "$@")
    if [ "$printed" != "$expected" ]; then
        printf 'expected:\n%s\nprinted:\n%s\n' "$expected" "$printed" >&2
        exit 1
    fi
}

for profile in dev release release-thin release-fat; do
    check "$all" --profile "$profile" --features link
    # A crate that is never named is not linked: no registry finds it, which is what `link!` is for.
    check "$own" --profile "$profile"
done
check "$all" --features link,bus/registry-inventory
echo "every registration arrived"
