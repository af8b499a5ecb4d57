#!/usr/bin/env bash
# All acceptance runs, one after the other: [TIDEGATE=path] scripts/acceptance/all.sh [--quick]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
failed=()
for script in "$here"/[0-9]*.sh; do
    printf '\n-- %s\n' "$(basename "$script")"
    "$script" "$@" || failed+=("$(basename "$script")")
done
if [ "${#failed[@]}" -gt 0 ]; then
    printf '\nfailed: %s\n' "${failed[*]}"
    exit 1
fi
printf '\nall acceptance runs passed\n'
