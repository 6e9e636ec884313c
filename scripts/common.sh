# shellcheck shell=bash
# What ./quickstart, ./test and .ci/run share. Sourced, never run. The caller has `set -euo pipefail`, has changed
# to the top of the checkout, and has set ME to what a person types to run it again.
#
# Debian or Ubuntu; every function that installs or starts something is quiet when there is nothing to do.

PATH=$PATH:/usr/sbin:/sbin # dockerd lives there, and a plain user's PATH has neither
export PATH

ENGINE_PID_FILE=/run/swarmhpc-dockerd.pid         # the dockerd started by hand, where no init system does it
ENGINE_LOG=/var/log/swarmhpc-dockerd.log          # its output
PACKAGE_RECORD=/var/lib/swarmhpc-setup-packages   # what apt was asked to install, for --undo
ENGINE_WAIT_S=60
APT_LOCK_WAIT_S=300
MIN_FREE_KIB=$((5 * 1024 * 1024))

PYTHON=      # a Python 3.11 or newer, once find_python succeeded
MISSING=()   # packages to install, once missing_packages ran
PROBLEMS=()  # why nothing can be installed, once preflight ran: pairs of message and hint
ENGINE_PID=  # the dockerd that this process started by hand
LOG=         # where apt's and pip's output goes, once open_log ran

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    DIM=$'\e[2m' BOLD=$'\e[1m' PLAIN=$'\e[0m'
else
    DIM='' BOLD='' PLAIN=''
fi

# One progress line, with the time since the start.
say() { printf '%s[%3d s]%s %s\n' "$DIM" "$SECONDS" "$PLAIN" "$*"; }

# fail MESSAGE HINT: MESSAGE names the thing, what was seen and what was wanted; HINT is the next command.
fail() {
    printf '%serror:%s %s\n' "$BOLD" "$PLAIN" "$1" >&2
    [ -z "${2:-}" ] || printf '  next: %s\n' "$2" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

is_root() { [ "$(id -u)" -eq 0 ]; }

# ------------------------------------------------------------------------------------------------ the log

open_log() {
    [ -z "$LOG" ] || return 0
    if is_root && [ -w /var/log ]; then
        LOG=/var/log/swarmhpc-setup.log
        : >"$LOG"
    else
        LOG=$(mktemp "${TMPDIR:-/tmp}/swarmhpc-setup.XXXXXX.log")
    fi
}

# Run a command with its output in the log only.
logged() {
    open_log
    printf '+ %s\n' "$*" >>"$LOG"
    "$@" >>"$LOG" 2>&1 </dev/null
}

# last_output LOG: what the last command in it printed.
last_output() { awk '/^\+ / { text = "" } { text = text $0 "\n" } END { printf "%s", text }' "$1"; }

# fail_with_log MESSAGE HINT [FILE]: the last lines of FILE (the log) first, then as fail does.
fail_with_log() {
    local file=${3:-$LOG}
    printf -- '--- last lines of %s\n' "$file" >&2
    tail -n 15 "$file" >&2 || true
    printf -- '---\n' >&2
    fail "$1 (all of it: $file)" "$2"
}

# ------------------------------------------------------------------------------------------------ what is here

# is_debian_family [OS_RELEASE]: Debian, Ubuntu, or something made from them.
is_debian_family() {
    [ -r "${1:-/etc/os-release}" ] && grep -Eq '^ID(_LIKE)?=.*(debian|ubuntu)' "${1:-/etc/os-release}"
}

os_name() { sed -n 's/^PRETTY_NAME="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' /etc/os-release 2>/dev/null || true; }

find_python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if have "$candidate" && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            PYTHON=$(command -v "$candidate")
            return 0
        fi
    done
    return 1
}

