#!/bin/sh
# A small job shaped like a build: short steps, two heavy ones side by side, and a process that outlives its parent.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The orphan: its parent, the subshell, ends at once; it goes on by itself for a second or two.
(head -c 600000000 /dev/zero | sha256sum >"$work/orphan.sum" &)

# Short steps, one after the other, as a compiler is called for every file.
i=0
while [ "$i" -lt 40 ]; do
    seq 1 2000 | sort -n >"$work/part.$i"
    i=$((i + 1))
done

# Two heavy steps at the same time; one holds some memory and writes a file.
seq 1 5000000 | sort -r >"$work/sorted" &
sorter=$!
seq 1 14000000 | gzip -6 >"$work/packed.gz" &
packer=$!
wait "$sorter"
wait "$packer"

cat "$work"/part.* | cksum
