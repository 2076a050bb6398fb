"""Pure functions and small value objects, without weights."""
