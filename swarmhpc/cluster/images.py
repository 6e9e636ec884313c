"""The pool's image: its base from a registry where one answers, else from the distribution's packages."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from swarmhpc import state
from swarmhpc.adapters import command
from swarmhpc.adapters.docker import Engine, Image
from swarmhpc.cluster.fleet import each, failures
from swarmhpc.config import Cluster
from swarmhpc.errors import CommandError, EngineError, EngineUnreachableError, SwarmHpcError

LABEL_IMAGE = "swarmhpc.image"
"""On images made here: `pool` or `base`."""
_FILES = ("Dockerfile", "entrypoint", "docker", "janitor", "add-user", "factors", "outputs", "retire")
_STALE = "Acquire::Check-Valid-Until=false"

OnLine = Callable[[str], None]


def reference(cluster: Cluster) -> str:
    """The image the pool's services use: the cluster file's, or one built here, named by a hash of its recipe."""
    if cluster.image.name is not None:
        return cluster.image.name
    folder = state.assets("images") / "pool"
    recipe = [(folder / name).read_text() for name in _FILES]
    return f"{state.IMAGE_REPOSITORY}:{state.short_hash(cluster.image.base or state.BASE_IMAGE, *recipe)}"


def ensure(engine: Engine, cluster: Cluster, *, on_line: OnLine) -> str:
    """Makes sure the engine has the pool's image; builds or pulls what is missing; returns its name."""
    name = reference(cluster)
    if engine.image(name) is None:
        if cluster.image.name is not None:
            on_line(f"pulling {name}")
            engine.image_pull(name)
        else:
            build(engine, cluster, on_line=on_line)
    return name


def distribute(
    cluster: Cluster, targets: Mapping[str, Engine], *, holders: Sequence[Engine], on_line: OnLine
) -> dict[str, SwarmHpcError]:
    """Brings the pool's image to the engines of `targets` (machine to engine), all at once; why some did not get it.

    An image that the cluster file names comes from its registry, each machine pulls. Else it comes from an engine that
    has it (`holders`, or this machine's), or is built: on this machine, or on the first target where none answers here.
    """
    if not targets:
        return {}
    name = reference(cluster)
    if cluster.image.name is not None:
        on_line(f"{len(targets)} machines pull {name}")
        return failures(each(targets, lambda n: targets[n].image_pull(name)))
    source = _source(name, targets, holders)
    if source.image(name) is None:
        build(source, cluster, on_line=on_line)
    have = each(targets, lambda n: targets[n].image(name) is not None)
    left = {n: targets[n] for n, there in have.items() if there is False}
    if not left:
        return failures(have)
    wanted = _family(source, cluster, name)
    sent = dict.fromkeys(left, 0)
    with tempfile.TemporaryDirectory(prefix="swarmhpc-images-") as folder:
        file = Path(folder) / "images.tar"
        on_line(f"reading {name}")
        source.images_save(wanted, file)
        size = file.stat().st_size

        def bring(n: str) -> None:
            def count(sent_bytes: int) -> None:
                sent[n] = sent_bytes
                on_line("\n".join(f"{m}: {100 * s // size} % of {size // 2**20} MiB" for m, s in sent.items()))

            with file.open("rb") as stream:
                left[n].images_load(stream, on_bytes=count)

        return failures(have) | failures(each(left, bring))


def _source(name: str, targets: Mapping[str, Engine], holders: Sequence[Engine]) -> Engine:
    """The engine to take the image from, or to build it on."""
    try:
        here = Engine()
    except EngineUnreachableError:
        return holders[0] if holders else next(iter(targets.values()))
    return holders[0] if holders and here.image(name) is None else here


def _family(source: Engine, cluster: Cluster, name: str) -> list[str]:
    """The pool's image and the names of its base: same layers, so they cost nothing, and jobs that name `debian`
    then run on every machine where no registry answers."""
    base = source.image(cluster.image.base or state.BASE_IMAGE)
    return [name, *(base.tags if base is not None else ())]


def build(engine: Engine, cluster: Cluster, *, on_line: OnLine) -> str:
    """Builds the pool's image (base first). Raises EngineError or CommandError with the failing step's own words."""
    name = reference(cluster)
    base = cluster.image.base or state.BASE_IMAGE
    ensure_base(engine, base, on_line=on_line)
    try:
        engine.image_build(
            state.assets("images") / "pool",
            name,
            arguments={"BASE": base, "APT_OPTIONS": " ".join(apt_options())},
            labels={LABEL_IMAGE: "pool"},
            on_line=on_line,
        )
    except EngineError as e:
        raise _with_apt_hint(e) from e
    return name


