"""The commands, gathered. Importing this imports neither torch nor numpy."""

from __future__ import annotations

import typer

from . import (
    build,
    calibrate,
    check,
    doctor,
    evaluate,
    export,
    lint,
    package,
    predict,
    profile,
    prune,
    run,
    sensitivity,
    train,
    verify,
)
from . import list as listing

app = typer.Typer(
    name="zoo",
    help="Train image classifiers, make them smaller, export them, and prove what was exported.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("list")(listing.list_)
app.command("doctor")(doctor.doctor)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("calibrate")(calibrate.calibrate)
app.command("sensitivity")(sensitivity.sensitivity)
app.command("prune")(prune.prune)
app.command("export")(export.export)
app.command("lint")(lint.lint)
app.command("build")(build.build)
app.command("check")(check.check)
app.command("profile")(profile.profile)
app.command("package")(package.package)
app.command("verify")(verify.verify)
app.command("run")(run.run)


@app.callback()
def zoo() -> None:
    """Train image classifiers, make them smaller, export them, and prove what was exported."""
