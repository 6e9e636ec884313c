"""Images to the virtual lab's machines: swarmhpc's way, and `docker save | ssh docker load` one after another.

    python -m benchmarks.lab [n1 n2 n3]

As root, with the pool's image on this machine's engine (`swarmhpc images build`). The machines are booted where they do
not run, given an engine where they have none, and left running. Prints both times; the image is removed in between.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time

from swarmhpc.adapters import ansible
from swarmhpc.adapters.docker import Engine
from swarmhpc.cluster import bring, images
from swarmhpc.cluster.fleet import opened
from swarmhpc.config import Cluster, Machine, Ssh
from tests.lab.machines import Lab


def main(names: list[str]) -> None:
    """Measures both ways once."""
    lab = Lab()
    lab.boot(names)
    ssh = Ssh(key=str(lab.key), known_hosts=str(lab.known_hosts))
    machines = tuple(Machine(n, lab.machine(n).address, "manager" if n == names[0] else "worker", ssh) for n in names)
    cluster = Cluster(machines=machines)
    image = images.reference(cluster)
    if Engine().image(image) is None:
        sys.exit(f"this machine's engine has no {image}: swarmhpc images build")
    with opened(machines) as fleet:
        targets = [bring.target(fleet, n) for n in names]
        variables, hosts = bring.variables(cluster), str(lab.known_hosts)
        results = ansible.run("prepare", targets, variables=variables, known_hosts=hosts, on_host=lambda *_: None)
        if failed := [r.message for r in results.values() if not r.ok]:
            sys.exit("\n".join(failed))

        def forget() -> None:
            for n in names:
                lab.ssh(n, "docker image prune -af >/dev/null; docker rmi -f $(docker images -q) >/dev/null 2>&1; true")

        forget()
        began = time.monotonic()
        for n in names:
            there = ["ssh", *lab.ssh_options(), "-i", str(lab.key), f"root@{lab.machine(n).address}", "docker load"]
            subprocess.run(
                ["bash", "-c", f"docker save {image} | {shlex.join(there)}"], check=True, capture_output=True
            )
        by_hand_s = time.monotonic() - began
        forget()
        began = time.monotonic()
        engines = {n: fleet.engine(n) for n in names}
        failures = images.distribute(cluster, engines, holders=[], on_line=lambda _: None)
        ours_s = time.monotonic() - began
    if failures:
        sys.exit(str(failures))
    sys.stdout.write(
        f"image {image} to {len(names)} machines\n"
        f"  docker save | ssh docker load, one after another: {by_hand_s:.1f} s\n"
        f"  swarmhpc, all at once: {ours_s:.1f} s\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:] or ["n1", "n2", "n3"])