# A client without an engine is common (`docker --version` answers, nothing else does), so ask the engine itself.
engine_answers() { have docker && timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# Fills MISSING with what ./.venv needs, and PYTHON.
missing_python_packages() {
    MISSING=()
    if find_python; then
        # Debian takes ensurepip out of python3 and puts it into python3.N-venv.
        "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
            MISSING+=("$("$PYTHON" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')")
    elif ! have python3; then
        MISSING+=(python3 python3-venv)
    fi
    [ -s /etc/ssl/certs/ca-certificates.crt ] || MISSING+=(ca-certificates)
}

# Fills MISSING with everything. Packages are asked for by what they bring, so that docker-ce, or a Python of one's
# own, is left alone.
missing_packages() {
    missing_python_packages
    if ! engine_answers; then
        if ! have dockerd; then
            MISSING+=(docker.io)
            have iptables || MISSING+=(iptables)
            # A kernel with AppArmor on starts no container without its parser; docker.io only recommends it.
            if grep -qs Y /sys/module/apparmor/parameters/enabled && ! have apparmor_parser; then
                MISSING+=(apparmor)
            fi
        elif ! have docker; then
            MISSING+=(docker-cli)
        fi
    fi
    # `swarmhpc up` makes the base image with these where no registry answers.
    have mmdebstrap || MISSING+=(mmdebstrap)
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || MISSING+=(debian-archive-keyring)
}

# Fills MISSING with what tests/lab takes from this machine; the machines' own packages are the lab's affair.
missing_lab_packages() {
    missing_python_packages
    have mmdebstrap || MISSING+=(mmdebstrap)
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || MISSING+=(debian-archive-keyring)
    have mkfs.ext4 || MISSING+=(e2fsprogs)
    have ssh || MISSING+=(openssh-client)
    have ip || MISSING+=(iproute2)
    have iptables || MISSING+=(iptables)
    # A few lines of C stand between the machines' kernel and this one (tests/lab/xstate.c).
    have gcc || MISSING+=(gcc)
    [ -e /usr/include/stdint.h ] || MISSING+=(libc6-dev)
}

# free_kib DIRECTORY: free space where DIRECTORY is, or will be.
free_kib() {
    local dir=$1
    until [ -d "$dir" ]; do dir=$(dirname "$dir"); done
    df -Pk "$dir" | awk 'NR == 2 { print $4 }'
}

# Fills PROBLEMS: everything known beforehand that would stop the installation. Run missing_packages first.
preflight() {
    PROBLEMS=()
    local dir kib
    if ! is_root; then
        PROBLEMS+=("this user is $(id -un), and installing packages and starting an engine need root" "sudo $ME")
    fi
    if [ "${#MISSING[@]}" -gt 0 ] && { ! is_debian_family || ! have apt-get; }; then
        PROBLEMS+=("this is $(os_name), and only Debian's and Ubuntu's packages are known here"
            "install by your system's means what these packages bring, then run $ME again: ${MISSING[*]}")
    fi
    if [ -z "$PYTHON" ] && have python3; then
        PROBLEMS+=("Python 3.11 or newer is wanted, and python3 is $(python3 -V 2>&1)"
            "use Debian 12 or Ubuntu 24.04 or newer, or put a python3.11 on the PATH")
    fi
    for dir in /var/lib/docker "$PWD"; do
        kib=$(free_kib "$dir")
        if [ "$kib" -lt "$MIN_FREE_KIB" ]; then
            PROBLEMS+=("$dir has $((kib / 1024)) MiB free, and 5120 MiB are wanted for images and packages"
                "make room on that disk (apt-get clean; docker system df shows what images take), then $ME")
            break
        fi
    done
}

# Prints PROBLEMS, each with its hint.
print_problems() {
    local i
    for ((i = 0; i < ${#PROBLEMS[@]}; i += 2)); do
        printf '%serror:%s %s\n  next: %s\n' "$BOLD" "$PLAIN" "${PROBLEMS[i]}" "${PROBLEMS[i + 1]}"
    done
}

# Ends the run when preflight found something.
stop_on_problems() {
    [ "${#PROBLEMS[@]}" -eq 0 ] || { print_problems >&2; exit 1; }
}

# ------------------------------------------------------------------------------------------------ apt

# apt_get ARGS…: apt-get without questions, waiting for another apt or dpkg, with what SWARMHPC_APT_OPTIONS adds.
apt_get() {
    local option options=()
    for option in ${SWARMHPC_APT_OPTIONS:-}; do options+=(-o "$option"); done
    logged env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -y \
        -o "DPkg::Lock::Timeout=$APT_LOCK_WAIT_S" -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold \
        "${options[@]}" "$@"
}

# `update` takes a lock that DPkg::Lock::Timeout does not cover, so it is asked again while another apt holds it.
apt_update() {
    local deadline=$((SECONDS + APT_LOCK_WAIT_S)) told=
    while :; do
        if apt_get update; then return 0; fi
        last_output "$LOG" | grep -q 'Could not get lock' || return 1
        [ "$SECONDS" -lt "$deadline" ] || return 1
        [ -n "$told" ] || say "packages: another apt is at work; waiting for it, at most $APT_LOCK_WAIT_S s"
        told=yes
        sleep 3
    done
}

# why_apt_failed LOG: one word for what apt's output says: lock, stale, clock, disk, network, unknown-package, other.
why_apt_failed() {
    # A lock counts only when the last command met it: `update` is asked again until it gets it.
    if last_output "$1" | grep -Eq 'Could not get lock|Unable to acquire the dpkg'; then
        echo lock
    elif grep -Eq 'Release file for .* is expired' "$1"; then
        echo stale
    elif grep -Eq 'Release file for .* is not valid yet' "$1"; then
        echo clock
    elif grep -Eq 'No space left on device|enough free space' "$1"; then
        echo disk
    elif grep -Eq 'Could not resolve|Temporary failure resolving|Network is unreachable|Could not connect|Unable to connect|[Cc]onnection timed out|No route to host' "$1"; then
        echo network
    elif grep -Eq 'Unable to locate package|has no installation candidate' "$1"; then
        echo unknown-package
    else
        echo other
    fi
}

explain_apt_failure() {
    case $(why_apt_failed "$LOG") in
        lock) fail_with_log "another apt or dpkg has held its lock for $APT_LOCK_WAIT_S s" \
            "wait for it to end (ps -C apt,apt-get,dpkg,unattended-upgr), then $ME" ;;
        stale) fail_with_log "apt refuses a package list: its Release file is past the date until which the mirror vouches for it. The mirror is no longer renewed (packages from it may lack security fixes), or this machine's clock, $(date -u '+%F %T') UTC, is wrong" \
            "mend the clock or choose another mirror; or accept this one: SWARMHPC_APT_OPTIONS='Acquire::Check-Valid-Until=false' $ME" ;;
        clock) fail_with_log "apt refuses a package list that is dated after this machine's clock, $(date -u '+%F %T') UTC" \
            "set the clock (date -s, timedatectl), then $ME" ;;
        disk) fail_with_log "apt found no room on the disk" "apt-get clean; df -h; then $ME" ;;
        network) fail_with_log "apt cannot reach its mirrors: no network, or no DNS" \
            "see that 'apt-get update' works (a proxy? /etc/resolv.conf?), then $ME" ;;
        unknown-package) fail_with_log "apt does not know one of: ${MISSING[*]}" \
            "see that /etc/apt names the distribution's main (Ubuntu: universe) repository, then $ME" ;;
        *) fail_with_log "apt failed" \
            "mend what the lines above say (often: dpkg --configure -a; apt-get -f install), then $ME" ;;
    esac
}

