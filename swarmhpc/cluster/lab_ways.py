"""What doctor's facts mean for the network between the machines: connections, overlay packets, subnets. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from swarmhpc.cluster import plan
from swarmhpc.cluster.findings import Check, free_subnet, not_checked, ok, problem, warning
from swarmhpc.cluster.lab_facts import HERE, LabFacts, called
from swarmhpc.cluster.lab_probes import CROSSED, OPEN, REFUSED, TIMED_OUT, TOO_BIG
from swarmhpc.config import Cluster
from swarmhpc.errors import UsageError

MANAGEMENT_PORT, DISCOVERY_PORT, VXLAN_PORT = 2377, 7946, 4789
_VXLAN_BYTES = 50  # what VXLAN adds to a packet (RFC 7348, figure 1, over IPv4): 14 + 20 + 8 + 8
_WORDS = {TIMED_OUT: "no answer", REFUSED: "refused", "EHOSTUNREACH": "no route to host or a firewall refuses"}
_DOCKERS_OWN = re.compile(r"docker0|docker_gwbridge|br-[0-9a-f]{12}")


# -- TCP ------------------------------------------------------------------------------------------------------------


def targets(f: LabFacts, cluster: Cluster, source: str) -> list[tuple[str, int]]:
    """What `source` has to reach of the others: (address, port)."""
    found = []
    for n, s in f.answering.items():
        if n != source and s.address:
            found += [(s.address, port) for port in _ports(f, cluster, n)]
    return found


def _ports(f: LabFacts, cluster: Cluster, name: str) -> list[int]:
    """The TCP ports on which the others, and people, reach this machine."""
    manages = [MANAGEMENT_PORT] if f.seen[name].machine.role == "manager" else []
    return [*manages, DISCOVERY_PORT, *pool_ports(f, cluster, name)]


def pool_ports(f: LabFacts, cluster: Cluster, name: str) -> list[int]:
    """The pool's own ports that this machine must answer on: with the routing mesh every node, else who listens."""
    facts = f.seen[name].facts
    if not f.pool_runs or facts is None or not f.is_node(name):
        return []
    return [p for p in cluster.ports.keys if f.networking == "vip" or p in facts.listens]


@dataclass(frozen=True)
class _Failed:
    """`source` could not connect to these ports of `target`; `listens`: something does listen on one of them."""

    source: str
    target: str
    ports: tuple[int, ...]
    how: str
    listens: bool


def _failed(f: LabFacts, cluster: Cluster) -> Iterator[_Failed]:
    for source, answers in f.answers.items():
        for n, s in f.answering.items():
            if n == source or s.facts is None:
                continue
            by_answer: dict[str, list[int]] = {}
            for port in _ports(f, cluster, n):
                answer = answers.tcp.get((s.address, port), OPEN)
                # A refusal of a port where nobody listens shows that packets come and go.
                expected = port in s.facts.listens or port in pool_ports(f, cluster, n)
                if answer != OPEN and not (answer == REFUSED and not expected):
                    by_answer.setdefault(answer, []).append(port)
            for answer, ports in by_answer.items():
                yield _Failed(source, n, tuple(ports), answer, any(p in s.facts.listens for p in ports))


def connections(f: LabFacts, cluster: Cluster) -> list[Check]:
    """TCP from every machine to every other one; what fails from everywhere is one line."""
    name = "connections"
    bad: list[Check] = []
    blind = [n for n, own in f.own.items() if not own.has_python]
    if blind and cluster.prepare:
        bad.append(warning(name, f"not checked from {called(blind)}: no python3 there yet", "swarmhpc up"))
    elif blind:
        mend = "; ".join(f.on(n, "apt-get install python3") for n in blind)
        bad.append(warning(name, f"not checked from {called(blind)}: no python3 there", mend))
    groups: dict[tuple[str, tuple[int, ...], str, bool], list[str]] = {}
    for x in _failed(f, cluster):
        groups.setdefault((x.target, x.ports, x.how, x.listens), []).append(x.source)
    tried = [n for n, a in f.answers.items() if a.tcp]
    for (target, ports, how, listens), sources in groups.items():
        everywhere = len(sources) > 1 and len(sources) == len([n for n in tried if n != target])
        for who in ["any other machine"] if everywhere else sources:
            where = target if everywhere else f"{who} → {target}"
            seen = f"TCP {_listed(ports)} of {target} from {who}: {_WORDS.get(how, how)}"
            # Before a pool is there, nobody listens, and preparing opens the ports of a firewall.
            waits = cluster.prepare and not listens and not f.seen[target].is_prepared
            mend = "swarmhpc up" if waits else _open(f, target, [f"{p}/tcp" for p in ports], how, sources[0])
            bad.append(Check(name, "warning" if waits else "problem", seen, mend, where))
    unreached: dict[str, list[int]] = {}
    by_address = {s.address: n for n, s in f.seen.items()}
    for (address, port), answers in f.from_here.items():
        if not answers:
            unreached.setdefault(by_address[address], []).append(port)
    for target, out in unreached.items():
        seen = (
            f"TCP {_listed(out)} of {target} from {HERE}: no connection; submit from here needs one node that answers"
        )
        mend = _open(f, target, [f"{p}/tcp" for p in out], TIMED_OUT, "")
        bad.append(warning(name, seen, mend, f"{HERE} → {target}"))
    if bad:
        return bad
    if len(tried) < 2:
        return [not_checked(name, "fewer than two machines could be asked")]
    every = sorted({port for a in f.answers.values() for _, port in a.tcp})
    return [ok(name, f"each of {called(tried)} reaches every other one: TCP {_listed(every)}")]


