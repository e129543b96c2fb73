"""INSERT, UPDATE, DELETE, MERGE and TRUNCATE, each as a few statements on a table's log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlglot import exp

from tests.snowflake.emulator.column import TIMESTAMPS
from tests.snowflake.emulator.failure import SqlFailure, invalid_identifier, unsupported
from tests.snowflake.emulator.naming import quoted, shown
from tests.snowflake.emulator.table import LOG, Table
from tests.snowflake.emulator.translate import hidden

ROW_ID = exp.column(exp.to_identifier("_rid", quoted=True))


class Writer:
    """Writes rows in one transaction, number ``txn``; ``translate`` turns a Snowflake query into DuckDB's."""

    def __init__(self, duck: Any, translate: Callable[[exp.Expression], str], txn: int) -> None:
        self._duck = duck
        self._translate = translate
        self._txn = txn

    def insert(self, table: Table, names: list[str], query: str) -> int:
        """Add the rows of a DuckDB query whose columns are ``names``; the others get their defaults."""
        for name in names:
            if name not in table.names():
                raise invalid_identifier(shown(name))
        rest = {n: e for n, e in table.defaults.items() if n not in names}
        defaults = [f"({self._translate(exp.select(e.copy()))})" for e in rest.values()]
        columns = ", ".join(quoted(name) for name in [*names, *rest])
        values = ", ".join([*self._cast(table, names, query), *defaults])
        sequence = f"{quoted(table.key[0])}.{quoted(LOG)}.ROW_IDS"
        inputs = ", ".join(f"C{i}" for i in range(len(names)))
        done = self._duck.execute(
            f"INSERT INTO {table.log} ({columns}, _rid, _new, _from) "
            f"SELECT {values}, nextval('{sequence}'), TRUE, {self._txn} FROM ({query}) AS s({inputs})"
        )
        return int(done.fetchall()[0][0])

    def _cast(self, table: Table, names: list[str], query: str) -> list[str]:
        """Text becomes a timestamp in Snowflake's formats too: DuckDB knows no space before an offset."""
        kinds = {column.name: column.type for column in table.columns}
        if not any(kinds[name].kind in TIMESTAMPS for name in names):
            return ["s.*"]
        given = [str(of) for of in self._duck.sql(query).types]
        return [
            f"CAST(regexp_replace({s}, ' ?([+-]\\d\\d):?(\\d\\d)$', '\\1:\\2') AS {kinds[name].duck})"
            if of == "VARCHAR" and kinds[name].kind in TIMESTAMPS
            else s
            for name, of, s in zip(names, given, (f"s.C{i}" for i in range(len(names))), strict=True)
        ]

    def update(self, table: Table, statement: exp.Update) -> int:
        """UPDATE … SET … [FROM …] [WHERE …]."""
        alias = statement.this.args.get("alias")
        target = hidden(table.current, alias, table.key[2])
        query = exp.select(*self._new_values(table, target, statement.expressions)).from_(target)
        from_ = statement.args.get("from_")
        for source in [from_.this] if from_ else []:
            query = query.join(source.copy(), join_type="cross")
        if where := statement.args.get("where"):
            query = query.where(where.this.copy())
        self._keep("_UPDATED", self._translate(query) + ' QUALIFY row_number() OVER (PARTITION BY "_rid") = 1')
        return self._replace(table, "_UPDATED")

    def delete(self, table: Table, statement: exp.Delete) -> int:
        """DELETE FROM … [USING …] [WHERE …]."""
        target = hidden(table.current, statement.this.args.get("alias"), table.key[2])
        query = exp.select(_qualified(target, "_rid")).from_(target)
        for source in statement.args.get("using") or []:
            query = query.join(source.copy(), join_type="cross")
        if where := statement.args.get("where"):
            query = query.where(where.this.copy())
        return self._end(table, self._translate(query))

    def truncate(self, table: Table) -> int:
        """End every row."""
        done = self._duck.execute(f"UPDATE {table.log} SET _to = {self._txn} WHERE _to IS NULL")
        return int(done.fetchall()[0][0])

    def merge(self, table: Table, statement: exp.Merge) -> dict[str, int]:
        """MERGE: each row by the first WHEN clause that it meets, all of them seen before any is applied."""
        target = hidden(table.current, statement.this.args.get("alias"), table.key[2])
        source, on = statement.args["using"], statement.args["on"]
        counts: dict[str, int] = {}
        steps: list[tuple[str, str, list[str]]] = []
        earlier: dict[bool, list[exp.Expression]] = {True: [], False: []}
        for place, when in enumerate(statement.args["whens"].expressions):
            matched = bool(when.args.get("matched"))
            items: list[exp.Expression]
            conditions = [_is_not(c) for c in earlier[matched]]
            if condition := when.args.get("condition"):
                conditions.append(condition.copy())
            earlier[matched].append(condition.copy() if condition else exp.true())
            then, name = when.args["then"], f"_MERGED{place}"
            if matched:
                if isinstance(then, exp.Update):
                    items, kind = self._new_values(table, target, then.expressions), "updated"
                else:
                    items, kind = [_qualified(target, "_rid")], "deleted"
                query = exp.select(*items).from_(target.copy()).join(source.copy(), on=on.copy())
                names: list[str] = []
            else:
                kind, names = "inserted", self._inserted_names(table, then)
                values = [v.copy() for v in then.expression.expressions]
                query = exp.select(*(exp.alias_(v, n, quoted=True) for v, n in zip(values, names, strict=True)))
                query = query.from_(source.copy()).join(target.copy(), on=on.copy(), join_type="left")
                conditions.append(exp.Is(this=_qualified(target, "_rid"), expression=exp.null()))
            self._keep(name, self._translate(query.where(*conditions) if conditions else query))
            steps.append((kind, name, names))
        self._require_one_match([name for kind, name, _ in steps if kind != "inserted"])
        for kind, name, names in steps:
            counts[kind] = counts.get(kind, 0) + self._apply(table, kind, name, names)
        return counts

    def _apply(self, table: Table, kind: str, name: str, names: list[str]) -> int:
        if kind == "updated":
            return self._replace(table, name)
        if kind == "deleted":
            return self._end(table, f'SELECT "_rid" FROM {quoted("temp", "main", name)}')
        return self.insert(table, names, f"SELECT * FROM {quoted('temp', 'main', name)}")

    def _require_one_match(self, names: list[str]) -> None:
        """Snowflake docs, SQL reference, "MERGE", ERROR_ON_NONDETERMINISTIC_MERGE: error 100090 (42P18)."""
        if not names:
            return
        union = " UNION ALL ".join(f'SELECT "_rid" FROM {quoted("temp", "main", name)}' for name in names)
        twice = self._duck.execute(f'SELECT 1 FROM ({union}) GROUP BY "_rid" HAVING count(*) > 1 LIMIT 1')
        if twice.fetchall():
            raise SqlFailure(100090, "42P18", "Duplicate row detected during DML action")

    def _inserted_names(self, table: Table, then: exp.Expression) -> list[str]:
        if not isinstance(then, exp.Insert):
            raise unsupported("this WHEN NOT MATCHED clause")
        return [column.name for column in then.this.expressions] if then.this else table.names()

    def _new_values(self, table: Table, target: exp.Table, items: list[exp.Expression]) -> list[exp.Expression]:
        new = {item.this.name: item.expression for item in items}
        for name in new:
            if name not in table.names():
                raise invalid_identifier(shown(name))
        values: list[Any] = [
            exp.alias_(new[name].copy() if name in new else _qualified(target, name), name, quoted=True)
            for name in table.names()
        ]
        return [_qualified(target, "_rid"), *values]

    def _keep(self, name: str, query: str) -> None:
        self._duck.execute(f"CREATE OR REPLACE TEMPORARY TABLE {quoted(name)} AS {query}")

    def _replace(self, table: Table, name: str) -> int:
        """Put a new version in place of each row in a temporary table."""
        kept = quoted("temp", "main", name)
        count = self._end(table, f'SELECT "_rid" FROM {kept}')
        self._duck.execute(
            f"INSERT INTO {table.log} ({table.select_list()}, _rid, _new, _from) "
            f'SELECT {table.select_list()}, "_rid", FALSE, {self._txn} FROM {kept}'
        )
        return count

    def _end(self, table: Table, row_ids: str) -> int:
        done = self._duck.execute(f"UPDATE {table.log} SET _to = {self._txn} WHERE _to IS NULL AND _rid IN ({row_ids})")
        return int(done.fetchall()[0][0])


def _qualified(target: exp.Table, name: str) -> exp.Column:
    return exp.column(exp.to_identifier(name, quoted=True), table=exp.to_identifier(target.alias_or_name, quoted=True))


def _is_not(condition: exp.Expression) -> exp.Expression:
    """Neither false nor unknown keeps a row from the next clause."""
    return exp.not_(exp.Coalesce(this=condition.copy(), expressions=[exp.false()]))
