"""The text of a first cluster file, from the names of machines alone: what `swarmhpc init` writes."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from swarmhpc._config_checks import WantedError
from swarmhpc._config_machines import host, machine_name, ssh_key, ssh_user
from swarmhpc.errors import UsageError

MAX_RANGE: Final = 1000  # a guard against slips such as node[1-10000]
_RANGE: Final = re.compile(r"([^\[\]]*)\[([0-9]+)-([0-9]+)\]([^\[\]]*)")


@dataclass(frozen=True)
class Host:
    """A machine as named on the command line. `user` None: that of all machines."""

    name: str
    address: str
    user: str | None = None


def read_hosts(arguments: Sequence[str]) -> tuple[Host, ...]:
    """The machines that the words name: ``n1``, ``10.0.0.11``, ``admin@n1``, ``node[01-16]``, in their order.

    An address gets a name such as ``node-10-0-0-11``. Raises UsageError that lists every word that is wrong.
    """
    hosts: list[Host] = []
    wrong: list[str] = []
    of_name: dict[str, str] = {}
    for argument in arguments:
        try:
            words = list(_expanded(argument))
        except WantedError as error:
            wrong.append(f"{argument}: wanted {error}")
            continue
        for word in words:
            seen = word if word == argument else f"{word} (of {argument})"
            try:
                new = _host(word)
            except WantedError as error:
                wrong.append(f"{seen}: wanted {error}")
                continue
            if first := of_name.get(new.name.lower()):
                wrong.append(f"{seen}: named twice" + ("" if first == seen else f", first as {first}"))
                continue
            of_name[new.name.lower()] = seen
            hosts.append(new)
    if wrong:
        hint = "a HOST is a name, an IPv4 address, USER@HOST or a range such as node[01-16]"
        raise UsageError("\n".join(wrong), hint=hint)
    return tuple(hosts)


def _expanded(word: str) -> Iterator[str]:
    if "[" not in word and "]" not in word:
        yield word
        return
    parts = _RANGE.fullmatch(word)
    if not parts:
        raise WantedError("one range of whole numbers, as in node[01-16]")
    before, low, high, after = parts.groups()
    if not int(low) <= int(high) < int(low) + MAX_RANGE:
        raise WantedError(f"a range upwards, of at most {MAX_RANGE} machines")
    for number in range(int(low), int(high) + 1):
        yield f"{before}{number:0{len(low)}}{after}"


def _host(word: str) -> Host:
    user, at, place = word.rpartition("@")
    address = host(place)
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        name = machine_name(address)
    else:
        name = f"node-{address.replace('.', '-')}"
    return Host(name, address, ssh_user(user) if at else None)


def file_text(
    hosts: Sequence[Host], *, user: str | None = None, port: int | None = None, key: str | None = None
) -> str:
    """A cluster file for `hosts`, none: for this machine alone. None: ssh's defaults, as in `config.Ssh`.

    A key that is commented out has ``#`` right before it, and shows its default; sections stay, which alone mean
    their defaults too. Raises UsageError where `user` or `key` cannot be used.
    """
    for option, check, value in (("--user", ssh_user, user), ("--key", ssh_key, key)):
        try:
            if value is not None:
                check(value)
        except WantedError as error:
            raise UsageError(f"{option} {value}: wanted {error}", hint=error.hint) from error
    ssh = {"user": user and _plain(user), "port": port, "key": key}
    defaults = {"user": "root", "port": 22, "key": "null"}
    lines = {k: f"  #{k}: {default}" if ssh[k] is None else f"  {k}: {ssh[k]}" for k, default in defaults.items()}
    return _FILE.format(
        machines=_machines(hosts),
        replicas=f"{f'    replicas: {min(len(hosts), 200)}' if hosts else '    #replicas: 2':<32}",
        **{k: f"{line:<31} " for k, line in lines.items()},
    )


def _machines(hosts: Sequence[Host]) -> str:
    if not hosts:
        return _NO_MACHINES
    managers = 3 if len(hosts) >= 3 else 1
    lines = [_THREE_MANAGERS if managers == 3 else _ONE_MANAGER, "machines:"]
    for index, machine in enumerate(hosts):
        keys = [f"address: {machine.address}"] if machine.address != machine.name else []
        keys.append(f"role: {'manager' if index < managers else 'worker'}")
        if machine.user is not None:
            keys.append(f"ssh: {{user: {_plain(machine.user)}}}")
        lines.append(f"  {machine.name}: {{{', '.join(keys)}}}")
    return "\n".join(lines)


def _plain(word: str) -> str:
    """The word as YAML text: in quotes where YAML would read something else, such as no or null."""
    import yaml

    return word if yaml.safe_load(word) == word else f"'{word}'"


_NO_MACHINES: Final = """\
# No machines are named: the pool is on this machine alone. For several: swarmhpc init --force node1 node2 node3
machines:"""
_ONE_MANAGER: Final = """\
# One manager: a second one would not help, since the Swarm needs more than half of its managers to go on. From
# three machines on, three managers survive the loss of one."""
_THREE_MANAGERS: Final = """\
# Three managers: losing one of them changes nothing. An even number survives no more losses than one less."""

