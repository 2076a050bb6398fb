"""One model a file: its Config and its Model. Found by file name."""
