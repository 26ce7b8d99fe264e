"""Configurations for tests: one with everything in it, and files where the command looks for them."""

from __future__ import annotations

from pathlib import Path

WHOLE = """\
version = 1
default_repo = "main"
host = "web1"
max_concurrent = 2
nice = 10
ionice = "idle"
limit_rate = "50MB/s"

[repos.main]
url = "s3://backup/prod?region=eu-central-1"
passphrase = "systemd:dedup-passphrase"
limit_upload = "20MB/s"
limit_upload_windows = [{ at = "Mon-Fri 08:00-20:00", rate = "5MB/s" }]
object_lock = "14d"

[repos.nas]
url = "/mnt/nas/dedup"
passphrase = "file:/etc/dedup/nas.pass"

[sources.site]
type = "files"
paths = ["/srv/site/uploads", "~/etc"]
exclude = ["*.tmp", "cache/", "!cache/keep/"]
exclude_if_present = [".nobackup"]
exclude_larger_than = "4GiB"
one_file_system = true
repos = ["main", "nas"]

[sources.blogdb]
type = "postgresql"
dsn = "postgresql://dedup@db:5432/blog"
exec = ["docker", "compose", "exec", "-T", "db"]
pitr = "off"
max_downtime_check = true

[sources.shop]
type = "mysql"
dsn = "mysql://dedup@127.0.0.1:3306/shop"
password = "file:/etc/dedup/shop.pass"
databases = "all"
retention = "short"

[sources.sessions]
type = "sqlite"
path = "/var/lib/site/app.db"

[sources.ldap]
type = "command"
command = ["slapcat", "-n", "1"]
filename = "ldap.ldif"
before = ["/usr/local/bin/quiesce", "on"]
after = ["/usr/local/bin/quiesce", "off"]
hook_timeout = "90s"

[sources.pipe]
type = "stdin"
filename = "pipe.bin"

[schedules.nightly]
sources = ["site", "blogdb"]
cron = "H 3 * * *"
timezone = "Asia/Shanghai"
jitter = "5m"
catch_up = true
timeout = "4h"
retry = { attempts = 3, wait = "5m" }

[retention.default]
keep_last = 3
keep_hourly = 24
keep_daily = 14
keep_yearly = "unlimited"
keep_within = "1m"
min_age = "3d"
require_verified = 1

[retention.short]
keep_daily = 7

[replicas.offsite]
from = "main"
to = "nas"
cron = "30 5 * * *"
max_lag = "36h"

[verify]
check = { cron = "0 6 * * *", read_data = "5%" }
drill = { cron = "0 7 * * sun", sources = ["blogdb"], sql = { blogdb = "select count(*) > 0 from posts" } }

[alerts]
notify = ["ops"]
failures_in_a_row = 2
storage_over = "80%"
duration_factor = 2.0
overdue_after = "6h"
size_change_over = "50%"
no_drill_for = "35d"
repeat_every = "24h"
quiet = "22:00-07:00"

[notify.ops]
urls = ["mailto://ops:token-in-an-address@example.org"]
webhook = "https://hooks.example.org/token-in-an-address"
[notify.heartbeat]
healthchecks = "https://hc.example.org/token-in-an-address"

[server]
listen = "127.0.0.1:8765"
public_url = "https://backup.example.org"
trusted_proxies = ["127.0.0.1"]
metrics = { enabled = true, token = "file:/etc/dedup/metrics.token" }
"""
"""Every table and nearly every key that a configuration can have."""


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    """A file of a configuration, and its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path
