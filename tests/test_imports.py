"""The import structure: no circles."""

import ast
import graphlib
import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ("keras_nonlocal", "trainers", "benchmarks")


def modules(folder):
    """Path of each module by its dotted name; scripts in benchmarks start there."""
    start = ROOT / folder if folder == "benchmarks" else ROOT
    return {
        ".".join(path.relative_to(start).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def imports(name, path):
    """(module, name or None) of every import that is run, also within functions."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            module = importlib.util.resolve_name(relative, package)
            yield from ((module, alias.name) for alias in node.names)


def graph(found):
    """Module -> the modules that it imports."""
    edges = {}
    for name, path in found.items():
        targets = (
            f"{module}.{item}" if f"{module}.{item}" in found else module
            for module, item in imports(name, path)
        )
        edges[name] = {t for t in targets if t in found and t != name}
    return edges


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_modules_import_each_other_in_a_circle(folder):
    edges = graph(modules(folder))
    assert sum(map(len, edges.values())) > 20  # imports were found
    graphlib.TopologicalSorter(edges).prepare()  # CycleError names the modules


def test_a_circle_is_found(tmp_path):
    (tmp_path / "a.py").write_text("def f():\n    from b import g\n")
    (tmp_path / "b.py").write_text("import a\n")
    edges = graph({name: tmp_path / f"{name}.py" for name in "ab"})
    with pytest.raises(graphlib.CycleError, match="'a', 'b', 'a'|'b', 'a', 'b'"):
        graphlib.TopologicalSorter(edges).prepare()


def test_relative_imports_are_followed(tmp_path):
    (tmp_path / "__init__.py").write_text("from .a import f\n")
    (tmp_path / "a.py").write_text("from . import b\n")
    (tmp_path / "b.py").write_text("")
    paths = {"p": "__init__.py", "p.a": "a.py", "p.b": "b.py"}
    edges = graph({name: tmp_path / file for name, file in paths.items()})
    assert edges == {"p": {"p.a"}, "p.a": {"p.b"}, "p.b": set()}
