# Shared by the scripts in ops/: finds Python, makes virtual environments from the locks. Source it, do not run it.
#
#   source "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
#   make_venv "$ROOT/.venv-demo" "$ROOT/ops/requirements/run.txt"
#   "$VENV/bin/custody" --help
#
# Sets ROOT (the top of the tree). make_venv sets VENV (absolute). Needs bash; runs as root and as an ordinary user.
# shellcheck shell=bash

ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"

# heading TEXT: announces a step, on stdout.
heading() {
    printf '== %s\n' "$*"
}

# die TEXT: one line on stderr, exit code 1.
die() {
    printf '%s: %s\n' "$(basename -- "$0")" "$*" >&2
    exit 1
}

# find_python: sets PYTHON to an interpreter >= 3.11 that can make virtual environments.
find_python() {
    local name found=""
    for name in python3 python3.13 python3.12 python3.11; do
        # A name on PATH may be a shim of a version that is not installed: run it before believing it.
        "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        found="$name"
        if "$name" -c 'import ensurepip, venv' 2>/dev/null; then
            PYTHON="$name"
            return
        fi
    done
    [ -z "$found" ] || die "$found cannot make virtual environments; install it: apt-get install python3-venv"
    die "Python 3.11 or newer is needed; install it: apt-get install python3 python3-venv"
}

# make_venv DIR LOCK [OPTION..]: a virtual environment in DIR with exactly what LOCK pins, by hash, and this project,
# editable. The options are pip's, for the lock. Does nothing when DIR was made from the same lock, project file,
# interpreter and tree before. Sets VENV.
make_venv() {
    local dir="$1" lock="$2"
    shift 2
    find_python
    mkdir -p -- "$dir" 2>/dev/null || die "$dir cannot be made; name another place in CUSTODY_VENV"
    dir="$(cd -- "$dir" && pwd -P)"
    [ -w "$dir" ] || die "$dir is not writable; name another place in CUSTODY_VENV"
    VENV="$dir"
    # Two runs in one tree take turns to fill it. The lock is let go on return: children must not hold it.
    fill_venv "$dir" "$lock" "$@" 9<"$dir"
}

# fill_venv DIR LOCK [OPTION..]: the part of make_venv that one run at a time does, with DIR open as descriptor 9 to
# lock it.
fill_venv() {
    local dir="$1" lock="$2" locked project
    shift 2
    if command -v flock >/dev/null; then flock 9; fi
    # Two stamps: a changed lock or interpreter makes the environment anew, a changed pyproject.toml only installs the
    # project again. Each is written last, so that an interrupted run starts over.
    locked="$(fingerprint "$lock")"
    project="$(fingerprint "$ROOT/pyproject.toml")"
    if [ "$(cat -- "$dir/custody.lock" 2>/dev/null)" != "$locked" ] || ! "$dir/bin/python" -c '' 2>/dev/null; then
        # Whatever else lies there is not ours to clear.
        if [ -n "$(ls -A -- "$dir")" ] && [ ! -f "$dir/pyvenv.cfg" ]; then
            die "$dir is neither empty nor a virtual environment; name another place in CUSTODY_VENV"
        fi
        heading "virtual environment ($("$PYTHON" --version), ${lock##*/})"
        "$PYTHON" -m venv --clear "$dir"
        "$dir/bin/python" -m pip install -qq --disable-pip-version-check --no-input --require-hashes "$@" -r "$lock"
        printf '%s\n' "$locked" >"$dir/custody.lock"
    fi
    if [ "$(cat -- "$dir/custody.project" 2>/dev/null)" != "$project" ]; then
        # The build backend is in the lock, so nothing unpinned is fetched here.
        "$dir/bin/python" -m pip install -qq --disable-pip-version-check --no-input --no-index --no-deps \
            --no-build-isolation -e "$ROOT"
        printf '%s\n' "$project" >"$dir/custody.project"
    fi
}

# fingerprint FILE: of the file, the interpreter and the place of the tree.
fingerprint() {
    "$PYTHON" - "$1" "$ROOT" <<'PY'
import hashlib, pathlib, sys
seen = [sys.version, sys.base_prefix, sys.argv[2], hashlib.sha256(pathlib.Path(sys.argv[1]).read_bytes()).hexdigest()]
print(hashlib.sha256("\n".join(seen).encode()).hexdigest())
PY
}
