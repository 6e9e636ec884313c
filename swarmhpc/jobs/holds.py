"""Why HTCondor holds a job: its codes in our words. Pure.

Codes: 25.14, src/condor_utils/condor_holdcodes.h (CONDOR_HOLD_CODE); the manual explains them in "Job ClassAd
Attributes", HoldReasonCode. Texts: seen on a real pool, or src/condor_starter.V6.1/docker_proc.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Hold:
    """One kind of hold. `code`: ours (docs/why.md); `words`: what follows "held: "; `hint`: may name {id}."""

    name: str
    code: str
    words: str
    hint: str


_LOGS: Final = "swarmhpc logs {id} --error"
_MEND: Final = "mend it in the submit description and submit again: swarmhpc rm {id}"
_AGAIN: Final = "swarmhpc release {id}"
_NEVER: Final = "this pool does not use it; swarmhpc release {id} tries again"

CODES: Final[Mapping[int, Hold]] = {
    0: Hold("Unspecified", "held", "HTCondor gives no code for it", _AGAIN),
    1: Hold("UserRequest", "held-by-person", "somebody held it", _AGAIN),
    2: Hold("GlobusGramError", "held", "an error of Globus", _NEVER),
    3: Hold("JobPolicy", "held-by-rule", "a rule of the job itself holds it (periodic_hold, on_exit_hold)", _AGAIN),
    4: Hold("CorruptedCredential", "held", "its credentials are missing or not valid", _MEND),
    5: Hold("JobPolicyUndefined", "held-by-rule", "a rule of the job itself has no value", _MEND),
    6: Hold("FailedToCreateProcess", "command-not-started", "its command could not be started", _MEND),
    7: Hold("UnableToOpenOutput", "output-file", "the file for its output can't be opened", _MEND),
    8: Hold("UnableToOpenInput", "input-file", "the file for its standard input can't be opened", _MEND),
    9: Hold("UnableToOpenOutputStream", "output-file", "the stream for its output can't be opened", _MEND),
    10: Hold("UnableToOpenInputStream", "input-file", "the stream for its standard input can't be opened", _MEND),
    11: Hold("InvalidTransferAck", "held", "the transfer of its files ended with a wrong answer", _AGAIN),
    12: Hold("TransferOutputError", "output-file", "a file that it should bring back could not be sent", _LOGS),
    13: Hold("TransferInputError", "input-file", "a file that it needs could not be sent to the executor", _MEND),
    14: Hold("IwdError", "held", "its folder in the access point can't be entered", _MEND),
    15: Hold("SubmittedOnHold", "held-by-person", "it was submitted on hold (hold = true)", _AGAIN),
    16: Hold("SpoolingInput", "spooling", "its input files are on their way into the pool", "swarmhpc q {id}"),
    17: Hold("JobShadowMismatch", "held", "job and shadow are of versions that don't fit", _NEVER),
    18: Hold("InvalidTransferGoAhead", "held", "the transfer of its files began with a wrong answer", _AGAIN),
    19: Hold("HookPrepareJobFailure", "held", "the executor could not prepare it (a hook failed)", _AGAIN),
    20: Hold("MissedDeferredExecutionTime", "held", "the time it was to begin at has passed", _MEND),
    21: Hold("StartdHeldJob", "held-by-pool", "a rule of its executor holds it", _AGAIN),
    22: Hold("UnableToInitUserLog", "output-file", "its log file can't be written", _MEND),
    23: Hold("FailedToAccessUserAccount", "held", "its account in the access point can't be used", "swarmhpc doctor"),
    24: Hold("NoCompatibleShadow", "held", "the access point has no shadow for it", "swarmhpc doctor"),
    25: Hold("InvalidCronSettings", "held", "its cron_* commands are wrong", _MEND),
    26: Hold("SystemPolicy", "held-by-pool", "a rule of the pool holds it", _AGAIN),
    27: Hold("SystemPolicyUndefined", "held-by-pool", "a rule of the pool has no value for it", _AGAIN),
    28: Hold("GlexecChownSandboxToUser", "held", "its files could not be given to its account", _NEVER),
    29: Hold("PrivsepChownSandboxToUser", "held", "its files could not be given to its account", _NEVER),
    30: Hold("GlexecChownSandboxToCondor", "held", "its files could not be taken back", _NEVER),
    31: Hold("PrivsepChownSandboxToCondor", "held", "its files could not be taken back", _NEVER),
    32: Hold("MaxTransferInputSizeExceeded", "input-file", "its input files are larger than allowed", _MEND),
    33: Hold("MaxTransferOutputSizeExceeded", "output-file", "its output files are larger than allowed", _MEND),
    34: Hold("JobOutOfResources", "held", "it used more than it asked for", _AGAIN),
    35: Hold("InvalidDockerImage", "image", "its image could not be used", _MEND),
    36: Hold("FailedToCheckpoint", "held", "its checkpoint could not be written", _LOGS),
    37: Hold("EC2UserError", "held", "an error of EC2", _NEVER),
    38: Hold("EC2InternalError", "held", "an error of EC2", _NEVER),
    39: Hold("EC2AdminError", "held", "an error of EC2", _NEVER),
    40: Hold("EC2ConnectionProblem", "held", "an error of EC2", _NEVER),
    41: Hold("EC2ServerError", "held", "an error of EC2", _NEVER),
    42: Hold("EC2InstancePotentiallyLostError", "held", "an error of EC2", _NEVER),
    43: Hold("PreScriptFailed", "command-not-started", "its pre command failed (+PreCmd)", _MEND),
    44: Hold("PostScriptFailed", "held", "its post command failed (+PostCmd)", _MEND),
    45: Hold("SingularityTestFailed", "held", "the test of Apptainer failed", _NEVER),
    46: Hold("JobDurationExceeded", "time-limit", "it took longer than allowed", ""),
    47: Hold("JobExecuteExceeded", "time-limit", "it ran longer than allowed", ""),
    48: Hold("HookShadowPrepareJobFailure", "held", "the access point could not prepare it (a hook failed)", _AGAIN),
    49: Hold("CannotSwitchPrimaryGroup", "held", "its account in the access point lacks a group", "swarmhpc doctor"),
}
"""Every code for which HTCondor holds; 1000 and more send a job back to the queue instead."""

VACATED: Final[Mapping[int, str]] = {
    1000: "a rule of the job", 1001: "a rule of the pool", 1002: "its shadow failed", 1003: "it could not be started",
    1004: "somebody sent it back", 1005: "it asked to run again", 1006: "its slot was not to be had any more",
    1007: "its starter failed", 1008: "its executor was out of reach for too long", 1009: "its slot was taken back",
    1010: "its executor was told to stop it", 1011: "its executor's rules stopped it", 1012: "its executor failed",
    1013: "its executor was shut down", 1014: "its executor drained", 1015: "its slot was joined with others",
    1016: "its executor went to sleep", 1017: "its slot was released", 1018: "its executor preferred another job",
    1019: "another person's job came first", 1020: "its virtual machine failed", 1021: "its container failed",
    1022: "the access point took it back", 1023: "it was removed", 1024: "no scratch directory could be made for it",
    1025: "it wrote a checkpoint", 1026: "its slot did not understand it", 1027: "its slot did not match any more",
    1028: "its slot was still being cleaned", 1029: "its slot had run long enough", 1030: "its slot was given away",
    1031: "its slot is broken", 1032: "its slot was busy", 1033: "its slot was not claimed any more",
    1034: "its slot knew nothing of it", 1035: "its slot was used up", 1036: "its slot is not well",
    1037: "its executor went to another access point",
}  # fmt: skip
"""VacateReasonCode: why a job came back to the queue."""

_MEMORY, _DISK = 102, 104  # OUT_OF_RESOURCES_SUB_CODE
_FROM: Final = re.compile(r"^Error from [^:]*: ")
_PLACE: Final = re.compile(r"(?:Transfer (?:in|out)put files failure at .*? Details: )?(?:\d+ total failures: )?")
_FILE: Final = re.compile(r"(?:reading from|writing to|write to) file (.+?): \(errno \d+\) ([^;|]+)")
_SCRATCH: Final = re.compile(r"/\S*/dir_\d+/(?:scratch/)?")

_IMAGE: Final = (
    # (what docker says, code, words, hint); the first that is found. Docker's words: moby, distribution/pull*.go.
    ("no such host|dial tcp|i/o timeout|connection refused|TLS handshake|context deadline|EOF$",
     "registry-unreachable", "the executor can't reach the registry of its image",
     "bring the image to the nodes: docker save IMAGE | ssh NODE docker load; then {release}"),
    ("toomanyrequests|rate limit", "registry-limit", "the registry gives no more images to this pool for a while",
     "{release} later, or bring the image to the nodes yourself"),
    ("pull access denied|repository does not exist|manifest unknown|not found|no such image|manifest for",
     "image-not-found", "there is no such image, or it is not public", "look for a typing mistake: docker pull IMAGE"),
    ("unauthorized|denied|no basic auth", "image-not-found", "the registry does not give its image to everybody",
     "make it public, or bring it to the nodes"),
    ("no space left", "node-disk-full", "the node has no room for its image", "tell the pool's administrator"),
    ("rchitecture|exec format|no matching manifest", "image-wrong",
     "its image is made for another kind of processor", "use one for x86_64: docker pull --platform linux/amd64"),
    ("not a valid reference|invalid reference", "image-wrong", "the name of its image is none", _MEND),
)  # fmt: skip


def plain(text: str) -> str:
    """HTCondor's reason without where it comes from and without the executor's own paths."""
    return _SCRATCH.sub("", _PLACE.sub("", _FROM.sub("", text.strip()), count=1)).strip() or text.strip()


def file_in(text: str) -> tuple[str, str] | None:
    """(file, what is wrong with it) of a transfer that failed."""
    found = _FILE.search(text)
    return (_SCRATCH.sub("", found[1]), found[2].strip().lower()) if found else None


def hold(code: int, subcode: int, text: str) -> Hold:
    """What holds a job, from its HoldReasonCode, HoldReasonSubCode and HoldReason."""
    known = CODES.get(code, Hold(f"code {code}", "held", "HTCondor holds it for a reason that we don't know", _AGAIN))
    if code in (21, 34) and subcode == _MEMORY:
        return Hold(known.name, "out-of-memory", "it needed more memory than it asked for", "")
    if code in (21, 34) and subcode == _DISK:
        return Hold(known.name, "out-of-disk", "it needed more disk than it asked for", "")
    if code == 35:
        for pattern, ours, words, hint in _IMAGE:
            if re.search(pattern, text, re.IGNORECASE):
                return Hold(known.name, ours, words, hint.replace("{release}", _AGAIN))
    return known