install_missing() {
    [ "${#MISSING[@]}" -gt 0 ] || return 0
    local wanted=("${MISSING[@]}")
    open_log
    say "packages: installing ${wanted[*]} (output: $LOG)"
    if ! apt_update; then
        case $(why_apt_failed "$LOG") in
            # A foreign repository that is broken need not stop us: the installation tells.
            other) say "packages: apt-get update complained; going on with the lists it has" ;;
            *) explain_apt_failure ;;
        esac
    fi
    apt_get install --no-install-recommends "${wanted[@]}" || explain_apt_failure
    # Where the client is a package of its own (Debian 13 on), docker.io alone does not bring `docker`.
    if [[ " ${wanted[*]} " == *" docker.io "* ]] && ! have docker; then
        wanted+=(docker-cli)
        apt_get install --no-install-recommends docker-cli || explain_apt_failure
    fi
    printf '%s\n' "${wanted[@]}" >>"$PACKAGE_RECORD"
    say "packages: ${wanted[*]} installed"
    find_python || fail "Python 3.11 or newer is wanted, and the distribution's is $(python3 -V 2>&1)" \
        "use Debian 12 or Ubuntu 24.04 or newer, or put a python3.11 on the PATH"
}

# ------------------------------------------------------------------------------------------------ the engine