_FILE: Final = """\
# A cluster file, written by swarmhpc init. To bring the pool up, or to make it what this file says: swarmhpc up
# A # right before a word hides a key with its default: take that # away to change it.
# docs/configuration.md explains every key.

version: 1
#name: swarmhpc                 # the stack's, the pool's and the tokens' domain name

ssh:                            # how this machine reaches the others
{user}# root, or one that may use sudo without a password
{port}# of their ssh servers
{key}# a private key; null: the agent's keys, or ssh's own defaults
  #known_hosts: null            # a known_hosts file; null: ssh's own

# A machine is reached at its name unless it has an address. It may have labels, for placement below, and its own
# ssh keys: node9: {{address: 192.168.1.19, labels: {{disk: ssd}}, ssh: {{user: admin}}}}

{machines}

#prepare: true                  # false: your own configuration management installs the engine; no Ansible

queue:                          # where the access point keeps the queue; at most one of the two
  #machine: null                # on this machine's disk; null: the first manager
  #path: null                   # or a directory that all machines share: then the access point may move
  #history: 512MiB              # how much is kept about jobs that have left the queue

#networking: auto               # vip, dnsrr, or auto: vip where the kernels have IPVS
#subnet: 10.73.0.0/16           # of the overlay network; private, /16 to /24, used by nothing else
#encrypted: false               # whether that network encrypts what passes between machines
#address: null                  # without machines: the address that clients use; null: that of the default route

ports:                          # TCP, on every machine
  #central_manager: 9618
  #access_point: 9619
  #gateway: 9620                # output of running jobs, shells, events

executors:                      # class name: its executors; more classes may follow, such as executors-big
  executors:
{replicas}# 0 to 200; one for each machine to begin with
    #cpus: auto                 # of each executor; auto: an equal share of the node's, at least 1
    #memory: auto               # with its unit; auto: an equal share of the node's
    #gpus: 0                    # of each executor; nodes must say that they have them
    #resources: {{}}              # likewise what else is counted, for instance {{licence: 2}}
    #placement: {{}}              # only on nodes with these labels, for instance {{disk: ssd}}
    #spread: null               # a label over whose values executors are dealt out evenly, for instance rack
    #max_per_node: null         # at most so many on one node
    #scratch: null              # their scratch directories, on a fast disk; null: execute_dir
    #reserve: true              # Swarm sets aside what they advertise; false: a machine may be oversold
    #min: 0                     # never fewer executors
    #max: null                  # never more; null: 200, and the autoscaler leaves the class alone
    #step: 10                   # the autoscaler adds at most so many at a time,
    #starting: 10               # has at most so many starting at once,
    #idle: 5m                   # and takes one away that has had no job for so long

#autoscale: false               # whether classes with a max grow and shrink with the queue

jobs:
  #allow_host_network: false    # whether a job may ask for docker_network_type = host
  #volumes: []                  # for instance [{{source: /data, target: /data, read_only: true}}]
  #pids_limit: 4096             # processes and threads of one job container
  #default_memory: 128MiB       # of a job that does not say request_memory

fairness:                       # who may have how much of the pool
  #people: {{}}                   # for instance {{alice: {{group: physics, max_cpus: 64, priority_factor: 500}}}}
  #groups: {{}}                   # for instance {{physics: {{share: 50%}}, biology: {{cpus: 16, surplus: false}}}}
  #limits: {{}}                   # jobs of a kind that may run at a time, for instance {{matlab: 5}}

image:
  #name: null                   # the pool's image; null: built here
  #base: null                   # what it is built from; null: debian:forky-slim, or bootstrapped

#on_event: null                 # told of each state change: a command, or a URL; {{command: …, states: [FAILED]}}
#drain_timeout: 1d              # how long a leaving executor may go on with its jobs
#execute_dir: /var/lib/swarmhpc/execute   # the jobs' scratch directories, the same path on every node
"""
