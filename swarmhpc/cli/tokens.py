"""`swarmhpc token`: who may use the pool."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from swarmhpc.cli import output
from swarmhpc.cli.cluster import cluster_fleet
from swarmhpc.config import Ports
from swarmhpc.errors import NoPoolError, PoolError, PoolUnreachableError, SwarmHpcError, UsageError

CENTRAL_MANAGER_PORT = Ports().central_manager
ACCESS_POINT_PORT = Ports().access_point

app = typer.Typer(help="Give people access to the pool, see who has it, take it back.", no_args_is_help=True)


def login(
    addresses: Annotated[
        list[str],
        typer.Argument(metavar="ADDRESS…", help="Any address of the pool; more of them, for when the first is off."),
    ],
    token_file: Annotated[Path, typer.Option("--token-file", help="The file with your token.")],
    central_manager_port: Annotated[int, typer.Option(help="Port of the central manager.")] = CENTRAL_MANAGER_PORT,
    access_point_port: Annotated[int, typer.Option(help="Port of the access point.")] = ACCESS_POINT_PORT,
) -> None:
    """Make a pool known on this machine: from now on submit, q, wait, fetch and rm work here."""
    from swarmhpc import context, tokens
    from swarmhpc.adapters.condor import Pool

    try:
        token = tokens.read_claims(token_file.read_text())
    except OSError as e:
        raise UsageError(f"{token_file}: can't be read ({e.strerror})", hint=f"ls -l {token_file}") from e
    except ValueError as e:
        raise UsageError(f"{token_file}: is not a token: {e}", hint="ask your pool's administrator for one") from e
    person, _, pool = token.identity.partition("@")
    address, *others = dict.fromkeys(addresses)
    before = context.snapshot(pool)
    managers = before[0].managers if before is not None else ()
    ctx = context.Context(pool, address, central_manager_port, access_point_port, person, tuple(others), managers)
    context.save(ctx, token.text)
    try:
        Pool(ctx).can_write()
    except SwarmHpcError as e:
        context.restore(pool, before)
        if isinstance(e, PoolUnreachableError):
            # Seen from here the pool may be well: another address, or a firewall in between.
            mend = "ask for the pool's address (swarmhpc status, on a manager, names it): without virtual IPs"
            raise PoolUnreachableError(e.message, hint=f"{mend} a pool answers at that one only") from e
        raise
    output.say(f"pool {pool} at {address} is known here, you are {person}. Next: swarmhpc submit FILE --wait")


def _where(pool: str) -> str:
    """The arguments of `swarmhpc login` that lead to this pool, as far as this machine knows them."""
    from swarmhpc import context

    try:
        known = context.load(pool)
    except NoPoolError:
        return "ADDRESS"
    words = [known.address, *known.others]
    if known.central_manager_port != CENTRAL_MANAGER_PORT:
        words.append(f"--central-manager-port {known.central_manager_port}")
    if known.access_point_port != ACCESS_POINT_PORT:
        words.append(f"--access-point-port {known.access_point_port}")
    return " ".join(words)


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The person: jobs and spooled files belong to this name.")],
    lifetime: Annotated[
        str | None, typer.Option(help="How long it is good, such as 12h or 30d; else for ever.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it to this file (0600), not to stdout.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON (with --output: without the token).")] = False,
) -> None:
    """Make a token for a person. It works at once; nothing is restarted."""
    from swarmhpc.cluster import people
    from swarmhpc.cluster.fleet import require_manager
    from swarmhpc.context import write_private
    from swarmhpc.units import parse_duration_s

    try:
        lifetime_s = None if lifetime is None else parse_duration_s(lifetime)
    except ValueError as e:
        raise UsageError(f"--lifetime: {e}", hint=f"swarmhpc token create {name} --lifetime 30d") from e
    people.check_name(name)
    with cluster_fleet(None, context.obj) as (fleet, _):
        manager, pool = require_manager(fleet, context.obj)
        token = people.create(fleet, manager, pool, name, lifetime_s=lifetime_s)
    if file is not None:
        try:
            write_private(file, token.text + "\n")
        except OSError as e:
            raise SwarmHpcError(
                f"{file}: can't be written ({e.strerror}); the token is lost",
                hint=f"swarmhpc token create {name} -o FILE",
            ) from e
        output.say(f"token of {name} is in {file} (readable by you only); whoever has it can submit as {name}")
        output.say(f"next, on their machine: swarmhpc login {_where(pool)} --token-file {file.name}")
    if json:
        known = {"name": name, "pool": pool, "token_id": token.token_id, "expires_at": token.expires_at}
        output.as_json(known if file is not None else {**known, "token": token.text})
    elif file is None:
        output.data(token.text)


@app.command()
def revoke(
    context: typer.Context, name: Annotated[str, typer.Argument(help="The person whose tokens end now.")]
) -> None:
    """End every token of a person. Central manager and access point restart (seconds); running jobs go on."""
    from swarmhpc.cluster import people
    from swarmhpc.cluster import up as wing
    from swarmhpc.cluster.fleet import require_manager, stored_cluster

    with cluster_fleet(None, context.obj) as (fleet, _), output.phases() as progress:
        manager, pool = require_manager(fleet, context.obj)
        cluster = stored_cluster(manager)
        if cluster is None:
            raise PoolError(f"the Swarm has no cluster file of pool {pool}", hint="swarmhpc up")
        count = people.revoke(manager, pool, name)
        wing.refresh(fleet, cluster, progress, timeout_s=300)
    output.say(f"revoked {count} {'token' if count == 1 else 'tokens'} of {name}")


@app.command("list")
def listing(context: typer.Context, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Every token that was given out (never the token itself)."""
    from swarmhpc.cluster import people
    from swarmhpc.cluster.fleet import require_manager

    with cluster_fleet(None, context.obj) as (fleet, _):
        manager, pool = require_manager(fleet, context.obj)
        records = people.listing(manager, pool)
    if json:
        output.as_json([asdict(r) for r in records])
        return

    def day(at: int | None) -> str:
        return "-" if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at))

    output.table(
        ["NAME", "TOKEN", "ISSUED", "EXPIRES", "REVOKED"],
        [[r.person, r.token_id[:12], day(r.issued_at), day(r.expires_at), day(r.revoked_at)] for r in records],
    )
