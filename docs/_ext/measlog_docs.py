"""What the pages take from the code: its modules, commands, codes, schemas and changes; and pictures set into the page."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
SHORT = 70
"""Characters of a constant that is shown with its value."""


def modules(package: str) -> list[str]:
    """The public modules of a package, itself first."""
    found = [package]
    path: list[str] = vars(importlib.import_module(package)).get("__path__", [])
    found += [
        module.name
        for module in pkgutil.walk_packages(path, f"{package}.")
        if not any(part.startswith("_") for part in module.name.split("."))
    ]
    return [name for name in found if name == package or hasattr(importlib.import_module(name), "__all__")]


def own_names(module: str) -> tuple[list[str], list[str]]:
    """What a module exports and does not merely pass on: classes and functions, and everything else."""
    home = importlib.import_module(module)
    defined: list[str] = []
    data: list[str] = []
    for name in getattr(home, "__all__", ()):
        value = getattr(home, name)
        if inspect.ismodule(value):
            continue
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            data.append(name)
        elif value.__module__ == module and value.__name__ == name:
            defined.append(name)
    if home.__file__ and home.__file__.endswith("__init__.py"):
        data = [name for name in data if _is_assigned(home.__file__, name)]
    return defined, data


def _is_assigned(file: str, name: str) -> bool:
    return re.search(rf"^{re.escape(name)}\b[^=\n]*=", Path(file).read_text(), flags=re.MULTILINE) is not None


class Api(SphinxDirective):
    """``measlog-api:: PACKAGE``: every name that each module of a package exports, with its docstring."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """One section a module."""
        found: list[nodes.Node] = []
        for module in modules(self.arguments[0]):
            defined, data = own_names(module)
            title = f"``{module}``"
            text = f"{title}\n{'-' * len(title)}\n\n.. automodule:: {module}\n"
            if defined:
                text += f"   :members: {', '.join(defined)}\n"
            told = {name for _, name in ModuleAnalyzer.for_module(module).find_attr_docs()}
            for name in data:
                short = len(repr(getattr(importlib.import_module(module), name))) <= SHORT
                # What has no words of its own would show those of its type.
                text += f"\n.. autodata:: {module}.{name}\n" if name in told else f"\n.. py:data:: {name}\n"
                if name in told and not short:
                    text += "   :no-value:\n"
            passed = [n for n in getattr(importlib.import_module(module), "__all__", ()) if n not in {*defined, *data}]
            if passed:
                text += "\nAlso offered here: " + ", ".join(f":py:obj:`~{module}.{name}`" for name in passed) + ".\n"
            found += self.parse_text_to_nodes(text, allow_section_headings=True)
        return found


class Names(SphinxDirective):
    """``measlog-names::``: the names of ``import measlog as ml``, each with its first sentence and where it is told of."""

    def run(self) -> list[nodes.Node]:
        """A table."""
        import measlog

        rows = []
        for name in measlog.__all__:
            value = getattr(measlog, name)
            home = value.__name__ if inspect.ismodule(value) else f"{value.__module__}.{value.__qualname__}"
            kind = (
                "mod"
                if inspect.ismodule(value)
                else "exc"
                if _is_error(value)
                else "class"
                if inspect.isclass(value)
                else "func"
            )
            rows.append((f":py:{kind}:`ml.{name} <{home}>`", first_sentence(value)))
        return self.parse_text_to_nodes(table(("name", "what"), rows))


class Codes(SphinxDirective):
    """``measlog-codes::``: the published table of codes."""

    def run(self) -> list[nodes.Node]:
        """A table, each code with the error that has it where there is one."""
        from measlog import errors
        from measlog.codes import CODES

        homes = {getattr(errors, name).code: name for name in reversed(errors.__all__)}
        rows = [
            (f"``{code}``", meaning + (f" (:py:exc:`~measlog.errors.{homes[code]}`)" if code in homes else ""))
            for code, meaning in CODES.items()
        ]
        return self.parse_text_to_nodes(table(("code", "meaning"), rows))


class Commands(SphinxDirective):
    """``measlog-commands::``: every command with its arguments, options and example, as its ``--help`` has them."""

    def run(self) -> list[nodes.Node]:
        """One section a command."""
        found: list[nodes.Node] = []
        for words, command in commands():
            found += self.parse_text_to_nodes(_command(words, command), allow_section_headings=True)
        return found


class Schemas(SphinxDirective):
    """``measlog-schemas::``: the JSON schemas in the package."""

    def run(self) -> list[nodes.Node]:
        """A table."""
        folder = ROOT / "src" / "measlog" / "schemas"
        place = self.env.relfn2path("/schemas")[0]
        assert place
        rows = []
        for path in sorted(folder.glob("*.json")):
            schema = json.loads(path.read_text())
            rows.append((f":download:`{path.name} </schemas/{path.name}>`", schema.get("title", "")))
        return self.parse_text_to_nodes(table(("file", "what it describes"), rows))


class Changes(SphinxDirective):
    """``measlog-changes::``: what the fragments in ``changelog.d`` say, by kind, for the version that comes next."""

    def run(self) -> list[nodes.Node]:
        """A list a kind."""
        kinds = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]["type"]
        found: list[nodes.Node] = []
        for kind in kinds:
            texts = [
                path.read_text().strip() for path in sorted((ROOT / "changelog.d").glob(f"*.{kind['directory']}.md"))
            ]
            if texts:
                found.append(nodes.rubric("", kind["name"]))
                found += self.parse_text_to_nodes("\n".join("- " + text.replace("\n", "\n  ") for text in texts))
        return found


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, by its words."""
    from measlog.cli.app import cli

    def walk(words: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
        if not isinstance(command, click.Group):
            yield words, command
            return
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from walk((*words, name), inner)

    return walk(("measlog",), cli)


def _command(words: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join(words))
    title = f"``{' '.join(words)}``"
    usage = " ".join(command.collect_usage_pieces(context))
    text = f"{title}\n{'-' * len(title)}\n\n{rst(inspect.cleandoc(command.help or ''))}\n\n"
    text += f".. code-block:: text\n\n   {' '.join(words)} {usage}\n\n"
    rows = []
    for option in command.params:
        record = option.get_help_record(context)
        if record is not None and record[1] and not getattr(option, "hidden", False):
            rows.append((f"``{record[0]}``", rst(record[1])))
    text += table(("option", "meaning"), rows) + "\n"
    if command.epilog:
        text += (
            ".. code-block:: text\n\n   "
            + inspect.cleandoc(command.epilog).replace("\b\n", "").replace("\n", "\n   ")
            + "\n\n"
        )
    return text


def rst(text: str) -> str:
    """Plain text as reStructuredText that shows it."""
    return re.sub(r"([\\*`|_])", r"\\\1", text.replace("\b\n", ""))


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A list-table."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (head, *rows):
        for number, cell in enumerate(row):
            lines.append(f"   {'*' if number == 0 else ' '} - {' '.join(cell.split())}")
    return "\n".join(lines) + "\n"


def first_sentence(value: object) -> str:
    """The first sentence of a docstring."""
    text = " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
    return re.split(r"(?<=[.:])\s", text)[0]


def _is_error(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Exception)


def resolve(app: Sphinx, env: BuildEnvironment, node: Any, contnode: Any) -> nodes.Node | None:
    """A reference to a name by another of the modules that offer it: ``measlog.Limits`` for ``measlog.limits.Limits``."""
    if node.get("refdomain") != "py":
        return None
    objects = env.domains.python_domain.objects
    for name in candidates(node["reftarget"], node.get("py:module"), node.get("py:class"), objects):
        entry = objects[name]
        assert app.builder is not None
        reference = nodes.reference("", "", internal=True)
        where = app.builder.get_relative_uri(node.get("refdoc", env.docname), entry.docname)
        reference["refuri"] = f"{where}#{entry.node_id}"
        reference += contnode
        return reference
    # Annotations name what they mean by the name under which their module knows it.
    return contnode if is_beside_the_point(node["reftarget"], node.get("py:module")) else None


def is_beside_the_point(target: str, module: str | None) -> bool:
    """Whether a name in a module is another project's, or an alias that the module does not export."""
    module, _, name = target.rpartition(".") if target.startswith("measlog.") else (module or "", "", target)
    home = _import(module) if module else None
    if not inspect.ismodule(home):
        return False
    name = name.partition(".")[0]
    return name not in getattr(home, "__all__", ()) and name in _names(module)


@cache
def _names(module: str) -> frozenset[str]:
    """What a module imports from elsewhere than measlog or by another name, and what it names without defining it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(inspect.getsource(importlib.import_module(module)))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            ours = isinstance(node, ast.ImportFrom) and (node.module or "").startswith("measlog")
            found |= {(n.asname or n.name).partition(".")[0] for n in node.names if n.asname or not ours}
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ClassDef) and node.name.startswith("_"):
            found.add(node.name)
    return frozenset(found)


def candidates(target: str, module: str | None, inside: str | None, known: Mapping[str, Any]) -> Iterator[str]:
    """The documented names of the very thing that is meant by ``target``, which may be another module's name for it."""
    for start in (f"{module}.{inside}.{target}", f"{module}.{target}", target):
        owner, _, last = start.rpartition(".")
        value, holder = _import(start), _import(owner)
        if inspect.isclass(holder):
            yield from (name for name in (f"{holder.__module__}.{holder.__qualname__}.{last}",) if name in known)
        if value is not None:
            yield from (name for name in known if name.endswith(f".{last}") and _import(name) is value)


def _import(name: str) -> Any:
    parts = name.split(".")
    if parts[0] != "measlog":
        return None
    for cut in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            value = getattr(value, part, None)
        return value
    return None


def without_generated(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:  # noqa: ARG001
    """Leave out what attrs says of the methods that it makes."""
    if lines and lines[0].startswith("Method generated by attrs"):
        del lines[:]


def set_in(app: Sphinx, doctree: nodes.document, docname: str) -> None:  # noqa: ARG001 - Sphinx's signature
    """Put SVG pictures into the page itself, where they take the colours of the theme."""
    if app.builder is None or app.builder.format != "html":
        return
    for image in list(doctree.findall(nodes.image)):
        path = Path(app.srcdir, image["uri"])
        if path.suffix == ".svg" and path.parent.name == "pictures":
            text = path.read_text()
            drawing = text[text.index("<svg") :].replace(
                "<svg ", f'<svg role="img" aria-label="{escape(image.get("alt", ""), {chr(34): "&quot;"})}" ', 1
            )
            image.replace_self(nodes.raw("", f'<div class="picture">{drawing}</div>', format="html"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    for directive in (Api, Names, Codes, Commands, Schemas, Changes):
        app.add_directive(f"measlog-{directive.__name__.lower()}", directive)
    app.connect("autodoc-process-docstring", without_generated)
    app.connect("missing-reference", resolve)
    app.connect("doctree-resolved", set_in)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
