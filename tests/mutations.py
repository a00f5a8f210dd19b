"""Small changes to a module of the package, each of which some test ought to notice; see `tests.mutants`.

They are found in the syntax tree, and made in the text, so that everything else stays as it is, lines too. A change is
told by the function it is in and by what the expression or statement reads before and after, in Python's own layout: so
it is the same one when the code around it moves, and when it is laid out in another way.
"""

from __future__ import annotations

import ast
import copy
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import attrs

#: The kinds, in the order in which they are reported.
KINDS = (
    "condition",
    "comparison",
    "arithmetic",
    "statement",
    "return",
    "constant",
    "decorator",
    "guard",
)

#: Without these a name is something else altogether, which everything notices, or only type checkers see them.
_LEFT_DECORATORS = (
    "abstractmethod",
    "classmethod",
    "contextmanager",
    "final",
    "overload",
    "property",
    "setter",
    "staticmethod",
)

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}

#: Of these the other one is also what is left when the whole condition is turned around.
_OPPOSITES = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)

_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}

#: What ends a look at what is in the way.
_LEAVES = (ast.Raise, ast.Return, ast.Continue, ast.Break)


@attrs.frozen
class Mutation:
    """One change.

    Attributes:
      module: the file, below the package.
      function: where in it, with the classes and functions around; "" at the top.
      line: of what is changed.
      kind: one of `KINDS`.
      before: what the expression reads, or the statement without the blocks below it. With a number, what is around.
      after: the same with the change; "" where it is dropped.
      nth: tells apart what is changed alike in the same function, from 1 on.
    """

    module: str
    function: str
    line: int
    kind: str
    before: str
    after: str
    nth: int
    _start: int = attrs.field(repr=False)
    _end: int = attrs.field(repr=False)
    _text: bytes = attrs.field(repr=False)

    @property
    def identity(self) -> tuple[str, str, str, str, int]:
        return self.module, self.function, self.before, self.after, self.nth

    def lines(self, source: bytes) -> tuple[int, int]:
        """The first and the last line of what is changed."""
        return source.count(b"\n", 0, self._start) + 1, source.count(b"\n", 0, self._end) + 1

    def applied(self, source: bytes) -> bytes:
        """The module with the change; it has as many lines as before."""
        lines = source.count(b"\n", self._start, self._end) - self._text.count(b"\n")
        text = self._text
        if text.endswith(b")"):
            text = text[:-1] + b"\n" * lines + b")"
        else:
            text += b"\n" * lines
        return source[: self._start] + text + source[self._end :]

    def __str__(self) -> str:
        where = f"{self.module}:{self.line}, {self.function or 'at the top'}: {self.kind}"
        return f"{where}\n    - {self.before}\n    + {self.after}"


def mutations(root: Path, module: str) -> list[Mutation]:
    """All changes to one file below ``root``, the package's directory."""
    source = (root / module).read_bytes()
    finder = _Finder(source, module)
    finder.visit(ast.parse(source))
    return finder.found


