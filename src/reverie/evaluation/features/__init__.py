"""Features: where distances between images mean something. Points are their own."""
