"""Numbers as text, and text as numbers: one form everywhere."""

import pytest
from sizewise import units


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (8_030_261_248, "params", "8.03B"),
        (10**13, "params", "10T"),
        (999.6e6, "params", "1B"),
        (5 * 10**15, "params", "5,000T"),
        (512e9, "B", "512 GB"),
        (3.35e12, "B/s", "3.35 TB/s"),
        (0, "params", "0"),
        (-2_500, "", "-2.5k"),
        (999.4, "", "999"),
        (999.5, "", "1k"),
    ],
)
def test_numbers_carry_decimal_prefixes(value, unit, text):
    assert units.si(value, unit) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1_000_000_000, "", "1,000,000,000"),
        (3722757.49638, "", "3,722,757"),
        (224.7, "", "225"),
        (99.96, "", "100"),
        (1e15, "", "1e+15"),
        (-0.00586542307291, "nats", "−0.00587 nats"),
        (5.12, "times", "5.12 times"),
        (0.0, "", "0"),
        (0.000012345, "", "1.23e−05"),
        (47, "%", "47%"),
        (25.0, "$", "$25"),
        (2024, "year", "2024"),
        (True, "yes/no", "yes"),
        (8.03e9, "params", "8.03B"),
    ],
)
def test_pages_write_three_digits_and_all_those_before_the_point(value, unit, text):
    assert units.number(value, unit) == text


def test_a_missing_value_is_written_as_not_known():
    assert units.optional(None) == "not known"
    assert units.optional(None, ".1f", "none fits") == "none fits"
    assert units.optional(0) == "0"
    assert units.optional(1234.5, ",.1f") == "1,234.5"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("8192", 8192),
        ("32k", 2**15),
        ("128Ki", 2**17),
        ("1M", 2**20),
        ("1.5k", 1536),
        (" 8_192 ", 8192),
        ("8,192", 8192),
        ("0", 0),
        ("-1", -1),
        (4096, 4096),
    ],
)
def test_a_context_is_read_as_people_write_it(text, number):
    assert units.tokens(text) == number


def test_bits_a_second_are_not_taken_for_bytes():
    assert units.bandwidth("50 GB/s") == units.bandwidth("50gb") == 50e9
    for text in ("400Gb/s", "400 Gib/s", "400Gb", "400Gbit/s"):
        with pytest.raises(ValueError, match="in bytes"):
            units.bandwidth(text)
    assert units.amount("3Tb/s", "b/s") is None  # of a device


@pytest.mark.parametrize("text", ["", "k", "1g", "1.1", "0.3k", "1e3", "9" * 31, "1k\x1b", "--1"])
def test_what_is_no_context_is_refused_in_a_line(text):
    with pytest.raises(ValueError, match="context") as refused:
        units.tokens(text)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("text", "bytes_a_second"),
    [("50GB/s", 50e9), ("32 GiB/s", 2**35), ("1.5tb/s", 1.5e12), ("900B", 900), ("2kb/s", 2000)],
)
def test_a_bandwidth_is_decimal_unless_it_says_so(text, bytes_a_second):
    assert units.bandwidth(text) == bytes_a_second


@pytest.mark.parametrize("text", ["", "GB/s", "0GB/s", "-1GB/s", "50", "50Gbit", "1e9GB/s"])
def test_what_is_no_bandwidth_is_refused(text):
    with pytest.raises(ValueError, match="a link is written"):
        units.bandwidth(text)


def test_an_unknown_name_is_answered_with_the_nearest():
    names = ["llama-3.1-8b", "qwen3-32b"]
    assert str(units.unknown("model", "Lama-3.1-8B", names)).endswith(
        "did you mean 'llama-3.1-8b'?"
    )
    assert str(units.unknown("model", "zzzz", names)).endswith("known: llama-3.1-8b, qwen3-32b")
    long = str(units.unknown("model", "z" * 10_000, list(map(str, range(20)))))
    assert len(long) < 200
    assert long.endswith("10, 11, ...")


def test_control_characters_are_written_as_escapes():
    assert units.printable("a\x1b[31m\tb\n") == "a\\x1b[31m\\tb\n"
