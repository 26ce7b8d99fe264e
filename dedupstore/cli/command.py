"""The classes behind commands: help that starts with examples, global options in both places, late loading."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from dedupstore import __version__
from dedupstore.cli.commands import COMMANDS, SECTIONS, Entry
from dedupstore.cli.options import GlobalOption, global_options

_WIDTH = 100


class Command(click.Command):
    """A command whose help starts with examples."""

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.examples = tuple(examples)
        self.params.extend(global_options(from_environment=False))

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(self.examples, formatter)
        super().format_help(ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_options(self, ctx, formatter)


class Group(click.Group):
    """A command with subcommands (`dedup key add`); its own help starts with examples too."""

    command_class = Command

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.examples = tuple(examples)
        self.params.extend(global_options(from_environment=False))

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(self.examples, formatter)
        super().format_help(ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)


class Root(click.Group):
    """`dedup` itself: knows its commands by name and imports each on first use."""

    examples = (
        "dedup snapshot ~/site -r /mnt/backup",
        'dedup restore --at "yesterday 18:00" --to ./restored',
        "dedup check",
    )

    def __init__(self, entries: Sequence[Entry] = COMMANDS) -> None:
        super().__init__(
            name="dedup",
            help="Encrypted, deduplicated snapshots of files, with proof that they restore.",
            epilog="dedup COMMAND --help explains a command; dedup help code CODE explains an error.",
            params=[*global_options(from_environment=True), _version_option()],
            no_args_is_help=True,
            context_settings={
                "auto_envvar_prefix": "DEDUP",
                "help_option_names": ["-h", "--help"],
                "max_content_width": _WIDTH,
            },
            subcommand_metavar="COMMAND [ARGS]...",
        )
        self._entries = {entry.name: entry for entry in entries}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self._entries.get(cmd_name)
        return None if entry is None else load(entry)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self._entries and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise click.exceptions.NoSuchCommand(args[0], possibilities=self._entries, ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(self.examples, formatter)
        super().format_help(ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        records = [record for parameter in self.get_params(ctx) if (record := parameter.get_help_record(ctx))]
        with formatter.section("Options (before or after the command)"):
            formatter.write_dl(records)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(len(name) for name in self._entries)
        for section in SECTIONS:
            rows = [
                (entry.name.ljust(width), entry.summary) for entry in self._entries.values() if entry.section == section
            ]
            if rows:
                with formatter.section(section):
                    formatter.write_dl(rows, col_max=12)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[click.shell_completion.CompletionItem]:
        # Without this every command would be imported to ask it for its help.
        matching = [entry for entry in self._entries.values() if entry.name.startswith(incomplete)]
        items = [click.shell_completion.CompletionItem(entry.name, help=entry.summary) for entry in matching]
        return items or click.Command.shell_complete(self, ctx, incomplete)


def load(entry: Entry) -> click.Command:
    """Import the module of a command and return the command."""
    module_name, _, function = entry.target.partition(":")
    loaded = getattr(importlib.import_module(module_name), function)
    assert isinstance(loaded, click.Command), f"{entry.target} is not a command"
    return loaded


def command(name: str, *, examples: Sequence[str], **attributes: Any) -> Callable[[Callable[..., Any]], Command]:
    """Makes a function a command; its docstring is the help text. It returns the exit code, or None for 0."""
    return click.command(name, cls=Command, examples=examples, **attributes)


def group(name: str, *, examples: Sequence[str], **attributes: Any) -> Callable[[Callable[..., Any]], Group]:
    """Makes a function a command with subcommands; add them with `@that_group.command("add", examples=[…])`."""
    return click.group(name, cls=Group, examples=examples, **attributes)


def _version_option() -> click.Option:
    def show(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value and not context.resilient_parsing:
            click.echo(f"dedup {__version__}")
            context.exit()

    return click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=show, help="Show the version."
    )


def _write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    if not examples:
        return
    with formatter.section("Examples"):
        for example in examples:
            # Not wrapped: an example is there to be copied.
            formatter.write(f"{'':>{formatter.current_indent}}{example}\n")
    formatter.write_paragraph()


def _write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    own, shared = [], []
    for parameter in command.get_params(ctx):
        if isinstance(parameter, GlobalOption):
            shared.append("/".join(sorted(parameter.opts, key=len)))
        elif record := parameter.get_help_record(ctx):
            own.append(record)
    with formatter.section("Options"):
        formatter.write_dl(own)
    with formatter.section("Global options (see dedup --help)"):
        for line in _filled(shared, formatter.width - formatter.current_indent):
            formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _filled(names: Sequence[str], width: int) -> Iterator[str]:
    """Lines of whole names: a text wrapper would break an option at its hyphen."""
    line = ""
    for name in names:
        if line and len(line) + 2 + len(name) > width:
            yield line
            line = name
        else:
            line = f"{line}  {name}" if line else name
    if line:
        yield line
