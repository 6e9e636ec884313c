"""What swarmhpc reads while a playbook runs: one JSON object a line on standard output.

{"event": "start", "host", "task"}   a task begins on a host
{"event": "ok" | "failed" | "unreachable", "host", "task", "changed", "result"}   `result` keeps what is shown
"""

from __future__ import annotations

import json
import sys

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: swarmhpc_events
type: stdout
short_description: one JSON object a line
description: Read by swarmhpc/adapters/ansible.py.
"""

KEPT = ("msg", "stderr", "stdout", "rc", "module_stderr", "module_stdout", "reason")


class CallbackModule(CallbackBase):
    """The events that the adapter needs."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "swarmhpc_events"

    def v2_runner_on_start(self, host, task):
        """A task begins on a host (also one that is skipped then)."""
        self._say("start", host, task)

    def v2_runner_on_ok(self, result):
        """It went well."""
        self._done("ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        """It failed."""
        self._done("ok" if ignore_errors else "failed", result)

    def v2_runner_on_unreachable(self, result):
        """The host could not be reached."""
        self._done("unreachable", result)

    def _done(self, event, result):
        data = result._result
        failed = [item for item in data.get("results", []) if isinstance(item, dict) and item.get("failed")]
        words = failed[0] if failed else data
        report = data.get("swarmhpc_report") or data.get("ansible_facts", {}).get("swarmhpc_report") or {}
        kept = {key: str(words[key]) for key in KEPT if words.get(key)} if event != "ok" else {}
        self._say(event, result._host, result._task, changed=bool(data.get("changed")), result=kept, report=report)

    def _say(self, event, host, task, **more):
        line = {"event": event, "host": host.get_name(), "task": task.get_name().rpartition(" : ")[2], **more}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
