"""``__all__`` of each module is what it defines in public, no more, no less. Read from the source: needs no extra."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.unit.house.tree import ROOT, modules

# Found by path, never imported by name: alembic and `python -m` call what they find inside.
FOUND = [path for path in modules() if path.parent.name == "versions" or path.name in {"env.py", "__main__.py"}]
CHECKED = [path for path in modules() if path not in FOUND]


@pytest.mark.parametrize("path", CHECKED, ids=str)
def test_all_names_exactly_what_a_module_defines_in_public(path: Path) -> None:
    tree = ast.parse((ROOT / path).read_text())
    listed = _listed(tree)
    defined = {name for name in _defined(tree.body) if not name.startswith("_")} - set(_subcommands(tree.body))
    # A dunder such as __version__ is public where it is listed. A package may list what it imports from inside itself.
    allowed = defined | set(_defined(tree.body)) | (set(_imported(tree.body)) if path.name == "__init__.py" else set())
    assert len(listed) == len(set(listed)), "a name is listed twice"
    assert sorted(defined - set(listed)) == [], "public names that __all__ lacks"
    assert sorted(set(listed) - allowed) == [], "names in __all__ that the module does not define"


def _listed(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                names = ast.literal_eval(node.value)
                assert all(isinstance(name, str) for name in names)
                return list(names)
    return []


def _defined(body: Iterable[ast.stmt]) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Assign(targets=targets):
                yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.If(body=inner, orelse=other):
                yield from _defined([*inner, *other])
            case ast.Try(body=inner, handlers=handlers, orelse=other):
                yield from _defined([*inner, *other, *(line for handler in handlers for line in handler.body)])
            case _:
                pass


def _subcommands(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Functions under ``@<group>.command(...)``: they are reached through their group, which is what is exported."""
    for node in body:
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                call = decorator.func if isinstance(decorator, ast.Call) else decorator
                if isinstance(call, ast.Attribute) and call.attr == "command" and ast.unparse(call.value) != "click":
                    yield node.name


def _imported(body: Iterable[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.If):  # of names that are imported when they are first used
            yield from _imported(node.body)
