"""The descriptions. Few jobs each: a small machine runs them all."""

from __future__ import annotations

import re
from typing import Final

from tests.engine.descriptions.case import CLUSTER, COMMAND, ENTRY, ENV, HERE, SHOW, TOOL, USER, Case

# -- the image and what runs in it ------------------------------------------------------------------------------------

IMAGES: Final = (
    Case(
        "an image implies its universe",
        "container_image = debian\nexecutable = /bin/cat\narguments = /etc/debian_version\noutput = out\nqueue\n",
        {"out": re.compile(r"\S+\n")},
    ),
    Case(
        "universe container takes a docker url with a tag",
        "universe = container\ncontainer_image = docker://debian:forky-slim\nexecutable = /bin/echo\n"
        "arguments = hello\noutput = out\nqueue\n",
        {"out": "hello\n"},
    ),
    Case(
        "universe container takes a docker image in quotes",
        f'universe = container\ndocker_image = "{ENV}"\nexecutable = /bin/sh\n'
        "arguments = \"-c 'echo $COLOUR >&2'\"\noutput = out\nerror = err\nqueue\n",
        {"out": "", "err": "blue\n"},
    ),
    Case(
        "an image without a tag and no executable runs its entrypoint with the arguments",
        f"universe = docker\ndocker_image = docker://{ENTRY}\narguments = \"one 'two three'\"\noutput = out\nqueue\n",
        {"out": "[entry]\n[one]\n[two three]\n"},
    ),
    Case(
        "no executable and no arguments runs the command of the image",
        f"docker_image = {COMMAND}\noutput = out\nqueue\n",
        {"out": "[command]\n"},
    ),
    Case(
        "an overridden entrypoint is the executable",
        f"container_image = {ENTRY}\nexecutable = /opt/tool/bin/show\narguments = mine\n"
        "docker_override_entrypoint = true\noutput = out\nqueue\n",
        {"out": "[mine]\n"},
    ),
    Case(
        "an executable below opt is the file of the image",
        f"container_image = {TOOL}\nexecutable = /opt/tool/bin/show\narguments = from opt\noutput = out\nqueue\n",
        {"out": "[from]\n[opt]\n"},
    ),
    Case(
        "an executable that is not transferred is found in the path of the image",
        f"universe = docker\ndocker_image = {ENV}\nexecutable = show\ntransfer_executable = false\n"
        "arguments = a b\noutput = out\nqueue\n",
        {"out": "[a]\n[b]\n"},
    ),
    Case(
        "a relative executable is sent from here",
        "container_image = debian\nexecutable = bin/show.sh\narguments = 1\noutput = out\nqueue\n",
        {"out": "[1]\n"},
        {"bin/": "", "bin/show.sh": SHOW},
    ),
    Case(
        "an absolute executable of the person is sent from here although the image has a user",
        f"container_image = {USER}\nexecutable = {HERE}/work.sh\narguments = kept\noutput = out\nqueue\n",
        {"out": "said kept\n", "made": "kept\n"},
        {"work.sh": "#!/bin/sh\necho said $1; echo $1 > made\n"},
    ),
    Case(
        "each job runs in the image of its row",
        "container_image = $(image)\nexecutable = /bin/sh\narguments = \"-c 'echo $(Process) $COLOUR'\"\n"
        f"output = out.$(Process)\nqueue image in (debian {ENV})\n",
        {"out.0": "0\n", "out.1": "1 blue\n"},
        ends=(0, 0),
    ),
    Case(
        "a shell command runs in the image",
        f"container_image = {ENV}\nshell = echo $COLOUR > made; echo done\noutput = out\nqueue\n",
        {"out": "done\n", "made": "blue\n"},
    ),
    Case(
        "one file with a plain job and one in an image becomes two clusters",
        "executable = show.sh\narguments = $(Process)\noutput = out.$(Process)\nqueue\n"
        f"container_image = {ENV}\nqueue\n",
        {"out.0": "[0] \n", "out.1": "[1] blue\n"},
        {"show.sh": '#!/bin/sh\necho "[$1] $COLOUR"\n'},
        ends=(0, 0),
    ),
)

# -- arguments, environment, what is asked for ------------------------------------------------------------------------

