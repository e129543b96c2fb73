"""How a device is to build a graph of neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Algorithm = Literal["nn_descent", "ivf_pq"]


@dataclass(frozen=True, kw_only=True)
class GraphPlan:
    """How a CAGRA graph is built: ``half`` uploads the vectors as float16, ``rounds`` are NN-descent's.

    ``connected`` lets cuVS lay a spanning tree through the graph, in place of some of its best edges.
    """

    algorithm: Algorithm
    degree: int
    intermediate_degree: int
    half: bool
    n_lists: int
    train_share: float
    pq_dim: int
    n_probes: int
    search_batch: int
    rounds: int
    connected: bool
