"""What Grebe costs and gives, measured beside a peer in the same run."""
