"""SQL filters: WHERE text in four dialects, compiled to polars with SQL's three-valued logic."""

from retrieval.filter.filter import NOTHING_PASSES, CompiledFilter, any_of, compile_filter, filter_of, names_in
from retrieval.filter.sqltypes import FilterSchema, schema_of

__all__ = [
    "NOTHING_PASSES",
    "CompiledFilter",
    "FilterSchema",
    "any_of",
    "compile_filter",
    "filter_of",
    "names_in",
    "schema_of",
]
