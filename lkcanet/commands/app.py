"""The application: its commands, and how their errors reach the user."""

import io
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..common.errors import error_text
from ..common.launched import launch, speaks
from . import (
    bench,
    compress,
    degrade,
    demo,
    distill,
    evaluate,
    export,
    info,
    models,
    prepare,
    rank,
    report,
    reproduce,
    show,
    super_resolve,
    train,
    view,
)
from ._config import configurable, defaults, written
from ._panels import panel_of, says_no_default
from ._shared import KNOWN_ERRORS, note

TRAINS = ("train", "distill")  # on several devices
_debug = False


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn what goes wrong into a line on stderr and an exit code."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: note(f"warning: {message}")
            yield
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except KeyboardInterrupt as interrupt:
        print(": ".join(["interrupted", *map(str, interrupt.args)]), file=sys.stderr)
        raise typer.Exit(130) from None
    except Exception as error:
        usage = hasattr(error, "format_message") and hasattr(error, "exit_code")  # click's, vendored or not
        if _debug or not (usage or isinstance(error, KNOWN_ERRORS)):
            traceback.print_exc()
        text = str(error.format_message()) if usage else error_text(error)  # type: ignore[attr-defined]
        if usage and getattr(error, "ctx", None) is not None:
            text += f" (see {error.ctx.command_path} --help)"  # type: ignore[attr-defined]
        line = " ".join(text.split())
        print(f"error: {line if len(line) <= 900 else line[:600] + ' ... ' + line[-200:]}", file=sys.stderr)
        raise typer.Exit(getattr(error, "exit_code", 2) if usage else 1) from None


class _Group(TyperGroup):
    """Handles the errors of all commands; takes --debug wherever it stands."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        global _debug
        end = args.index("--") if "--" in args else len(args)
        _debug = "--debug" in args[:end]
        args = [arg for arg in args[:end] if arg != "--debug"] + args[end:]
        with _one_line_errors():
            return super().make_context(info_name, args, *rest, **extra)

    def invoke(self, ctx: Any) -> Any:
        with _one_line_errors():
            return super().invoke(ctx)


class _Command(TyperCommand):
    """Takes options from --config. Takes no empty text for anything: as a path that would be the current folder, where
    a script's variable is not set. Shows many options in panels, and the default of each."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        options = [parameter for parameter in self.params if parameter.param_type_name == "option"]
        for option in options:
            option.rich_help_panel = panel_of(str(option.name), len(options))  # type: ignore[attr-defined]
            if says_no_default(option):
                option.show_default = "none"  # type: ignore[attr-defined]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given, _, _ = self.make_parser(ctx).parse_args(
            args=list(args)
        )  # texts still, and not yet Path(""), which is "."
        for parameter in self.get_params(ctx):
            value = given.get(parameter.name)
            if value == "" or (isinstance(value, (list, tuple)) and "" in value):
                raise typer.BadParameter("must not be empty", ctx=ctx, param=parameter)  # type: ignore[arg-type]
        ctx.meta[__package__] = list(args)
        if given.get("config"):
            ctx.default_map = defaults(Path(str(given["config"])), ctx)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        if launch() is not None and ctx.info_name not in TRAINS:
            raise ValueError(f"torchrun goes with {' and '.join(TRAINS)}: lkca {ctx.info_name} would run several times")
        with written(ctx), nullcontext() if speaks() else redirect_stdout(io.StringIO()):
            return super().invoke(ctx)


def _version(asked: bool) -> None:
    if asked:
        from lkops import __version__

        print(f"lkca {__version__}")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; works in any place.")] = False,
) -> None:
    """Hyperspectral super-resolution with LKCA-Net.

    Example: lkca train scene.mat --test 0:512,320:576 --out run && lkca evaluate scene.mat -c run/best.safetensors
    """
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


def build() -> typer.Typer:
    """The application with all commands."""
    # locals in tracebacks could show whole scenes; our own handler prints them anyway
    app = typer.Typer(cls=_Group, pretty_exceptions_enable=False, rich_markup_mode="rich")
    app.callback(invoke_without_command=True)(_root)
    commands: dict[str, Callable[..., None]] = {
        "info": info.info,
        "view": view.view,
        "degrade": degrade.degrade,
        "prepare": prepare.prepare,
        "train": train.train,
        "distill": distill.distill,
        "evaluate": evaluate.evaluate,
        "super-resolve": super_resolve.super_resolve,
        "show": show.show,
        "report": report.report,
        "models": models.models,
        "rank": rank.rank,
        "reproduce": reproduce.reproduce,
        "compress": compress.compress,
        "export": export.export,
        "demo": demo.demo,
        "bench": bench.bench,
    }
    for name, command in commands.items():
        app.command(name, cls=_Command)(configurable(command))
    return app
