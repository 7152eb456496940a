"""The import structure: no circles, one direction, and only what packages export."""

import ast
import functools
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# Folders of source, and what the names of their modules start with.
FOLDERS = {
    "keras_nonlocal": "keras_nonlocal.",
    "trainers": "trainers.",
    "benchmarks": "",  # the folder of a script is on sys.path
    "examples": "",
}
# The parts of keras_nonlocal, each of which imports from those before it.
DIRECTION = (
    ("_version", "command_line", "receptive_field", "validation"),
    ("ops",),
    ("layers",),
    ("models",),
    ("convert", "describe", "estimate", "visualize"),
)


def find_modules():
    """Paths by dotted name; a package has the name of its folder.

    A script beside a package of its name, which imports reach, ends in `.py`.
    """
    modules = {}
    for folder, prefix in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = prefix + ".".join(parts)
            name += ".py" if path.with_suffix("").is_dir() else ""
            modules[name.removesuffix("__init__").rstrip(".")] = path
    return modules


MODULES = find_modules()
OF_PACKAGE = [name for name in MODULES if name.startswith("keras_nonlocal.")]
OTHERS = [name for name in MODULES if not name.startswith("keras_nonlocal")]


@functools.cache
def imports(module, path):
    """(module, name or None) of every import that is run, also within functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(alias.name, None) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = absolute(module, path, node)
            found |= {(source, alias.name) for alias in node.names}
        elif isinstance(node, ast.Call) and is_import_call(node):
            found.add((node.args[0].value, None))
    return found


def absolute(module, path, node):
    """The module that `from ... import` names, also after leading dots."""
    if node.level == 0:
        return node.module
    parts = module.split(".") + ["__init__"] * (path.name == "__init__.py")
    return ".".join([*parts[: -node.level], *filter(None, [node.module])])


def is_import_call(node):
    """Whether it is `import_module("a.name")`."""
    function = getattr(node.func, "attr", getattr(node.func, "id", None))
    constant = node.args and isinstance(node.args[0], ast.Constant)
    return function == "import_module" and constant


def targets(module, modules):
    """The modules that run when `module` is imported: with `a.b.c` also the packages
    `a` and `a.b`, unless `module` is in them."""
    found = set()
    for source, name in imports(module, modules[module]):
        target = f"{source}.{name}" if f"{source}.{name}" in modules else source
        parts = target.split(".")
        packages = {".".join(parts[:n]) for n in range(1, len(parts))}
        around = {name for name in packages if f"{module}.".startswith(f"{name}.")}
        found |= {target, *packages} - around
    return found & modules.keys() - {module}


def graph(modules):
    """Module -> the modules that it imports."""
    return {module: targets(module, modules) for module in modules}


def exported_names(package):
    """What `__all__` lists, and the modules and packages of the top package."""
    found = set()
    if "." not in package:
        found = {name.split(".")[1] for name in OF_PACKAGE}
    for node in ast.parse(MODULES[package].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            found |= set(ast.literal_eval(node.value))
    return found


def test_no_modules_import_each_other_in_a_circle():
    edges = graph(MODULES)
    assert sum(map(len, edges.values())) > 200  # imports were found
    graphlib.TopologicalSorter(edges).prepare()  # CycleError names the modules


def test_a_circle_is_found(tmp_path):
    (tmp_path / "a.py").write_text("def f():\n    from b import g\n")
    (tmp_path / "b.py").write_text("import a\n")
    edges = graph({name: tmp_path / f"{name}.py" for name in "ab"})
    with pytest.raises(graphlib.CycleError, match="'a', 'b', 'a'|'b', 'a', 'b'"):
        graphlib.TopologicalSorter(edges).prepare()


def test_imports_of_keras_nonlocal_point_one_way():
    ranks = {part: rank for rank, parts in enumerate(DIRECTION) for part in parts}
    wrong = []
    for module in OF_PACKAGE:
        own = module.split(".")[1]
        for imported in targets(module, MODULES):
            package, _, other = imported.partition(".")
            other = other.split(".")[0]
            inside = package == "keras_nonlocal" and other != ""
            if not inside or (other != own and ranks[other] > max(ranks[own] - 1, 0)):
                wrong.append(f"{module} imports {imported}")
    assert not wrong


def test_trainers_import_neither_benchmarks_nor_examples():
    for module in MODULES:
        if module.startswith("trainers"):
            for imported in targets(module, MODULES):
                assert imported.startswith(("trainers", "keras_nonlocal")), module


def test_others_import_what_a_package_of_keras_nonlocal_exports():
    wrong = []
    for module in OTHERS:
        for source, name in imports(module, MODULES[module]):
            if source.split(".")[0] != "keras_nonlocal":
                continue
            is_internal = source.count(".") > 1 or (name or "").startswith("_")
            if not is_internal and name and MODULES[source].name == "__init__.py":
                is_internal = name not in exported_names(source)
            if is_internal:
                wrong.append(f"{module} imports {name or 'all'} of {source}")
    assert not wrong
