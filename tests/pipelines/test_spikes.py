"""Loss spikes are found in any falling, noisy record, and nothing else is."""

import math

import numpy as np
import pytest

from pipelines.spikes import LEAST_BEFORE, find_spikes


def lines(losses, **sources):
    return [
        {
            "step": k + 1,
            "loss": None if math.isnan(loss) else float(loss),
            "source_loss": {name: float(values[k]) for name, values in sources.items()},
        }
        for k, loss in enumerate(losses)
    ]


@pytest.fixture
def falling():
    rng = np.random.default_rng(0)
    return 2 + 6 / np.sqrt(1 + np.arange(500)) + rng.normal(0, 0.05, 500)


def test_a_falling_noisy_loss_has_no_spikes(falling):
    assert find_spikes(lines(falling)) == []


def test_spikes_are_found_the_largest_first_with_what_they_stand_above(falling):
    falling[[120, 300, 420]] += [1.0, 3.0, 2.0]
    found = find_spikes(lines(falling))
    assert [x.step for x in found] == [301, 421, 121]
    assert [x.step for x in find_spikes(lines(falling), most=2)] == [301, 421]
    for spike in found:
        before = falling[spike.step - 65 : spike.step - 1]
        assert spike.median == np.median(before)
        deviation = 1.4826 * np.median(np.abs(before - np.median(before)))
        assert math.isclose(spike.deviations, (spike.loss - spike.median) / deviation)


def test_a_spike_of_many_steps_is_one(falling):
    falling[200:230] += np.linspace(4, 0.5, 30)
    assert [x.step for x in find_spikes(lines(falling))] == [201]


def test_a_spike_does_not_hide_the_next(falling):
    falling[[200, 240]] += [50, 2]
    assert [x.step for x in find_spikes(lines(falling))] == [201, 241]


def test_a_loss_that_is_not_finite_is_the_largest(falling):
    falling[[100, 300]] += [9, math.nan]
    found = find_spikes(lines(falling))
    assert [x.step for x in found] == [301, 101]
    assert math.isnan(found[0].loss) and found[0].deviations == math.inf


def test_a_flat_loss_and_a_short_record_have_none():
    flat = np.full(200, 3.0)
    flat[100] += 0.001
    assert find_spikes(lines(flat)) == []
    assert find_spikes(lines([3.0] * LEAST_BEFORE)) == find_spikes([]) == []
    assert find_spikes(lines([3.0] * (LEAST_BEFORE - 1) + [99.0])) == []
    assert len(find_spikes(lines([3.0] * LEAST_BEFORE + [99.0]))) == 1


def test_the_source_that_rose_most_is_named(falling):
    falling[250] += 2
    repo, wiki = falling + 1, falling - 1
    wiki[250] -= 1.9
    (spike,) = find_spikes(lines(falling, repo=repo, wiki=wiki))
    assert spike.source == "repo"
    (spike,) = find_spikes(
        [{k: v for k, v in x.items() if k != "source_loss"} for x in lines(falling)]
    )
    assert spike.source is None
