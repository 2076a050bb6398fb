"""One algorithm a file, found by file name; guidance wraps denoisers."""
