#!/bin/sh
# Make this machine ready to build and test: Debian packages, the Python environment in .venv, the native modules.
# Does nothing that is already done.  Root (or sudo without a password) is needed only when packages are missing.
#
#   setup.sh           all of it
#   setup.sh --arm64   also what `make arm64` needs
#   setup.sh --check   only say which packages are missing (exit 1 if any)
set -eu
cd "$(dirname "$0")"

# The compiler of the boot program (with the static libpython that python3-dev brings).
packages="python3 python3-dev python3-venv gcc libc6-dev libexpat1-dev zlib1g-dev patchelf binutils file make"
packages="$packages liblzma-dev libbz2-dev"
# The machines, and the packages of Debian suites that go into them.
packages="$packages qemu-system-x86 ovmf mmdebstrap uidmap debian-archive-keyring zstd xz-utils"
# The slim bootstrap kernel.
packages="$packages bc bison flex libelf-dev libssl-dev"
# The EFI file, its disk and its ISO.
packages="$packages mtools fdisk dosfstools xorriso sbsigntool openssl"
# Only the tests: what other programs make of our files, and we of theirs.
packages="$packages cpio lz4 lzop bzip2 btrfs-progs"
# virt-firmware compiles crypt_r, from Python 3.13 on.
packages="$packages libcrypt-dev"
# Only `make arm64`: the cross compiler, machines of that kind, and the emulator in which the build starts the program.
[ "${1:-}" != --arm64 ] || packages="$packages gcc-aarch64-linux-gnu qemu-system-arm qemu-efi-aarch64 qemu-user"

log=build/setup.log
log_started=

say() { echo "setup: $*"; }
die() { echo "setup: error: $*" >&2; exit 1; }

# alone: two of these in one tree would empty each other's .venv.  The lock goes with the process.
alone() {
    mkdir -p build 2>/dev/null && : 2>/dev/null >>"$log" ||
        die "$PWD/build cannot be written by $(id -un): give this tree to yourself (chown -R), or free some room"
    exec 9>>build/.setup.lock
    flock -n 9 || { say "waiting for another setup of this tree"; flock 9; }
}

# reason LOG: why a command failed and what to do, as far as its last lines and the disk tell (venv keeps it to itself).
reason() {
    free=$(df -Pk . | awk 'NR == 2 { print $4 }')
    [ "${free:-99999}" -gt 16384 ] || { echo "there is no room on the disk: free some, then start this again"; return; }
    case $(tail -n 40 "$1") in
        *"No space left on device"* | *"Disk quota exceeded"* | *"enough free space"*)
            echo "there is no room on the disk: free some, then start this again" ;;
        *"Could not get lock"* | *"Unable to lock"*)
            echo "another apt or dpkg is at work: start this again when it is done" ;;
        *"certificate verify failed"* | *"certificate is NOT trusted"* | *CERTIFICATE_VERIFY_FAILED*)
            echo "a certificate of the network's is not trusted here: put its authority's certificate into" \
                "/usr/local/share/ca-certificates, run update-ca-certificates, then start this again" ;;
        *"Failed to fetch"* | *"Could not resolve"* | *"Could not connect"* | *"onnection broken"* | \
            *"Max retries exceeded"* | *"ead timed out"* | *"IncompleteRead"* | *"NewConnectionError"* | \
            *"onnection reset"* | *"No matching distribution"* | *"DO NOT MATCH THE HASHES"*)
            echo "a download failed: check the network and the settings of apt and pip, then start this again" ;;
        *) echo "$1 has it all" ;;
    esac
}

missing() {
    for package in $packages; do
        case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
            installed) ;;
            *) printf '%s ' "$package" ;;
        esac
    done
}

