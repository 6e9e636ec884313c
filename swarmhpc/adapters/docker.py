"""The Docker engine and its Swarm, through the SDK. Returns frozen dataclasses; raises EngineError and kin."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from swarmhpc.adapters import command
from swarmhpc.errors import EngineError, EngineUnreachableError
from swarmhpc.state import LABEL_CLUSTER

_NODE_UPDATES = 20
_NODE_UPDATE_PAUSE_S = 0.25
_CONFLICT = "update out of sequence"


@dataclass(frozen=True)
class EngineFacts:
    """One engine. `swarm_state`: inactive, pending, active, error or locked; `node_id` is empty outside a Swarm."""

    name: str
    version: str
    cgroup_version: str
    cgroup_driver: str
    kernel: str
    cpus: int
    memory_mib: int
    root_dir: str
    swarm_state: str
    node_id: str
    node_address: str
    is_manager: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Service:
    """A Swarm service. `replicas` is None for a global one."""

    id: str
    name: str
    labels: Mapping[str, str]
    replicas: int | None
    image: str
    container_spec: str
    """What its containers are made from, as canonical JSON: a task with another one is not updated yet."""


@dataclass(frozen=True)
class Task:
    """A task of a service. `state` and `desired` are Swarm's own words (running, shutdown, failed ...)."""

    id: str
    service_id: str
    node_id: str
    slot: int
    state: str
    desired: str
    error: str
    container_id: str
    container_spec: str
    changed_at: str = ""
    """When its state changed last, ISO 8601 in UTC."""

    @property
    def is_up(self) -> bool:
        """Runs and shall go on running."""
        return self.state == "running" and self.desired == "running"

    @property
    def runs_still(self) -> bool:
        """Its container may still do something, whatever is wanted of it: Swarm has not seen its end."""
        ended = ("complete", "shutdown", "failed", "rejected", "remove", "orphaned")
        return bool(self.container_id) and self.state not in ended

    @property
    def is_leaving(self) -> bool:
        """Shall stop and still runs: an executor that finishes its jobs."""
        return self.state in ("starting", "running") and self.desired in ("shutdown", "remove")


@dataclass(frozen=True)
class Node:
    """A node of the Swarm. `manager_status`: leader, reachable, unreachable; empty on a worker."""

    id: str
    name: str
    role: str
    state: str
    availability: str
    address: str
    cpus: int
    memory_mib: int
    labels: Mapping[str, str]
    manager_status: str = ""
    engine_version: str = ""


@dataclass(frozen=True)
class Stored:
    """A Swarm config or secret (a secret's content can't be read back)."""

    id: str
    name: str
    labels: Mapping[str, str]
    data: bytes


@dataclass(frozen=True)
class Container:
    """A container of this engine."""

    id: str
    name: str
    state: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Image:
    """An image of this engine. `created` is ISO 8601."""

    id: str
    tags: tuple[str, ...]
    size_mib: int
    created: str
    labels: Mapping[str, str]


@contextlib.contextmanager
def _translated(what: str, machine: str = "") -> Iterator[None]:
    """Docker's exceptions, as ours: by kind and status code, with the engine's own words."""
    import docker.errors
    import requests.exceptions

    try:
        yield
    except docker.errors.BuildError as e:
        raise EngineError(f"{what}: {e.msg}") from e
    except docker.errors.ContainerError as e:
        said = e.stderr.decode(errors="replace").strip() if isinstance(e.stderr, bytes) else str(e.stderr or "")
        raise EngineError(f"{what} ended with code {e.exit_status}: {said or 'it said nothing'}") from e
    except docker.errors.APIError as e:
        raise EngineError(f"{what}: the engine says: {e.explanation or e}") from e
    except requests.exceptions.ReadTimeout as e:
        raise EngineError(f"{what}: the engine did not answer in time", hint="swarmhpc doctor") from e
    except (docker.errors.DockerException, requests.exceptions.RequestException) as e:
        raise _unreachable(e, machine) from e


def _unreachable(e: Exception, machine: str = "") -> EngineUnreachableError:
    import os

    if machine:
        return EngineUnreachableError(
            f"the Docker engine of machine {machine} gives no answer",
            hint=f"on {machine}: systemctl status docker; swarmhpc up prepares machines and goes on",
        )
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    words = str(e)
    if "ermission denied" in words:
        return EngineUnreachableError(
            f"the Docker engine at {host} refuses this user (permission denied)",
            hint="run the command with sudo, or join the group docker and log in again",
        )
    return EngineUnreachableError(
        f"no Docker engine answers at {host}",
        hint="start it: systemctl start docker   (where nothing starts services: dockerd &); or run ./quickstart",
    )


