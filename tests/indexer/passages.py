"""Texts as embedders meet them: usual, empty, too long, of other scripts."""

TEXTS = [
    "A grebe builds a floating nest.",
    "",
    "The floating nest of a grebe drifts on the lake.",
    "Interest rates rose by half a point.",
    "word " * 400,
    "Café déjà vu 🐦 مرحبا",
]