WORDS: Final = (
    Case(
        "arguments in the new syntax keep quotes and blanks",
        "container_image = debian\nexecutable = show.sh\n"
        "arguments = \"one 'two  three' 'it''s' \"\"quoted\"\" '' $(DOLLAR)HOME a=b;c\"\noutput = out\nqueue\n",
        {"out": '[one]\n[two  three]\n[it\'s]\n["quoted"]\n[]\n[$HOME]\n[a=b;c]\n'},
        {"show.sh": SHOW},
    ),
    Case(
        "arguments in the old syntax are words",
        "container_image = debian\nexecutable = show.sh\narguments = one  'two' \\\n   \\\"three\\\" *.sub\n"
        "output = out\nqueue\n",
        {"out": "[one]\n['two']\n[\"three\"]\n[*.sub]\n"},
        {"show.sh": SHOW},
    ),
    Case(
        "the environment in the new syntax goes over that of the image and getenv adds what it names",
        f"container_image = {ENV}\nexecutable = env.sh\ngetenv = MINE, RUNS_*\n"
        "environment = \"COLOUR='dark red' QUOTE='it''s' SAID=\"\"yes\"\" N=$(Process)\"\noutput = out\nqueue\n",
        {"out": 'dark red|it\'s|"yes"|0|mine|1|\n'},
        {"env.sh": '#!/bin/sh\necho "$COLOUR|$QUOTE|$SAID|$N|$MINE|$RUNS_A|$OTHER"\n'},
        variables={"MINE": "mine", "RUNS_A": "1", "OTHER": "stays here"},
    ),
    Case(
        "the environment in the old syntax",
        "container_image = debian\nexecutable = env.sh\nenv = A=1;B=two words; C=x=y\noutput = out\nqueue\n",
        {"out": "1|two words|x=y\n"},
        {"env.sh": '#!/bin/sh\necho "$A|$B|$C"\n'},
    ),
    Case(
        "quantities and attributes reach the job",
        "container_image = debian\nexecutable = /bin/grep\n"
        "arguments = \"-E '^(RequestCpus|RequestMemory|RequestDisk|Colour|Size) ' .job.ad\"\n"
        'request_cpus = 2\nrequest_memory = 0.25 GB\nrequest_disk = 2M\n+Colour = "dark $(what)"\nMY.Size = 3 * 14\n'
        "what = red\noutput = out\nqueue\n",
        {"out": 'Colour = "dark red"\nRequestCpus = 2\nRequestDisk = 2048\nRequestMemory = 256\nSize = 3 * 14\n'},
    ),
    Case(
        "adapt drops the term that never matches",
        "container_image = debian\nexecutable = /bin/echo\narguments = ran\noutput = out\n"
        'requirements = (OpSysAndVer == "CentOS7") && (TotalCpus >= 1) && HasSingularity\nqueue\n',
        {"out": "ran\n"},
        words=("--adapt",),
    ),
    Case(
        "macros and lines may come from the command line",
        "container_image = debian\nexecutable = /bin/echo\narguments = lost\noutput = $(name).$(Process)\nqueue $(N)\n",
        {"x.0": "x 0 2\n", "x.1": "x 1 2\n"},
        ends=(0, 0),
        words=("N=2", "name=x", "-a", "arguments = $(name) $(Process) $(N)"),
    ),
)

# -- what travels, and where results go -------------------------------------------------------------------------------