def _listed(ports: Sequence[int]) -> str:
    return ", ".join(str(p) for p in ports)


def _open(f: LabFacts, target: str, ports: Sequence[str], how: str, source: str) -> str:
    """How the way to `ports` (`7946/tcp`) of `target` is opened."""
    firewall = f.own[target].firewall if target in f.own else ""
    if firewall == "ufw":
        return "; ".join(f.on(target, f"ufw allow {p}") for p in ports)
    if firewall == "firewalld":
        words = " ".join(f"--add-port={p}" for p in ports)
        return f.on(target, f"firewall-cmd {words}") + f"; {f.on(target, f'firewall-cmd --permanent {words}')}"
    opened = f"let {', '.join(ports)} pass to {target}: its own rules ({f.on(target, 'nft list ruleset')}), and what "
    opened += "lies between the machines"
    if how not in (TIMED_OUT, REFUSED) and source:
        return f"{f.on(source, f'ip route get {f.seen[target].address}')}   (the way there); or {opened}"
    return opened


# -- overlay --------------------------------------------------------------------------------------------------------

_Fate = Literal["crossed", "nothing", "big", "told"]


def overlay_targets(f: LabFacts, source: str) -> list[str]:
    """The overlay addresses of the others' janitors."""
    return [own.overlay_address for n, own in f.own.items() if n != source and own.overlay_address]


def _fates(f: LabFacts) -> dict[tuple[str, str], tuple[_Fate, int, str]]:
    """By pair: what became of its packets at worst, the overlay's MTU, and the answer in the probe's words."""
    worst: tuple[_Fate, ...] = ("crossed", "told", "big", "nothing")
    found: dict[tuple[str, str], tuple[_Fate, int, str]] = {}
    order = list(f.seen)
    for a, answers in f.answers.items():
        for b, own in f.own.items():
            crossing = answers.overlay.get(own.overlay_address) if own.overlay_address else None
            if crossing is None or a == b:
                continue
            fate: _Fate = "crossed"
            if crossing.small != CROSSED:
                fate = "nothing"
            elif crossing.full.startswith(TOO_BIG):
                fate = "told"
            elif crossing.full != CROSSED:
                fate = "big"
            pair = (a, b) if order.index(a) < order.index(b) else (b, a)
            if pair not in found or worst.index(fate) > worst.index(found[pair][0]):
                found[pair] = (fate, crossing.mtu, crossing.full)
    return found