class _Finder(ast.NodeVisitor):
    """Goes through a module and notes what can be changed."""

    def __init__(self, source: bytes, module: str) -> None:
        self.found: list[Mutation] = []
        self._source = source
        self._module = module
        self._line_starts = [0]
        for line in source.splitlines(keepends=True):
            self._line_starts.append(self._line_starts[-1] + len(line))
        self._names: list[str] = []
        self._returns_bool = False
        self._statement: ast.stmt = ast.Pass()
        self._around: ast.expr | None = None
        self._seen: Counter[tuple[str, str, str]] = Counter()

    # -- noting --------------------------------------------------------------------------------

    def _at(self, line: int, column: int) -> int:
        return self._line_starts[line - 1] + column

    def _span(self, node: Any) -> tuple[int, int]:
        return self._at(node.lineno, node.col_offset), self._at(
            node.end_lineno, node.end_col_offset
        )

    def _note(
        self, kind: str, line: int, span: tuple[int, int], text: str, before: str, after: str
    ) -> None:
        function = ".".join(self._names)
        self._seen[function, before, after] += 1
        nth = self._seen[function, before, after]
        self.found.append(
            Mutation(self._module, function, line, kind, before, after, nth, *span, text.encode())
        )

    def _replace(self, kind: str, node: ast.expr, other: ast.expr) -> None:
        """Note that an expression may be replaced by another one."""
        told = node
        if isinstance(node, ast.Constant) and self._around is not None:
            told = self._around  # or nobody would know which number is meant
        before = ast.unparse(told)
        # The expression around is read with the other one in its place, and then left as it was.
        was = dict(vars(node))
        kind_of_node = node.__class__
        node.__class__ = other.__class__
        vars(node).update(vars(other))
        try:
            after = ast.unparse(told)
            text = f"({ast.unparse(node)})"
        finally:
            node.__class__ = kind_of_node
            vars(node).clear()
            vars(node).update(was)
        if told is node and isinstance(node, ast.Constant):
            before, after = header(self._statement), f"{after} for {before}"
        self._note(kind, node.lineno, self._span(node), text, before, after)

    def _rewrite(self, kind: str, statement: ast.stmt, other: ast.stmt) -> None:
        """Note that a whole statement may be replaced by another one."""
        after = header(other)
        start, end = self._span(statement)
        text = after
        if self._source.startswith(b"elif", start):
            text = ""
        self._note(kind, statement.lineno, (start, end), text, header(statement), after)

    # -- where we are --------------------------------------------------------------------------

    def visit(self, node: ast.AST) -> None:
        before = self._statement, self._around
        if isinstance(node, ast.stmt):
            self._statement, self._around = node, None
        super().visit(node)
        self._statement, self._around = before

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.expr):
            self._around = node
        super().generic_visit(node)

    def _enter(self, node: Any) -> None:
        names = [ast.unparse(each).split("(")[0].split(".")[-1] for each in node.decorator_list]
        if "overload" in names or "abstractmethod" in names:
            return
        self._names.append(node.name + ("" if "setter" not in names else ".setter"))
        for name, decorator in zip(names, node.decorator_list, strict=True):
            if name not in _LEFT_DECORATORS:
                start, end = self._span(decorator)
                start = self._source.rindex(b"@", 0, start)
                before = f"@{ast.unparse(decorator)}"
                self._note("decorator", decorator.lineno, (start, end), "", before, "")
        around = self._returns_bool
        if not isinstance(node, ast.ClassDef):
            returns = "" if node.returns is None else ast.unparse(node.returns)
            self._returns_bool = returns == "bool"
            for default in (*node.args.defaults, *node.args.kw_defaults):
                if default is not None:
                    self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self._returns_bool = around
        self._names.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _enter

    def visit_If(self, node: ast.If) -> None:
        test = ast.unparse(node.test)
        if test == "TYPE_CHECKING":
            return
        if {each.id for each in ast.walk(node.test) if isinstance(each, ast.Name)} == {"sys"}:
            # It asks for the system or for the Python, so only one half is there for the tests that run here.
            for statement in node.body if eval(test, {"sys": sys}) else node.orelse:
                self.visit(statement)
            return
        if not node.orelse and isinstance(node.body[-1], _LEAVES):
            self._rewrite("guard", node, ast.Pass())
        self._turn(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._turn(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._turn(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._turn(test)
        self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> None:
        """Leave it: it tells type checkers what holds."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave it: it is read by people, and before 3.12 nobody says where its parts stand."""

    def visit_Global(self, node: ast.Global) -> None:
        """Leave it."""

    visit_Import = visit_ImportFrom = visit_Nonlocal = visit_Global

    # -- what can be changed -------------------------------------------------------------------

    def _turn(self, test: ast.expr) -> None:
        """Note that a condition may be turned around."""
        if isinstance(test, ast.Constant):
            return
        if isinstance(test, ast.Compare) and isinstance(test.ops[0], _OPPOSITES):
            return  # the comparison is
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return  # the `not` is dropped
        self._replace("condition", test, _negated(test))

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._replace("condition", node, ast.BoolOp(op=other, values=node.values))
        for index in range(len(node.values)):
            rest = node.values[:index] + node.values[index + 1 :]
            short = rest[0] if len(rest) == 1 else ast.BoolOp(op=node.op, values=rest)
            # What is dropped tells enough, and stays the same when others come or go.
            left = ast.unparse(node.values[index])
            text = f"({ast.unparse(short)})"
            self._note("guard", node.values[index].lineno, self._span(node), text, left, "")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._replace("condition", node, node.operand)
        elif isinstance(node.op, ast.USub):
            self._replace("arithmetic", node, node.operand)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        other = _COMPARISONS[type(node.ops[0])]()
        self._replace(
            "comparison",
            node,
            ast.Compare(left=node.left, ops=[other, *node.ops[1:]], comparators=node.comparators),
        )
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        other = _OPERATORS.get(type(node.op))
        if other is not None and not (_is_text(node.left) or _is_text(node.right)):
            self._replace(
                "arithmetic", node, ast.BinOp(left=node.left, op=other(), right=node.right)
            )
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._replace("constant", node, ast.Constant(value=not value))
        elif isinstance(value, (int, float)):
            self._replace("constant", node, ast.Constant(value=value + 1))

    def visit_Return(self, node: ast.Return) -> None:
        value = node.value
        if value is not None and not isinstance(value, ast.Constant):
            if not self._returns_bool:
                self._rewrite("return", node, ast.Return(value=ast.Constant(value=None)))
            elif not isinstance(value, ast.UnaryOp) and not (
                isinstance(value, ast.Compare) and isinstance(value.ops[0], _OPPOSITES)
            ):
                self._rewrite("return", node, ast.Return(value=_negated(value)))
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self._rewrite("statement", node, ast.Pass())
            self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        # To drop the making of a local name is no small change: the next line notices it.
        if any(isinstance(each, (ast.Attribute, ast.Subscript)) for each in node.targets):
            self._rewrite("statement", node, ast.Pass())
        self.visit(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            if isinstance(node.target, (ast.Attribute, ast.Subscript)):
                self._rewrite("statement", node, ast.Pass())
            self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._rewrite("statement", node, ast.Pass())
        other = _OPERATORS.get(type(node.op))
        if other is not None and not _is_text(node.value):
            changed = ast.AugAssign(target=node.target, op=other(), value=node.value)
            self._rewrite("arithmetic", node, changed)
        self.visit(node.value)

    def _drop(self, node: Any) -> None:
        self._rewrite("statement", node, ast.Pass())
        self.generic_visit(node)

    visit_Raise = visit_Delete = visit_Break = visit_Continue = _drop


def _negated(test: ast.expr) -> ast.expr:
    # A copy, for the one in the tree takes on its new form for a moment.
    return ast.UnaryOp(op=ast.Not(), operand=copy.copy(test))


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))
    )


def header(statement: ast.stmt) -> str:
    """What a statement reads, without the blocks below it and without its decorators."""
    short = copy.copy(statement)
    if isinstance(short, ast.Try):
        return "try:"
    if isinstance(short, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        short.decorator_list = []
    if hasattr(short, "body"):
        short.body = [ast.Pass()]
    if hasattr(short, "orelse"):
        short.orelse = []
    if isinstance(short, ast.Match):
        return f"match {ast.unparse(short.subject)}:"
    return ast.unparse(ast.fix_missing_locations(short)).removesuffix("\n    pass")
