from __future__ import annotations

import pytest

from dedupstore.chunking.params import LARGEST_CHUNK, ChunkerParams
from dedupstore.errors import RepositoryTooNew, UsageError
from dedupstore.units import KIB, MIB

AVERAGES = [4 * KIB << shift for shift in range(11)]


def test_chunks_range_from_a_quarter_of_the_average_to_four_times_it() -> None:
    params = ChunkerParams.for_average(64 * KIB)

    assert (params.minimum, params.maximum) == (16 * KIB, 256 * KIB)


def test_no_chunk_is_too_long_for_a_24_bit_length() -> None:
    params = ChunkerParams.for_average(4 * MIB)

    assert params.maximum == LARGEST_CHUNK
    assert all(params.rule(page_size).maximum <= LARGEST_CHUNK for page_size in (512, 4096, 65536))


@pytest.mark.parametrize("average", [0, -4096, 2048, 5000, 8 * MIB, 64 * KIB + 1])
def test_an_average_that_is_no_power_of_two_in_range_is_refused(average: int) -> None:
    with pytest.raises(UsageError):
        ChunkerParams(average=average, minimum=1024, maximum=256 * KIB)


@pytest.mark.parametrize(
    ("minimum", "maximum"), [(63, 256 * KIB), (33 * KIB, 256 * KIB), (16 * KIB, 127 * KIB), (16 * KIB, 1 << 24)]
)
def test_bounds_that_the_rule_cannot_keep_are_refused(minimum: int, maximum: int) -> None:
    with pytest.raises(UsageError):
        ChunkerParams(average=64 * KIB, minimum=minimum, maximum=maximum)


def test_an_unknown_decision_function_is_refused() -> None:
    with pytest.raises(UsageError):
        ChunkerParams(decision=2, average=64 * KIB, minimum=16 * KIB, maximum=256 * KIB)


@pytest.mark.parametrize("average", AVERAGES)
def test_a_config_gives_the_parameters_back(average: int) -> None:
    params = ChunkerParams.for_average(average)

    assert ChunkerParams.from_dict(params.to_dict()) == params


def test_a_decision_function_of_the_future_asks_for_a_newer_dedup() -> None:
    fields = ChunkerParams.for_average(64 * KIB).to_dict() | {"decision": 2}

    with pytest.raises(RepositoryTooNew, match="needs a newer dedup"):
        ChunkerParams.from_dict(fields)


@pytest.mark.parametrize("change", [{"average": "65536"}, {"average": True}, {"more": 1}])
def test_malformed_fields_are_refused(change: dict[str, object]) -> None:
    fields: dict[str, object] = {**ChunkerParams.for_average(64 * KIB).to_dict(), **change}

    with pytest.raises(UsageError):
        ChunkerParams.from_dict(fields)


def test_a_missing_field_is_refused() -> None:
    with pytest.raises(UsageError):
        ChunkerParams.from_dict({"decision": 1, "average": 65536})


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("page_size", [512, 4096, 8192, 65536])
def test_the_rule_for_pages_is_in_whole_pages(average: int, page_size: int) -> None:
    rule = ChunkerParams.for_average(average).rule(page_size)

    assert rule.minimum % page_size == rule.normal % page_size == rule.maximum % page_size == 0
    assert page_size <= rule.minimum <= rule.maximum
    assert 0 <= rule.loose_bits <= rule.strict_bits


@pytest.mark.parametrize("page_size", [-1, 1, 256, 3000, 4097, 128 * KIB])
def test_a_page_size_that_no_page_has_is_refused(page_size: int) -> None:
    with pytest.raises(UsageError):
        ChunkerParams.for_average(64 * KIB).rule(page_size)
