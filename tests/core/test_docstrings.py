"""Every public name says what it is, and every public function that takes or gives arrays says their shapes.

What overrides or implements a name that says so, in any of our packages, need not repeat it. The tests of
`EngineSuite` say it by their names.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "dots_core": ROOT,
    "dots": ROOT,
    "dots_torch": ROOT / "backends" / "torch",
    "dots_mindspore": ROOT / "backends" / "mindspore",
    "dots_jittor": ROOT / "backends" / "jittor",
    "dots_reference": ROOT / "reference",
    "dots_conformance": ROOT / "conformance",
}

IMPLEMENTED = {
    "dots_jittor.native": "dots_jittor.primitives.Primitives",
    "dots_jittor.portable": "dots_jittor.primitives.Primitives",
}
"""The protocols that modules have the functions of."""

ARRAYS = {"NDArray", "ArrayLike", "Tensor", "Parameter", "Var"}
"""Types, in annotations, of what has a shape; where `State` is defined it says which shapes its arrays have."""

SHAPE = re.compile(
    r"\bshapes?\b|\bvectors?\b|\bone (value|element)\b|\bflat\b|element by element"
    r"|\((?:\w[\w·′⌈⌉/+ ]{0,15}, ?)+(?:\w[\w·′⌈⌉/+ ]{0,15})?\)"
)
"""How a docstring says it: in words, or as ``(N, C, H, W)``."""

Definition = ast.FunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Module:
    """A module's name and what stands in it."""

    name: str
    tree: ast.Module

    @cached_property
    def imported(self) -> dict[str, str]:
        """The full names of what it imports from elsewhere, by the names it uses."""
        return {
            alias.asname or alias.name: f"{node.module}.{alias.name}"
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    def full_name(self, expression: ast.expr) -> str:
        """Return the full name of what ``forward.Stack`` or ``Registry[Member]`` stands for in it."""
        first, dot, rest = ast.unparse(expression).partition("[")[0].partition(".")
        return self.imported.get(first, f"{self.name}.{first}") + dot + rest


def parsed(package: str, folder: Path) -> list[Module]:
    """Return a package's modules."""
    return [
        Module(
            ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"),
            ast.parse(path.read_text("utf-8")),
        )
        for path in sorted((folder / package).rglob("*.py"))
    ]


def public(body: list[ast.stmt]) -> Iterator[Definition]:
    """Yield the functions and classes of a module or a class whose names are public."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith(("_", "test_")):
            yield node


MODULES = {package: parsed(package, folder) for package, folder in PACKAGES.items()}
CLASSES = {
    f"{module.name}.{node.name}": (module, node)
    for modules in MODULES.values()
    for module in modules
    for node in module.tree.body
    if isinstance(node, ast.ClassDef)
}


def said(name: str, member: str) -> str:
    """Return all that a class of a full name, and its bases, say about a member."""
    if name not in CLASSES:
        return ""
    module, owner = CLASSES[name]
    own = [ast.get_docstring(node) or "" for node in public(owner.body) if node.name == member]
    return "\n".join([*own, *(said(module.full_name(base), member) for base in owner.bases)]).strip()


def documented(module: Module) -> Iterator[tuple[str, Definition, str]]:
    """Yield the public functions, classes and methods of a module, and what is said about each."""
    for node in public(module.tree.body):
        name = f"{module.name}.{node.name}"
        protocol = IMPLEMENTED.get(module.name, "")
        yield name, node, (ast.get_docstring(node) or "") + said(protocol, node.name)
        for member in public(node.body) if isinstance(node, ast.ClassDef) else ():
            yield f"{name}.{member.name}", member, said(name, member.name)


def has_arrays(function: ast.FunctionDef) -> bool:
    """Whether a function's annotations name a type of arrays."""
    arguments = function.args
    annotations = [a.annotation for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    text = " ".join(ast.unparse(each) for each in (*annotations, function.returns) if each)
    return not ARRAYS.isdisjoint(re.findall(r"\w+", text))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_says_what_it_is(package: str) -> None:
    silent = [module.name for module in MODULES[package] if module.tree.body and not ast.get_docstring(module.tree)]
    silent += [name for module in MODULES[package] for name, _, text in documented(module) if not text]
    assert not silent


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_function_of_arrays_says_their_shapes(package: str) -> None:
    silent = [
        name
        for module in MODULES[package]
        for name, node, text in documented(module)
        if isinstance(node, ast.FunctionDef) and has_arrays(node) and not SHAPE.search(text)
    ]
    assert not silent
