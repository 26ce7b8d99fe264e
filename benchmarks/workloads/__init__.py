"""The workloads; a new family is one file here and one line below."""

from benchmarks.workloads.base import Workload
from benchmarks.workloads.bigfile import BIG_FILE
from benchmarks.workloads.bucket import S3
from benchmarks.workloads.databases import DUMP, SQLITE
from benchmarks.workloads.live import SQLITE_LIVE
from benchmarks.workloads.prune import PRUNE
from benchmarks.workloads.servers import MARIADB, POSTGRES
from benchmarks.workloads.startup import STARTUP
from benchmarks.workloads.tree import TREE

WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (TREE, DUMP, SQLITE, BIG_FILE, PRUNE, STARTUP, POSTGRES, MARIADB, SQLITE_LIVE, S3)
}
