"""The commands; the files beside this one do their work and are imported when a command needs them."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from typing import Annotated

import typer

from deltaprop import __version__
from deltaprop.cli.option_names import Command
from deltaprop.cli.options import (
    Backend,
    EvaluateOptions,
    ExplainOptions,
    Model,
    PredictOptions,
    SweepOptions,
    TrainOptions,
    hidden_sizes,
    with_options,
)
from deltaprop.cli.processes import ranks_of, require_one_process
from deltaprop.files.atomic_file import check_writable, write_atomically

app: typer.Typer = typer.Typer(
    name="deltaprop",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},  # the commands below inherit it
)
command = partial(app.command, cls=Command)


def show_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        typer.echo(f"deltaprop {__version__}")
        raise typer.Exit


@app.callback()
def options_of_all(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Multi-layer perceptrons by backpropagation in matrix form."""


@command()
@with_options(TrainOptions)
def train(options: TrainOptions) -> None:
    """Train on DATA and print how good the predictions are for rows held out.

    Several networks learn a table; --plain, or data of another kind, trains one.
    """
    with ranks_of(options.ranks) as ranks:
        from deltaprop.cli.train import train as run

        for line in run(options, ranks):
            if ranks.is_first:
                typer.echo(line)


@command()
@with_options(SweepOptions)
def sweep(options: SweepOptions) -> None:
    """Cross-validate every combination of parameters of a single network, hundreds of networks at a time."""
    require_one_process()
    from deltaprop.cli.sweep import sweep as run
    from deltaprop.cli.train_network import train_network

    if options.out is not None and options.out.lower().endswith(".csv"):
        raise ValueError(f"--out: expected a file for the model, got {options.out}; the results as CSV go to --csv")
    for path in (options.csv, options.out):
        if path is not None:
            check_writable(path)
    found = run(options)
    write_text(found.results, options.csv)
    is_aside = options.csv is None  # then standard output has the CSV alone
    so_far = "" if found.is_whole else " so far"
    typer.echo(f"best{so_far:8}score {found.score:.4f}, by the command", err=is_aside)
    typer.echo(found.line, err=is_aside)
    if not found.is_whole:
        raise KeyboardInterrupt
    if options.out is not None:
        for line in train_network(replace(found.best, out=options.out, progress=options.progress)):
            typer.echo(line, err=is_aside)


@command()
@with_options(PredictOptions)
def predict(options: PredictOptions) -> None:
    """Predict the target for every row of DATA, as CSV."""
    require_one_process()
    from deltaprop.cli.predict import predict as run

    if options.out is not None:
        check_writable(options.out)
    write_text(run(options), options.out)
    if options.out is not None:
        typer.echo(f"predictions {options.out}")


