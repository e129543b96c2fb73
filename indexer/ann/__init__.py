"""Approximate indexes over a segment's vectors: admitted, built on a CPU or a GPU, and kept only if they find enough.

``build`` is the way in. ``admission`` says how and where before anything is allocated, ``ivf`` and ``graph`` build,
``device`` is what they build on, and ``gate`` measures what came of it.
"""