def ensure_base(engine: Engine, base: str, *, on_line: OnLine) -> None:
    """Base image: here already, else from its registry, else (for our default) made with mmdebstrap.

    Jobs that name `debian` get this base where no registry answers, so that the first example runs anywhere.
    """
    if engine.image(base) is not None:
        return
    on_line(f"pulling {base}")
    try:
        engine.image_pull(base)
    except EngineError as e:
        if base != state.BASE_IMAGE:
            raise EngineError(
                f"base image {base}: {e.message}",
                hint="check image.base in swarmhpc.yaml, or load it: docker load -i FILE",
            ) from e
        on_line(f"no registry gives {base}; making it from Debian's packages")
        _bootstrap(engine, base, on_line=on_line)
    if engine.image("debian:latest") is None:
        try:
            engine.image_pull("debian:latest")
        except EngineError:
            engine.image_tag(base, "debian:latest")


def _bootstrap(engine: Engine, base: str, *, on_line: OnLine) -> None:
    """A minimal Debian root file system with mmdebstrap (its manual page: --variant=minbase, --aptopt), imported."""
    if not command.found("mmdebstrap"):
        raise CommandError(
            "no registry answers, and mmdebstrap, which would make the base image from Debian's packages, is missing",
            hint="apt-get install -y mmdebstrap && swarmhpc up",
        )
    options = [f"--aptopt={_apt_conf(o)}" for o in apt_options()]
    with tempfile.TemporaryDirectory(prefix="swarmhpc-base-") as folder:
        tar = Path(folder) / "base.tar"
        argv = ["mmdebstrap", "--variant=minbase", "--include=ca-certificates", *options]
        on_line("mmdebstrap forky")
        try:
            command.run([*argv, "forky", str(tar)], timeout_s=1200)
        except CommandError as e:
            # mmdebstrap tells its whole life; its errors begin with "E:".
            errors = [line for line in e.output.splitlines() if line.startswith("E:")] or e.output.splitlines()[-3:]
            e.message = f"mmdebstrap could not make {base}:\n  " + "\n  ".join(errors)
            raise _with_apt_hint(e) from e
        engine.image_import(tar, base, labels={LABEL_IMAGE: "base"})


def apt_options() -> list[str]:
    """apt options for image builds: $SWARMHPC_APT_OPTIONS, such as `Acquire::http::Proxy=http://proxy:3128`."""
    return os.environ.get("SWARMHPC_APT_OPTIONS", "").split()


def _apt_conf(option: str) -> str:
    key, _, value = option.partition("=")
    return f'{key} "{value}";'


def _with_apt_hint(e: SwarmHpcError) -> SwarmHpcError:
    """apt's commonest failures behind a mirror, with what to type."""
    text = e.message + getattr(e, "output", "")
    if "is expired" in text or "is not valid anymore" in text:
        e.hint = (
            "the package mirror is stale (its Release file has expired). If you trust it: "
            f"SWARMHPC_APT_OPTIONS={_STALE} swarmhpc up"
        )
    elif "Temporary failure resolving" in text or "Could not connect" in text:
        e.hint = (
            "this machine reaches no Debian mirror. Behind a proxy: "
            "SWARMHPC_APT_OPTIONS=Acquire::http::Proxy=http://PROXY:PORT swarmhpc up; "
            "without a network: swarmhpc images load FILE (made with swarmhpc images save on another machine)"
        )
    elif "No space left" in text:
        e.hint = "free some disk (docker system df shows what the engine holds) and run swarmhpc up again"
    return e


def listing(engine: Engine) -> list[Image]:
    """Images that swarmhpc made on this engine."""
    return engine.images(LABEL_IMAGE)


def own_tags(engine: Engine, cluster: Cluster | None) -> list[str]:
    """Names of images made here, and of the pool's from a registry. Images that people built on our base inherit its
    label and are not among them."""
    named = {state.BASE_IMAGE, "debian:latest", cluster.image.name if cluster is not None else None}
    made = [t for i in listing(engine) for t in i.tags]
    return [t for t in made if t.startswith(f"{state.IMAGE_REPOSITORY}:") or t in named]


def save(engine: Engine, cluster: Cluster, extra: Sequence[str], target: Path) -> list[str]:
    """Writes the pool's image, the base as `debian`, and `extra` images into one file; their names."""
    names = [reference(cluster)]
    names += [n for n in (cluster.image.base or state.BASE_IMAGE, "debian:latest") if engine.image(n) is not None]
    names += extra
    for name in names:
        if engine.image(name) is None:
            raise EngineError(f"image {name}: the engine has no such image", hint="swarmhpc images build")
    try:
        engine.images_save(names, target)
    except CommandError as e:
        raise EngineError(
            f"{target} can't be written: {e.output.strip() or e.message}", hint=f"df -h {target.parent}"
        ) from e
    return names
