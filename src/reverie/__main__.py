"""``python -m reverie`` is ``reverie``; so is ``torchrun --nproc-per-node 2 -m reverie``."""

import sys


def main() -> None:
    """The console script. Its imports take half a second, in which Ctrl-C must end it quietly too."""
    try:
        from reverie.cli.main import run
    except KeyboardInterrupt:
        print("reverie: interrupted", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