class Engine:
    """A connection to one engine; thin methods, one call each."""

    def __init__(self, docker_host: str | None = None, *, machine: str = "") -> None:
        """Connects to `docker_host`, an engine of `machine`; without it as the docker command does (DOCKER_HOST, or
        the local socket).

        Raises EngineUnreachableError.
        """
        import docker
        import docker.errors
        import requests.exceptions

        self.docker_host = docker_host
        self.machine = machine
        # A slow machine that loads an image says nothing for minutes.
        timeout_s = 120 if docker_host is None else 600
        try:
            # Any: the stubs leave most of the low-level API untyped.
            self._client: Any = (
                docker.from_env(timeout=timeout_s)
                if docker_host is None
                else docker.DockerClient(base_url=docker_host, timeout=timeout_s)
            )
            self._client.ping()
        except (docker.errors.DockerException, requests.exceptions.RequestException) as e:
            raise _unreachable(e, machine) from e

    def _asked(self, what: str) -> contextlib.AbstractContextManager[None]:
        return _translated(what, self.machine)

    # -- facts ----------------------------------------------------------------------------------------------------

    def facts(self) -> EngineFacts:
        """What `docker info` knows."""
        with self._asked("docker info"):
            info: dict[str, Any] = self._client.info()
        swarm = info.get("Swarm") or {}
        return EngineFacts(
            name=info.get("Name", ""),
            version=info.get("ServerVersion", ""),
            cgroup_version=str(info.get("CgroupVersion", "1")),
            cgroup_driver=info.get("CgroupDriver", ""),
            kernel=info.get("KernelVersion", ""),
            cpus=int(info.get("NCPU", 1)),
            memory_mib=int(info.get("MemTotal", 0)) // 2**20,
            root_dir=info.get("DockerRootDir", "/var/lib/docker"),
            swarm_state=swarm.get("LocalNodeState", "inactive"),
            node_id=swarm.get("NodeID", ""),
            node_address=swarm.get("NodeAddr", ""),
            is_manager=bool(swarm.get("ControlAvailable")),
            warnings=tuple(info.get("Warnings") or ()),
        )

    # -- swarm ----------------------------------------------------------------------------------------------------

    def swarm_init(self, *, address: str, cluster: str, address_pool: str) -> None:
        """Makes a one-node Swarm that carries the cluster's label from its first moment: an `up` that is interrupted
        right here must know it for its own when it runs again."""
        with self._asked(f"docker swarm init --advertise-addr {address}"):
            self._client.swarm.init(
                advertise_addr=address,
                listen_addr="0.0.0.0:2377",
                default_addr_pool=[address_pool],
                subnet_size=24,
                labels={LABEL_CLUSTER: cluster},
            )

    def swarm_cluster(self) -> str | None:
        """The pool this Swarm was made for; None: somebody else's Swarm."""
        with self._asked("reading the Swarm"):
            attrs: dict[str, Any] = self._client.api.inspect_swarm()
        return ((attrs.get("Spec") or {}).get("Labels") or {}).get(LABEL_CLUSTER)

    def managed_cluster(self) -> str | None:
        """The pool whose Swarm this engine manages; None: no Swarm, a worker, or somebody else's Swarm."""
        facts = self.facts()
        return self.swarm_cluster() if facts.swarm_state == "active" and facts.is_manager else None

    def swarm_join(self, *, manager: str, token: str, address: str) -> None:
        """Makes this engine a node of the Swarm that answers at `manager`:2377; the token decides the role."""
        with self._asked(f"{self.machine}: docker swarm join {manager}:2377"):
            self._client.swarm.join(
                remote_addrs=[f"{manager}:2377"],
                join_token=token,
                advertise_addr=address,
                listen_addr="0.0.0.0:2377",
            )

    def join_token(self, role: str) -> str:
        """The token with which a machine joins as `manager` or `worker`."""
        with self._asked("docker swarm join-token"):
            attrs: dict[str, Any] = self._client.api.inspect_swarm()
        return str(attrs["JoinTokens"][role.capitalize()])

    def rotate_join_tokens(self) -> None:
        """Makes every join token that was given out worthless; nodes stay."""
        with self._asked("docker swarm join-token --rotate"):
            attrs: dict[str, Any] = self._client.api.inspect_swarm()
            # The SDK's Swarm.update() would send a spec of defaults, without the Swarm's labels.
            self._client.api.update_swarm(
                version=attrs["Version"]["Index"],
                swarm_spec=attrs["Spec"],
                rotate_worker_token=True,
                rotate_manager_token=True,
            )

    def swarm_leave(self) -> None:
        """Leaves the Swarm, also as its last manager (which ends it), also one without a leader."""
        with self._asked("docker swarm leave"):
            # The SDK's own client.swarm asks for the Swarm's state first, which takes a leader (docker-py 7.1.0,
            # models/swarm.py): the last managers that leave have none.
            self._client.api.leave_swarm(force=True)

    def nodes(self) -> list[Node]:
        """All nodes of the Swarm."""
        with self._asked("docker node ls"):
            raw = [n.attrs for n in self._client.nodes.list()]
        result = []
        for a in raw:
            description, resources = a.get("Description", {}), a.get("Description", {}).get("Resources", {})
            status = a.get("ManagerStatus") or {}
            result.append(
                Node(
                    id=a["ID"],
                    name=description.get("Hostname", ""),
                    role=a["Spec"].get("Role", ""),
                    state=a.get("Status", {}).get("State", ""),
                    availability=a["Spec"].get("Availability", ""),
                    address=a.get("Status", {}).get("Addr", ""),
                    cpus=int(resources.get("NanoCPUs", 0) / 1e9),
                    memory_mib=int(resources.get("MemoryBytes", 0)) // 2**20,
                    labels=a["Spec"].get("Labels") or {},
                    manager_status="leader" if status.get("Leader") else status.get("Reachability", ""),
                    engine_version=(description.get("Engine") or {}).get("EngineVersion", ""),
                )
            )
        return result

    def node_update(
        self,
        node_id: str,
        *,
        labels: Mapping[str, str] | None = None,
        role: str | None = None,
        availability: str | None = None,
    ) -> None:
        """Changes a node: all its labels, its role (manager, worker), its availability (active, drain).

        A node's record also changes by itself (its state, its part in the managers' vote), and a manager that is not
        the leader may know an older one for a moment: the change is then made of the record as it is now.
        """
        for attempt in range(_NODE_UPDATES):
            try:
                with self._asked("docker node update"):
                    node = self._client.nodes.get(node_id)
                    spec = dict(node.attrs["Spec"])
                    if labels is not None:
                        spec["Labels"] = dict(labels)
                    if role is not None:
                        spec["Role"] = role
                    if availability is not None:
                        spec["Availability"] = availability
                    node.update(spec)
            except EngineError as e:
                # Code 500 and these words are its only sign (engine 26.1; swarmkit, store.ErrSequenceConflict).
                if _CONFLICT not in e.message or attempt == _NODE_UPDATES - 1:
                    raise
                time.sleep(_NODE_UPDATE_PAUSE_S)
            else:
                return

    def node_remove(self, node_id: str, *, force: bool = False) -> None:
        """Takes a node that has left (or, with `force`, is gone for good) off the Swarm's list."""
        with self._asked("docker node rm"):
            self._client.api.remove_node(node_id, force=force)

    # -- services -------------------------------------------------------------------------------------------------

    def services(self, cluster: str) -> list[Service]:
        """The pool's services."""
        with self._asked("docker service ls"):
            raw = self._client.api.services(filters={"label": f"{LABEL_CLUSTER}={cluster}"})
        result = []
        for a in raw:
            spec = a["Spec"]
            mode = spec.get("Mode", {})
            container = spec["TaskTemplate"]["ContainerSpec"]
            replicas = mode["Replicated"].get("Replicas") if "Replicated" in mode else None
            result.append(
                Service(
                    a["ID"], spec["Name"], spec.get("Labels") or {}, replicas, container["Image"], _canonical(container)
                )
            )
        return result

    def tasks(self, service_id: str | None = None) -> list[Task]:
        """Tasks of one service, or of the whole Swarm; the one whose state changed last comes last."""
        filters = {"service": service_id} if service_id else None
        with self._asked("docker service ps"):
            raw: list[dict[str, Any]] = self._client.api.tasks(filters=filters)
        raw.sort(key=lambda t: t["Status"].get("Timestamp", ""))
        return [
            Task(
                id=t["ID"],
                service_id=t.get("ServiceID", ""),
                node_id=t.get("NodeID", ""),
                slot=int(t.get("Slot", 0)),
                state=t["Status"]["State"],
                desired=t["DesiredState"],
                error=t["Status"].get("Err", ""),
                container_id=(t["Status"].get("ContainerStatus") or {}).get("ContainerID", ""),
                container_spec=_canonical(t["Spec"].get("ContainerSpec") or {}),
                changed_at=t["Status"].get("Timestamp", ""),
            )
            for t in raw
        ]

    def endpoint_mode(self, service_id: str) -> str:
        """`vip` or `dnsrr`."""
        with self._asked("docker service inspect"):
            attrs: dict[str, Any] = self._client.api.inspect_service(service_id)
        return str((attrs["Spec"].get("EndpointSpec") or {}).get("Mode", "vip"))

    def scale(self, service_id: str, replicas: int) -> None:
        """Sets the number of replicas; returns before Swarm has acted."""
        self.service_change(service_id, replicas=replicas)

    def placement(self, service_id: str) -> dict[str, Any]:
        """Where its tasks may run, as the engine's API has it: `Constraints`, `Preferences`, `MaxReplicas` …"""
        with self._asked("docker service inspect"):
            attrs: dict[str, Any] = self._client.api.inspect_service(service_id)
        return dict(attrs["Spec"]["TaskTemplate"].get("Placement") or {})

    def service_change(
        self, service_id: str, *, replicas: int | None = None, placement: Mapping[str, Any] | None = None
    ) -> None:
        """Changes replicas and placement in one step. Running tasks on nodes that still fit are not restarted.

        Raises EngineError where somebody else has changed the service at the same moment.
        """
        with self._asked("docker service update"):
            attrs: dict[str, Any] = self._client.api.inspect_service(service_id)
            spec = attrs["Spec"]
            template, mode = dict(spec["TaskTemplate"]), spec["Mode"]
            if placement is not None:
                template["Placement"] = dict(placement)
            if replicas is not None:
                mode = {"Replicated": {"Replicas": replicas}}
            # Not the SDK's Service.scale() or update(): they send back a template with its defaults filled in, which
            # Swarm takes for another one: it restarts every running task (seen with docker-py 7.1 and 7.2).
            self._client.api.update_service(
                service_id,
                attrs["Version"]["Index"],
                task_template=template,
                name=spec["Name"],
                labels=spec.get("Labels"),
                mode=mode,
                update_config=spec.get("UpdateConfig"),
                rollback_config=spec.get("RollbackConfig"),
                networks=spec.get("Networks"),
                endpoint_spec=spec.get("EndpointSpec"),
            )

    # -- configs and secrets --------------------------------------------------------------------------------------

    def configs(self, cluster: str) -> list[Stored]:
        """The pool's Swarm configs, with their content."""
        import base64

        with self._asked("docker config ls"):
            raw = [c.attrs for c in self._client.configs.list(filters={"label": f"{LABEL_CLUSTER}={cluster}"})]
        return [
            Stored(
                a["ID"],
                a["Spec"]["Name"],
                a["Spec"].get("Labels") or {},
                base64.b64decode(a["Spec"].get("Data", "")),
            )
            for a in raw
        ]

    def secrets(self, cluster: str) -> list[Stored]:
        """The pool's Swarm secrets, without their content (the engine never gives it back)."""
        with self._asked("docker secret ls"):
            raw = [s.attrs for s in self._client.secrets.list(filters={"label": f"{LABEL_CLUSTER}={cluster}"})]
        return [Stored(a["ID"], a["Spec"]["Name"], a["Spec"].get("Labels") or {}, b"") for a in raw]

    def config_create(self, name: str, data: bytes, labels: Mapping[str, str]) -> None:
        """Stores a config."""
        with self._asked(f"docker config create {name}"):
            self._client.configs.create(name=name, data=data, labels=dict(labels))

    def secret_create(self, name: str, data: bytes, labels: Mapping[str, str]) -> None:
        """Stores a secret: the bytes travel in the request's body, never on a command line."""
        with self._asked(f"docker secret create {name}"):
            self._client.secrets.create(name=name, data=data, labels=dict(labels))

    def config_remove(self, config_id: str) -> None:
        """Removes a config that no service uses."""
        with self._asked("docker config rm"):
            self._client.api.remove_config(config_id)

    def secret_remove(self, secret_id: str) -> None:
        """Removes a secret that no service uses."""
        with self._asked("docker secret rm"):
            self._client.api.remove_secret(secret_id)

    # -- containers -----------------------------------------------------------------------------------------------

    def containers(self, *labels: str, everything: bool = True) -> list[Container]:
        """Containers of this engine that carry all `labels` (`key` or `key=value`); also stopped ones."""
        with self._asked("docker ps"):
            raw = self._client.api.containers(all=everything, filters={"label": list(labels)})
        return [Container(c["Id"], c["Names"][0].lstrip("/"), c["State"], c.get("Labels") or {}) for c in raw]

    def execute(self, container_id: str, argv: Sequence[str]) -> tuple[int, str, str]:
        """Runs a program in a container of this engine: (exit code, stdout, stderr)."""
        with self._asked("docker exec"):
            code, streams = self._client.containers.get(container_id).exec_run(list(argv), demux=True)
        out, err = streams if streams else (b"", b"")
        return int(code), (out or b"").decode(errors="replace"), (err or b"").decode(errors="replace")

    def run_once(
        self,
        image: str,
        argv: Sequence[str],
        *,
        cluster: str,
        binds: Mapping[str, str],
        host_network: bool = False,
    ) -> str:
        """Runs a short container to its end and returns what it printed. `binds`: machine path to container path.

        The engine makes a bind's source when it is missing: that is how directories appear on a machine.
        """
        with self._asked(f"docker run {image} {' '.join(argv[:2])}"):
            out: bytes = self._client.containers.run(
                image,
                list(argv[1:]),
                entrypoint=argv[0],
                remove=True,
                network_mode="host" if host_network else "none",
                labels={LABEL_CLUSTER: cluster},
                volumes={host: {"bind": inside, "mode": "rw"} for host, inside in binds.items()},
            )
        return out.decode(errors="replace")

    def container_remove(self, container_id: str) -> None:
        """Removes a container, running or not; one that is gone already is fine."""
        import docker.errors

        with self._asked("docker rm"), contextlib.suppress(docker.errors.NotFound):
            self._client.api.remove_container(container_id, force=True, v=True)

    # -- volumes and networks -------------------------------------------------------------------------------------

    def volumes(self, cluster: str) -> list[str]:
        """Names of the pool's volumes on this engine."""
        with self._asked("docker volume ls"):
            found = self._client.volumes.list(filters={"label": f"{LABEL_CLUSTER}={cluster}"})
        return [str(v.name) for v in found]

    def volume_remove(self, name: str) -> None:
        """Removes a volume and what is in it."""
        with self._asked(f"docker volume rm {name}"):
            self._client.volumes.get(name).remove()

    def volume_create(self, name: str, labels: Mapping[str, str]) -> None:
        """Makes an empty local volume; one that is there already stays as it is."""
        with self._asked(f"docker volume create {name}"):
            self._client.volumes.create(name, labels=dict(labels))

    @contextlib.contextmanager
    def volume_reader(self, name: str, image: str, *, cluster: str) -> Iterator[Iterator[bytes]]:
        """A volume's content as a tar stream below `volume/`, with owners (numbers) and modes."""
        with self._asked(f"reading volume {name}"), self._beside_volume(name, image, cluster) as container:
            stream, _ = container.get_archive("/volume")
            yield stream

    def volume_fill(self, name: str, image: str, chunks: Iterator[bytes], *, cluster: str) -> None:
        """Unpacks what `volume_reader` of another engine gave into a volume of this one."""
        with self._asked(f"filling volume {name}"), self._beside_volume(name, image, cluster) as container:
            container.put_archive("/", chunks)

    @contextlib.contextmanager
    def _beside_volume(self, name: str, image: str, cluster: str) -> Iterator[Any]:
        """A container that has the volume at /volume and never runs: enough for `docker cp`."""
        container = self._client.containers.create(
            image,
            ["true"],
            network_mode="none",
            labels={LABEL_CLUSTER: cluster},
            volumes={name: {"bind": "/volume", "mode": "rw"}},
        )
        try:
            yield container
        finally:
            container.remove(force=True)

    def network_subnets(self) -> dict[str, list[str]]:
        """Every network of this engine with its IPv4 and IPv6 subnets."""
        with self._asked("docker network ls"):
            raw = self._client.api.networks()
        return {
            n["Name"]: [c["Subnet"] for c in (n.get("IPAM") or {}).get("Config") or () if "Subnet" in c] for n in raw
        }

    def network_remove(self, name: str) -> bool:
        """Removes a network; False when there is none of this name."""
        import docker.errors

        with self._asked(f"docker network rm {name}"):
            try:
                self._client.api.remove_network(name)
            except docker.errors.NotFound:
                return False
        return True

    def network_detach_all(self, name: str) -> None:
        """Takes every endpoint off a network, also one whose container or sandbox is gone already."""
        import docker.errors

        with self._asked(f"docker network disconnect {name}"), contextlib.suppress(docker.errors.NotFound):
            attached = self._client.api.inspect_network(name).get("Containers") or {}
            for endpoint in attached.values():
                with contextlib.suppress(docker.errors.APIError):
                    self._client.api.disconnect_container_from_network(endpoint["Name"], name, force=True)

    # -- images ---------------------------------------------------------------------------------------------------

    def image(self, reference: str) -> Image | None:
        """The image of this name, if the engine has it."""
        import docker.errors

        with self._asked(f"docker image inspect {reference}"):
            try:
                a = self._client.api.inspect_image(reference)
            except docker.errors.NotFound:
                return None
        return _image(a)

    def images(self, label: str) -> list[Image]:
        """Images that carry `label`."""
        with self._asked("docker images"):
            return [_image(i.attrs) for i in self._client.images.list(filters={"label": label})]

    def image_pull(self, reference: str) -> None:
        """Pulls from the registry. Raises EngineError where none answers."""
        with self._asked(f"docker pull {reference}"):
            self._client.images.pull(reference)

    def image_tag(self, source: str, target: str) -> None:
        """Gives an image a second name."""
        repository, _, tag = target.partition(":")
        with self._asked(f"docker tag {source} {target}"):
            self._client.images.get(source).tag(repository, tag or "latest")

    def image_remove(self, reference: str) -> None:
        """Removes a name, and the image with its last one."""
        with self._asked(f"docker rmi {reference}"):
            self._client.images.remove(reference)

    def image_import(self, tar: Path, target: str, *, labels: Mapping[str, str]) -> None:
        """Makes a one-layer image of a root file system in a tar file (streamed)."""
        repository, _, tag = target.partition(":")
        changes = [f"LABEL {key}={value}" for key, value in labels.items()] + ['CMD ["bash"]']
        with self._asked(f"docker import {tar}"):
            self._client.api.import_image_from_file(
                str(tar), repository=repository, tag=tag or "latest", changes=changes
            )

    def image_build(
        self,
        folder: Path,
        target: str,
        *,
        arguments: Mapping[str, str],
        labels: Mapping[str, str],
        on_line: Callable[[str], None],
    ) -> None:
        """Builds `folder`; every line of output goes to `on_line`. Raises EngineError with the failing step's words."""
        tail: list[str] = []
        with self._asked(f"docker build {folder.name}"):
            stream = self._client.api.build(
                path=str(folder),
                tag=target,
                buildargs=dict(arguments),
                labels=dict(labels),
                rm=True,
                forcerm=True,
                decode=True,
            )
            for event in stream:
                if "stream" in event:
                    for line in str(event["stream"]).splitlines():
                        if line.strip():
                            tail = [*tail[-11:], line.rstrip()]
                            on_line(line.rstrip())
                if "error" in event:
                    raise EngineError(f"docker build of {target}: {event['error'].strip()}\n  " + "\n  ".join(tail))

    def images_save(self, references: Sequence[str], target: Path) -> None:
        """Writes images into one tar file. The SDK saves one image at a time; the command shares their layers."""
        env = {} if self.docker_host is None else {"DOCKER_HOST": self.docker_host, "DOCKER_CONTEXT": ""}
        command.run(["docker", "save", "-o", str(target), *references], timeout_s=1800, env=env)

    def images_load(self, file: IO[bytes], *, on_bytes: Callable[[int], None] | None = None) -> list[str]:
        """Loads images from a tar stream; their names. `on_bytes` hears how many bytes have been sent so far."""

        def chunks() -> Iterator[bytes]:
            sent = 0
            while chunk := file.read(2**20):
                yield chunk
                sent += len(chunk)
                if on_bytes is not None:
                    on_bytes(sent)

        with self._asked(f"{self.machine} docker load".lstrip()):
            loaded = self._client.images.load(chunks())
        return [t for i in loaded for t in i.tags]


def _image(a: Mapping[str, Any]) -> Image:
    labels = (a.get("Config") or {}).get("Labels") or {}
    return Image(a["Id"], tuple(a.get("RepoTags") or ()), int(a.get("Size", 0)) // 2**20, a.get("Created", ""), labels)


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)
