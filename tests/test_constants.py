"""Constants and defaults that a tolerance elsewhere would not miss, against their definitions."""

import pytest
from sizewise.costs import memory, training


def test_a_year_is_the_julian_one():
    assert training.SECONDS_A_YEAR == 31_557_600  # IAU: 365.25 days of 86,400 s


@pytest.mark.parametrize(
    ("total", "usable", "devices"),
    [(100, 1.0, 1), (101, 1.0, 2), (100, 0.9, 2), (90, 0.9, 1), (200, 1.0, 2), (201, 1.0, 3)],
)
def test_what_just_fits_on_a_device_fits_and_a_byte_more_does_not(total, usable, devices):
    assert memory.least_devices(total, 100, usable) == devices
    assert memory.fits(total, 100, usable) == (devices == 1)
    if usable == 1.0:  # which is the default: all of a device's memory
        assert memory.least_devices(total, 100) == devices
        assert memory.fits(total, 100) == (devices == 1)