# is_dockerd PID: that process lives and is a dockerd (after a crash a pid may have gone to something else).
is_dockerd() { [ -n "$1" ] && [ "$(cat "/proc/$1/comm" 2>/dev/null)" = dockerd ]; }

# A crash leaves files that keep the next dockerd from starting: its pid files, and a containerd socket that
# dockerd takes for a running containerd because it is there.
clear_stale_engine_files() {
    local file
    for file in /var/run/docker.pid /var/run/docker/containerd/containerd.pid; do
        [ -e "$file" ] || continue
        case $(cat "/proc/$(cat "$file")/comm" 2>/dev/null) in
            dockerd | containerd) ;;
            *) rm -f "$file" ;;
        esac
    done
    file=/run/containerd/containerd.sock
    if [ -S "$file" ] && [ -n "$PYTHON" ] && ! "$PYTHON" -c 'import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])' \
        "$file" 2>/dev/null; then
        rm -f "$file"
    fi
}

# explain_engine_failure LOG WHAT
explain_engine_failure() {
    local hint="mend what the lines above say, then $ME"
    if [ -d /run/systemd/system ]; then journalctl -u docker -n 30 --no-pager >>"$1" 2>&1 || true; fi
    if grep -Eiq 'iptables.*(fail|error|not found)' "$1" && have iptables-legacy; then
        hint="if it is iptables: update-alternatives --set iptables /usr/sbin/iptables-legacy; then $ME"
    fi
    fail_with_log "the Docker engine did not answer \`docker version\` ($2)" "$hint" "$1"
}

# wait_for_engine LOG [PID]: until it answers; fails when PID ends before, or after ENGINE_WAIT_S.
wait_for_engine() {
    local deadline=$((SECONDS + ENGINE_WAIT_S))
    until engine_answers; do
        [ -z "${2:-}" ] || kill -0 "$2" 2>/dev/null || { rm -f "$ENGINE_PID_FILE"; explain_engine_failure "$1" "dockerd ended"; }
        [ "$SECONDS" -lt "$deadline" ] || explain_engine_failure "$1" "waited $ENGINE_WAIT_S s"
        sleep 0.5
    done
}

