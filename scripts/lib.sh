# shellcheck shell=bash
# Functions that the scripts share; sourced, not run.

section_name=""
section_start=0

# section NAME: ends the section before with its time and begins the next one.
section() {
    section_end
    section_name=$1
    section_start=$SECONDS
    printf '\n==> %s\n' "$section_name"
}

section_end() {
    if [ -n "$section_name" ]; then
        printf '<== %s: %d s\n' "$section_name" "$((SECONDS - section_start))"
    fi
    section_name=""
}

# need COMMAND=PACKAGE ...: installs the Debian packages of commands that are missing. Without the right to install it
# says what to install and fails. A package that starts a service when it is installed is kept from it: the ports are
# for the tests' own processes.
need() {
    local pair missing=() sudo=()
    for pair in "$@"; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    if [ "${#missing[@]}" -eq 0 ]; then
        return
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            printf 'missing, install them first: %s\n' "${missing[*]}" >&2
            return 1
        fi
        sudo=(sudo -n)
    fi
    printf 'installing %s\n' "${missing[*]}"
    local policy=/usr/sbin/policy-rc.d ours=no
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
        "${sudo[@]}" chmod +x "$policy"
        ours=yes
    fi
    local status=0
    install_packages "${missing[@]}" || status=$?
    if [ "$ours" = yes ]; then
        "${sudo[@]}" rm -f "$policy"
    fi
    return "$status"
}

# Uses `sudo` of need.
install_packages() {
    local log
    log=$(mktemp)
    # The index is fetched only when the installed one does not do: it is the slow half.
    if ! "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$log" 2>&1; then
        if ! { "${sudo[@]}" apt-get update -qq &&
            "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } >>"$log" 2>&1; then
            cat "$log" >&2
            rm -f "$log"
            return 1
        fi
    fi
    rm -f "$log"
}

# copy_libraries ROOT BINARY ...: the shared libraries of the binaries, at the same paths under ROOT; nothing for static
# ones.
copy_libraries() {
    local root=$1 library
    shift
    for library in $(ldd "$@" 2>/dev/null | grep -o '/[^ ):]*\.so[^ ):]*' | sort -u); do
        # The arguments themselves are named too, as headings.
        case " $* " in *" $library "*) continue ;; esac
        install -D -m 0755 "$(readlink -f "$library")" "$root$library"
    done
}

# build_image TAG DOCKERFILE CONTEXT: without the engine's chatter, unless it fails.
build_image() {
    local log
    log=$(docker build --quiet --tag "$1" --file "$2" "$3" 2>&1) || {
        printf '%s\n' "$log" >&2
        return 1
    }
}

# engine: whether a Docker engine answers. Without one what needs it is skipped, but not in CI, where that would go
# unnoticed.
engine() {
    if docker info >/dev/null 2>&1; then
        return 0
    fi
    if [ "${CI:-}" = true ]; then
        printf 'no Docker engine answers, and CI has to have one\n' >&2
        exit 1
    fi
    printf 'no Docker engine answers: left out\n'
    return 1
}
