"""The ``reverie`` command. A verb is a file beside this one with a function of the same name."""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from pathlib import Path

import typer
from typer.core import TyperGroup

import reverie
from reverie.core.errors import ReverieError


class _Ordered(TyperGroup):
    """Lists verbs in the order of a user's way, not of the alphabet."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        order = ["models", "data", "train", "sample", "evaluate", "compare", "edit", "translate"]
        return sorted(self.commands, key=lambda verb: (order.index(verb) if verb in order else len(order), verb))


app = typer.Typer(
    cls=_Ordered,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"reverie {reverie.__version__}")
        raise typer.Exit


@app.callback(
    help="Train, sample and measure deep generative models of images.\n\n"
    "Start with [bold]reverie models[/bold], then [bold]reverie train flow-matching --data FOLDER --time 5m[/bold]."
)
def _main(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    return None


for _file in sorted(Path(__file__).parent.glob("*.py")):
    if _file.stem not in ("__init__", "main"):
        app.command(_file.stem)(getattr(import_module(f"reverie.cli.{_file.stem}"), _file.stem))


NO_MEMORY = "this needs more memory than there is: ask for less at once (size, --batch, -n; train.batch in training)"


def run() -> None:
    """The console script: errors become one or two lines and an exit code."""
    debug = "--debug" in sys.argv
    try:
        code = app([word for word in sys.argv[1:] if word != "--debug"], standalone_mode=False)
        if code == 130:  # Ctrl-C, as the parser reports it
            print("reverie: interrupted", file=sys.stderr)
    except ReverieError as error:
        if debug:
            traceback.print_exc()
        print(f"reverie: {error}", file=sys.stderr)
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("reverie: interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        code = 0
    except OSError as error:
        if debug:
            traceback.print_exc()
        where = f"{error.filename}: " if error.filename else ""
        print(f"reverie: {where}{error.strerror or error}", file=sys.stderr)
        code = 1
    except Exception as error:
        shown = getattr(error, "show", None)  # the parser's own usage errors know how to print themselves
        if shown is None:
            if debug:
                raise
            full = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # Python's, or CUDA's
            if full or "can't allocate memory" in str(error):
                print(f"reverie: {NO_MEMORY}", file=sys.stderr)
                sys.exit(1)
            line = f"{type(error).__name__}: {error}".splitlines()[0]
            print(f"reverie: this is a bug: {line}\n(--debug shows the traceback)", file=sys.stderr)
            sys.exit(1)
        shown()
        code = getattr(error, "exit_code", 2)
    sys.exit(code if isinstance(code, int) else 0)
