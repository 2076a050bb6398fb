"""``python -m reverie`` is ``reverie``; so is ``torchrun --nproc-per-node 2 -m reverie``."""

from reverie.cli.main import run

if __name__ == "__main__":
    run()
