"""Sorts what survived a mutation run: ``python -m tests.support.survivors [FOLDER]`` prints it as Markdown.

A survivor is a change of the source that no test noticed. Most change the wording of a message, which the tests hold
to a form and not to the letter; they are counted. Each of the others is listed with what was changed.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["wording", "label", "type", "other"]
SURVIVED, TIMED_OUT = 0, -24
_ERRORS = re.compile(r"(Error|refuse|_deny|_misused|_said)$")
_TEXTS = frozenset({"advice", "fault", "message", "msg", "problem", "reason", "said"})
_Path = tuple[tuple[ast.AST, str], ...]


@dataclass(frozen=True)
class Survivor:
    """One change that no test noticed.

    Attributes:
        name: the mutant, for ``mutmut show``.
        place: module and function.
        kind: what was changed: the wording of a message, a label that only has to differ from others, a type that is
            there for the reader (the first argument of ``cast``), or something else.
        before: the code.
        after: the code as it was changed.

    """

    name: str
    place: str
    kind: Kind
    before: str
    after: str


def survivors(folder: Path) -> Iterator[Survivor]:
    """Give every survivor of the run whose files are in ``folder``."""
    for meta in sorted(folder.rglob("*.py.meta")):
        codes = json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]
        names = [name for name, code in codes.items() if code in {SURVIVED, TIMED_OUT}]
        if not names:
            continue
        tree = ast.parse(meta.with_suffix("").read_text(encoding="utf-8"))
        functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for name in names:
            module, _, mutant = name.rpartition(".")
            function = mutant.rpartition("__mutmut_")[0]
            path, before, after = difference(functions[f"{function}__mutmut_orig"], functions[mutant])
            place = f"{module.rpartition('.')[2]}.{re.sub('^x_|^xǁ', '', function).replace('ǁ', '.')}"
            yield Survivor(name, place, kind_of(path, before, after), _written(before), _written(after))


def difference(original: ast.AST, mutant: ast.AST) -> tuple[_Path, Any, Any]:
    """Return the innermost place at which two functions differ, and what stands there in each."""
    return next(_differences(original, mutant, ()), ((), original, mutant))


def _differences(one: Any, other: Any, path: _Path) -> Iterator[tuple[_Path, Any, Any]]:
    if type(one) is not type(other):
        yield path, one, other
    elif isinstance(one, ast.AST):
        for name in one._fields:
            if name != "name" or not isinstance(one, ast.FunctionDef):
                yield from _differences(getattr(one, name, None), getattr(other, name, None), (*path, (one, name)))
    elif isinstance(one, list):
        if len(one) != len(other):
            yield path, one, other
        else:
            for left, right in zip(one, other, strict=True):
                yield from _differences(left, right, path)
    elif one != other:
        yield path, one, other


def kind_of(path: _Path, before: Any, after: Any) -> Kind:
    """Return what kind of change it is."""
    nodes = [node for node, _ in path]
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    old = before.value if isinstance(before, ast.Constant) else before
    if calls and ast.unparse(calls[-1].func) == "cast":
        return "type"
    in_error = any(_ERRORS.search(ast.unparse(call.func)) for call in calls)
    to_texts = any(isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in _TEXTS for node in nodes)
    in_text = isinstance(old, ast.JoinedStr) or (isinstance(old, str) and " " in old) or _in_f_string(nodes)
    named = any(isinstance(node, ast.keyword) and node.arg == "advice" for node in nodes)
    left_out = _left_out(before, after) == {"advice"}
    if in_text or ((in_error or to_texts) and (named or left_out or isinstance(old, str))):
        return "wording"
    new = after.value if isinstance(after, ast.Constant) else after
    if isinstance(old, str) and isinstance(new, str) and (old.lower() == new.lower() or f"XX{old}XX" == new):
        return "label"
    return "other"


def _in_f_string(nodes: list[ast.AST]) -> bool:
    return any(isinstance(node, ast.JoinedStr) for node in nodes)


def _left_out(before: Any, after: Any) -> set[str | None]:
    if not (isinstance(before, list) and isinstance(after, list)):
        return set()
    names = [{node.arg for node in nodes if isinstance(node, ast.keyword)} for nodes in (before, after)]
    return names[0] - names[1]


def _written(code: Any) -> str:
    if isinstance(code, ast.AST):
        text = ast.unparse(code) or type(code).__name__
    elif isinstance(code, list):
        text = ", ".join(_written(each) for each in code)
    else:
        text = repr(code)
    text = " ".join(text.split())
    return text if len(text) <= 100 else f"{text[:97]}..."


def report(found: list[Survivor]) -> str:
    """Return the survivors as Markdown: counted by kind and module, and the other ones one by one."""
    lines = ["| module | wording | label | type | other |", "|---|---|---|---|---|"]
    modules = sorted({one.place.partition(".")[0] for one in found})
    for module in modules:
        kinds = Counter(one.kind for one in found if one.place.startswith(f"{module}."))
        lines.append(f"| `{module}` | {kinds['wording']} | {kinds['label']} | {kinds['type']} | {kinds['other']} |")
    lines += ["", "| function | code | survived as |", "|---|---|---|"]
    for one in found:
        if one.kind == "other":
            cells = [text.replace("|", "\\|") for text in (one.place, one.before, one.after)]
            lines.append("| " + " | ".join(f"`{cell}`" for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the report."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("mutants/src")
    print(report(list(survivors(folder))))  # noqa: T201 - this is what it is for


if __name__ == "__main__":
    main()
