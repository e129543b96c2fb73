"""Serving one store by several servers: nodes that hold a share of each collection, and routers that ask them."""