FILES: Final = (
    Case(
        "a file is the standard input",
        "container_image = debian\nexecutable = /usr/bin/tr\narguments = a-z A-Z\ninput = data/in.txt\noutput = out\n"
        "queue\n",
        {"out": "SHOUT\n"},
        {"data/": "", "data/in.txt": "shout\n"},
    ),
    Case(
        "a folder travels whole or as its contents",
        "container_image = debian\nexecutable = /usr/bin/find\narguments = whole a.txt b -type f\n"
        "transfer_input_files = whole, parts/\noutput = out\ntransfer_output_files =\nqueue\n",
        {"out": "whole/x/y.txt\na.txt\nb/c.txt\n"},
        {"whole/x/": "", "whole/x/y.txt": "y", "parts/b/": "", "parts/a.txt": "a", "parts/b/c.txt": "c"},
    ),
    Case(
        "only the named results come back, a folder whole",
        "container_image = debian\nexecutable = make.sh\ntransfer_output_files = kept, d\nqueue\n",
        {"kept": "1\n", "d/e/f": "3\n"},
        {"make.sh": "#!/bin/sh\necho 1 > kept; echo 2 > lost; mkdir -p d/e; echo 3 > d/e/f; echo said\n"},
    ),
    Case(
        "results are put where the remaps say",
        "container_image = debian\nexecutable = make.sh\narguments = $(Process)\ntransfer_output_files = a, b, c\n"
        f'transfer_output_remaps = "a=results/a.$(Process); b={HERE}/other/b.$(Process).$(Cluster);c=c.$(Process)"\n'
        "output = results/out.$(Process)\nqueue 2\n",
        {
            **{f"results/a.{i}": f"a{i}\n" for i in range(2)},
            **{f"other/b.{i}.{CLUSTER}": f"b{i}\n" for i in range(2)},
            **{f"c.{i}": f"c{i}\n" for i in range(2)},
            **{f"results/out.{i}": f"{i}\n" for i in range(2)},
        },
        {"results/": "", "other/": "", "make.sh": "#!/bin/sh\nfor f in a b c; do echo $f$1 > $f; done; echo $1\n"},
        ends=(0, 0),
    ),
    Case(
        "new files of an image job without inputs follow the remaps",
        "container_image = debian\nexecutable = /bin/sh\narguments = \"-c 'echo $(Process) > made; echo 5 > rest'\"\n"
        'transfer_output_remaps = "made=sub/made.$(Cluster)"\nqueue\n',
        {f"sub/made.{CLUSTER}": "0\n", "rest": "5\n"},
        {"sub/": ""},
    ),
    Case(
        "each job has its own initial directory",
        "container_image = debian\nexecutable = work.sh\ninitialdir = run_$(n)\n"
        "transfer_input_files = in.txt, ../shared\n"
        "output = out\nqueue n in (1, 2)\n",
        {f"run_{n}/{name}": f"{n}+all\n" for n in (1, 2) for name in ("out", "made")},
        {
            "work.sh": '#!/bin/sh\necho "$(cat in.txt)+$(cat shared)" | tee made\n',
            "shared": "all",
            **{f"run_{n}/": "" for n in (1, 2)},
            **{f"run_{n}/in.txt": f"{n}" for n in (1, 2)},
        },
        ends=(0, 0),
    ),
    Case(
        "each job has its own executable and inputs",
        "container_image = debian\nexecutable = $(program)\ntransfer_input_files = $(program).txt,more\n"
        "output = $(program).out\nqueue program in (first second)\n",
        {"first.out": "one of first\nblank\n", "second.out": "two of second\nblank\n"},
        {
            "first": "#!/bin/sh\nprintf 'one '; cat first.txt 'more/a b.txt'\n",
            "second": "#!/bin/sh\nprintf 'two '; cat second.txt 'more/a b.txt'\n",
            "first.txt": "of first\n",
            "second.txt": "of second\n",
            "more/": "",
            "more/a b.txt": "blank\n",
        },
        ends=(0, 0),
    ),
    Case(
        "relative paths of inputs are kept where asked",
        "container_image = debian\nexecutable = /bin/cat\narguments = in/deep/a.txt in/b.txt\n"
        "transfer_input_files = in/deep/a.txt, in/b.txt\npreserve_relative_paths = true\noutput = out\nqueue\n",
        {"out": "ab"},
        {"in/deep/": "", "in/deep/a.txt": "a", "in/b.txt": "b"},
    ),
)

# -- which jobs there are ---------------------------------------------------------------------------------------------

