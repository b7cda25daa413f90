"""Constants and defaults that a tolerance elsewhere would not miss, against their definitions."""

import pytest
from sizewise.costs import memory, roofline
from sizewise.data import catalog
from sizewise.models import parameters


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


def test_a_prompt_is_read_with_latents_expanded():
    """DeepSeek-V3 (2024), section 2.1: 128 heads, queries of 128 + 64, values of 128."""
    layer = parameters.describe("deepseek-v3").layers[-1]
    pairs = 1 + 2  # of a query and a key, in a prompt of two tokens
    scores = roofline.score_operations(layer.attention, roofline.keys_seen, 2, absorbed=False)
    assert scores == 2 * 128 * (128 + 64 + 128) * pairs
    # One token after another meets the latents themselves: 512 + 64 to score, 512 to sum.
    assert sum(e.operations for a in layer.attentions for e in a.scores(True)) == (
        2 * 128 * (512 + 64 + 512)
    )


def test_a_gpu_that_shares_memory_gets_three_quarters_and_others_what_servers_claim():
    shares = {d.name: memory.share_of(d) for d in catalog.devices().values()}
    assert set(shares.values()) <= {0.75, 0.9}
    assert shares["H100"] == 0.9
    assert 0.75 in shares.values()
