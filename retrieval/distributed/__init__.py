"""One collection over several machines: nodes hold its shards, routers ask them and make one answer of theirs."""
