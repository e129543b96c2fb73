"""Searching one committed version: filters, the vector and keyword legs, fusion, explanation."""
