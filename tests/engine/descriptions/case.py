"""A description, the folder it is submitted from, and that folder afterwards."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# Made by docker_images() of test_descriptions.py.
ENTRY = "runs-entry:1"  # entrypoint: /opt/tool/bin/show entry
COMMAND = "runs-command:1"  # no entrypoint, command: /opt/tool/bin/show command
ENV = "runs-env:2"  # COLOUR=blue, /opt/tool/bin is in PATH, working directory /srv
TOOL = "runs-tool"  # a tag that moves; nothing but the program /opt/tool/bin/show
USER = "runs-user:1.0"  # user nobody

SHOW = '#!/bin/sh\nfor a do echo "[$a]"; done\n'  # one line for each argument

HERE = "@HERE@"  # in texts: the folder
CLUSTER = "@CLUSTER@"  # in names and contents of `wanted`: the job's cluster


@dataclass(frozen=True)
class Case:
    """`given`: the files at first (executable where they begin with #!; a name with / at the end is a folder).
    `wanted`: what is there besides afterwards, or has changed; a pattern where the content is not known before.
    `ends`: exit code of each job, or -N for signal N. `words`: after the file's name. `variables`: of the environment.
    """

    name: str
    text: str
    wanted: Mapping[str, str | re.Pattern[str]]
    given: Mapping[str, str] = field(default_factory=dict)
    ends: Sequence[int] = (0,)
    words: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name.replace(" ", "-")
