"""The states of a job, beside HTCondor's own. Defined once, here; docs/jobs.md explains them.

The names are those of AWS Batch (its user guide, "Job states"), so that people who come from there find them.
"""

from __future__ import annotations

from typing import Final

SUBMITTED: Final = "SUBMITTED"  # its input files are still on their way into the pool
PENDING: Final = "PENDING"  # waits for something else than a slot: another job, a date, or to be released
RUNNABLE: Final = "RUNNABLE"  # waits for a slot
STARTING: Final = "STARTING"  # has a slot; input files, image, container are being made ready
RUNNING: Final = "RUNNING"
SUCCEEDED: Final = "SUCCEEDED"
FAILED: Final = "FAILED"  # ended badly, was removed, or is held for a reason that it will not get over by itself
STATES: Final = (SUBMITTED, PENDING, RUNNABLE, STARTING, RUNNING, SUCCEEDED, FAILED)

SPOOLING: Final = 16  # HoldReasonCode (25 manual, HoldReasonCode): input files are on their way
BY_REQUEST: Final = frozenset({1, 15})  # held by its own person, with condor_hold or `hold = true`


def state_of(
    status: str, *, hold_code: int = 0, executing: bool = False, exit_code: int | None = None, waits: bool = False
) -> str:
    """The state of a job. `status`: HTCondor's (adapters/job_ads.py, STATUS). `executing`: its program has begun in
    this attempt. `exit_code`: None also where it ended by a signal. `waits`: it is a node of a DAG that is not
    submitted yet."""
    if status == "held":
        if hold_code == SPOOLING:
            return SUBMITTED
        return PENDING if hold_code in BY_REQUEST else FAILED
    if status == "completed":
        return SUCCEEDED if exit_code == 0 else FAILED
    if status == "removed":
        return FAILED
    if status == "running":
        return RUNNING if executing else STARTING
    if status in ("transferring", "suspended"):
        return RUNNING
    return PENDING if waits else RUNNABLE