QUEUES: Final = (
    Case(
        "rows of a file, a count and the live macros",
        "container_image = debian\nexecutable = /bin/echo\narguments = $(name) $(size) $(Process) $(Step) $(Row)\n"
        "output = out.$INT(Process,%03d)\nqueue 2 name, size from table.txt\n",
        {
            "out.000": "a 1 0 0 0\n",
            "out.001": "a 1 1 1 0\n",
            "out.002": "b two words 2 0 1\n",
            "out.003": "b two words 3 1 1\n",
        },
        {"table.txt": "a, 1\nb, two words\n"},
        ends=(0, 0, 0, 0),
    ),
    Case(
        "a slice of an inline table with two variables",
        "container_image = debian\nexecutable = /bin/echo\narguments = $(Item:none) $(y) $(x)\noutput = $(x).$(y)\n"
        "queue x, y from [1:4:2] (\n  a 1\n  b 2\n  c 3\n  d 4\n)\n",
        {"b.2": "none 2 b\n", "d.4": "none 4 d\n"},
        ends=(0, 0),
    ),
    Case(
        "matching files and the functions of their names",
        "container_image = debian\nexecutable = /bin/cat\narguments = $Fnx(file)\ntransfer_input_files = $(file)\n"
        "output = $Fpn(file).out\nqueue file matching files (data/*.dat)\n",
        {"data/a.out": "of a\n", "data/b.out": "of b\n"},
        {"data/": "", "data/a.dat": "of a\n", "data/b.dat": "of b\n", "data/c.txt": "of c\n"},
        ends=(0, 0),
    ),
    Case(
        "matching folders are initial directories",
        "container_image = debian\nexecutable = /bin/echo\narguments = $(dir)\ninitialdir = $(dir)\n"
        "output = out\nqueue dir matching dirs set_*\n",
        {"set_a/out": "set_a/\n", "set_b/out": "set_b/\n"},
        {"set_a/": "", "set_b/": "", "set_file": ""},
        ends=(0, 0),
    ),
    Case(
        "several queue statements go on counting and keep what is not set again",
        "container_image = debian\nexecutable = /bin/echo\nword = first\narguments = $(word) $(Process) $(COLOUR)\n"
        "output = out.$(Process)\nCOLOUR = red\nqueue 2\nword = second\nCOLOUR = blue\n"
        "transfer_output_files =\nqueue\n"
        f"container_image = {TOOL}\nexecutable = /opt/tool/bin/show\nqueue\n",
        {
            "out.0": "first 0 red\n",
            "out.1": "first 1 red\n",
            "out.2": "second 2 blue\n",
            "out.3": "[second]\n[3]\n[blue]\n",
        },
        ends=(0, 0, 0, 0),
    ),
    Case(
        "conditions includes and blocks",
        "size = 3\nlarge = $(size) > 2\ntwice = $(size) * 2\ninclude : common.inc\n"
        "if defined missing\n  arguments = wrong\nelif $EVAL(large)\n"
        "  if version >= 8.9.1\n    arguments = $(from_include) $INT(twice) $REAL(twice,%.2f)\n  endif\nelse\n"
        "  arguments = small\nendif\noutput = out\nqueue\n",
        {"out": "included 3 6 6.00\n"},
        {
            "common.inc": "container_image = debian\nexecutable = /bin/echo\n"
            "from_include @=end\nincluded $(size)\n@end\n",
        },
    ),
    Case(
        "functions of strings and of chance",
        "container_image = debian\nexecutable = /bin/echo\nlist = x,y,z\nword = abcdef\n"
        "arguments = $CHOICE(Process,list) $SUBSTR(word,1,3) $RANDOM_CHOICE(p,q) $RANDOM_INTEGER(10,12) $ENV(HOME)\n"
        "output = out.$CHOICE(Process,list)\nqueue 2\n",
        {"out.x": re.compile(r"x bcd [pq] 1[012] /home/me\n"), "out.y": re.compile(r"y bcd [pq] 1[012] /home/me\n")},
        ends=(0, 0),
        variables={"HOME": "/home/me"},
    ),
    Case(
        "an allowed command gives the rows",
        "container_image = debian\nexecutable = /bin/echo\narguments = got $(x)\noutput = out.$(x)\n"
        "queue x from seq 7 8 |\n",
        {"out.7": "got 7\n", "out.8": "got 8\n"},
        ends=(0, 0),
        words=("--allow-commands",),
    ),
    Case(
        "jobs that are made late all run",
        "container_image = debian\nexecutable = /bin/echo\narguments = $(x)\noutput = out.$(Process)\n"
        "max_materialize = 2\nrequest_memory = 64M\nqueue x in (a b c d e)\n",
        {f"out.{i}": f"{x}\n" for i, x in enumerate("abcde")},
        ends=(0,) * 5,
    ),
)

# -- how jobs end -----------------------------------------------------------------------------------------------------

# In .job.ad: how often the job has ended before.
_AGAIN: Final = "#!/bin/sh\nn=$(sed -n 's/^NumJobCompletions = //p' .job.ad)\necho ${n:-0}; exit $((CODE - ${n:-0}))\n"

ENDS: Final = (
    Case(
        "exit codes and signals are told",
        "container_image = debian\nexecutable = /bin/sh\narguments = \"-c '$(do)'\"\noutput = out.$(Process)\n"
        "do = echo $(Process); $(how)\nqueue how from (\n  exit 0\n  exit 7\n  kill -9 $$\n)\n",
        {f"out.{i}": f"{i}\n" for i in range(3)},
        ends=(0, 7, -9),
    ),
    Case(
        "a plain job that is killed tells its signal and returns what it made",
        "executable = work.sh\noutput = out\nerror = /dev/null\nlog = job.log\nqueue\n",
        {"out": "begun\n", "made": "half\n", "job.log": re.compile(r"(?s)000 .* Job terminated.*signal 15.*")},
        {"work.sh": "#!/bin/sh\necho begun; echo half > made; kill -TERM $$; sleep 60\n"},
        ends=(-15,),
    ),
    Case(
        "a job that fails is tried again",
        "container_image = debian\nexecutable = again.sh\nmax_retries = 2\noutput = out\nqueue\n",
        {"out": "1\n"},
        {"again.sh": _AGAIN.replace("CODE", "1")},
    ),
    Case(
        "another exit code may be success",
        "container_image = debian\nexecutable = again.sh\nmax_retries = 2\nsuccess_exit_code = 3\n"
        "output = out\nqueue\n",
        {"out": "1\n"},
        {"again.sh": _AGAIN.replace("CODE", "4")},
        ends=(3,),
    ),
    Case(
        "a job leaves only as on_exit_remove says",
        "container_image = debian\nexecutable = again.sh\non_exit_remove = ExitCode =?= 5\noutput = out\nqueue\n",
        {"out": "1\n"},
        {"again.sh": _AGAIN.replace("CODE", "6")},
        ends=(5,),
    ),
)

ALL: Final = (*ENDS, *QUEUES, *FILES, *WORDS, *IMAGES)  # those that run twice are first: they take longest
