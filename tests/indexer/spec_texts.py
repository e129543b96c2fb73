"""Specs as their authors write them: one with every part, and the least."""

from __future__ import annotations

FULL = """\
name: advisories
source:
  kind: delta
  table: data/advisories
key: [id]
text:
  fields: {summary: 2.0, details: 1.0}
  language: english
  chunk: {max_tokens: 256, overlap_tokens: 32}
vector:
  model: sentence-transformers/all-MiniLM-L6-v2
columns: [package, severity]
policies:
  - role: analyst
    rows: "team = :team"
    masks: {details: redact, severity: hash}
index: {kind: auto, device: auto, min_recall: 0.95}
shards: 2
sync: {max_delete_ratio: 0.5}
"""

SMALL = """\
name: notes
source: {table: data/notes}
key: [id]
text: {fields: {body: 1}}
vector: {model: "hash:8"}
"""
