"""A directive for the top of a page of the reference: a table of what the page explains, made from the page itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class members_here(nodes.General, nodes.Element):
    """Where the table will stand, once the page is read to its end."""


class MembersHere(SphinxDirective):
    """``.. members-here::``, without arguments."""

    def run(self) -> list[nodes.Node]:
        return [members_here()]


def explained_here(page: nodes.document) -> list[tuple[addnodes.desc_signature, addnodes.desc]]:
    """What the page explains, but not the members inside of a class."""
    return [
        (description[0], description)
        for description in page.findall(addnodes.desc)
        if not isinstance(description.parent, addnodes.desc_content)
        and isinstance(description[0], addnodes.desc_signature)
        and description[0].get("ids")
    ]


def in_a_line(description: addnodes.desc) -> nodes.Element:
    """The first paragraph of a description, which is a docstring's first line."""
    paragraph = next(description.findall(nodes.paragraph), None)
    return nodes.paragraph() if paragraph is None else paragraph.deepcopy()


def fill(app: Sphinx, page: nodes.document) -> None:
    """Put the table in its place."""
    for place in list(page.findall(members_here)):
        body = nodes.tbody()
        for signature, description in explained_here(page):
            name = signature["fullname"]
            link = nodes.reference("", "", nodes.literal(name, name), refid=signature["ids"][0])
            link["internal"] = True
            entries = [
                nodes.entry("", nodes.paragraph("", "", link)),
                nodes.entry("", in_a_line(description)),
            ]
            body += nodes.row("", *entries)
        columns = [nodes.colspec(colwidth=width) for width in (35, 65)]
        group = nodes.tgroup("", *columns, body, cols=2)
        place.replace_self(nodes.table("", group, classes=["members", "colwidths-given"]))


def setup(app: Sphinx) -> None:
    app.add_node(members_here)
    app.add_directive("members-here", MembersHere)
    app.connect("doctree-read", fill)
