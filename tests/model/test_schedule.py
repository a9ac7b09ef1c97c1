import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.schedule import Course
from model.train_config import Tail, TrainConfig


class Lengths:
    """A supply that has positions and no tokens; phases are (sequences, length)."""

    def __init__(self, *phases):
        self.phases = phases

    def __len__(self):
        return sum(count for count, _ in self.phases)

    def _at(self, position):
        end = 0
        for count, length in self.phases:
            end += count
            if position < end:
                return end, length
        raise IndexError(position)

    def phase_end(self, position):
        return self._at(position)[0]

    def length(self, position):
        return self._at(position)[1]


def course(*phases, **settings):
    defaults = {"batch_size": 1, "micro_batch_size": 1, "learning_rate": 2.0}
    return Course(Lengths(*phases), TrainConfig(**defaults | settings))


def rates(made):
    """The rate of every step."""
    found, first = [], 0
    while first < made.sequences:
        step = made.step(first)
        found.append(made.rate(len(found), step.after))
        first += step.size
    return found


# Section 4.2 of the DeepSeek-V3 report.
TOKENS = 14_800_000_000_000
V3 = {
    "batch_size": 15_360,
    "first_batch_size": 3_072,
    "batch_ramp": 469e9,
    "micro_batch_size": 1,
    "learning_rate": 2.2e-4,
    "warmup_steps": 2_000,
    "decay": 4.3e12,
    "min_lr_ratio": 0.1,
    "tails": (Tail(333e9, 0.1), Tail(167e9, 7.3 / 220)),
    "mtp_weight": 0.3,
    "late_mtp_weight": 0.1,
    "mtp_switch": 10e12,
    "bias_update_speed": 1e-3,
    "bias_update_until": 14.3e12,
}


