"""The ``grebe`` command: results on stdout, the rest on stderr; exit 0 done, 1 failed, 2 used wrongly.

Every command imports what it needs when it runs, so that ``grebe --help`` starts no JVM and loads no model.
"""

from __future__ import annotations

import atexit
import importlib.metadata
import inspect
import os
import sys
import threading
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from jobs.commands import (
    audit,
    collections,
    demo,
    doctor,
    evaluate,
    identity,
    maintenance,
    policy,
    prepare,
    search,
    serve,
    sql,
    sync,
    tune,
    verify,
    versions,
)
from jobs.output import tell

app = typer.Typer(
    name="grebe",
    help="A search index kept in step with your lakehouse tables.",
    epilog="A first tour: grebe demo. Trouble: grebe doctor. GREBE_DEBUG=1 shows where an error came from.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _flowing(text: str) -> str:
    """Return a docstring whose paragraphs the terminal may wrap; lines of examples stay apart.

    >>> _flowing("One\\nsentence.\\n\\ngrebe a\\ngrebe b")
    'One sentence.\\n\\ngrebe a\\ngrebe b'
    """
    paragraphs = text.split("\n\n")
    return "\n\n".join(part if part.startswith("grebe ") else part.replace("\n", " ") for part in paragraphs)


for room in (
    collections,
    sync,
    verify,
    serve,
    search,
    sql,
    identity,
    policy,
    audit,
    versions,
    maintenance,
    evaluate,
    tune,
    doctor,
    prepare,
    demo,
):
    room.add_to(app)
for group in (app, *(info.typer_instance for info in app.registered_groups if info.typer_instance)):
    for command_info in group.registered_commands:
        command_info.help = _flowing(inspect.getdoc(command_info.callback) or "")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"grebe {importlib.metadata.version('grebe')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Declare collections over tables, keep them in step, search them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``arguments`` (the command line's, if None) and exit; an error is one sentence on stderr and exit code 1."""
    try:
        app(arguments)
    except Exception as error:  # the last stop: whatever it is, the caller gets a sentence and not a stack trace
        tell(error)
        sys.exit(1)


def as_job(arguments: Sequence[str]) -> None:
    """Run ``arguments`` for a scheduler; ends with :class:`SystemExit` only if something failed.

    A return is what Databricks takes for success: some of its runtimes count ``sys.exit(0)`` as a failure.
    """
    try:
        main(arguments)
    except SystemExit as ended:
        if ended.code:
            raise


def command() -> NoReturn:
    """Be the ``grebe`` command: :func:`main`, then all that Python does at its end but take itself apart.

    Threads of Arrow, FAISS, the model or a driver may still be in native code by then, and one that comes back to an
    interpreter half gone ends the process by SIGSEGV: a sync that did its work would be reported as crashed.
    """
    code = 1
    try:
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    threading._shutdown()  # type: ignore[attr-defined]  # joins the threads that are no daemons
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # who read it is gone
            code = code or 1
    os._exit(code)
