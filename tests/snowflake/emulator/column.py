"""Snowflake's column types: how each is declared, kept in DuckDB, described and sent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

MAX_TEXT = 16_777_216
MAX_BINARY = 8_388_608

JSON_KINDS = ("VARIANT", "OBJECT", "ARRAY")
TIMESTAMPS = ("TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ")

_INTEGERS = {"INT", "BIGINT", "SMALLINT", "TINYINT", "BYTEINT", "MEDIUMINT", "INT128", "UBIGINT"}
_DECIMALS = {"DECIMAL", "BIGDECIMAL", "DECIMAL32", "DECIMAL64", "DECIMAL128"}
_DUCK = {
    "REAL": "DOUBLE",
    "TEXT": "VARCHAR",
    "BOOLEAN": "BOOLEAN",
    "DATE": "DATE",
    "TIME": "TIME",
    "TIMESTAMP_NTZ": "TIMESTAMP",
    "TIMESTAMP_LTZ": "TIMESTAMPTZ",
    "TIMESTAMP_TZ": "TIMESTAMPTZ",
    "BINARY": "BLOB",
    "VARIANT": "JSON",
    "OBJECT": "JSON",
    "ARRAY": "JSON",
}


@dataclass(frozen=True)
class ColumnType:
    """One type; ``kind`` is the wire's logical type (FIXED, REAL, TEXT, …), ``element`` a vector's FLOAT or INT."""

    kind: str
    precision: int = 38
    scale: int = 0
    length: int = MAX_TEXT
    dimension: int = 0
    element: str = "FLOAT"

    @property
    def duck(self) -> str:
        """The DuckDB type that keeps its values."""
        if self.kind == "FIXED":
            return f"DECIMAL({self.precision}, {self.scale})"
        if self.kind == "VECTOR":
            return f"{'FLOAT' if self.element == 'FLOAT' else 'INTEGER'}[{self.dimension}]"
        return _DUCK[self.kind]

    @property
    def label(self) -> str:
        """The type as DESCRIBE TABLE shows it."""
        if self.kind == "FIXED":
            return f"NUMBER({self.precision},{self.scale})"
        if self.kind == "REAL":
            return "FLOAT"
        if self.kind == "TEXT":
            return f"VARCHAR({self.length})"
        if self.kind == "BINARY":
            return f"BINARY({self.length})"
        if self.kind == "VECTOR":
            return f"VECTOR({self.element}, {self.dimension})"
        if self.kind == "TIME" or self.kind in TIMESTAMPS:
            return f"{self.kind}({self.scale})"
        return self.kind


@dataclass(frozen=True)
class Column:
    """A column of a table or of a result."""

    name: str
    type: ColumnType
    nullable: bool = True
    default: str | None = None
    primary_key: bool = False
    comment: str | None = None

    def row_type(self) -> dict[str, Any]:
        """Its entry in a response's ``rowtype``."""
        kind, of = self.type.kind, self.type
        entry: dict[str, Any] = {
            "name": self.name,
            "database": "",
            "schema": "",
            "table": "",
            "nullable": self.nullable,
            "type": kind.lower(),
            "byteLength": None,
            "length": None,
            "precision": None,
            "scale": None,
            "collation": None,
        }
        if kind == "FIXED":
            entry |= {"precision": of.precision, "scale": of.scale}
        elif kind == "TEXT":
            entry |= {"length": of.length, "byteLength": min(4 * of.length, MAX_TEXT)}
        elif kind == "BINARY":
            entry |= {"length": of.length, "byteLength": of.length}
        elif kind == "TIME" or kind in TIMESTAMPS:
            entry |= {"precision": 0, "scale": of.scale}
        elif kind == "VECTOR":
            entry |= {"vectorDimension": of.dimension, "fields": [_element(of.element)]}
        return entry


def _element(name: str) -> dict[str, Any]:
    fixed = name == "INT"
    return {
        "name": "",
        "nullable": True,
        "type": "fixed" if fixed else "real",
        "length": 0,
        "byteLength": 0,
        "precision": 38 if fixed else 0,
        "scale": 0,
    }


