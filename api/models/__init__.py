"""What goes over the wire: what callers send and what the server sends, as ``/openapi.json`` describes them."""