def overlay(f: LabFacts, cluster: Cluster) -> list[Check]:
    """Packets of the pool's overlay network (VXLAN) between every two nodes: small ones, and full-size ones (MTU)."""
    name = "overlay"
    if f.swarm_unknown:
        return [not_checked(name, f.swarm_unknown)]
    if not f.pool_runs:
        return [ok(name, "not checked: it exists with the pool; after swarmhpc up: swarmhpc doctor")]
    bad: list[Check] = []
    for n, own in f.own.items():
        if f.is_node(n) and not own.overlay_address:
            seen = "not checked: no janitor of the pool runs there"
            bad.append(warning(name, seen, f"docker service ps --no-trunc {cluster.name}_janitor, on a manager", n))
        elif (said := f.answers[n].overlay_said if n in f.answers else "") and not f.answers[n].overlay:
            bad.append(warning(name, f"not checked from there: {said}", "swarmhpc up; swarmhpc doctor", n))
    fates = _fates(f)
    members = list(dict.fromkeys(n for pair in fates for n in pair))
    nothing = {pair for pair, (fate, _, _) in fates.items() if fate == "nothing"}
    for n in members:
        pairs = {p for p in fates if n in p}
        # A machine that nothing reaches is one trouble, not one for each of the others.
        if len(pairs) > 1 and pairs <= nothing:
            nothing -= pairs
            bad.append(
                problem(name, "no overlay packet crosses between it and the others", _let_vxlan(f, cluster, (n,)), n)
            )
    for pair, (fate, mtu, words) in fates.items():
        where, outer = " ↔ ".join(pair), mtu + _VXLAN_BYTES
        if pair in nothing:
            bad.append(problem(name, "no overlay packet crosses", _let_vxlan(f, cluster, pair), where))
        elif fate == "big":
            seen = f"small overlay packets cross, full ones ({mtu} bytes, {outer} with VXLAN) get lost: transfers hang"
            bad.append(problem(name, seen, _mtu(f, pair, outer), where))
        elif fate == "told":
            seen = f"overlay packets of {mtu} bytes do not cross, the kernel knows of {words.removeprefix(TOO_BIG)}"
            bad.append(warning(name, seen, _mtu(f, pair, outer), where))
    if bad:
        return bad
    if not fates:
        return [not_checked(name, "fewer than two nodes could be asked")]
    sizes = sorted({mtu for _, mtu, _ in fates.values()})
    return [ok(name, f"packets up to {_listed(sizes)} bytes cross between every two of {called(members)}")]


def _let_vxlan(f: LabFacts, cluster: Cluster, names: Sequence[str]) -> str:
    ports = [f"{VXLAN_PORT}/udp", f"{DISCOVERY_PORT}/udp", f"{DISCOVERY_PORT}/tcp"]
    mends = [_open(f, n, ports, TIMED_OUT, "") for n in names]
    secret = "; an encrypted overlay needs IP protocol 50 (ESP) too" if cluster.encrypted else ""
    return "; ".join(mends) + secret


def _mtu(f: LabFacts, pair: Sequence[str], outer: int) -> str:
    """Which interface is too narrow for packets of `outer` bytes, or how to find what is."""
    for n in pair:
        own, s = f.own[n], f.seen[n]
        if own.mtu is not None and own.mtu < outer and s.facts is not None:
            device = s.facts.addresses.get(s.address, "its interface")
            wider = f.on(n, f"ip link set dev {device} mtu {outer}")
            return f"{wider}   (has {own.mtu}; all between must carry {outer})"
    a, b = pair
    ping = f.on(a, f"ping -c 3 -M do -s {outer - 28} {f.seen[b].address}")
    return f"let the network between them carry packets of {outer} bytes; this shows whether it does: {ping}"


# -- subnets --------------------------------------------------------------------------------------------------------


def subnet(f: LabFacts, cluster: Cluster) -> list[Check]:
    """The pool's network and the Swarm's own ones against the networks that the machines use themselves."""
    name, own = "subnet", f"{cluster.name}_pool"
    routes = {n: dict(s.facts.routes) for n, s in f.answering.items() if s.facts is not None}
    every = [cidr for of_machine in routes.values() for cidr in of_machine.values()]
    swarm = {net: s for o in f.own.values() for net, s in o.networks.items() if net != own}
    bad: list[Check] = []
    for n, of_machine in routes.items():
        for route, cidr in of_machine.items():
            device = route.split()[0]
            if plan.overlap(cluster.subnet, cidr):
                free = free_subnet(ipaddress.ip_network(cluster.subnet).prefixlen, every)
                again = "swarmhpc down; swarmhpc up" if f.pool_runs else "swarmhpc up"
                seen = f"{cluster.subnet}, the pool's network, overlaps {cidr} of {device}"
                mend = f"write subnet: {free} into swarmhpc.yaml; {again}"
                bad.append(Check(name, "warning" if f.pool_runs else "problem", seen, mend, n))
            if _DOCKERS_OWN.fullmatch(device):
                continue
            for net, subnets in swarm.items():
                for s in subnets:
                    if plan.overlap(s, cidr):
                        seen = f"{s}, the Swarm's network {net}, overlaps {cidr} of {device}"
                        mend = "swarmhpc down; swarmhpc up   (makes the Swarm anew, with addresses that are free)"
                        bad.append(warning(name, seen, mend, n))
    if not bad and not f.has_swarm:
        try:
            plan.address_pool(cluster.subnet, every)
        except UsageError as e:
            bad.append(problem(name, e.message, e.hint))
    nets = [cluster.subnet, *sorted(s for subnets in swarm.values() for s in subnets)]
    return bad or [ok(name, f"{', '.join(nets)}: overlaps no network of {called(routes)}")]
