"""`dedup completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from dedupstore.cli.command import command
from dedupstore.cli.session import Session

SHELLS = ("bash", "zsh", "fish")


@command(
    "completion",
    examples=[
        'eval "$(dedup completion bash)"        # in ~/.bashrc',
        'eval "$(dedup completion zsh)"         # in ~/.zshrc',
        "dedup completion fish > ~/.config/fish/completions/dedup.fish",
    ],
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    session = context.find_object(Session)
    made = get_completion_class(shell)
    assert session is not None and made is not None
    # Not made through its constructor's checks of the shell's version: that would start the shell.
    script = made(context.find_root().command, {}, "dedup", "_DEDUP_COMPLETE").source_template
    text = script % {
        "complete_func": "_dedup_completion",
        "complete_var": "_DEDUP_COMPLETE",
        "prog_name": "dedup",
    }
    session.out.document({"shell": shell, "script": text})
    session.out.line(text.strip())
