"""What doctor asks of a lab's machines: scripts that run there, and their answers as dataclasses. Changes nothing."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from swarmhpc import state

if TYPE_CHECKING:
    from swarmhpc.adapters.remote import Remote

TCP_TIMEOUT_S = 3.0
OPEN, TIMED_OUT, REFUSED = "open", "timeout", "ECONNREFUSED"
CROSSED, LOST, TOO_BIG = "crossed", "lost", "mtu="

# Time services by their systemd units, as ansible/library/swarmhpc_machine.py has them; else by their programs.
_OWN = r"""
PATH=$PATH:/usr/sbin:/sbin
command -v python3 >/dev/null && echo python=yes
if [ -d /run/systemd/system ]; then
  for unit in chrony chronyd ntp ntpd ntpsec openntpd systemd-timesyncd; do echo $unit; done |
    xargs systemctl is-active 2>/dev/null | grep -qx active && echo keeps_time=yes
  timeout 5 timedatectl show -p NTPSynchronized 2>/dev/null | sed -n 's/^NTPSynchronized=/synchronised=/p'
else
  pidof chronyd ntpd ntpsec openntpd systemd-timesyncd >/dev/null && echo keeps_time=yes
fi
free() {
  folder=$2
  while [ ! -e "$folder" ]; do folder=${folder%/*}; [ -n "$folder" ] || folder=/; done
  df -Pk "$folder" | { read -r _; read -r _ _ _ kib _; echo "$1=$kib"; }
}
free engine_kib "$engine_folder"
free jobs_kib "$jobs_folder"
[ -r "/sys/class/net/$device/mtu" ] && echo "mtu=$(cat "/sys/class/net/$device/mtu")"
if [ -d /run/systemd/system ] && systemctl -q is-active firewalld 2>/dev/null; then echo firewall=firewalld
elif grep -qi '^ENABLED=yes' /etc/ufw/ufw.conf 2>/dev/null; then echo firewall=ufw; fi
if [ -n "$swarm" ]; then
  docker network ls -q --filter scope=swarm | xargs -r docker network inspect --format \
    'network={{.Name}}{{range .IPAM.Config}} {{.Subnet}}{{end}}'
fi
if [ -n "$janitor" ]; then
  id=$(docker ps --no-trunc -q --filter "label=com.docker.swarm.service.name=$janitor" | head -n 1)
  [ -n "$id" ] && docker inspect --format \
    "janitor={{.Id}}{{with index .NetworkSettings.Networks \"$overlay\"}} {{.IPAddress}}{{end}}" "$id"
fi
exit 0
"""

# Every connection is begun at once; what the others answer is the name of an error (errno(3)), open or timeout.
_TCP = r"""
import errno, json, selectors, socket, sys, time
targets, timeout_s = json.loads(sys.argv[1])
waiting = selectors.DefaultSelector()
def say(target, code):
    print("tcp", target[0], target[1], "open" if code == 0 else errno.errorcode.get(code, code))
for target in targets:
    s = socket.socket()
    s.setblocking(False)
    code = s.connect_ex(tuple(target))
    if code == errno.EINPROGRESS:
        waiting.register(s, selectors.EVENT_WRITE, target)
    else:
        say(target, code)
end = time.monotonic() + timeout_s
while waiting.get_map() and time.monotonic() < end:
    for key, _ in waiting.select(end - time.monotonic()):
        say(key.data, key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        waiting.unregister(key.fileobj)
for key in waiting.get_map().values():
    print("tcp", key.data[0], key.data[1], "timeout")
"""

# Runs in a container of the pool, for perl-base is in every Debian. A datagram to a port where nobody listens comes
# back as "port unreachable", which the kernel reports as ECONNREFUSED (udp(7)): then packets cross, both ways. The
# kernel there sends few of these a second (icmp_ratelimit, icmp(7)), so a probe is tried again. IP_MTU_DISCOVER (10)
# = IP_PMTUDISC_DO (2) forbids fragments, and IP_MTU (14) is what the kernel knows of the way (ip(7)): the big one
# fills a whole packet of the overlay network, which VXLAN makes 50 bytes longer.
_OVERLAY = r"""
use strict; use warnings; use Socket; use Errno; $| = 1;
my $port = shift; my $tries_s = shift;
sub device_mtu {
  my $to = unpack "L", inet_aton($_[0]); my ($longest, $mtu) = (-1, 0);
  open(my $routes, "<", "/proc/net/route") or return 0;
  while (<$routes>) {
    my @c = split; next unless $c[1] =~ /^[0-9A-F]{8}$/;
    my ($net, $mask) = (hex $c[1], hex $c[7]); my $bits = unpack "%32b*", pack "L", $mask;
    next unless ($to & $mask) == $net && $bits > $longest;
    open(my $file, "<", "/sys/class/net/$c[0]/mtu") or next; ($longest, $mtu) = ($bits, int <$file>);
  }
  return $mtu;
}
sub try {
  my ($socket, $bytes) = @_;
  for (1 .. 3) {
    my $done = defined send($socket, "\0" x $bytes, 0);
    if ($done) {
      my $ready = ""; vec($ready, fileno $socket, 1) = 1;
      next unless select($ready, undef, undef, $tries_s) > 0;
      return "crossed" if defined recv($socket, my $answer, 64, 0);
    }
    return "crossed" if $!{ECONNREFUSED};
    return "mtu=" . unpack "i", getsockopt($socket, 0, 14) if $!{EMSGSIZE};
  }
  return "lost";
}
for my $address (@ARGV) {
  next if fork;
  socket(my $socket, PF_INET, SOCK_DGRAM, 0) or die $!;
  setsockopt($socket, 0, 10, 2); connect($socket, sockaddr_in($port, inet_aton($address))) or die $!;
  my $mtu = device_mtu($address) || unpack "i", getsockopt($socket, 0, 14); $mtu = 9000 if $mtu > 9000;
  my $small = try($socket, 64); my $full = $small eq "crossed" ? try($socket, $mtu - 28) : "lost";
  print "udp $address $mtu $small $full\n"; exit 0;
}
1 while wait != -1;
"""
_CLOSED_PORT = 9  # discard; nothing in the pool's containers listens on UDP
_OVERLAY_TRIES_S = 0.6


@dataclass(frozen=True)
class Own:
    """What a machine says of itself beyond its facts. None: it could not say.

    `clock_error_s`: `clock_skew_s` (its clock minus ours) is good to so many seconds. `mtu`: of the interface with
    the machine's address. `firewall`: ufw, firewalld or nothing known. `networks`: the Swarm's own, by name.
    """

    clock_skew_s: float = 0.0
    clock_error_s: float = 0.0
    has_python: bool = True
    keeps_time: bool = True
    is_synchronised: bool | None = True
    engine_disk_mib: int | None = None
    job_disk_mib: int | None = None
    mtu: int | None = None
    firewall: str = ""
    networks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    janitor: str = ""
    """Container id of the pool's janitor there, and its address on the overlay network."""
    overlay_address: str = ""


@dataclass(frozen=True)
class Crossing:
    """What became of a small and of a full-size packet (`mtu` bytes) of the overlay network.

    crossed, lost, or `mtu=N`: the kernel knows that only N bytes get through.
    """

    mtu: int
    small: str
    full: str


@dataclass(frozen=True)
class Answers:
    """What one machine got when it tried the others. `tcp`: (address, port) to open, timeout or an errno's name.

    `overlay` goes by overlay addresses; `overlay_said`: what came instead of an answer.
    """

    tcp: Mapping[tuple[str, int], str] = field(default_factory=dict)
    overlay: Mapping[str, Crossing] = field(default_factory=dict)
    overlay_said: str = ""


def tcp_command(targets: Sequence[tuple[str, int]], *, timeout_s: float = TCP_TIMEOUT_S) -> list[str]:
    """Tries all `targets` at once; a line `tcp ADDRESS PORT ANSWER` for each."""
    return ["python3", "-c", _TCP, json.dumps([list(targets), timeout_s])]


def overlay_command(
    addresses: Sequence[str], *, port: int = _CLOSED_PORT, tries_s: float = _OVERLAY_TRIES_S
) -> list[str]:
    """Sends packets to all `addresses` at once; a line `udp ADDRESS MTU SMALL FULL` for each."""
    return ["perl", "-e", _OVERLAY, str(port), str(tries_s), *addresses]


def look(remote: Remote, *, pool: str, device: str, engine_folder: str, jobs_folder: str, swarm: bool) -> Own:
    """Asks a machine about itself. `swarm`: it is a node, so it has the pool's networks and perhaps its janitor.

    Raises MachineError.
    """
    before = time.time()
    theirs = remote.run("date +%s.%N", timeout_s=20).stdout.strip().splitlines()
    after = time.time()
    settings = {
        "device": device,
        "engine_folder": engine_folder,
        "jobs_folder": jobs_folder,
        "swarm": "yes" if swarm else "",
        "janitor": f"{pool}_{state.JANITOR}" if swarm else "",
        "overlay": f"{pool}_pool",
    }
    script = "".join(f"{k}={shlex.quote(v)}\n" for k, v in settings.items()) + _OWN
    text = remote.run(script, timeout_s=60).stdout
    middle = (before + after) / 2
    skew_s = float(theirs[-1]) - middle if theirs else 0.0
    return parse_own(text, skew_s=skew_s, error_s=(after - before) / 2)


def parse_own(text: str, *, skew_s: float, error_s: float) -> Own:
    """The script's `key=value` lines."""
    found: dict[str, str] = {}
    networks: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key == "network":
            name, *subnets = value.split()
            networks[name] = tuple(subnets)
        else:
            found[key] = value.strip()

    def number(key: str) -> int | None:
        return int(found[key]) if found.get(key, "").isdigit() else None

    engine_kib, jobs_kib = number("engine_kib"), number("jobs_kib")
    janitor, _, address = found.get("janitor", "").partition(" ")
    said = found.get("synchronised")
    return Own(
        clock_skew_s=skew_s,
        clock_error_s=error_s,
        has_python="python" in found,
        keeps_time="keeps_time" in found,
        is_synchronised=None if said is None else said == "yes",
        engine_disk_mib=None if engine_kib is None else engine_kib // 1024,
        job_disk_mib=None if jobs_kib is None else jobs_kib // 1024,
        mtu=number("mtu"),
        firewall=found.get("firewall", ""),
        networks=networks,
        janitor=janitor,
        overlay_address=address.strip(),
    )


def probe(remote: Remote, own: Own, tcp: Sequence[tuple[str, int]], overlay: Sequence[str]) -> Answers:
    """From this machine to all `tcp` targets, and from its janitor to the `overlay` addresses. Raises MachineError."""
    parts = []
    if tcp and own.has_python:
        parts.append(shlex.join(tcp_command(tcp)) + " &")
    if overlay and own.janitor:
        inside = shlex.join(["docker", "exec", own.janitor, *overlay_command(overlay)])
        parts.append(f"{inside} 2>&1 &")
    if not parts:
        return Answers()
    return parse_answers(remote.run("\n".join([*parts, "wait"]), timeout_s=60).stdout)


def parse_answers(text: str) -> Answers:
    """The probes' lines; others are what an engine said that could not run its probe."""
    tcp: dict[tuple[str, int], str] = {}
    overlay: dict[str, Crossing] = {}
    said = []
    for line in text.splitlines():
        match line.split():
            case ["tcp", address, port, answer]:
                tcp[address, int(port)] = answer
            case ["udp", address, mtu, small, full]:
                overlay[address] = Crossing(int(mtu), small, full)
            case words if words:
                said.append(line.strip())
    return Answers(tcp, overlay, "; ".join(said)[-300:])
