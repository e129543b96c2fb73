"""From changes to committed segments: the spec, chunking, embedding, the segment format, the catalog, publishing."""