@command()
@with_options(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> None:
    """Print how good the predictions for DATA are, or for its test set if it has one."""
    from deltaprop.cli.evaluate import evaluate as run

    for line in run(options):
        typer.echo(line)


@command()
def gradcheck(
    layers: Annotated[str, typer.Option(help="Widths of all layers.")] = "3,5,3",
    activation: Annotated[str, typer.Option(help="Hidden activation.")] = "sigmoid",
    output_activation: Annotated[str | None, typer.Option(help="By default the one that suits the loss.")] = None,
    loss: Annotated[str, typer.Option(help="Loss.")] = "binary_cross_entropy",
    l2: Annotated[float, typer.Option(help="λ of the penalty λ/(2m) Σ W².")] = 1.0,
    samples: Annotated[int, typer.Option(help="Random samples to check on.")] = 5,
    seed: Annotated[int, typer.Option(help="Decides parameters and samples.")] = 0,
    backend: Backend = "auto",
    output_error: Annotated[
        str, typer.Option(help="exact, or simplified: δ of the squared error without g′.")
    ] = "exact",
) -> None:
    """Compare backpropagation with central differences of the cost, layer by layer. Exit status 1 if they differ."""
    from deltaprop.cli.gradcheck import gradcheck as run

    widths = hidden_sizes(layers, "--layers")
    check = run(widths, activation, output_activation, loss, l2, samples, seed, backend, output_error)
    typer.echo(str(check))
    if not check.passed:
        raise typer.Exit(1)


@command()
@with_options(ExplainOptions)
def explain(options: ExplainOptions) -> None:
    """Show backpropagation in numbers: as tables, or as a page that steps through both passes and training steps."""
    require_one_process()
    from deltaprop.cli.explain import explain as run

    if options.out is not None:
        check_writable(options.out)
    explained = run(options)
    if options.out is None:
        typer.echo(str(explained))
    else:
        explained.save_html(options.out)
        typer.echo(f"page        {options.out}")


@command()
def weights(
    model: Model,
    plot: Annotated[str, typer.Option(help="Picture to write: FILE.png.")],
    layer: Annotated[int, typer.Option(help="The layer whose weights to draw; 0 is next to the inputs.")] = 0,
    shape: Annotated[str | None, typer.Option(help="Height,width of an image; a square by default.")] = None,
) -> None:
    """Draw the weights of a layer of MODEL as images, one a unit."""
    require_one_process()
    from deltaprop.cli.plot import check_plot, save_plot
    from deltaprop.loading import load_network

    check_plot(plot)
    size = None if shape is None else hidden_sizes(shape, "--shape")
    if size is not None and len(size) != 2:
        raise ValueError(f"--shape: expected height,width such as 28,28, got {shape!r}")
    save_plot(load_network(model, "numpy").plot_weights(layer, None if size is None else (size[0], size[1])), plot)
    typer.echo(f"weights     {plot}")


@command()
def bench(
    only: Annotated[
        str, typer.Option(help="Run only these: an expression as for pytest -k, such as 'epoch and float32'.")
    ] = "",
    seconds: Annotated[float, typer.Option(help="Seconds to measure each.")] = 0.1,
    json: Annotated[str | None, typer.Option(help="JSON file to write all results to.")] = None,
    plot: Annotated[
        str | None, typer.Option(help="Picture of throughput by minibatch size to write: FILE.png.")
    ] = None,
) -> None:
    """Measure forward and backward passes, steps, epochs and sigmoid on this machine, each against its floor."""
    require_one_process()
    from deltaprop.cli import bench as benchmarks

    benchmarks.check(json)
    rows, recorded = benchmarks.bench(only, seconds, plot)
    for line in recorded["machine"]:
        typer.echo(line)
    typer.echo(benchmarks.table(rows))
    if json is not None:
        benchmarks.write_json(json, recorded)


@command()
def info() -> None:
    """Print versions, backends (and why one does not work), BLAS, threads and GPUs."""
    from deltaprop.cli.info import info as run

    for line in run():
        typer.echo(line)


@command()
def doctor(
    backend: Annotated[
        str,
        typer.Option(help="all, numpy, cupy, or cupy:1 for the second GPU; all is cupy, if it works, and numpy."),
    ] = "all",
    only: Annotated[str, typer.Option(help="Only stages with this text in their names, such as 'resident'.")] = "",
    json: Annotated[str | None, typer.Option(help="JSON file to write all results to.")] = None,
    emulated: Annotated[
        bool,
        typer.Option("--emulated", help="Try the CUDA kernels on the CPU; this needs a checkout of the repository."),
    ] = False,
    compile: Annotated[
        str | None,
        typer.Option(
            help="Try nothing, but compile the kernels for a GPU architecture, such as sm_90, into the cache."
        ),
    ] = None,
) -> None:
    """Try every operation and every way of training on this machine. Exit status 1 if something does not work."""
    require_one_process()
    from deltaprop.cli import doctor as checks

    if compile is not None:
        if emulated or only or json is not None or backend != "all":
            raise ValueError("--compile: expected no other option beside it")
        checks.fill_cache(compile)
        return
    if json is not None:
        check_writable(json)
    report = checks.examine(backend, only, emulated=emulated)
    checks.show(report, written=json is not None)
    if json is not None:
        checks.write_json(json, report)
    if not report.ok:
        raise typer.Exit(1)


def write_text(text: str, out: str | None) -> None:
    """Write `text` to the file `out`, all or nothing, or to standard output if `out` is None."""
    if out is None:
        sys.stdout.write(text)
    else:
        write_atomically(out, text.encode())
