"""Tools on pictures of any model that denoises, one a file, found by its name.

Each has a ``Settings`` (what ``key=value`` can say on the command line) and ``draw(task, settings) -> Sheet``.
"""
