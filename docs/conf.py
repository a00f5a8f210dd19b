"""How Sphinx builds the documentation.

The build needs no network: which pages Python's, Trio's and others' documentation has stands in ``docs/inventories``.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.nodes import make_refnode

# What is compiled has its documentation in Python.
os.environ["TRIO_SEND_ACCELERATOR"] = "0"

import trio_send

if TYPE_CHECKING:
    from types import ModuleType

    from docutils import nodes
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).resolve().parent.parent

# The project ----------------------------------------------------------------------------------

project = "trio_send"
author = "Contributors to trio_send"
copyright = author
release = trio_send.__version__
version = release

sys.path.insert(0, str(Path(__file__).parent))  # for what lies beside this file

extensions = [
    "benchmark_table",
    "csv_columns",
    "members",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib_trio",
    "sphinxext.opengraph",
]
# Prompts and what a program prints are not copied with a command.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True
copybutton_selector = "div:not(.output) > div.highlight > pre"
exclude_patterns = ["_build", "inventories"]
# Cards stand in the pages of conformance, and there the numbers of rows are links.
myst_enable_extensions = ["colon_fence"]
nitpicky = True
nitpick_ignore_regex = [
    # Public names say that they live in a public module, so this is an alias or a type variable, which nobody imports.
    ("py:class", r"trio_send\.(\w+\.)*_\w+(\.\w+)+"),
    ("py:class", r"_Arguments|Then|P|P\.args|P\.kwargs"),
]
# Docstrings name other things of the library in single backticks.
default_role = "py:obj"

# Others show a page's title and first sentences where it is linked; a picture of that text adds nothing.
ogp_social_cards = {"enable": False}

html_theme = "furo"
html_title = f"trio_send {release}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]

# Docstrings -----------------------------------------------------------------------------------

autodoc_member_order = "bysource"
# Types are read in the signature; saying them again below it would double every page.
autodoc_typehints = "signature"
# Defaults are shown as they are written, not as they print.
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def untyped_attribute(self: GoogleDocstring) -> tuple[str, list[str]]:
    return "", self._dedent(self._consume_to_end())


def untyped_result(self: GoogleDocstring, preprocess_types: bool = False) -> list[Any]:
    return [("", "", self._dedent(self._consume_to_next_section()))]


# Types stand in annotations, never in docstrings, so what comes before a colon there is not one.
GoogleDocstring._consume_inline_attribute = untyped_attribute
GoogleDocstring._consume_returns_section = untyped_result

# Names of others ------------------------------------------------------------------------------

from docstrings import shape  # noqa: E402
from inventories import PROJECTS  # noqa: E402

intersphinx_mapping = {name: (url, f"inventories/{name}.txt") for name, url in PROJECTS.items()}

#: Where others document what says of itself that it lives in a private module.
PUBLIC = {"concurrent.futures._base.Executor": "concurrent.futures.Executor"}


# Where names are defined ----------------------------------------------------------------------


def import_for_type_checkers(modules: list[ModuleType]) -> None:
    """Do what modules do for type checkers only; without it, annotations that name it stay mere strings."""
    waiting = []
    for module in modules:
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                code = compile(ast.Module(node.body, []), module.__name__, "exec")
                waiting.append((code, vars(module)))
    # One may import what another one defines in the same way.
    for _ in range(len(waiting)):
        code, namespace = waiting.pop(0)
        try:
            exec(code, namespace)
        except ImportError:
            waiting.append((code, namespace))
    for code, namespace in waiting:
        exec(code, namespace)


def gather_the_private_modules() -> None:
    """Let autodoc find what stands in the source beside a public name.

    Public classes say that they live in `trio_send`, so autodoc looks there for three things that are in the private
    modules: the order of a class's members, the strings below its attributes, and the names in its annotations.
    """
    gathered = ModuleAnalyzer.for_module("trio_send")
    gathered.analyze()
    names = [info.name for info in pkgutil.walk_packages(trio_send.__path__, "trio_send.")]
    # The command line is a program, and what is compiled has no source to look at.
    modules = [
        importlib.import_module(name)
        for name in names
        if not name.startswith(("trio_send.__main__", "trio_send._accelerator", "trio_send._cli"))
    ]
    private = [module for module in modules if "._" in module.__name__]
    public = [trio_send, *(module for module in modules if module not in private)]
    public_classes = [
        cls for module in public for cls in vars(module).values() if inspect.isclass(cls)
    ]
    for module in private:
        part = ModuleAnalyzer.for_module(module.__name__)
        part.analyze()
        first = len(gathered.tagorder)
        gathered.tagorder.update((tag, first + place) for tag, place in part.tagorder.items())
        gathered.attr_docs.update(part.attr_docs)
        gathered.annotations.update(part.annotations)
        gathered.overloads.update(part.overloads)
    import_for_type_checkers(private)
    for module in private:
        for namespace in public:
            for name, value in vars(module).items():
                vars(namespace).setdefault(name, value)
    # Members that a public class has from a private base are listed as if they stood in the class. What its constructor
    # assigns is a member by that alone, but a property of the base has its place where it is written.
    for cls in public_classes:
        for base in cls.__mro__[1:]:
            for tag, place in list(gathered.tagorder.items()):
                owner, _, member = tag.partition(".")
                if owner == base.__name__ and member:
                    tag_here = f"{cls.__name__}.{member}"
                    place_here = gathered.tagorder.get(tag_here, place)
                    gathered.tagorder[tag_here] = min(place, place_here)


def show_attrs_defaults(
    app: Sphinx,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    signature: str | None,
    result: str | None,
) -> tuple[str, str | None] | None:
    """Show the defaults of an attrs class; what attrs writes into its constructor are look-ups."""
    if not signature or not attrs.has(obj):
        return None
    default_of = {field.name: repr(field.default) for field in attrs.fields(obj)}
    return re.sub(r"attr_dict\['(\w+)'\]\.default", lambda m: default_of[m[1]], signature), result


#: What does not print as it is written: members of enums, and the parameters that one function has from another.
AS_WRITTEN = [
    (re.compile(r"<(\w+\.\w+): [^>]*>"), r"\1"),
    (re.compile(r"\*args: ~typing\.~(\w+)"), r"*args: \1.args"),
    (re.compile(r"\*\*kwargs: ~typing\.~(\w+)"), r"**kwargs: \1.kwargs"),
    (re.compile(r"\[~(\w+)(?=[\],])"), r"[\1"),
]


def show_signature_as_written(
    app: Sphinx,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    signature: str | None,
    result: str | None,
) -> tuple[str, str | None] | None:
    """Make Python of a signature. One that is none has long names, and no links."""
    shown = signature or ""
    for pattern, written in AS_WRITTEN:
        shown = pattern.sub(written, shown)
    return None if shown == (signature or "") else (shown, result)


# Unreleased changes ---------------------------------------------------------------------------


def show_unreleased_changes(app: Sphinx, docname: str, content: list[str]) -> None:
    """Put the fragments that wait for the next release on top of the history."""
    if docname != "history" or not list(ROOT.glob("newsfragments/*.*.rst")):
        return
    draft = subprocess.run(
        [
            sys.executable,
            "-m",
            "towncrier",
            "build",
            "--draft",
            "--version",
            "unreleased",
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        encoding="utf-8",
    ).stdout
    marker = ".. towncrier release notes start\n"
    assert marker in content[0]
    content[0] = content[0].replace(marker, f"{marker}\n{draft}\n")


# Short names ----------------------------------------------------------------------------------


def resolve_short_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.TextElement
) -> nodes.reference | None:
    """Find `name` wherever in the library it stands, the class that speaks first, and only then with others."""
    # An annotation is looked up as a class, which some names of `typing` are not.
    if node["reftype"] == "class" and "." in node["reftarget"]:
        node["reftype"] = "obj"
    node["reftarget"] = PUBLIC.get(node["reftarget"], node["reftarget"])
    if node.get("refdomain") != "py" or node["reftype"] not in {
        "obj",
        "class",
        "exc",
        "meth",
        "attr",
    }:
        return None
    python = env.domains.python_domain
    module, cls = node.get("py:module") or "trio_send", node.get("py:class")
    matches: list[tuple[str, Any]] = python.find_obj(env, module, cls, node["reftarget"], None, 1)
    if not matches:
        return None
    name, entry = min(matches, key=lambda match: (len(match[0]), match[0]))
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, name)


def leave_as_it_is(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.TextElement
) -> nodes.TextElement | None:
    """Show a name of others that is there, and that their documentation does not have, such as an inherited one."""
    name = node["reftarget"]
    if node.get("refdomain") != "py" or "." not in name or name.startswith("trio_send."):
        return None
    try:
        pkgutil.resolve_name(name)
    except (AttributeError, ImportError, ValueError):
        return None
    return contnode


def shape_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    lines[:] = shape(lines)


def setup(app: Sphinx) -> None:
    gather_the_private_modules()
    app.connect("autodoc-process-docstring", shape_docstring, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", show_attrs_defaults, priority=400)
    app.connect("autodoc-process-signature", show_signature_as_written)
    app.connect("source-read", show_unreleased_changes)
    app.connect("missing-reference", resolve_short_name, priority=400)  # before intersphinx
    app.connect("missing-reference", leave_as_it_is, priority=600)  # behind it
