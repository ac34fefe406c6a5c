"""The group of commands. Each command's module is imported when the command is called, so that start-up is quick."""

from __future__ import annotations

import importlib
import os
from typing import Any

import click

from measlog.cli.errors import report
from measlog.errors import MeaslogError

__all__ = ["cli", "run"]

_COMMANDS = {
    "show": ("measlog.cli.show:show", "The events of a log, decoded, with digest checks and trust."),
    "replay": ("measlog.cli.replay:replay", "The register values that follow from a log."),
    "checks": ("measlog.cli.checks:checks", "Which digests of logs follow from their data, counted by type."),
    "quote": ("measlog.cli.quote:quote", "Verify a quote alone: key, signature, nonce, register values."),
    "verify": ("measlog.cli.verify:verify", "The whole appraisal: quote, log, reference manifests, policy."),
    "report": ("measlog.cli.report:report", "One self-contained HTML page about a machine."),
    "manifest": ("measlog.cli.manifest:manifest", "Build, sign and show reference manifests."),
    "identify": ("measlog.cli.identify:identify", "Which release, slot and boot path a log shows."),
    "predict": ("measlog.cli.predict:predict", "The registers of boots that have not happened yet."),
    "diff": ("measlog.cli.diff:diff", "Two logs, or a log and a predicted boot, aligned."),
    "convert": ("measlog.cli.convert:convert", "A log in another tool's form."),
    "ima": ("measlog.cli.ima:ima", "An IMA log: registers, boot aggregate, entries that are not allowed."),
    "bulk": ("measlog.cli.bulk:bulk", "Fleets: verify tables of machines, and group those that deviate."),
    "keylime": ("measlog.cli.keylime:keylime", "Measured-boot policies for Keylime, and its reference states."),
    "baseline": ("measlog.cli.baseline:baseline", "Learn the platform's registers from known-good machines."),
}


class LazyGroup(click.Group):
    """A group that knows names and one-line helps, and imports a command when it is wanted."""

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order of the table."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name, imported now."""
        if cmd_name not in self.lazy:
            return None
        module, _, name = self.lazy[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is named; wrong usage that says which ones have a name like it."""
        if args[0] not in self.lazy and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = " or ".join(repr(name) for name in get_close_matches(args[0], self.lazy))
            raise click.UsageError(f"No such command {args[0]!r}." + (f" Did you mean {near}?" if near else ""), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The names with their one-line helps, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in self.lazy.items()])


@click.group(
    cls=LazyGroup,
    lazy=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 affirming or done; 1 not affirming, or differences; 2 wrong usage; 3 unreadable input, or "
    "evidence or manifests that are not authentic.",
)
@click.version_option(package_name="measlog", message="measlog %(version)s")
def cli() -> None:
    """Read, replay, verify and predict measured boots, for Flatcar Container Linux first."""


def run(argv: list[str]) -> int:
    """Run the command line and turn whatever it raises into a message and an exit status."""
    try:
        # Not cli.main, which deals with broken pipes and interrupts in its own way.
        with cli.make_context("measlog", argv) as context:
            status = cli.invoke(context)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else str(error), err=True)
        return 2
    except click.UsageError as error:
        report(" ".join(error.format_message().split()))  # click sets lists of choices in lines
        command = error.ctx.command_path if error.ctx else "measlog"
        click.echo(f"Try '{command} --help'.", err=True)
        return 2
    except click.ClickException as error:
        report(error.format_message())
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.exceptions.Exit as error:
        return error.exit_code
    except MeaslogError as error:
        report(str(error))
        return 3
    except OSError as error:
        if error.filename is None:  # no file of ours: it is standard output that failed
            raise
        report(f"{error.filename}: {error.strerror or error}")
        return 3
    except (MemoryError, RecursionError) as error:
        report(f"the input needs more than this machine gives ({type(error).__name__})")
        return 3
    except Exception as error:  # the promise is: never a traceback
        if os.environ.get("MEASLOG_TRACEBACK"):
            raise
        report(f"this is a defect of measlog: {type(error).__name__}: {error} (MEASLOG_TRACEBACK=1 shows where)")
        return 3
    return status if isinstance(status, int) else 0
