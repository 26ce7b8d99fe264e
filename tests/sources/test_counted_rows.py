"""The rows of a dump are counted wherever it is cut into pieces."""

from __future__ import annotations

import io

import pytest

from dedupstore.errors import SourceFailed
from dedupstore.sources.mysql_dump import CountedRows

DUMP = b"""-- MariaDB dump
CREATE TABLE `a` (
  `id` int
);
INSERT INTO `a` VALUES
(1,'x\\n(1'),
(2,');\\nINSERT INTO `b` VALUES\\n(7');
/*!40000 ALTER TABLE `a` ENABLE KEYS */;
CREATE TRIGGER t
(
INSERT INTO `odd ``name` VALUES
(3,NULL);
INSERT INTO `odd ``name` VALUES
(4,NULL),
(5,NULL);
-- Dump completed
"""


class Pieces(io.BytesIO):
    """Gives at most so many bytes at a time."""

    def __init__(self, content: bytes, most: int) -> None:
        super().__init__(content)
        self._most = most

    def readinto(self, view: memoryview) -> int:  # type: ignore[override]
        return super().readinto(view[: self._most])


def counted(content: bytes, most: int) -> CountedRows:
    rows = CountedRows(Pieces(content, most))
    view = memoryview(bytearray(1000))
    while rows.readinto(view):
        pass
    return rows


@pytest.mark.parametrize("most", [1, 2, 3, 5, 7, 13, 50, 1000])
def test_rows_are_counted_wherever_the_dump_is_cut(most: int) -> None:
    rows = counted(DUMP, most)

    assert rows.rows == {"a": 2, "odd `name": 3}
    assert rows.countable


def test_rows_in_one_line_are_not_countable() -> None:
    assert not counted(b"INSERT INTO `a` VALUES (1),(2);\n-- Dump completed\n", 1000).countable


def test_a_dump_without_its_last_line_is_an_error() -> None:
    with pytest.raises(SourceFailed) as caught:
        counted(DUMP.replace(b"-- Dump completed", b""), 100)

    assert caught.value.code == "database.dump_incomplete"
