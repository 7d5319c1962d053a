"""A question as people write it, one SELECT over one table, read into the tree that owners are sent.

sqlglot parses the text; every node of its tree must be one that is named here, or the question is refused with what was found. Nothing of
the text goes further: not a name that the schema does not declare, not a function, not a comment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType

from isthmus.contracts.errors import InputError
from isthmus.contracts.question import (
    BINS_MAX,
    LABEL,
    Aggregate,
    AggregateKind,
    Among,
    Bins,
    Compare,
    Condition,
    Either,
    Every,
    Group,
    Levels,
    Missing,
    Negated,
    Operator,
    Question,
    check_params,
    params_of,
    table_columns,
)
from isthmus.contracts.schema import Column, Schema

TEXT_CHARS_MAX = 10_000
LITERALS = (TokenType.NUMBER, TokenType.STRING)
SELECT_MAX = 64
QUANTILE_BINS = 16
"""Bins of a quantile's histogram where none are named."""
ALLOWED = "use COUNT, SUM, AVG, VARIANCE, STDDEV, MEDIAN or QUANTILE of declared columns, WHERE, and GROUP BY categories or bins(column, n)"
_OPERATORS: dict[type[exp.Expression], Operator] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_TURNED: dict[Operator, Operator] = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_MOMENTS: dict[type[exp.Expression], tuple[AggregateKind, bool]] = {
    exp.Sum: ("sum", True),
    exp.Avg: ("mean", True),
    exp.Variance: ("variance", True),
    exp.VariancePop: ("variance", False),
    exp.Stddev: ("deviation", True),
    exp.StddevSamp: ("deviation", True),
    exp.StddevPop: ("deviation", False),
}
_REFUSED: dict[type[exp.Expression], str] = {
    exp.Min: "MIN shows one record's value",
    exp.Max: "MAX shows one record's value",
    exp.Distinct: "DISTINCT needs the values themselves",
    exp.Star: "* shows records",
    exp.Subquery: "there is a query within the query",
    exp.Window: "there is a window",
    exp.Case: "there is a CASE",
    exp.Cast: "there is a cast",
}


@dataclass(frozen=True)
class Table:
    """What may be asked about. classes: how the package calls the labels good and defect."""

    name: str
    schema: Schema
    classes: tuple[str, ...] = LABEL.levels

    @property
    def columns(self) -> dict[str, Column]:
        return table_columns(self.schema)


def refuse(what: str, next_step: str = ALLOWED) -> InputError:
    return InputError(f"the question cannot be asked: {what}", next_step)


def _shown(node: exp.Expression) -> str:
    text = " ".join(node.sql(comments=False).split())
    return text if len(text) <= 60 else text[:57] + "..."


def parsed(text: str) -> exp.Select:
    """The one SELECT of a text. Raises InputError."""
    if len(text) > TEXT_CHARS_MAX:
        raise refuse(f"it has {len(text)} characters", f"use at most {TEXT_CHARS_MAX}")
    try:
        found = [one for one in sqlglot.parse(text, read="duckdb") if one is not None]
    except (SqlglotError, RecursionError, ValueError) as error:
        said = " ".join(str(error).split())[:120]
        raise refuse(f"it is no SQL that can be read ({said})" if said else "it is nested too deeply") from error
    if len(found) != 1 or type(found[0]) is not exp.Select:
        raise refuse("it is not one SELECT")
    written = sum(token.token_type in LITERALS for token in sqlglot.tokenize(text, read="duckdb"))
    if written != sum(1 for _ in found[0].find_all(exp.Literal)):
        raise refuse("a number or text in it has no meaning where it stands")  # the parser drops what a function does not take
    return found[0]


def table_named(text: str) -> str:
    """The name of the table that a question is about. Raises InputError."""
    return _table_of(parsed(text))


def _source(select: exp.Select) -> exp.Expression | None:
    source = select.args.get("from_") or select.args.get("from")
    return None if source is None else source.this


def _table_of(select: exp.Select) -> str:
    return str(_table(select).this.this)


def _table(select: exp.Select) -> exp.Table:
    table = _source(select)
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
        raise refuse("it does not name one table", "write SELECT ... FROM SCENARIO")
    if _filled(table) - {"this", "alias"}:
        raise refuse(f"{_shown(table)} is more than a table's name", "write SELECT ... FROM SCENARIO")
    return table


def _filled(node: exp.Expression) -> set[str]:
    return {name for name, value in node.args.items() if value not in (None, False, [], ())}


def question_of(text: str, table: Table) -> Question:
    """The tree of a question about this table. Raises InputError that says what in it cannot be asked."""
    return Reader(table).question(parsed(text))