# far: how far the last command in the log is, by apt's, dpkg's and pip's own lines; DONE, TOTAL (0: unknown), what.
far() {
    tr '\r' '\n' <"$log" | awk '
        function megabytes(number, unit) {
            return number * (unit ~ /k/ ? 0.001 : unit ~ /M/ ? 1 : unit ~ /G/ ? 1000 : 0.000001)
        }
        /^\$ / { need = got = packages = ready = collected = fetched = 0 }
        /^Need to get / { split($4, part, "/"); need = megabytes(part[1], part[2] == "" ? $5 : $4) }
        / newly installed/ { packages = $3 }
        /^Get:[0-9]+ .*\[/ { unit = $NF; size = $(NF - 1); sub(/^\[/, "", size); got += megabytes(size, unit) }
        /^Setting up / { ready++ }
        /^(Collecting|Obtaining|Processing) / { collected++ }
        /^ +Downloading .*\([0-9.]+ [kMG]?B\)/ {
            unit = $NF; size = $(NF - 1); sub(/^\(/, "", size); fetched += megabytes(size, unit)
        }
        /^Installing collected packages: / { installing = split($0, part, ", ") }
        END {
            if (ready) print ready, packages, "packages set up"
            else if (got) printf "%.0f %.0f MB fetched\n", got, need
            else if (installing) print installing, 0, "packages are being unpacked"
            else if (collected) printf "%d 0 packages found, %.1f MB fetched\n", collected, fetched
        }'
}

# show WHAT SECONDS: how far it is; on a terminal in place, with a bar where the total is known, else every 20 seconds.
show() {
    wide=0
    if [ -t 1 ]; then
        wide=24
    elif [ $(($2 % 20)) != 0 ]; then
        return 0
    fi
    count=$(far | awk -v wide="$wide" '{
        done = $1; total = $2; $1 = $2 = ""; sub(/^ +/, "")
        if (total && done > total) total = done
        if (total && wide) {
            for (n = 1; n <= wide; n++) bar = bar (n <= wide * done / total ? "#" : ".")
            bar = "[" bar "] "
        }
        print bar done (total ? " of " total : "") " " $0 ", "
    }')
    if [ "$wide" != 0 ]; then
        printf '\r\033[Ksetup: %s: %s%d s' "$1" "$count" "$2"
    else
        say "$1: $count$2 s"
    fi
}

# step WHAT COMMAND...: run a long command with its output in the log, and show how far it is.
step() {
    what=$1
    shift
    say "$what (log: $log) ..."
    start=$(date +%s)
    if [ -z "$log_started" ]; then
        mkdir -p build
        : >"$log"
        log_started=yes
    fi
    echo "$ $*" >>"$log"
    LC_ALL=C.UTF-8 "$@" >>"$log" 2>&1 </dev/null 9>&- &
    pid=$!
    trap 'kill "$pid" 2>/dev/null; exit 130' INT TERM
    beat=0
    while kill -0 "$pid" 2>/dev/null; do
        sleep 1
        beat=$((beat + 1))
        show "$what" "$beat"
    done
    status=0
    wait "$pid" || status=$?
    trap - INT TERM
    [ ! -t 1 ] || printf '\r\033[K'
    if [ "$status" != 0 ]; then
        tail -n 20 "$log" | sed 's/^/    /' >&2
        die "$what failed with status $status: $(reason "$log")"
    fi
    say "$what: done in $(($(date +%s) - start)) s"
}

install_packages() {
    lacking=$(missing)
    lacking=${lacking% }
    [ -n "$lacking" ] || return 0
    say "missing Debian packages: $lacking"
    [ "${1:-}" != --check ] || exit 1
    if [ "$(id -u)" = 0 ]; then
        become=env
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        become="sudo -n env"
    else
        say "install them, then start this again:"
        echo "sudo apt-get install --no-install-recommends $lacking"
        exit 1
    fi
    # Unquoted on purpose: words of a list.
    # shellcheck disable=SC2086
    step "updating apt's lists" $become DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600 update
    # shellcheck disable=SC2086
    step "installing packages" $become DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y -o DPkg::Lock::Timeout=600 --no-install-recommends install $lacking
}

# The distribution's own Python: the boot program is linked with its static library, which others do not have.
python=/usr/bin/python3

make_venv() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$python is too old ($("$python" -V)): Python 3.11 or newer is needed, as Debian 12 and Ubuntu 24.04 have it"
    stamp=$({ "$python" -VV; pwd; cat pyproject.toml; } | sha256sum)
    if [ -x .venv/bin/python ] && [ "$(cat .venv/stamp 2>/dev/null)" = "$stamp" ]; then
        return 0
    fi
    step "making .venv" "$python" -m venv --clear .venv
    # "compat" puts this directory into the environment's path: every package here is importable at once.
    step "installing Python packages into .venv" .venv/bin/python -m pip install --disable-pip-version-check \
        --config-settings editable_mode=compat --editable '.[build,dev]'
    echo "$stamp" >.venv/stamp || die ".venv/stamp cannot be written: free some room, then start this again"
}

command -v dpkg-query >/dev/null || die "this is not a Debian or a relative of it: install what CONTRIBUTING.md lists"
[ "${1:-}" = --check ] || alone
install_packages "${1:-}"
if [ "${1:-}" = --check ]; then
    say "all Debian packages are there"
    exit 0
fi
make_venv
.venv/bin/python build.py native
