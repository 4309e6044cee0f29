"""A command line in, one stage run, an exit code out: the same functions that `jobs/` call.

Heavy libraries are imported inside the commands, so that `meddx --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from meddx.errors import MeddxError, RecipeError
from meddx.progress import Console

app = typer.Typer(
    name="meddx",
    help="Medical archives in, diagnostic models and honest verdicts out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Page = Annotated[Path, typer.Argument(metavar="RECIPE", help="the recipe, a YAML page")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="changes to the recipe, such as training.epochs=3")]
Fresh = Annotated[bool, typer.Option("--fresh", help="start anew, even where a finished or started output is there")]


def _load(page: Path, overrides: Sequence[str] | None) -> Any:
    from meddx import recipe

    return recipe.load(page, overrides or ())


@app.command()
def draft(
    data: Annotated[str, typer.Argument(metavar="DATA", help="a table, a folder of pictures, or a Parquet file")],
    target: Annotated[str, typer.Option(help="the column with the answer")],
    patient: Annotated[str | None, typer.Option(help="the column that groups cases of a patient")] = None,
    id: Annotated[str | None, typer.Option(help="the column with the case's unique id")] = None,
    positive: Annotated[str | None, typer.Option(help="the value that means yes")] = None,
    out: Annotated[Path | None, typer.Option(help="where to write the page; default: on the screen")] = None,
) -> None:
    """Read a sample of DATA and write a recipe that runs, with open questions as comments."""
    from meddx.draft import draft as write_page

    page = write_page(data, target=target, patient=patient, id=id, positive=positive, name=out.stem if out else None)
    if out is None:
        print(page, end="")
        return
    if out.exists():
        raise RecipeError("the page is there already", str(out), "remove it, or name another --out")
    out.write_text(page)
    print(f"wrote {out}; read its comments, then: meddx check {out}")


@app.command()
def check(recipe: Page, overrides: Overrides = None) -> None:
    """Print ten cases as the model will see them, and the counts of each part.  Trains nothing."""
    from meddx.stages.check import check as look

    look(_load(recipe, overrides), log=Console())


@app.command()
def ingest(recipe: Page, overrides: Overrides = None, fresh: Fresh = False) -> None:
    """Read the archive into a dataset; what cannot be read goes to its quarantine."""
    from meddx.stages.ingest import ingest as read_archive

    read_archive(_load(recipe, overrides), log=Console(), fresh=fresh)


@app.command()
def train(
    recipe: Page,
    overrides: Overrides = None,
    fresh: Fresh = False,
    compare: Annotated[bool, typer.Option("--compare", help="go on to the verdict; this opens the test part")] = False,
) -> None:
    """Train the network and its baselines (ingesting first where needed); every model becomes a bundle."""
    from meddx.stages.train import train as make_bundles

    page = _load(recipe, overrides)
    make_bundles(page, log=Console(), fresh=fresh)
    if compare:
        from meddx.stages.compare import compare_all as judge
        from meddx.stages.compare import question

        judge(page, log=Console(), question=question(recipe))
    else:
        print(f"next: meddx compare {recipe}   (scores every bundle and opens the test part)")


@app.command()
def score(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="a bundle, or a recipe: its network and dataset; for --status, --verify DIR is enough")
    ],
    data: Annotated[str | None, typer.Argument(metavar="[DATA]", help="a dataset, Parquet with a case_id, or a folder of pictures")] = None,
    out: Annotated[
        str | None, typer.Option(help="the folder of the predictions; {date} in DATA and here is today, {date-1} yesterday")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="0: in this process; N: that many Ray actors")] = 0,
    check: Annotated[bool, typer.Option("--check", help="say what would be done, what it takes and what it costs")] = False,
    probe: Annotated[bool, typer.Option("--probe", help="--check, with the rate measured: score for a minute, and keep nothing")] = False,
    price: Annotated[
        float | None, typer.Option(min=0, help="of an hour of one worker, or of this machine: what does the night cost?")
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="say how far it is")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="read every part back and prove the books")] = False,
    update: Annotated[bool, typer.Option("--update", help="take up files that changed or vanished since the plan")] = False,
    device: Annotated[str, typer.Option(help="of networks in a new output: cpu, cuda, or auto, a GPU where there is one")] = "auto",
) -> None:
    """Score every row of DATA exactly once; run the same command again to go on after a stop."""
    from meddx.score.spawn import ForkServer

    look = next((name for name, asked in (("probe", probe), ("check", check), ("status", status), ("verify", verify)) if asked), None)
    there = Path(out or ".", "_meddx", "record.json").exists()
    server = ForkServer() if look is None and not workers and out and not there else None  # it imports while this one does
    try:
        from meddx.stages.score import score_command

        score_command(
            bundle, data, out, workers=workers, look=look, log=Console(), update=update, price=price, server=server, device=device
        )
    finally:
        if server is not None:
            server.close()


@app.command()
def compare(
    recipe: Page,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PREDICTIONS|BUNDLE|KEY=VALUE]...", help="default: every bundle of the run")
    ] = None,
    without: Annotated[list[str] | None, typer.Option(metavar="INPUT", help="compare the network without this optional input too")] = None,
) -> None:
    """Say whether the model beats its baseline, on one page.  Opens the test part and notes that it did."""
    from meddx.stages.compare import compare_all as judge
    from meddx.stages.compare import question

    given = paths or []
    page = _load(recipe, [one for one in given if "=" in one])
    chosen = [one for one in given if "=" not in one]
    judge(page, chosen, log=Console(), question=question(recipe), without=without or ())


@app.command()
def synth(
    kind: Annotated[str, typer.Argument(metavar="xray|table|multimodal", help="what to make")],
    patients: Annotated[int, typer.Option(min=10, help="how many patients")] = 1000,
    out: Annotated[str, typer.Option(help="an empty folder")] = "runs/phantom",
    seed: Annotated[int, typer.Option(help="which of the equally good populations")] = 0,
) -> None:
    """Make synthetic patients with a known answer, in real formats, some files broken on purpose."""
    from meddx.stages.synth import synth as make

    make(kind, patients, out, seed=seed, log=Console())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.  Returns the exit code; what the user can mend is three lines, never a stack trace."""
    # Before torch is loaded: OpenMP's threads wait by spinning, which makes training beside any busy process several times slower.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    return guarded(lambda: app(args=list(sys.argv[1:] if arguments is None else arguments), prog_name="meddx"))


def guarded(call: Callable[[], object]) -> int:
    """Exit code of `call`: 0, the error's own, or the parser's 2 for a wrong command line."""
    try:
        call()
    except MeddxError as error:
        print(f"meddx: {error}", file=sys.stderr)
        return error.exit_code
    except SystemExit as stop:  # the parser ends every command so
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0
