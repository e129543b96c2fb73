"""``serve``: answer searches over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from jobs.output import StoreOption, note, stderr


def add_to(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(serve)


def serve(
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            help="Where to listen; beyond this machine once there is a key.  [default: 127.0.0.1]",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", help="0 takes a free one.  [default: 8080]", show_default=False)
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="Where vectors are searched: cpu or gpu.  [default: cpu]", show_default=False),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="A YAML file of settings.")] = None,
    store: StoreOption = None,
) -> None:
    """Serve every collection of the store over HTTP.

    Until there is an API key (grebe keys create) anybody on this machine may ask, and nobody else can. New versions are
    opened beside the old ones and swapped in; no request fails for it.

    grebe serve --port 8080
    curl -s localhost:8080/v1/collections
    """
    from api.logs import open_log
    from api.server import serve as run_server
    from api.settings import ServeSettings, misspelt
    from indexer.format.store import Store

    serving = {"device": device} if device else None
    settings = ServeSettings.load(config, store=store, host=host, port=port, serving=serving)

    # Off a terminal stderr is the log, all of it JSON.
    say = note if stderr().is_terminal else open_log().info
    warn = note if stderr().is_terminal else open_log().warning
    for sentence in misspelt(os.environ):
        warn(sentence)

    def ready(url: str, collections: int) -> None:
        if not collections:
            place = Store.at(settings.store).url
            say(f"There is no collection in {place} yet; what `grebe apply` and `grebe sync` make there is served.")
        held = settings.cluster.held
        say(f"Serving on {url}" if held is None else f"Serving on {url}, part {held.part} of {held.parts}")

    run_server(
        settings,
        started=lambda url: say(f"Opening the store's collections; requests are taken on {url} (Ctrl-C stops it)"),
        ready=ready,
    )
