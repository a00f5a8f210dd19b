"""A directive that shows some columns of a CSV file, so that a table with many fits on any screen.

::

    .. csv-columns:: compared.csv
       :columns: stopped by; seconds mean
       :titles: ; seconds
       :behind: a column to show in brackets behind the first one
       :class: words

The columns have numbers if there is no class. Rows with nothing to show are left out.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from benchmark_table import table
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx


def parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(";")]


class CsvColumns(SphinxDirective):
    """``.. csv-columns:: FILE``"""

    required_arguments = 1
    option_spec: ClassVar = {
        "columns": parts,
        "titles": parts,
        "behind": directives.unchanged,
        "class": directives.class_option,
    }

    def run(self) -> list[nodes.Node]:
        file = Path(self.env.srcdir, self.arguments[0])
        self.env.note_dependency(str(file))
        with file.open(encoding="utf-8", newline="") as text:
            rows = list(csv.DictReader(text))
        first, *others = self.options["columns"]
        lines = []
        for row in rows:
            behind = row.get(self.options.get("behind", ""))
            name = f"{row[first]} ({behind})" if behind else row[first]
            cells = [row[column] for column in others]
            if any(cells):
                lines.append([name, *cells])
        made = table(self.options.get("titles", self.options["columns"]), lines)
        made["classes"] = self.options.get("class", made["classes"])
        return [made]


def setup(app: Sphinx) -> None:
    app.add_directive("csv-columns", CsvColumns)
