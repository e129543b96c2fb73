"""HTTP: search, rows, collections, status, health and metrics."""