class Reader:
    """Reads one SELECT; see question_of."""

    def __init__(self, table: Table) -> None:
        self._table, self._columns = table, table.columns
        self._fields = {name.casefold(): name for name in self._columns}
        self._names = {table.name.casefold()}

    def question(self, select: exp.Select) -> Question:
        alias = _table(select).args.get("alias")
        more = _filled(select) - {"expressions", "from", "from_", "where", "group", "kind"}
        if more:
            raise refuse(f"it has {', '.join(sorted(more)).upper().replace('_', ' ')}", "write SELECT ... FROM ... WHERE ... GROUP BY")
        if alias is not None:
            self._names.add(str(alias.name).casefold())
        where = select.args.get("where")
        groups = self._groups(select.args.get("group"), select.expressions)
        try:
            condition = None if where is None else self._condition(where.this)
            chosen = self._select(select.expressions, groups)
        except RecursionError as error:
            raise refuse("it is nested too deeply") from error
        found = Question(select=chosen, where=condition, groups=groups)
        check_params(params_of(found, self._table.schema), self._table.schema)
        return found

    # What is selected.

    def _select(self, expressions: Sequence[exp.Expression], groups: tuple[Group, ...]) -> tuple[Aggregate, ...]:
        if not 1 <= len(expressions) <= SELECT_MAX:
            raise refuse(f"it selects {len(expressions)} things", f"select 1 to {SELECT_MAX}")
        found = []
        for one in expressions:
            name, inner = (one.alias, one.this) if isinstance(one, exp.Alias) else ("", one)
            group = self._as_group(inner)
            if group is not None:
                if group not in groups:
                    raise refuse(f"{_shown(inner)} is selected and not grouped by", "put it into GROUP BY, or take it out")
                continue
            found.append(self._aggregate(inner, name or _shown(inner).lower()))
        if not found:
            found = [Aggregate(kind="count", name="count(*)")]
        return tuple(found)

    def _aggregate(self, node: exp.Expression, name: str) -> Aggregate:
        if isinstance(node, exp.Count):
            if _filled(node) - {"this", "big_int"}:
                raise refuse(f"{_shown(node)} counts more than one thing")
            if isinstance(node.this, exp.Star) and not _filled(node.this):
                return Aggregate(kind="count", name=name)
            return Aggregate(kind="count", name=name, column=self._column(node.this).name)
        moment = _MOMENTS.get(type(node))
        if moment is not None:
            return Aggregate(kind=moment[0], name=name, column=self._number(node.this).name, sample=moment[1])
        if isinstance(node, exp.Median) and not _filled(node) - {"this"}:
            return self._quantile(name, node.this, 0.5, QUANTILE_BINS)
        if isinstance(node, exp.Quantile | exp.PercentileCont):
            return self._quantile(name, node.this, _number(node.args.get("quantile") or node.expression), QUANTILE_BINS)
        if isinstance(node, exp.Anonymous) and str(node.this).casefold() == "quantile_bins" and len(node.expressions) == 3:
            column, share, bins = node.expressions
            return self._quantile(name, column, _number(share), int(_number(bins)))
        raise self._unknown(node)

    def _quantile(self, name: str, column: exp.Expression, share: float, bins: int) -> Aggregate:
        if not (0 < share < 1 and 2 <= bins <= BINS_MAX):
            raise refuse(f"a quantile at {share:g} in {bins} bins", f"use a share between 0 and 1, and 2 to {BINS_MAX} bins")
        found = self._number(column)
        return Aggregate(kind="quantile", name=name, column=found.name, share_ppm=round(share * 1_000_000), bins=bins)

    # Groups.

    def _groups(self, node: exp.Expression | None, selected: Sequence[exp.Expression]) -> tuple[Group, ...]:
        if node is None:
            return ()
        if _filled(node) - {"expressions"}:
            raise refuse(f"{_shown(node)} groups in more than one way")
        aliases = {one.alias.casefold(): one.this for one in selected if isinstance(one, exp.Alias)}
        found = []
        for one in node.expressions:
            inner = one
            if isinstance(one, exp.Column) and one.name.casefold() not in self._fields:
                inner = aliases.get(one.name.casefold(), one)
            elif isinstance(one, exp.Literal) and not one.is_string and one.this.isdecimal() and 1 <= int(one.this) <= len(selected):
                inner = selected[int(one.this) - 1].unalias()
            group = self._as_group(inner)
            if group is None:
                raise self._unknown(inner)
            found.append(group)
        return tuple(found)

    def _as_group(self, node: exp.Expression) -> Group | None:
        """A category, or bins(column, n); None where it is neither."""
        if isinstance(node, exp.Column):
            column = self._column(node)
            if column.kind != "category":
                raise refuse(f"{column.name} is a number", f"group by bins({column.name}, 10)")
            return Levels(column=column.name)
        if isinstance(node, exp.Anonymous) and str(node.this).casefold() == "bins" and len(node.expressions) == 2:
            return Bins(column=self._number(node.expressions[0]).name, count=int(_number(node.expressions[1])))
        return None

    # The condition.

    def _condition(self, node: exp.Expression) -> Condition:
        if isinstance(node, exp.Paren):
            return self._condition(node.this)
        if isinstance(node, exp.And | exp.Or):
            kind = exp.And if isinstance(node, exp.And) else exp.Or
            parts = tuple(self._condition(one) for one in _flat(node, kind))
            return Every(parts=parts) if kind is exp.And else Either(parts=parts)
        if isinstance(node, exp.Not):
            return Negated(part=self._condition(node.this))
        if isinstance(node, exp.Between):
            if _filled(node) - {"this", "low", "high"}:
                raise self._unknown(node)
            column = self._number(node.this)
            low, high = (_number(node.args[name]) for name in ("low", "high"))
            ends: tuple[tuple[Operator, float], ...] = ((">=", low), ("<=", high))
            return Every(parts=tuple(Compare(column=column.name, operator=operator, value=end) for operator, end in ends))
        if isinstance(node, exp.In):
            if _filled(node) - {"this", "expressions"}:
                raise refuse(f"{_shown(node)} is no list of values")
            column = self._column(node.this)
            return Among(column=column.name, values=tuple(self._value(column, one) for one in node.expressions))
        if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
            return Missing(column=self._column(node.this).name)
        operator = _OPERATORS.get(type(node))
        if operator is not None:
            return self._compare(node, operator)
        raise self._unknown(node)

    def _compare(self, node: exp.Expression, operator: Operator) -> Compare:
        left, right = node.this, node.expression
        if not isinstance(left, exp.Column):
            left, right, operator = right, left, _TURNED[operator]
        column = self._column(left)
        return Compare(column=column.name, operator=operator, value=self._value(column, right))

    # Columns and values.

    def _column(self, node: exp.Expression) -> Column:
        if not isinstance(node, exp.Column) or not isinstance(node.this, exp.Identifier) or _filled(node) - {"this", "table"}:
            raise self._unknown(node)
        if node.table and node.table.casefold() not in self._names:
            raise refuse(f"there is no table {node.table}", f"ask about {self._table.name}")
        name = self._fields.get(node.name.casefold())
        if name is None:
            raise refuse(f"there is no column {node.name[:60]}", f"use one of {', '.join(self._columns)}")
        return self._columns[name]

    def _number(self, node: exp.Expression) -> Column:
        column = self._column(node)
        if column.kind != "number":
            raise refuse(f"{column.name} is a category", "count it, or group by it")
        return column

    def _value(self, column: Column, node: exp.Expression) -> float | str:
        if column.kind == "number":
            return _number(node)
        if isinstance(node, exp.Boolean):
            text = "true" if node.this else "false"
        elif isinstance(node, exp.Literal) and node.is_string:
            text = str(node.this)
        else:
            raise refuse(f"{column.name} is compared with {_shown(node)}", f"use one of {', '.join(map(repr, column.levels))}")
        named = dict(zip((one.casefold() for one in self._table.classes), LABEL.levels, strict=False)) if column == LABEL else {}
        known = {level.strip().casefold(): level for level in column.levels} | named
        if text.strip().casefold() not in known:
            raise refuse(f"{text[:60]!r} is no level of {column.name}", f"use one of {', '.join(map(repr, column.levels))}")
        return known[text.strip().casefold()]

    def _unknown(self, node: exp.Expression) -> InputError:
        for one in node.walk():
            for kind, why in _REFUSED.items():
                if isinstance(one, kind):
                    return refuse(why)
        return refuse(f"{_shown(node)} is not something that owners answer")


def _flat(node: exp.Expression, kind: type[exp.Expression]) -> list[exp.Expression]:
    """The parts of a chain of AND, or of OR; without recursion, because chains may be long."""
    found: list[exp.Expression] = []
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, kind):
            waiting += [one.expression, one.this]
        else:
            found.append(one)
    return found


def _number(node: exp.Expression) -> float:
    sign = 1.0
    while isinstance(node, exp.Neg | exp.Paren):
        sign, node = (-sign if isinstance(node, exp.Neg) else sign), node.this
    if not isinstance(node, exp.Literal) or node.is_string:
        raise refuse(f"{_shown(node)} stands where a number belongs", "write numbers with a point, without a unit")
    try:
        value = sign * float(str(node.this))
    except ValueError as error:
        raise refuse(f"{_shown(node)} is no number", "write numbers with a point, without a unit") from error
    if not math.isfinite(value):
        raise refuse(f"{_shown(node)} is too large", "write a smaller number")
    return value
