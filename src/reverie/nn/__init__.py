"""Networks and blocks that know no objective: shared blocks here, networks in one folder a role."""
