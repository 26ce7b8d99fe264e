"""`dedup snapshot`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from dedupstore.cli import options
from dedupstore.cli.command import command
from dedupstore.cli.gentle import gentle_options
from dedupstore.cli.opening import begin_deriving
from dedupstore.cli.session import Session

# Named as text: it is loaded while the key is being derived, for both take their time.
_GIVEN = "dedupstore.cli.snapshot_given"


@command(
    "snapshot",
    examples=[
        "dedup snapshot ~/site -r /mnt/backup",
        "dedup snapshot                       # all sources of the configuration",
        "dedup snapshot /srv/blog /etc/nginx --source blog --exclude '*.tmp' --exclude-caches",
        "dedup snapshot sqlite:/var/lib/blog/app.db",
        "dedup snapshot --command blog.sql -- pg_dump --no-password blog",
    ],
)
@click.argument("paths", nargs=-1, metavar="[PATH | SOURCE | DATABASE]...", type=click.UNPROCESSED)
@click.option("--init", "init", is_flag=True, help="Create the repository when there is none.")
@click.option("--source", metavar="NAME", default="", help="What this is called; the paths themselves otherwise.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="A tag for the snapshot; repeatable.")
@click.option("--note", metavar="TEXT", default="", help="A note for the snapshot.")
@click.option(
    "--exclude", metavar="PATTERN", multiple=True, help="Leave out what matches, as in .gitignore; repeatable."
)
@click.option("--exclude-file", metavar="FILE", multiple=True, help="Read patterns from a file; repeatable.")
@click.option("--exclude-if-present", metavar="NAME", multiple=True, help="Leave out directories that hold NAME.")
@click.option("--exclude-caches", is_flag=True, help="Leave out directories marked by a CACHEDIR.TAG.")
@click.option("--exclude-larger-than", metavar="SIZE", default="", help="Leave out larger files.")
@click.option("--exclude-nodump", is_flag=True, help="Leave out what `chattr +d` marks.")
@click.option("--one-file-system", is_flag=True, help="Do not go into other file systems.")
@options.dry_run_option
@click.option("--skip-if-unchanged", is_flag=True, help="Make no snapshot when nothing has changed.")
@click.option("--force", is_flag=True, help="Read all files again, also those that look unchanged.")
@click.option("--stdin", "stdin_name", metavar="NAME", default="", help="Store standard input as a file NAME.")
@click.option("--allow-empty", is_flag=True, help="Take a standard input without a byte for what is meant.")
@click.option("--command", "command_name", metavar="NAME", default="", help="Store the output of a command as NAME.")
@click.option("--compression", metavar="LEVEL", type=int, default=3, help="1 (fast) to 19 (small); 3 by default.")
@click.option("--host", metavar="NAME", default="", help="Instead of the name of this machine.")
@click.option("--time", "time_text", metavar="TIME", default="", help="Instead of now; for importing old copies.")
@options.storage_class_option
@gentle_options
@click.pass_obj
def snapshot(session: Session, /, **given: Any) -> int:
    """Store files as they are now.

    Each PATH appears in the snapshot under its last name. Without any, all sources of the configuration are taken as one
    run; a word without a slash that names a SOURCE is that source (write ./NAME for a path). The next snapshot of the
    same source reads only what changed. With --command NAME -- CMD..., the output of a command is stored; if it fails there is no snapshot.
    A DATABASE is an address: sqlite:PATH, postgresql://USER@HOST/NAME or mysql://USER@HOST/NAME.
    """
    begin_deriving(session)
    exit_code: int = import_module(_GIVEN).take(session, **given)
    return exit_code
