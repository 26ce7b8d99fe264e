"""One paragraph for every code an error or a finding can carry. The first sentence stands in the list.

A test reads the codes from the source and asks for a page for each.
"""

from __future__ import annotations

from dedupstore.cli.codes_configuration import PAGES as CONFIGURATION_PAGES
from dedupstore.cli.codes_databases import PAGES as DATABASE_PAGES
from dedupstore.cli.codes_locks import PAGES as LOCK_PAGES
from dedupstore.cli.codes_storage import PAGES as STORAGE_PAGES

PAGES: dict[str, str] = {
    **CONFIGURATION_PAGES,
    **DATABASE_PAGES,
    **LOCK_PAGES,
    **STORAGE_PAGES,
    "cache.damaged": "The local index contradicts itself. It is only a copy of what the repository says: it is "
    "dropped and built again, and no data is lost.",
    "cache.dropped": "The local cache broke while it was used and was set aside. It is only a copy of what the "
    "repository says; the work was started over without it.",
    "cache.failed": "The local cache cannot be used. It holds nothing that the repository does not hold; check "
    "the disk and the rights of the cache directory (DEDUP_CACHE_DIR), or remove the directory.",
    "cache.temporary": "The local cache could not be used, so a temporary one was made for this run. The next "
    "run pays for that with time; see the rights of the cache directory (DEDUP_CACHE_DIR).",
    "check.cache_rebuilt": "The index on this machine did not say what the repository says. It was only a copy "
    "and is built anew; no data is lost.",
    "check.config_damaged": "The configuration of the repository is damaged or was swapped. Nothing can be "
    "opened without it; restore the object from a copy of the repository.",
    "check.damaged": "Stored data is damaged. The check names the snapshots and files that are hit; everything "
    "else restores. Do not delete anything: `dedup repair` can often mend it, from a replica or from files that "
    "still exist.",
    "check.foreign_object": "Something lies in the repository that does not belong there. It is not used; "
    "whoever put it there should take it away.",
    "check.forget_unfinished": "A forget was stopped before it was done. Those snapshots exist as before; the "
    "next forget takes up what is still to be forgotten.",
    "check.forgotten_damaged": "The record of a forgotten snapshot cannot be read, so it cannot be brought back "
    "by undo-forget. No other snapshot is hit.",
    "check.format": "The object that says that this is a repository is damaged. Its data can still be there; do "
    "not delete anything.",
    "check.index_contradicts": "The index describes a pack differently than the pack itself. The pack is the "
    "truth: `dedup repair index` describes it again.",
    "check.index_incomplete": "Index segments are lost, so files cannot be found although their data is there. "
    "`dedup repair index` brings them back.",
    "check.key_damaged": "A key slot is damaged. Other slots still open the repository; remove it with `dedup "
    "key remove` and add another.",
    "check.listing_incomplete": "A listing lacks its first or last mark. An unmounted disk, a failing proxy or "
    "a lost object: look at the storage first; `dedup repair index` puts lost marks back.",
    "check.mark_damaged": "A mark of a snapshot cannot be read, and may have protected it. The snapshot is not "
    "forgotten until `dedup protect` or `dedup unprotect` says it anew.",
    "check.no_key": "No key slot opens what is written today. Put one back from the recovery kit, with `dedup "
    "key add --kit FILE`, while this machine can still do it.",
    "check.pack_damaged": "A pack is not what was written. The check names the files that are hit; everything "
    "else restores.",
    "check.pack_missing": "A pack that is needed is gone. The check names the files that are hit; put the "
    "object back from a copy of the repository, or take a new snapshot with --force. In a mirror that hits no file: a "
    "prune of its repository was stopped before it wrote down what it had deleted; `dedup prune` there, then `dedup mirror`.",
    "check.pack_renamed": "A pack has another name than the one it was stored under. It is found by its old "
    "name only; rename it back.",
    "check.pack_size": "A pack is longer or shorter than it was written. It was cut or overwritten; see which "
    "files are hit with `dedup check --read-data`.",
    "check.pack_unindexed": "Packs are not in the index yet, because a run was stopped. The next snapshot takes "
    "them up; nothing needs to be done.",
    "check.pack_unread": "Storage does not give a pack that is there, for the reason told: missing rights, for example. What "
    "it holds is whole, perhaps; end the reason and check again.",
    "check.packs_removed": "The index still names packs that were pruned. That is ordinary after a prune.",
    "check.parity_damaged": "A parity object is not what was written. No file is hit; the pack it belongs to has no parity "
    "until prune writes it anew.",
    "check.parity_missing": "Packs have no parity, though the repository keeps it. `dedup repair parity` makes it.",
    "check.plan_damaged": "The record of a prune is damaged. Nothing it condemned is deleted by it; run the "
    "prune again.",
    "check.plan_open": "A prune waits to delete what it condemned. It goes on once its waiting time is over.",
    "check.record_damaged": "A list of what is known to be damaged cannot be read itself. What it named is found again "
    "by `dedup check --read-data`, which writes it down anew.",
    "check.not_recorded": "What is damaged could not be written down, because the storage does not take it. The next "
    "snapshot may rely on it: run the check again where the storage can be written to.",
    "check.rotation_unfinished": "A rotation of the keys was begun and has not ended. Everything opens as before; if it was "
    "stopped, `dedup key rotate --take-over` begins anew.",
    "check.restore_failed": "A snapshot cannot be restored. The findings above say why; older or newer ones may "
    "be whole.",
    "check.root_missing": "The record of a snapshot is missing. Its marker says that it was complete: put the "
    "object back from a copy of the repository, or give the snapshot up with `dedup forget ID`.",
    "check.run_damaged": "The record of a run that was stopped before it became a snapshot does not open. No snapshot is "
    "hit; prune waits until it is given up with `dedup forget ID`.",
    "check.segment_damaged": "An index segment cannot be read, and packs are described by no other. `dedup "
    "repair index` describes them again from the packs themselves.",
    "check.segment_superseded": "An index segment cannot be read, and does no harm. Others say all that it said.",
    "check.segments_disagree": "Two index segments describe one pack differently. `dedup repair index` asks the "
    "pack itself.",
    "check.snapshot_damaged": "The record of a snapshot is damaged. It cannot be restored; others can.",
    "check.uncommitted": "A run was stopped before its snapshot was complete. What it stored is used by the next run.",
    "check.unstable_read": "Storage gave different bytes for one object, and the right ones at the second try. "
    "Look at the memory, the cable and the disk.",
    "dump.damaged": "Stored data of a file is damaged, so the archive ends before it. What was written is no whole "
    "archive; dump the other directories, or restore, which goes on after damage.",
    "dump.exists": "The file to write exists. Nothing is overwritten; give another name.",
    "dump.not_kept": "An archive of that format cannot keep everything. The message says what is missing; a restore "
    "keeps all of it.",
    "copy.chunk_damaged": "Stored content of a file is damaged or missing in the source, so its snapshot was not copied. "
    "`dedup check` on the source tells what is hit; all other snapshots are copied.",
    "copy.directory_damaged": "A stored directory of the source is damaged, so its snapshot was not copied. `dedup check` "
    "on the source tells what is hit; all other snapshots are copied.",
    "copy.incomplete": "Not every chosen snapshot could be copied, because the source is damaged. The findings name files "
    "and snapshots; everything else was copied.",
    "copy.other_chunks": "Source and target cut files into chunks of different size. Copies keep the cuts of the source; "
    "see docs/decisions/0027-copies.md.",
    "copy.same_place": "Source and target of a copy are one place, or one lies in the other. Name another place after --to.",
    "failed": "The operation failed. The message says what is known; run it again with -vv for more.",
    "file.attributes_too_large": "A file has more extended attributes than are stored. The file is stored "
    "without them.",
    "file.attributes_unreadable": "The extended attributes of a file could not be read. Its content is stored; "
    "the attributes are not.",
    "file.changed_while_reading": "A file changed while it was read. What was read is stored and may mix old "
    "and new content; for databases use a dump or a file system snapshot.",
    "file.endless": "A file is made up as it is read and does not end, as some under /proc and /sys do. It is "
    "left out; exclude it to silence the warning.",
    "file.failed": "One file could not be stored. The snapshot has everything else; the exit code is 3.",
    "file.live_database": "A SQLite database that is in use was stored as a file. File and log are read one after "
    "the other and may not fit together: add a source of type sqlite, or take it with `dedup "
    "snapshot sqlite:PATH`.",
    "file.unreadable": "A file could not be read and is missing from the snapshot. Give the program the right "
    "to read it (root, or CAP_DAC_READ_SEARCH), or exclude it.",
    "file.vanished": "A file was listed and then gone. That is ordinary on a living system; the snapshot has "
    "everything else.",
    "forget.burst": "Many snapshots were made within an hour. A program gone wild, or somebody who wants to push "
    "good snapshots out: they stay, and take no other's place. Look at them, forget them by their ids, or "
    "add --count-bursts.",
    "forget.denied": "The storage does not let us delete. It is append-only, or its objects are locked: those snapshots "
    "exist as before. Run it again with the right to delete, or after the locks have ended.",
    "forget.future": "Snapshots are dated in the future. They stay and take no other's place. Is the clock of "
    "this machine right, and that of the one that made them?",
    "forget.marks_left": "Marks of snapshots that are gone could not be deleted. They say nothing any more; the "
    "next forget tries again.",
    "help.no_such_code": "There is no such code. `dedup help code` lists all.",
    "internal": "Something happened that nobody expected: a bug in dedup. A report was written to a file that "
    "holds no secrets; please send it.",
    "interrupted": "The run was stopped by a signal. What was stored stays, and the next run uses it.",
    "key.kit_not_saved": "The recovery kit could not be saved to the current directory. The repository was "
    "created; print the kit with `dedup key kit`.",
    "key.kit_outdated": "The recovery kit was printed before the keys were rotated. It no longer opens the "
    "repository; print a new one with `dedup key kit`.",
    "key.not_found": "There is no key slot with that id. `dedup key list` shows the ones there are.",
    "key.rotation_under_way": "A rotation of the keys was begun and has not ended. Wait for it; if its process was killed, "
    "`dedup key rotate --take-over` begins anew. Until then everything opens as before.",
    "local.state_damaged": "A file in the state directory cannot be read. It holds what this machine remembers of "
    "replicas and checks, and no backup data; move it away and it begins anew.",
    "local.state_not_kept": "What was done could not be noted in the state directory. The work itself is done; see the "
    "rights of the directory (DEDUP_STATE_DIR).",
    "local.unsafe_directory": "A local directory could be changed by others. Whoever can swap these files can "
    "make the program forget what it has seen; the message names the command that puts it right.",
    "copy.same_repository": "Source and target are one repository, or mirrors of each other. Snapshots are copied to "
    "another repository; the same one is kept at a second place by `dedup mirror`.",
    "copy.snapshot_damaged": "A snapshot was not copied because some of it cannot be read. The findings before it name the "
    "files.",
    "mirror.conflict": "An object of the mirror has another size than in the repository. One of the two is cut or was "
    "put there by something else; nothing is overwritten. Remove the bad one by hand and mirror again.",
    "mirror.diverged": "The mirror has gone its own way: its configuration is another one, or packs were pruned there. "
    "Mirror to an empty place; a mirror is made smaller by pruning its repository and `dedup mirror --delete`.",
    "mirror.held": "New snapshots are not shown in the mirror, because a damaged pack could not be copied. Which "
    "snapshots need it cannot be told without a key. Repair the repository, or show them with --despite-damage.",
    "mirror.incomplete": "Something could not be mirrored, or the mirror does not hold what it should. The findings name "
    "the objects; `dedup check` tells which files are hit.",
    "mirror.marks_lost": "The repository has lost `marks/`, which says what is protected; the mirror still has it and keeps "
    "it. `dedup check` of the repository tells more.",
    "mirror.needs_consent": "The mirror would be made smaller, and nobody agreed. Look at the plan with --dry-run, agree "
    "with --yes.",
    "mirror.not_empty": "Something lies where the mirror should go that is no part of the repository. Choose another place.",
    "mirror.other_repository": "The target is another repository. A mirror is the same one; snapshots are copied between "
    "two by `dedup copy`.",
    "mirror.segment_damaged": "An index segment of the repository is damaged and was not copied. Its packs were; "
    "`dedup repair index` describes them again.",
    "mirror.source_damaged": "An object of the repository is not what its name says, so it was not copied. `dedup check` "
    "tells which files are hit.",
    "mirror.target_damaged": "An object of the mirror is not what its name says. Remove it by hand and mirror again; "
    "nothing is overwritten by itself.",
    "mirror.would_empty": "The repository has no snapshot any more and --delete would empty the mirror. That is rarely "
    "meant: a repository that was emptied is what a mirror is for.",
    "nothing_matches": "No snapshot, path or object answers the question. Look with `dedup snapshots` and `dedup ls`.",
    "refused": "Refused for safety; nothing was changed. The message says what stands in the way.",
    "refused.changed_meanwhile": "Somebody else forgot or protected snapshots at the same time. Nothing was "
    "done; look at the plan again.",
    "refused.guarded_snapshot": "That snapshot must not be forgotten. It is the newest good one of its source, "
    "the last that was verified, protected, or tagged pinned; the message says which.",
    "refused.last_slot": "The last key slot cannot be removed. Without it nobody could open the repository "
    "again; add another first with `dedup key add`.",
    "refused.majority": "More than half of the snapshots of a source would go. That is what a mistake looks "
    "like; if the plan is right, add --yes.",
    "refused.not_confirmed": "The plan was not agreed to, so nothing was changed. Add --yes where nobody can be asked.",
    "refused.too_many_keys": "With one more key, some would never be tried. The work of an opening has a bound "
    "(64 passphrases of the usual cost, 16 strong ones), because storage could plant keys. Remove one, or use a key file.",
    "refused.test_only_cost": "The key slot was made at a cost meant for tests. Such a passphrase is guessed "
    "quickly; make the slot anew.",
    "repair.incomplete": "Not everything could be mended, because what is damaged is nowhere to be had. Name another "
    "replica, take a new snapshot of what still exists, or go on without it: `dedup repair snapshots`.",
    "repair.lost": "A file or directory is lost from a snapshot, and the new snapshot is without it. The damaged one stays; "
    "a replica that is found later can still mend it.",
    "repair.still_lost": "A file or directory cannot be mended, for what is damaged is neither here nor in the replica. "
    "Another replica may have it.",
    "repair.parity_refused": "A damaged pack gets no parity, for that would keep the damage. Mend it first: `dedup repair "
    "packs`, then `dedup prune`.",
    "repair.pack_unreadable": "A pack cannot be described, because its end cannot be read. `dedup check` names "
    "the files that are hit.",
    "repair.segment_contradicts": "An index segment describes a pack differently than the pack itself. The pack "
    "is right, and is described again.",
    "repair.segment_damaged": "An index segment cannot be read. What it said is said again by a new one; the "
    "old one does no harm.",
    "repair.sentinel": "The mark at an end of a listing was missing and is put back. Without it a complete "
    "listing cannot be told from a cut one.",
    "mount.failed": "The directory could not be mounted. The lines above are those of libfuse.",
    "mount.target": "Snapshots are mounted on an empty directory. Make one; what is in another would be hidden.",
    "mount.unavailable": "This machine cannot mount. It takes mfusepy (pip install 'dedupstore[mount]'), libfuse (apt "
    "install fuse3) and the device /dev/fuse; the message says which is missing.",
    "replicas.unknown": "This machine knows of no such replica. A replica is what `dedup copy` or `dedup mirror` was run "
    "to from here.",
    "repo.config_conflict": "The repository has two configurations with one number. Two clients changed it at "
    "the same moment, or storage added one; nothing is done until someone has looked.",
    "priority.not_lowered": "The priority at the disk could not be lowered, so the snapshot is taken at full speed. Is "
    "`ionice` installed?",
    "prune.clock": "By the clock of this machine nothing was written for so long that the clock may be wrong. What was "
    "forgotten before can still be brought back, until the time for that has passed once more. Nothing is wrong if the "
    "repository was really not used for so long; `dedup prune --undo-window 0` does not wait.",
    "prune.denied": "The storage does not let us delete. It is append-only, or its objects are locked: nothing is "
    "lost, what was condemned stays condemned, and a prune with the right to delete goes on from there.",
    "prune.index_damaged": "Index segments cannot be read and packs are described by no other. Prune deletes nothing "
    "while it does not know what depends on what; `dedup repair index` describes them again.",
    "prune.pack_lost": "Packs were gone before prune deleted them, and a snapshot needs what they held. `dedup check` names "
    "the files; the next snapshot stores again what the source still has.",
    "prune.pack_unreadable": "What a pack holds cannot be read. Prune deletes nothing while a snapshot may need it; "
    "`dedup check --read-data` says what is damaged.",
    "prune.restart": "Other prunes changed the repository faster than this one could follow. Nothing is wrong; run it "
    "again.",
    "prune.unmovable": "What a snapshot needs lies in a condemned pack and cannot be read, so that pack was not deleted and its "
    "plan waits. `dedup repair packs` stores again what is whole somewhere; after `dedup repair snapshots` the damaged "
    "snapshots can be forgotten. Then prune goes on.",
    "prune.unreadable": "A snapshot cannot be walked, so what it needs is not known. Nothing was deleted; `dedup "
    "check` says what is damaged, and a damaged snapshot that is forgotten stops prune no more.",
    "repo.corrupt_chunk": "A chunk is not what its name says. `dedup check` names the files it belongs to; "
    "`dedup repair` tries to mend it.",
    "repo.corrupt_object": "An object of the repository fails authentication: it was damaged, or swapped for "
    "another. `dedup check` shows what is affected.",
    "repo.exists": "There is something at that place already, a repository or other files. Nothing was changed; "
    "choose another place.",
    "repo.failed": "There is trouble with the repository as a whole. The message says which; `dedup check` tells more.",
    "repo.foreign_slot": "The key slot belongs to another repository. Someone or something copied it here.",
    "repo.missing_chunk": "No pack that the index knows holds a chunk that a snapshot needs. `dedup check` tells whether only "
    "index segments are lost, which `dedup repair index` brings back, or else names the files; a new snapshot of the same data "
    "stores the chunk again.",
    "repo.missing_pack": "A pack that a snapshot needs is not there any more. When a prune ran just now, run the command "
    "again; otherwise `dedup check` names the files that are hit and what helps.",
    "repo.early_key": "The key is of a rotation of the keys that was not finished. What opened the repository before still "
    "does; `dedup key rotate --take-over` finishes it.",
    "repo.no_slots": "The repository has no key slot, so no passphrase can open it. Put one back from the "
    "recovery kit.",
    "repo.not_a_slot": "A file under keys/ is no key slot. It was damaged or put there by something else.",
    "repo.not_found": "There is no repository at that place. If it is a disk, is it mounted? To make one: "
    "`dedup init -r URL`.",
    "repo.old_key": "The key is of an earlier epoch. It was made before the keys were rotated; use one made after it.",
    "repo.first_seen": "This machine has not seen that repository at that place before. What it shows is believed; an older "
    "state is noticed from now on.",
    "repo.replaced": "Another repository is at that place than this machine knows. Is the right disk mounted? If it was "
    "replaced on purpose, `dedup repo trust` says so.",
    "repo.rolled_back": "Storage shows an older state than this machine has seen. Snapshots are missing that nobody has "
    "forgotten, or keys are older. Find out what became of the storage; after a restore of the repository itself, "
    "`dedup repo trust` takes what is there for the newest.",
    "repo.slot_cost": "The cost of a key slot is outside the allowed range. Storage must not choose how much "
    "memory and time this program spends, so the slot is refused.",
    "repo.too_new": "The repository was written by a newer dedup, or uses a feature this one does not know. "
    "Install a newer version.",
    "repo.too_many_keys": "There are more keys than an opening tries, and none of those opened. "
    "The cheapest are tried first, and the newest of these. dedup refuses to make so many, so storage has put some there, or several machines added keys at once. Whoever "
    "has another key removes what nobody needs.",
    "repo.unknown_epoch": "There is no key for the epoch in which something was written. A key that was removed "
    "does not open what came after it.",
    "repo.wrong_passphrase": "No key slot opens with that passphrase. A wrong passphrase and an altered slot "
    "look the same, on purpose; `dedup key list` shows the slots.",
    "restore.chunk_damaged": "Stored content of a file is damaged or missing, so the file was not restored. "
    "Other snapshots may hold a good copy; `dedup check` tells which.",
    "restore.directory_damaged": "A stored directory is damaged, so what is below it was not restored. Other "
    "snapshots may hold a good copy; `dedup check` tells which.",
    "restore.link_lost": "A hard link was not restored because the file it is another name of was not. See the "
    "finding about that file.",
    "restore.no_origin": "The snapshot does not record where that came from, so it cannot be restored in place. "
    "Add --to DIR.",
    "restore.not_written": "One file could not be written to the target and was left out. The rest was "
    "restored; the message says why.",
    "restore.path_not_found": "The path is not in that snapshot. Paths are those that `dedup ls` shows, "
    "beginning with the last name of what was stored.",
    "restore.set_apart": "The sources as of that time do not belong together: one of them is much older than the others, or "
    "has no snapshot at all. Take what there is with --tolerance, or one of them with --source.",
    "secret.command_failed": "The command that gives a secret failed, could not be started, or did not finish. "
    "It is run without a shell and reads nothing from standard input; try it by hand.",
    "secret.empty": "A secret is empty. An empty passphrase protects nothing.",
    "secret.file_group_readable": "The group of a secret file can read it. It is used all the same; make it "
    "private with chmod 600.",
    "secret.file_not_private": "A secret file can be read by everybody or changed by others. It is not used "
    "until that is put right; the message names the command. Files under /run/secrets and /run/credentials are "
    "exempt.",
    "secret.not_text": "A secret is not UTF-8 text. Passphrases are text, so that they can be typed on any keyboard.",
    "secret.too_long": "A secret is longer than 64 KiB. It is surely not what you meant to give.",
    "secret.unreadable": "The file or descriptor of a secret cannot be read. Check the path and the rights.",
    "secret.unset": "A variable or credential that should hold a secret is not set. The message says how to set it.",
    "snapshot.chunks_lost": "Data the snapshot uses disappeared while it ran, so it was not committed. Run it "
    "again: it stores the data anew.",
    "snapshot.forgotten_meanwhile": "The snapshot was forgotten while something was said of it. `dedup "
    "undo-forget` brings it back.",
    "snapshot.given_up": "A prune took the run for one abandoned a month ago and gave it up. Compare the clocks of the "
    "machines and run it again; what was stored is used.",
    "snapshot.no_config": "The snapshot was not made by a configuration, so it keeps none. Those that are made of configured "
    "sources do.",
    "snapshot.none_before": "No snapshot is as old as the time asked for. The message names the oldest one; ask "
    "for a later time.",
    "snapshot.not_forgotten": "That snapshot is not forgotten, or was brought back already. `dedup snapshots` "
    "lists it.",
    "snapshot.not_found": "No snapshot answers to that id, tag or source. `dedup snapshots` lists them.",
    "snapshot.path_not_found": "The path is not in that snapshot. Paths are those that `dedup ls` shows, "
    "beginning with the last name of what was stored.",
    "snapshot.record_lost": "The record of a snapshot could not be read any more when it was forgotten, so it cannot be "
    "brought back. Its data goes with the next prune.",
    "snapshot.undo_too_late": "A forgotten snapshot cannot be brought back any more. The undo window is over and "
    "a prune has freed its space; `dedup undo-forget --list` shows what can be.",
    "snapshot.unreadable": "A snapshot exists whose record cannot be read. The others are not hit; `dedup "
    "check` tells more. Put the record back from a copy, or give it up with `dedup forget ID`: prune waits for that.",
    "source.empty": "Nothing was piped in. The command before the pipe has most often failed then, and there is no snapshot. "
    "With `--allow-empty` a stream without a byte is kept as a file without a byte.",
    "source.command_failed": "The command that gives the data failed. No snapshot was made of half of its "
    "output; run the command by hand to see why.",
    "source.command_not_started": "The command that gives the data could not be started. Is it installed, and "
    "in the PATH?",
    "source.command_timeout": "The command that gives the data took longer than it may. It was stopped and there is no "
    "snapshot; raise `timeout` in the configuration, or see why it takes so long.",
    "source.failed": "The source as a whole could not be read. No snapshot was made.",
    "source.no_root": "A path to store does not exist or cannot be read. Is the disk mounted? No snapshot was made.",
    "store.bad_key": "Something in the repository has a name that no object may have. It is not used.",
    "store.clock": "The clocks of this machine and of the storage server differ by more than the server accepts. Set "
    "the clock of this machine: a signature is good for some minutes only.",
    "store.cold": "The object lies in an archive and cannot be read at once. Have the server bring it back first; choose a "
    "storage class that is read directly for what you may need in a hurry.",
    "store.conflict": "Another object has the name of one to be written. That is damage, or something else "
    "writes into the repository; see `dedup check`.",
    "store.credentials": "The storage server does not know the access key, or its secret is another one. Keys are looked for in "
    "the environment, in ~/.aws and in the role of the machine; the message names the variables.",
    "store.denied": "The storage server does not let us do that. Put, get and list are needed everywhere, delete only to "
    "prune; see the policy of the bucket.",
    "store.failed": "Storage failed or refused, after retries. What was stored before stays and is used by the "
    "next run.",
    "store.full": "Storage is full. `dedup prune` frees what no snapshot needs; what was stored before stays.",
    "store.incomplete_listing": "A listing lacks its first or last mark: an unmounted disk, a failing proxy, a "
    "lost page. Nothing is concluded from it; try again when storage is well.",
    "store.not_empty": "A repository is only created in a new or an empty directory. Name another.",
    "store.object_not_found": "An object that should be there is not. `dedup check` shows what is affected.",
    "store.permission": "Storage does not allow it. Check who owns the directory and as whom the program runs.",
    "store.read_only": "Storage can be read but not written. Is it mounted read-only?",
    "store.locked": "The object is locked until a certain time, and nobody can delete it before. That is what locks are "
    "for; what was condemned is deleted by a prune after that time.",
    "store.settling": "Listings of this storage may show what was, not what is, so we wait. Where the server is known to list "
    "at once, add consistency=strong to the URL; see docs/storage.md.",
    "store.short_object": "An object is shorter than it must be. It was damaged or cut; `dedup check` shows "
    "what is affected.",
    "store.tls": "The certificate of the storage server is not trusted. It is verified always; name the authority that signed "
    "it in AWS_CA_BUNDLE.",
    "store.unreachable": "There is no connection to the storage server. Is it up, is the name right, does it take a proxy "
    "(HTTPS_PROXY)? What was stored before stays and is used by the next run.",
    "store.unreadable": "The disk does not give a part of an object: a bad sector, a cable, a disk that is failing. Look at its "
    "health (`smartctl -a`), then `dedup check --read-data` names the files that are hit; what lies elsewhere is read.",
    "store.wrong_region": "The bucket lies in another region than the request went to. Add ?region=NAME to the URL.",
    "target.busy": "Another restore writes into the same directory. Wait for it, or choose another directory.",
    "target.failed": "A restore could not write its target: a full disk, missing rights. What was restored "
    "before stays.",
    "usage": "The call cannot be carried out as it was written. See `dedup COMMAND --help`.",
    "usage.ambiguous_time": "A date such as 03/04/26 is read in two ways. Write it as 2026-04-03.",
    "usage.empty_passphrase": "The passphrase is empty. It would protect nothing.",
    "usage.no_input": "A question had to be asked and nobody is there to answer. Give the answer by an option; "
    "--yes agrees to a plan.",
    "usage.no_passphrase": "A passphrase is needed and nobody can be asked. Set DEDUP_PASSPHRASE_FILE, "
    "DEDUP_PASSPHRASE_COMMAND or DEDUP_PASSPHRASE_FD.",
    "usage.no_policy": "Nothing says which snapshots to keep. Give rules such as --keep-daily 14, or the ids of "
    "those to forget.",
    "usage.no_repository": "No repository was named. Add -r URL, or set DEDUP_REPO.",
    "usage.passphrase_encoding": "The passphrase is not valid UTF-8. Set the locale of the terminal to UTF-8.",
    "usage.recovery_key": "That is no valid recovery key: a word or letter differs from the paper.",
    "usage.recovery_kit": "That is no recovery kit, or it was altered. Compare it with the printed page.",
    "usage.span": "That is no span of time. Write 12h, 14d, 8w, 6m for months, or 1y6m.",
    "usage.tables": "Single tables of several schemas have names that exist in more than one of them. Restore the tables "
    "of each schema by themselves.",
    "usage.time": "That is no time. Write 2026-11-20, 2026-11-20 03:00, yesterday 18:00, 2h ago or now.",
    "versions.unreadable": "A snapshot could not be searched, because its manifests are damaged. The others were; "
    "`dedup check` tells more.",
}