def declared(dtype: exp.DataType) -> ColumnType:
    """The type that a Snowflake declaration means."""
    name = str(getattr(dtype.this, "name", dtype.this))
    numbers = [int(p.name) for p in dtype.expressions if isinstance(p, exp.DataTypeParam) and p.name.isdigit()]
    if name in _INTEGERS:
        return ColumnType("FIXED")
    if name in _DECIMALS:
        return ColumnType("FIXED", precision=(numbers or [38])[0], scale=numbers[1] if len(numbers) > 1 else 0)
    if name in ("FLOAT", "DOUBLE", "REAL"):
        return ColumnType("REAL")
    if name in ("TEXT", "VARCHAR", "NVARCHAR"):
        return ColumnType("TEXT", length=(numbers or [MAX_TEXT])[0])
    if name in ("CHAR", "NCHAR"):
        return ColumnType("TEXT", length=(numbers or [1])[0])
    if name in ("BINARY", "VARBINARY"):
        return ColumnType("BINARY", length=(numbers or [MAX_BINARY])[0])
    if name in ("BOOLEAN", "DATE", *JSON_KINDS):
        return ColumnType(name)
    if name == "TIME":
        return ColumnType("TIME", scale=(numbers or [9])[0])
    if name in ("TIMESTAMP", "TIMESTAMPNTZ", "DATETIME"):
        return ColumnType("TIMESTAMP_NTZ", scale=(numbers or [9])[0])
    if name == "TIMESTAMPLTZ":
        return ColumnType("TIMESTAMP_LTZ", scale=(numbers or [9])[0])
    if name == "TIMESTAMPTZ":
        return ColumnType("TIMESTAMP_TZ", scale=(numbers or [9])[0])
    if name == "VECTOR":
        element = "INT" if str(getattr(dtype.expressions[0].this, "name", "")) in _INTEGERS else "FLOAT"
        return ColumnType("VECTOR", dimension=numbers[0], element=element)
    raise ValueError(f"no Snowflake type for {dtype.sql('snowflake')}")


def of_duck(duck: str) -> ColumnType:
    """The type that an expression's DuckDB type comes closest to, for results that no table declares."""
    if match := re.fullmatch(r"DECIMAL\((\d+),\s*(\d+)\)", duck):
        return ColumnType("FIXED", precision=int(match[1]), scale=int(match[2]))
    if match := re.fullmatch(r"(FLOAT|INTEGER)\[(\d+)\]", duck):
        return ColumnType("VECTOR", dimension=int(match[2]), element="FLOAT" if match[1] == "FLOAT" else "INT")
    if duck in ("BIGINT", "INTEGER", "SMALLINT", "TINYINT", "UBIGINT", "UINTEGER", "USMALLINT", "UTINYINT"):
        return ColumnType("FIXED", precision=18 if duck in ("BIGINT", "UBIGINT") else 9)
    if duck in ("HUGEINT", "UHUGEINT"):
        return ColumnType("FIXED")
    if duck.endswith("[]") or duck.startswith(("STRUCT", "MAP")):
        return ColumnType("ARRAY" if duck.endswith("[]") else "OBJECT")
    kinds = {
        "DOUBLE": "REAL",
        "FLOAT": "REAL",
        "BOOLEAN": "BOOLEAN",
        "DATE": "DATE",
        "BLOB": "BINARY",
        "JSON": "VARIANT",
    }
    if duck in kinds:
        return ColumnType(kinds[duck], length=MAX_BINARY if duck == "BLOB" else MAX_TEXT)
    scaled = {
        "TIME": "TIME",
        "TIMESTAMP": "TIMESTAMP_NTZ",
        "TIMESTAMP_NS": "TIMESTAMP_NTZ",
        "TIMESTAMP WITH TIME ZONE": "TIMESTAMP_TZ",
    }
    return ColumnType(scaled[duck], scale=9) if duck in scaled else ColumnType("TEXT")
