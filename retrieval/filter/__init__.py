"""SQL filters: WHERE text in four dialects, compiled to polars with SQL's three-valued logic."""

from retrieval.filter.filter import CompiledFilter, compile_filter, conjoin
from retrieval.filter.sqltypes import FilterSchema, schema_of

__all__ = ["CompiledFilter", "FilterSchema", "compile_filter", "conjoin", "schema_of"]
