"""The text of a dump is understood wherever it is cut into pieces."""

from __future__ import annotations

import io
import random
from collections.abc import Callable

import pytest

from dedupstore.errors import SourceFailed, TargetFailed
from dedupstore.sources import mysql_dump
from dedupstore.sources.mysql_dump import CountedRows, only_tables, portable, without_definers

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


@pytest.mark.parametrize("count", [mysql_dump.count_rows, mysql_dump.count_in_python])
@pytest.mark.parametrize("most", [1, 2, 3, 5, 7, 13, 50, 1000])
def test_rows_are_counted_wherever_the_dump_is_cut(
    most: int, count: Callable[[bytes, int], tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql_dump, "count_rows", count)
    rows = counted(DUMP, most)

    assert rows.rows == {"a": 2, "odd `name": 3}
    assert rows.countable


def test_rows_are_counted_alike_in_both_ways() -> None:
    source = random.Random("rows")
    for length in range(200):
        text = bytes(source.choices(b"\n(;,", k=length % 40))
        for start in range(len(text) + 1):
            assert mysql_dump.count_rows(text, start) == mysql_dump.count_in_python(text, start), (text, start)


def test_the_kernel_is_there_and_looks_at_nothing_outside() -> None:
    from dedupstore.sources import _rows

    assert mysql_dump.count_rows is _rows.count
    for start in (-1, 3):
        with pytest.raises(ValueError, match="outside"):
            _rows.count(b"ab", start)


def test_rows_in_one_line_are_not_countable() -> None:
    assert not counted(b"INSERT INTO `a` VALUES (1),(2);\n-- Dump completed\n", 1000).countable


def test_a_dump_without_its_last_line_is_an_error() -> None:
    with pytest.raises(SourceFailed) as caught:
        counted(DUMP.replace(b"-- Dump completed", b""), 100)

    assert caught.value.code == "database.dump_incomplete"


PARTS = b"""/*M!999999\\- enable the sandbox mode */
-- MariaDB dump
--
-- Host: 127.0.0.1
SET NAMES utf8mb4;

--
-- Table structure for table `a`
--
CREATE TABLE `a` (x int);

--
-- Dumping data for table `a`
--
INSERT INTO `a` VALUES
('\\n--\\n-- Dumping data for table `b`\\n--\\n');

--
-- Table structure for table `odd ``b`
--
CREATE TABLE `odd ``b` (x int);

--
-- Temporary table structure for view `v`
--
CREATE VIEW `v` AS SELECT 1;

--
-- Dumping data for table `odd ``b`
--
INSERT INTO `odd ``b` VALUES
(1);

--
-- Dumping routines for database 'shop'
--
CREATE FUNCTION f() RETURNS int RETURN 1;
"""


def pieces(content: bytes, most: int) -> list[bytes]:
    return [content[at : at + most] for at in range(0, len(content), most)]


@pytest.mark.parametrize("most", [1, 7, 50, 1000])
def test_only_the_parts_of_some_tables_are_kept(most: int) -> None:
    kept = b"".join(only_tables(pieces(PARTS, most), ["odd `b"]))

    head = PARTS.partition(b"\n--\n-- Table structure")[0]
    assert kept.startswith(head)
    assert kept.count(b"`odd ``b`") == 4
    assert b"`a`" not in kept
    assert b"VIEW" not in kept
    assert b"FUNCTION" not in kept
    assert b"".join(only_tables(pieces(PARTS, most), ["a", "odd `b"])).count(b"INSERT") == 2


def test_a_dump_without_its_comments_gives_no_single_table() -> None:
    with pytest.raises(TargetFailed):
        b"".join(only_tables([b"CREATE TABLE `a` (x int);\n"], ["a"]))


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_the_line_that_other_clients_do_not_know_is_left_out(most: int) -> None:
    assert b"".join(portable(pieces(PARTS, most))) == PARTS.partition(b"\n")[2]
    assert b"".join(portable(pieces(PARTS[3:], most))) == PARTS[3:]


@pytest.mark.parametrize("most", [1, 7, 5000])
def test_definers_are_left_out_and_nothing_else(most: int) -> None:
    text = b"""-- MySQL dump
INSERT INTO `a` VALUES ('\\n/*!50013 DEFINER=`x`@`y` */ CREATE DEFINER=`x`@`y`');
/*!50001 CREATE ALGORITHM=UNDEFINED */
/*!50013 DEFINER=`odd``user`@`%` SQL SECURITY DEFINER */
/*!50001 VIEW `v` AS select 1 */;
/*!50003 CREATE*/ /*!50017 DEFINER=`app`@`%`*/ /*!50003 TRIGGER t AFTER INSERT ON a FOR EACH ROW SET @a = 1 */;;
/*!50106 CREATE*/ /*!50117 DEFINER=`app`@`%`*/ /*!50106 EVENT `e` ON SCHEDULE EVERY 1 DAY DO select 1 */ ;;
CREATE DEFINER=`role` FUNCTION f() RETURNS int RETURN 1;
"""

    found = b"".join(without_definers(pieces(text, most)))

    head, rest = found.split(b"/*!50001 CREATE", 1)
    assert head == text.split(b"/*!50001 CREATE", 1)[0]
    assert b"DEFINER=" not in rest
    assert b"/*!50013 SQL SECURITY DEFINER */" in rest
    assert b"/*!50003 CREATE*/ /*!50017 */ /*!50003 TRIGGER" in rest
    assert b"\nCREATE FUNCTION f()" in rest
