from __future__ import annotations

import time

import pytest

from eddyline.stream.dlq import DeadLetter, dead_letter_headers, fitting, parse_dead_letter


def test_what_the_headers_say_is_read_back() -> None:
    headers = dead_letter_headers("t.clicks.v1", 3, 17, "decode", "`ts_ms` is -1 →", field="ts_ms")
    letter = parse_dead_letter(b"k", b"\xff", headers, dlq_partition=0, dlq_offset=5)
    assert abs(letter.failed_at_ms - time.time() * 1000) < 60_000
    assert letter == DeadLetter(
        key=b"k",
        value=b"\xff",
        topic="t.clicks.v1",
        partition=3,
        offset=17,
        stage="decode",
        reason="`ts_ms` is -1 →",
        field="ts_ms",
        failed_at_ms=letter.failed_at_ms,
        dlq_partition=0,
        dlq_offset=5,
    )


def test_headers_are_text_and_bytes_as_every_client_takes_them() -> None:
    for name, value in dead_letter_headers("t", 0, 0, "decode", "lone surrogate \ud800"):
        assert isinstance(name, str)
        assert name.startswith("eddyline.")
        assert isinstance(value, bytes)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("trace", b"1")],
        [("eddyline.partition", b"x"), ("eddyline.offset", None), ("eddyline.failed-at-ms", b"")],
    ],
)
def test_a_letter_of_somebody_else_is_read_without_an_error(headers: list[tuple[str, bytes | None]]) -> None:
    letter = parse_dead_letter(None, b"v", headers)
    assert (letter.topic, letter.partition, letter.offset, letter.failed_at_ms) == ("", -1, -1, 0)
    assert (letter.stage, letter.reason, letter.field) == ("", "", "")


@pytest.mark.parametrize(("key", "value"), [(None, b"v"), (b"k", None), (None, None), (b"k" * 10_000, b"v" * 900_000)])
def test_what_fits_is_kept_as_it_is(key: bytes | None, value: bytes | None) -> None:
    assert fitting(key, value) == (key, value, [])


@pytest.mark.parametrize(("key", "value"), [(b"k", 1_048_500), (b"k" * 20_000, 3)])
def test_what_does_not_fit_is_cut_and_says_so(key: bytes, value: int) -> None:
    kept_key, kept_value, headers = fitting(key, b"v" * value)
    assert kept_key == key[:10_000]
    assert kept_value == b"v" * min(value, 900_000)
    letter = parse_dead_letter(kept_key, kept_value, dead_letter_headers("t", 0, 0, "decode", "r" * 5_000) + headers)
    assert letter.whole_bytes == len(key) + value
    assert letter.reason == "r" * 1_000
