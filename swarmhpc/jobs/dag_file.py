"""Reads DAG files: text in, commands, nodes and findings out. No I/O of its own; nothing is ever executed.

The commands are those of HTCondor 25.14 (manual, "DAGMan File Reference"; src/condor_utils/dag_parser.cpp).
"""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from swarmhpc.jobs.dag_model import ALL, Dag, Node, Other, Script, Splice, Variable
from swarmhpc.jobs.dag_words import DagError, DagLines, Word, Words
from swarmhpc.jobs.findings import Findings, Place, Value, short

_RESERVED: Final = frozenset({"PARENT", "CHILD", ALL})
_DEEPEST: Final = 20  # of files that include or splice each other
_MAX_NODES: Final = 100_000
# Commands that are handed on as they are: what follows names a node, a category, a file or nothing we look at.
_OF_NODE: Final = frozenset(
    {"RETRY", "ABORT_DAG_ON", "PRIORITY", "PRE_SKIP", "TOLERANCE", "DONE", "CATEGORY", "SAVE_POINT_FILE"}
)
_SPLICED: Final = frozenset({"PIN_IN", "PIN_OUT", "CONNECT"})
_OTHER: Final = frozenset({"MAXJOBS", "DOT", "NODE_STATUS_FILE", "JOBSTATE_LOG"})
_NODES: Final = frozenset({"JOB", "FINAL", "SERVICE"})
_KNOWN: Final = (
    _OF_NODE | _SPLICED | _OTHER | _NODES
    | {"SUBDAG", "SPLICE", "PARENT", "WEAK", "SCRIPT", "VARS", "CONFIG", "INCLUDE", "SET_JOB_ATTR", "ENV", "REJECT",
       "PROVISIONER", "SUBMIT_DESCRIPTION"}
)  # fmt: skip


Read = Callable[[str], str]
"""Text of the file at an absolute path; raises OSError or ValueError."""


def read(text: str, *, file: str, folder: str, findings: Findings, reading: Read) -> Dag:
    """Reads a DAG file and all that it splices or includes. Never raises; what is wrong goes to `findings`.

    `file` names it in places; `folder` is the absolute directory that its paths start from.
    """
    return _Reader(findings, reading).dag(text, file, folder, ())