start_engine() {
    local pid
    if engine_answers; then return 0; fi
    [ -z "${DOCKER_HOST:-}" ] ||
        fail "DOCKER_HOST is $DOCKER_HOST, and no engine answers there" "unset DOCKER_HOST, or start that engine; then $ME"
    open_log
    if [ -d /run/systemd/system ]; then
        say "engine: starting docker.service"
        if ! logged systemctl enable --now docker; then
            logged journalctl -u docker -n 30 --no-pager || true
            fail_with_log "docker.service did not start" "systemctl status docker; mend that, then $ME"
        fi
        wait_for_engine "$LOG"
    else
        pid=$(cat /var/run/docker.pid 2>/dev/null || true)
        if is_dockerd "$pid"; then
            say "engine: dockerd (process $pid) is there and does not answer yet"
            [ -e "$ENGINE_LOG" ] || printf 'dockerd %s was started by somebody else\n' "$pid" >>"$LOG"
            if [ -e "$ENGINE_LOG" ]; then wait_for_engine "$ENGINE_LOG" "$pid"; else wait_for_engine "$LOG" "$pid"; fi
        else
            clear_stale_engine_files
            say "engine: no init system starts it, so dockerd is started here (output: $ENGINE_LOG; end it with: kill \$(cat $ENGINE_PID_FILE))"
            # A group and session of its own: Ctrl-C in this terminal, or its end, must not take the pool away.
            setsid nohup dockerd >"$ENGINE_LOG" 2>&1 </dev/null &
            ENGINE_PID=$!
            echo "$ENGINE_PID" >"$ENGINE_PID_FILE"
            wait_for_engine "$ENGINE_LOG" "$ENGINE_PID"
        fi
    fi
    say "engine: $(docker version --format '{{.Server.Version}}') answers"
}

# Ends the dockerd that this very process started by hand, and no other.
stop_started_engine() {
    local deadline=$((SECONDS + ENGINE_WAIT_S))
    [ -n "$ENGINE_PID" ] || return 0
    if is_dockerd "$ENGINE_PID"; then
        kill "$ENGINE_PID"
        while is_dockerd "$ENGINE_PID" && [ "$SECONDS" -lt "$deadline" ]; do sleep 0.5; done
        if is_dockerd "$ENGINE_PID"; then kill -KILL "$ENGINE_PID"; fi
    fi
    rm -f "$ENGINE_PID_FILE"
    ENGINE_PID=
}

# ------------------------------------------------------------------------------------------------ ./.venv

venv_stamp() { { pwd; "$PYTHON" -V; cat "$1" pyproject.toml; } | sha256sum | cut -d ' ' -f 1; }

# venv_is_ready LOCK: .venv was made from LOCK, or from the development lock, which holds all of the other.
venv_is_ready() {
    local seen
    seen=$(cat .venv/.swarmhpc-stamp 2>/dev/null) || return 1
    .venv/bin/python -c '' 2>/dev/null || return 1
    [ "$seen" = "$(venv_stamp "$1")" ] || [ "$seen" = "$(venv_stamp requirements-dev.lock)" ]
}

explain_pip_failure() {
    if last_output "$LOG" | grep -Eq 'Temporary failure in name resolution|NewConnectionError|ConnectTimeout|Network is unreachable|ProxyError'; then
        fail_with_log "pip cannot reach the package index: no network, or no DNS" "see that '.venv/bin/pip download pip' works, then $ME"
    elif last_output "$LOG" | grep -q 'DO NOT MATCH THE HASHES'; then
        fail_with_log "pip was served a file that differs from the one named in $1" "try another index (pip config list); do not go on with this one"
    elif last_output "$LOG" | grep -q 'No space left on device'; then
        fail_with_log "pip found no room on the disk" "df -h . ; then $ME"
    fi
    fail_with_log "pip could not install $1" "mend what the lines above say, then $ME"
}

# ensure_venv LOCK: ./.venv holds exactly LOCK and this checkout; made anew when either changed.
ensure_venv() {
    if venv_is_ready "$1"; then return 0; fi
    open_log
    say "python: installing $1 into ./.venv (output: $LOG)"
    logged "$PYTHON" -m venv --clear .venv || fail_with_log "$PYTHON cannot make a virtual environment" "apt-get install python3-venv; then $ME"
    logged .venv/bin/python -m pip install --disable-pip-version-check --require-hashes --only-binary :all: -r "$1" ||
        explain_pip_failure "$1"
    # The build back end is in the lock: no isolation, so nothing is fetched here that has no hash.
    logged .venv/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e . ||
        explain_pip_failure "this checkout"
    venv_stamp "$1" >.venv/.swarmhpc-stamp
    say "python: ./.venv is ready ($(.venv/bin/python -V))"
}