@pytest.fixture(scope="module")
def v3():
    return course((TOKENS // 4096, 4096), **V3)


def test_the_rates_of_deepseek_v3_are_its_report_s(v3):
    def rate(tokens):
        return v3.rate(10**6, tokens)

    assert v3.rate(0, 1) == pytest.approx(2.2e-4 / 2000, rel=1e-12)
    assert v3.rate(1_999, 1) == v3.rate(2_000, 1) == 2.2e-4
    assert rate(10 * 10**12) == 2.2e-4
    assert rate(12_150 * 10**9) == pytest.approx((2.2e-4 + 2.2e-5) / 2, rel=1e-9)
    assert rate(14_300 * 10**9) == pytest.approx(2.2e-5, rel=1e-12)
    assert rate(14_300 * 10**9 + 1) == rate(14_633 * 10**9) == pytest.approx(2.2e-5, rel=1e-12)
    assert rate(14_633 * 10**9 + 1) == rate(v3.tokens) == pytest.approx(7.3e-6, rel=1e-12)
    falling = [rate(t) for t in range(10 * 10**12, 14_300 * 10**9, 10**10)]
    assert all(a > b for a, b in pairwise(falling))


def test_the_batches_of_deepseek_v3_are_its_report_s(v3):
    assert v3.batch_size(0, 4096) == 3_072
    assert v3.batch_size(469 * 10**9 // 2, 4096) == (3_072 + 15_360) // 2
    assert v3.batch_size(469 * 10**9, 4096) == v3.batch_size(10**13, 4096) == 15_360
    # The context is extended (section 4.3) with batches of as many tokens.
    assert v3.batch_size(10**13, 32_768) == 1_920
    assert v3.batch_size(10**13, 131_072) == 480
    assert 235_000 < v3.steps < 245_000


def test_the_other_schedules_of_deepseek_v3_are_its_report_s(v3):
    assert [v3.mtp_weight(t * 10**12) for t in (0, 9, 10, 14)] == [0.3, 0.3, 0.1, 0.1]
    assert [v3.bias_speed(t * 10**11) for t in (0, 142, 143, 147)] == [1e-3, 1e-3, 0.0, 0.0]


def test_defaults_are_the_report_s_in_shares_of_the_run():
    made = course((1480, 1))
    assert [made.mtp_weight(t) for t in (999, 1000)] == [0.3, 0.1]
    assert [made.bias_speed(t) for t in (1429, 1430)] == [1e-3, 0.0]


def test_the_rate_rises_stays_falls_and_ends_in_constant_tails():
    settings = {"warmup_steps": 10, "decay": 0.3, "tails": ({"amount": 20, "ratio": 0.05},)}
    found = rates(course((100, 1), **settings))
    assert found[0] == pytest.approx(0.2)
    assert found[9:50] == [2.0] * 41
    assert all(a > b for a, b in pairwise(found[49:80]))
    assert found[64] == pytest.approx(1.1)
    assert found[79] == pytest.approx(0.2)
    assert found[80:] == [0.1] * 20


def test_a_run_may_do_without_warmup_or_decay():
    assert rates(course((5, 1), decay=0)) == [2.0] * 5


def by_steps(step, steps, peak, ratio, warmup, decay):
    """The schedule in steps, as it was before it went by tokens."""
    if step < warmup:
        return peak * (step + 1) / warmup
    into = step - (steps - decay) + 1
    if into <= 0:
        return peak
    return peak * (ratio + (1 - ratio) * 0.5 * (1 + math.cos(math.pi * min(1.0, into / decay))))


@given(
    st.integers(1, 60), st.integers(1, 8), st.integers(1, 64), st.integers(0, 10), st.integers(0, 9)
)
def test_a_schedule_by_tokens_is_that_by_steps_where_all_batches_are_alike(
    steps, batch, length, warmup, tenths
):
    decay = steps * tenths // 10
    share = decay * batch * length  # tokens, or none; of one token it would be a share
    if share == 1:
        share = 1.0 / (steps * batch * length)
    made = course((steps * batch, length), batch_size=batch, warmup_steps=warmup, decay=share)
    assert rates(made) == [by_steps(s, steps, 2.0, 0.1, warmup, decay) for s in range(steps)]


phases = st.lists(st.tuples(st.integers(1, 50), st.sampled_from([4, 8, 16, 64])), min_size=1)


@given(phases, st.integers(1, 4), st.integers(1, 5), st.floats(0, 1, exclude_min=True))
def test_steps_cover_every_sequence_once_and_cross_no_phase(phases, micro, times, ramp):
    made = course(
        *phases,
        batch_size=micro * times,
        micro_batch_size=micro,
        first_batch_size=micro,
        batch_ramp=ramp,
    )
    supply, base = Lengths(*phases), phases[0][1]
    first = tokens = count = 0
    while first < made.sequences:
        step = made.step(first)
        assert (step.first, step.before) == (first, tokens)
        assert step.length == supply.length(first) == supply.length(first + step.size - 1)
        assert 1 <= step.size <= max(1, micro * times * base // step.length)
        assert step.micro == max(1, micro * base // step.length)
        first, tokens, count = first + step.size, step.after, count + 1
        assert tokens == step.before + step.size * step.length
    assert first == made.sequences == len(supply)
    assert tokens == made.tokens == sum(n * length for n, length in phases)
    assert made.steps == count


def test_a_batch_grows_in_whole_micro_batches_to_its_size():
    made = course((1000, 8), batch_size=40, micro_batch_size=4, first_batch_size=8, batch_ramp=0.5)
    sizes = [made.batch_size(tokens, 8) for tokens in range(0, 8000, 10)]
    assert sizes[0] == 8 and sizes[400] == sizes[-1] == 40
    assert all(a <= b <= a + 4 for a, b in pairwise(sizes))
    assert all(size % 4 == 0 for size in sizes)


def test_more_decay_than_training_is_refused():
    with pytest.raises(
        ValueError, match=r"decay and tails take 110 tokens, expected at most .* 100"
    ):
        course((100, 1), decay=0.9, tails=(Tail(0.2, 0.1),))


def test_a_supply_without_sequences_or_without_an_end_is_refused():
    with pytest.raises(ValueError, match="there are none"):
        course()

    class Endless(Lengths):
        def phase_end(self, position):
            return position

    with pytest.raises(ValueError, match="phase at 0 ends at 0"):
        Course(Endless((3, 8)), TrainConfig(batch_size=1, micro_batch_size=1, learning_rate=1.0))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"micro_batch_size": 3}, "micro_batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"first_batch_size": 3, "batch_ramp": 0.1}, "first_batch_size"),
        ({"first_batch_size": 2}, "batch_ramp"),
        ({"batch_ramp": 0.1}, "batch_ramp"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"precision": "bf16"}, "precision"),
        ({"decay": -0.1}, "decay"),
        ({"tails": (Tail(0.0, 0.1),)}, "tails"),
        ({"moments": "float16"}, "moments"),
        ({"average": 1.0}, "average"),
        ({"threads": 0}, "threads"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(changes, field):
    settings = {"batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-3}
    with pytest.raises(ValueError, match=f"training configuration: {field} is"):
        TrainConfig(**settings | changes)