class _Reader:
    def __init__(self, findings: Findings, reading: Read) -> None:
        self._findings = findings
        self._read = reading
        self._nodes = 0

    def dag(self, text: str, file: str, folder: str, within: tuple[str, ...]) -> Dag:
        dag = Dag(file, folder)
        named: list[tuple[Word, str]] = []  # nodes that commands speak of
        descriptions: dict[str, str] = {}
        lines = self._commands(dag, text, file, within, named, descriptions)
        self._check(dag, named)
        # A description may stand below the node that uses it.
        for number, command in enumerate(dag.commands):
            if isinstance(command, Node) and command.kind != "SUBDAG" and command.file in descriptions:
                used = replace(command, file=None, inline=descriptions[command.file])
                dag.commands[number] = dag.nodes[used.name] = used
        if not dag.nodes and not dag.splices and not self._findings.errors:
            self._findings.add(lines, "error", "no-nodes", f"{file} has no nodes", "add: JOB NAME FILE.sub")
        return dag

    def _commands(
        self,
        dag: Dag,
        text: str,
        file: str,
        within: tuple[str, ...],
        named: list[tuple[Word, str]],
        descriptions: dict[str, str],
    ) -> Place:
        lines = DagLines(text, file)
        for line in lines:
            if self._findings.is_full():
                break
            try:
                self._command(dag, line, lines, within, named, descriptions)
            except DagError as e:
                self._findings.add(e.place, "error", e.code, e.message, e.hint)
        return lines.end

    def _command(
        self,
        dag: Dag,
        line: Value,
        lines: DagLines,
        within: tuple[str, ...],
        named: list[tuple[Word, str]],
        descriptions: dict[str, str],
    ) -> None:
        words = Words(line)
        first = words.wanted("a command")
        keyword = first.raw.upper().replace("-", "_")
        if keyword in _NODES:
            self._node(dag, keyword, words, lines, first.place)
        elif keyword == "SUBDAG":
            external = words.wanted("EXTERNAL")
            if not external.is_keyword("EXTERNAL"):
                raise DagError(external.place, f"{external.raw!r}: wanted EXTERNAL", "SUBDAG EXTERNAL NAME FILE.dag")
            self._node(dag, keyword, words, lines, first.place)
        elif keyword == "SUBMIT_DESCRIPTION":
            name = words.wanted("a name for the description")
            body = _body(words.wanted("{ or @=TOKEN"), lines)
            if body is None:
                raise DagError(name.place, "wanted { and the lines of a description", "SUBMIT-DESCRIPTION NAME {")
            descriptions[name.raw] = body[0]
        elif keyword == "SPLICE":
            self._splice(dag, words, within, first.place)
        elif keyword in ("PARENT", "WEAK"):
            if keyword == "WEAK" and not words.wanted("PARENT").is_keyword("PARENT"):
                raise DagError(first.place, "WEAK: wanted PARENT behind it")
            self._edges(dag, words, first.place, named)
            dag.commands.append(Other(keyword, line.text, first.place))
        elif keyword == "SCRIPT":
            self._script(dag, words, first.place, named)
        elif keyword == "VARS":
            self._variables(dag, words, named)
        elif keyword == "INCLUDE":
            file = words.wanted("a file")
            words.end()
            path = posixpath.join(dag.folder, file.text)
            self._deep_enough(path, within, file.place)
            self._commands(dag, self._text(path, file), _shown(path, dag), (*within, path), named, descriptions)
        elif keyword == "CONFIG":
            file = words.wanted("a file")
            dag.config = dag.config or posixpath.join(dag.folder, file.text)
            dag.commands.append(Other(keyword, line.text, first.place))
        elif keyword == "SET_JOB_ATTR":
            dag.attributes.append((words.rest().text, first.place))
            dag.commands.append(Other(keyword, line.text, first.place))
        elif keyword == "ENV":
            action = words.wanted("SET or GET")
            if not action.is_keyword("SET") and not action.is_keyword("GET"):
                raise DagError(action.place, f"{action.raw!r}: wanted SET or GET")
            rest = words.rest().text
            if action.is_keyword("SET"):
                dag.set_env.append(rest)
            else:
                dag.get_env += rest.replace(",", " ").split()
            dag.commands.append(Other(keyword, line.text, first.place))
        elif keyword == "REJECT":
            raise DagError(first.place, "this file says REJECT: it must not be submitted", code="dag-rejected")
        elif keyword == "PROVISIONER":
            raise DagError(first.place, "a PROVISIONER has nothing to do here: the pool brings its executors itself",
                           "remove the line; see: swarmhpc autoscale --help", code="dag-unsupported")  # fmt: skip
        elif keyword in _OF_NODE | _SPLICED:
            node = words.wanted("a node")
            if keyword in _OF_NODE:
                named.append((node, keyword))
            self._numbers(keyword, words)
            dag.commands.append(Other(keyword, line.text, first.place))
        elif keyword in _OTHER:
            words.wanted("a category" if keyword == "MAXJOBS" else "a file")
            if keyword == "MAXJOBS":
                words.number("the most jobs at a time", least=0)
            dag.commands.append(Other(keyword, line.text, first.place))
        else:
            close = difflib.get_close_matches(keyword, _KNOWN, 1)
            message = f"{short(first.raw)} is no command of a DAG file"
            raise DagError(first.place, message, f"did you mean {close[0]}?" if close else "", "dag-command")

    def _numbers(self, keyword: str, words: Words) -> None:
        if keyword == "RETRY":
            words.number("the number of retries", least=0)
            if (word := words.next()) is not None:
                if not word.is_keyword("UNLESS_EXIT"):
                    raise DagError(word.place, f"{word.raw!r}: wanted UNLESS-EXIT or nothing")
                words.number("the exit code")
                words.end()
        elif keyword == "ABORT_DAG_ON":
            words.number("the exit code")
            if (word := words.next()) is not None:
                if not word.is_keyword("RETURN"):
                    raise DagError(word.place, f"{word.raw!r}: wanted RETURN or nothing")
                words.number("the exit code of the DAG", least=0, most=255)
                words.end()
        elif keyword in ("PRIORITY", "PRE_SKIP"):
            words.number("the priority" if keyword == "PRIORITY" else "the exit code")
            words.end()
        elif keyword in ("PIN_IN", "PIN_OUT"):
            words.number("the number of the pin", least=1)
        elif keyword == "DONE":
            words.end()

    # -- nodes ------------------------------------------------------------------------------------------------------

    def _node(self, dag: Dag, kind: str, words: Words, lines: DagLines, place: Place) -> None:
        name = words.wanted("a name for the node")
        said = words.wanted("a submit description" if kind != "SUBDAG" else "a DAG file")
        file: str | None = said.text
        inline = ""
        body = _body(said, lines) if kind != "SUBDAG" else None
        if body is not None:
            file, (inline, rest) = None, body
            words = Words(rest)
        _good_name(name, dag)
        directory, noop, done = "", False, False
        while (word := words.next()) is not None:
            if word.is_keyword("DIR"):
                directory = words.wanted("a directory").text
            elif word.is_keyword("NOOP"):
                noop = True
            elif word.is_keyword("DONE"):
                done = True
            else:
                raise DagError(word.place, f"{word.raw!r}: wanted DIR, NOOP or DONE")
        if kind == "FINAL" and any(n.kind == "FINAL" for n in dag.nodes.values()):
            raise DagError(place, "this is the second FINAL node; a DAG has one at most")
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise DagError(place, f"these are more than {_MAX_NODES} nodes", "split the DAG", "too-many")
        folder = posixpath.normpath(posixpath.join(dag.folder, directory))
        node = Node(kind, name.raw, file, inline, folder, directory, noop, done, place)
        dag.nodes[name.raw] = node
        dag.commands.append(node)

    def _splice(self, dag: Dag, words: Words, within: tuple[str, ...], place: Place) -> None:
        name = words.wanted("a name for the splice")
        file = words.wanted("a DAG file")
        directory = ""
        if (word := words.next()) is not None:
            if not word.is_keyword("DIR"):
                raise DagError(word.place, f"{word.raw!r}: wanted DIR or nothing")
            directory = words.wanted("a directory").text
            words.end()
        _good_name(name, dag)
        folder = posixpath.normpath(posixpath.join(dag.folder, directory))
        path = posixpath.join(folder, file.text)
        self._deep_enough(path, within, file.place)
        inner = self.dag(self._text(path, file), _shown(path, dag), folder, (*within, path))
        for node in inner.nodes.values():
            if node.kind == "FINAL":
                raise DagError(file.place, f"{file.text} has a FINAL node, which a splice can't have")
        dag.splices[name.raw] = splice = Splice(name.raw, inner, directory, place)
        dag.commands.append(splice)

    def _deep_enough(self, path: str, within: tuple[str, ...], place: Place) -> None:
        if path in within:
            circle = " → ".join(posixpath.basename(p) for p in (*within[within.index(path) :], path))
            raise DagError(place, f"files splice or include each other in a circle: {circle}", code="dag-circle")
        if len(within) >= _DEEPEST:
            raise DagError(place, f"files splice or include each other more than {_DEEPEST} deep", code="dag-circle")

    def _text(self, path: str, word: Word) -> str:
        try:
            return self._read(path)
        except OSError as e:
            raise DagError(
                word.place, f"{word.text} can't be read: {e.strerror}", f"ls -l {path}", "no-such-file"
            ) from e
        except ValueError as e:
            raise DagError(word.place, f"{word.text} is no text: {e}", code="no-text") from e

    # -- what is said about nodes -----------------------------------------------------------------------------------

    def _edges(self, dag: Dag, words: Words, place: Place, named: list[tuple[Word, str]]) -> None:
        parents: list[Word] = []
        children: list[Word] = []
        into = parents
        while (word := words.next()) is not None:
            if word.is_keyword("CHILD") and into is parents:
                into = children
            else:
                into.append(word)
        if not parents or not children:
            what = "PARENT names no node" if not parents else "wanted CHILD and the nodes that wait"
            raise DagError(place, what, "PARENT A B CHILD C")
        named += [(w, "PARENT") for w in parents] + [(w, "CHILD") for w in children]
        dag.edges.append((tuple(w.raw for w in parents), tuple(w.raw for w in children), place))

    def _script(self, dag: Dag, words: Words, place: Place, named: list[tuple[Word, str]]) -> None:
        options: list[str] = []
        while True:
            word = words.wanted("PRE, POST or HOLD")
            if word.raw.upper() in ("PRE", "POST", "HOLD"):
                break
            if word.is_keyword("DEFER"):
                options.append(f"DEFER {words.number('the exit code')} {words.number('the seconds', least=0)}")
            elif word.is_keyword("DEBUG"):
                file, stream = words.wanted("a file"), words.wanted("STDOUT, STDERR or ALL")
                if stream.raw.upper() not in ("STDOUT", "STDERR", "ALL"):
                    raise DagError(stream.place, f"{stream.raw!r}: wanted STDOUT, STDERR or ALL")
                options.append(f"DEBUG {file.raw} {stream.raw}")
            else:
                raise DagError(word.place, f"{word.raw!r}: wanted PRE, POST or HOLD", "SCRIPT PRE NODE PROGRAM")
        node = words.wanted("a node")
        named.append((node, "SCRIPT"))
        command = words.rest()
        if not command.text:
            raise DagError(words.place, "here the line ends; wanted a program")
        dag.commands.append(Script(" ".join(options), word.raw.upper(), node.raw, command, place))

    def _variables(self, dag: Dag, words: Words, named: list[tuple[Word, str]]) -> None:
        node = words.wanted("a node")
        named.append((node, "VARS"))
        append = False
        word = words.peek()
        if word is not None and (word.is_keyword("PREPEND") or word.is_keyword("APPEND")):
            append = word.is_keyword("APPEND")
            words.next()
        count = 0
        while (pair := words.pair()) is not None:
            key, value = pair
            if key.raw.lower().startswith("queue"):
                raise DagError(key.place, "a name of VARS can't begin with queue")
            dag.variables.append(Variable(node.raw, key.raw, value, append, key.place))
            count += 1
        if not count:
            raise DagError(words.place, "VARS names no variables", 'write: VARS NODE name="value"')

    def _check(self, dag: Dag, named: list[tuple[Word, str]]) -> None:
        for word, keyword in named:
            if keyword in ("PARENT", "CHILD"):
                node = dag.nodes.get(word.raw)
                if node is not None and node.kind in ("FINAL", "SERVICE"):
                    message = f"{word.raw} is a {node.kind} node, which has no {keyword.lower()}"
                    self._findings.add(word.place, "error", "dag-syntax", message, "take it out of this line")
                if node is not None or word.raw in dag.splices:
                    continue
            elif word.raw in dag.nodes or word.raw.upper() == ALL:
                continue
            names = [*dag.nodes, *dag.splices]
            close = difflib.get_close_matches(word.raw, names, 1)
            hint = f"did you mean {close[0]}?" if close else f"add: JOB {word.raw} FILE.sub"
            what = "splice, not a node" if word.raw in dag.splices else "not a node of this file"
            self._findings.add(word.place, "error", "unknown-node", f"{short(word.raw)} is {what}", hint)


def _good_name(name: Word, dag: Dag) -> None:
    if name.raw.upper() in _RESERVED:
        raise DagError(name.place, f"{name.raw} can't be the name of a node", "choose another name")
    if "+" in name.raw:
        raise DagError(name.place, f"{name.raw}: a name has no +, which stands between a splice and its nodes")
    other = dag.nodes.get(name.raw) or dag.splices.get(name.raw)
    if other is not None:
        raise DagError(name.place, f"{name.raw} is in line {other.place.line} already", "choose another name", "twice")


def _body(word: Word, lines: DagLines) -> tuple[str, Value] | None:
    if word.raw.startswith("{"):
        end = "}"
    elif word.raw.startswith("@="):
        end = "@" + word.raw[2:]
    else:
        return None
    body = lines.until(end) if len(end) > 1 or end == "}" else None
    if body is None:
        raise DagError(word.place, f"this description is never closed by a line {end}", code="unclosed-block")
    return body


def _shown(path: str, dag: Dag) -> str:
    """How places name another file: relative to where the DAG's own paths start from, if it is below."""
    relative = posixpath.relpath(path, dag.folder)
    return path if relative.startswith("..") else relative
