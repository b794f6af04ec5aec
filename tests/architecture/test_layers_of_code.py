"""Imports point one way, `--help` is instant, and no file can run code."""

from __future__ import annotations

import ast
import graphlib
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import vaegan
from vaegan.cli import VERBS

SOURCE = Path(vaegan.__file__).parent
MODULES = {
    ".".join(("vaegan", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(SOURCE.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in MODULES.items()}

# A module imports from rows above its own, and a package's modules also from one another.
LAYERS = (
    "errors randomness pretrained batching allocator",
    "ranks devices images files posterior prior blueprint augmentation",
    "norms",
    "data config layers losses style",
    "presets schedules networks rundir checkpoint alarms metrics figures",
    "settings model",
    "draws optimisers looks inference game films",
    "objectives",
    "trainer",
    "training watch",
    "gallery sampling estimator evaluation",
    "vaegan",  # the public face
    "cli",
    "__main__",
)
RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row.split()}


def imports(name: str) -> set[str]:
    """Modules of ours that a module names, anywhere in it."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: write imports in full"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else node.module or "")
    return {module for module in found if module.split(".")[0] == "vaegan"}


def home(module: str) -> str:
    """The row's name for a module: its file or package."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "vaegan"


def test_every_module_has_its_place():
    assert {home(module) for module in MODULES} == set(RANK), "name new modules in LAYERS"


def test_imports_point_one_way():
    edges = [(module, other) for module in MODULES for other in imports(module)]
    assert {other for _, other in edges} <= set(MODULES)
    wrong = [
        f"{module} must not import {other}"
        for module, other in edges
        if home(other) != home(module) and RANK[home(other)] >= RANK[home(module)]
    ]
    assert not wrong


def test_nothing_runs_in_circles():
    graph = {name: imports(name) - {name} for name in MODULES if name != "vaegan"}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert set(order) >= set(graph)


def test_nothing_imports_the_command_line():
    users = {name for name in MODULES if any(home(other) == "cli" for other in imports(name))}
    assert {home(name) for name in users} <= {"cli", "__main__"}


def test_names_say_what_is_inside():
    for path in MODULES.values():
        assert path.stem not in {"utils", "helpers", "common", "misc", "util", "helper"}


def test_public_names_exist():
    for module in MODULES:
        loaded = importlib.import_module(module)
        promised = getattr(loaded, "__all__", [])
        assert [name for name in promised if not hasattr(loaded, name)] == [], module
        assert len(set(promised)) == len(promised), module


def test_the_public_face_is_complete():
    assert set(vaegan.HOMES) | {"__version__"} == set(vaegan.__all__)
    for name, where in vaegan.HOMES.items():
        assert getattr(vaegan, name) is getattr(importlib.import_module(f"vaegan.{where}"), name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        vaegan.nothing  # noqa: B018


# ── instant ──────────────────────────────────────────────────────────────────────────────────────

HEAVY = ("torch", "matplotlib", "sklearn", "scipy", "av", "skimage", "tensorboard")


def loaded_by(program: str) -> set[str]:
    """Top-level packages in memory after a program has run in a fresh interpreter."""
    ending = "import sys; print('\\n' + ' '.join({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{ending}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_settings_need_no_framework():
    light = "blueprint, cli.train, config, errors, files, presets, rundir, schedules, settings"
    found = loaded_by("\n".join(f"import vaegan.{name}" for name in light.split(", ")))
    assert "vaegan" in found
    assert not found & set(HEAVY)


def test_importing_the_package_imports_no_array_library():
    assert not loaded_by("import vaegan") & {*HEAVY, "numpy", "PIL", "pydantic"}


def test_help_needs_no_framework():
    """`vaegan --help` and the help of every verb, in one process."""
    verbs = [verb for group in VERBS.values() for verb in group]
    calls = [["--help"], ["--version"], *([*verb.split(), "--help"] for verb in verbs)]
    program = (
        "import contextlib, io\n"
        "from vaegan.cli import main\n"
        f"for call in {calls!r}:\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as text:\n"
        "        try: main(call)\n"
        "        except SystemExit as done: assert not done.code, call\n"
        "    assert text.getvalue().strip(), call\n"
    )
    assert not loaded_by(program) & set(HEAVY)


def test_a_wrong_flag_needs_no_framework_either():
    program = (
        "from vaegan.cli import main\n"
        "try: main(['train', '--system', 'vea'])\n"
        "except SystemExit as done: assert done.code == 2\n"
    )
    assert not loaded_by(program) & set(HEAVY)


# ── no file can run code ─────────────────────────────────────────────────────────────────────────

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_METHODS = {
    ("torch", "load"),
    ("torch", "save"),
    ("torch", "jit"),
    ("np", "load"),
    ("numpy", "load"),
    ("yaml", "load"),
    ("os", "system"),
    ("os", "popen"),
}


# Others' weights that exist as a pickle alone: torch reads tensors out of it and runs nothing. One
# module may do so, in these very words.
SPARED = {
    "vaegan.metrics.inception": "torch.load(path, map_location='cpu', weights_only=True)",
}


def dangers(tree: ast.Module, spared: str | None = None):
    """Line and name of everything in a module that can run what a file says, but `spared`."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    safe = {part for call in calls if ast.unparse(call) == spared for part in ast.walk(call)}
    for node in ast.walk(tree):
        if node in safe:
            continue
        match node:
            case ast.Import(names=names):
                found = {alias.name.split(".")[0] for alias in names} & FORBIDDEN_MODULES
            case ast.ImportFrom(module=source):
                found = {(source or "").split(".")[0]} & FORBIDDEN_MODULES
            case ast.Call(func=ast.Name(id=name)):
                found = {name} & FORBIDDEN_CALLS
            case ast.Attribute(value=ast.Name(id=owner), attr=name):
                found = {(owner, name)} & FORBIDDEN_METHODS
            case ast.keyword(arg="allow_pickle" | "weights_only" | "shell"):
                found = {node.arg}
            case _:
                continue
        yield from ((node.lineno, name) for name in found)


def test_nothing_reads_code_from_a_file():
    found = {module: list(dangers(tree, SPARED.get(module))) for module, tree in TREES.items()}
    assert {module: places for module, places in found.items() if places} == {}


@pytest.mark.parametrize(
    "program",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "torch.load(path, map_location='cpu', weights_only=False)",
        "torch.load(path, map_location='cpu', weights_only=safe)",
        "load = torch.load",
        "np.load(path, allow_pickle=True)",
        "def f():\n    eval(text)",
    ],
)
def test_dangers_are_seen(program):
    tree = ast.parse(program)
    assert list(dangers(tree))
    assert all(list(dangers(tree, call)) for call in SPARED.values())


def test_what_is_spared_is_there_and_nowhere_else():
    for module, call in SPARED.items():
        assert list(dangers(ast.parse(call))) and not list(dangers(ast.parse(call), call))
        assert ast.unparse(TREES[module]).count(call) == 1


def test_nothing_is_done_at_import():
    """Modules hold definitions: no loops, no calls but those that make constants."""
    for module, tree in TREES.items():
        for node in tree.body:
            at_work = isinstance(node, (ast.For, ast.While, ast.With, ast.Try))
            bare = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
            assert not (at_work or bare), f"{module}:{node.lineno} works at import"
