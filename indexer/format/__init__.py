"""The files of a segment, how they are written, and where they lie."""
