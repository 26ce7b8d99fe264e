from __future__ import annotations

from tests.support.small_files import fd as fd
from tests.support.small_files import read as read
from tests.support.small_files import read_many as read_many
