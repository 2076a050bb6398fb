"""Settings of the whole suite."""

import os

# Tiny tensors: a second thread costs more in waiting than it brings, above all where other programs run.
# Set before torch is imported; processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
