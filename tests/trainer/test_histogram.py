"""Every length is counted once, in the bin that its edges name."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from trainer.data.histogram import MOST_BINS, histogram


@pytest.mark.parametrize("most", [1, 2, 7, 23, 24, 25, 120, 8191, 8192, 100_000, 1 << 30])
@pytest.mark.parametrize("common", [1, 3, 500])
def test_every_length_lies_in_its_bin(most: int, common: int) -> None:
    chance = random.Random(most)
    lengths = [chance.randint(0, most) for _ in range(50)] + [min(common, most)] * 100 + [most]
    found = histogram(lengths)
    bins = list(pairwise(found.edges))
    assert len(bins) == len(found.counts) <= MOST_BINS
    assert found.counts == [sum(low <= length < high for length in lengths) for low, high in bins]
    assert sum(found.counts) == len(lengths) and found.counts[-1] > 0


def test_a_few_enormous_rows_are_shown_on_a_scale_that_doubles() -> None:
    assert histogram([100] * 50 + [1900]).scale == "linear"
    found = histogram([100] * 50 + [100_000])
    assert found.scale == "log" and all(high == 2 * low for low, high in pairwise(found.edges[1:]))
    assert histogram([]).counts == []
