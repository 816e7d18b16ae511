"""What a demo leaves in its directory: ``up`` starts its servers again, ``down`` stops them."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Server", "down", "up"]


@dataclass(frozen=True)
class Server:
    """A server: its command, what its environment needs, and how to tell that it is ready.

    ``port`` is where it listens, for one that does not say "listening" on its standard output. One that takes too long
    to end of itself is killed: ``abrupt``.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    abrupt: bool = False


def up(servers: Iterable[Server]) -> str:
    """Return the script that starts servers one after the other, each as soon as those before it are ready.

    What runs is left running. Where one does not start, the script says what that one said, and its exit code is 1.
    """
    return _HEAD.format(what="Starts the servers of this demo in the background.") + _UP + "".join(map(_start, servers))


def down(servers: Iterable[Server]) -> str:
    """Return the script that stops servers in this order, and waits for each."""
    stops = "".join(f"stop {server.name} {'KILL' if server.abrupt else 'TERM'}\n" for server in servers)
    return _HEAD.format(what="Stops the servers of this demo.") + _DOWN + stops


def _start(server: Server) -> str:
    setting = [f"{name}={value}" for name, value in server.environment.items()]
    return f"start {server.name} {server.port} {shlex.join(['env', *setting, *server.command])}\n"


# A number in a .pid file may be another process's by now: ours are those that run in this directory.
_HEAD: Final = """\
#!/usr/bin/env bash
# {what}
set -euo pipefail
cd -P -- "$(dirname -- "${{BASH_SOURCE[0]}}")"

runs() {{
    [ -f "$1.pid" ] && [ "$(readlink "/proc/$(cat "$1.pid")/cwd")" = "$PWD" ]
}}

"""

_UP: Final = """\
ready() {
    if [ "$2" = 0 ]; then grep -q listening "$1.out"; else (: <"/dev/tcp/127.0.0.1/$2") 2>/dev/null; fi
}

start() {
    local name="$1" port="$2" before
    shift 2
    if runs "$name"; then
        echo "the $name runs"
        return
    fi
    : >"$name.out" # what it said last time is no sign that it is ready
    : >>"$name.err"
    before="$(wc -c <"$name.err")"
    "$@" </dev/null >"$name.out" 2>>"$name.err" &
    echo "$!" >"$name.pid"
    for _ in $(seq 300); do
        runs "$name" || break
        if ready "$name" "$port"; then return; fi
        sleep 0.1
    done
    echo "the $name did not start:" >&2
    tail -c "+$((before + 1))" "$name.err" >&2
    exit 1
}

"""

_DOWN: Final = """\
stop() {
    if runs "$1"; then kill -s "$2" "$(cat "$1.pid")" 2>/dev/null || true; fi
    # Whoever starts them again at once needs their ports; and the broker's goodbye needs the witness.
    for _ in $(seq 100); do
        runs "$1" || break
        sleep 0.1
    done
    rm -f "$1.pid"
}

"""
