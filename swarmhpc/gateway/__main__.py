"""What the image's entrypoint starts: the server beside the queue, or the agent on a node."""

import asyncio
import logging
import os
import signal


def _gateway() -> None:
    from swarmhpc.gateway import events, logs, nodes, server, shell  # noqa: F401 (verbs add themselves)

    logs.start(events.start().journal)
    asyncio.run(server.run())


def _agent() -> None:
    from swarmhpc.gateway import agent

    asyncio.run(agent.run())


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # condor_master's word for "read your configuration again"
    is_agent = os.environ["SWARMHPC_ROLE"] == "janitor"
    name = "agent" if is_agent else "gateway"
    logging.basicConfig(level=logging.INFO, format=f"swarmhpc: {name}: %(message)s")
    (_agent if is_agent else _gateway)()
