"""Who asks: whom a caller's credentials show to be."""
