"""Which sequences a training step took: what `metrics.jsonl` recorded, not what a recipe says.

Every line of a step has `step` and `sequences`, the number consumed when it was done, so a batch
that grew on the way, or was cut at a phase's end, is found as it was. Lines are in order, so the
file is searched by halves, a line at a time: some 30 lines are read of a record of any length.
Between two recorded lines that are several steps apart (`log_every`), and beyond the last one, all
steps have the batch size of the run, cut at a phase's end; if that does not add up to what was
recorded, they have equal sizes; if those would not be whole, there is no telling.
"""

import json
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mark:
    """After a step, so many sequences have been consumed."""

    step: int
    sequences: int


START = Mark(0, 0)


@dataclass(frozen=True)
class Step:
    """A step: it takes the positions first … last - 1; `recorded` if training has done it."""

    step: int
    first: int
    last: int
    recorded: bool


class StepRecord:
    """The steps of a run.

    total: sequences of all phases; phase_end: the end of the phase of a position; batch_size: where
    the record does not tell, None if nobody knows.
    """

    def __init__(
        self, path: Path, total: int, phase_end: Callable[[int], int], batch_size: int | None
    ):
        self._path, self._total, self._phase_end = path, total, phase_end
        self._data: mmap.mmap | bytes = b""
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        before, last = self._around("step", 1 << 62)
        assert last is None
        self.end = before
        if self.end.sequences > total:
            raise ValueError(
                f"{path}: {self.end.sequences:,} sequences recorded, but the plan has {total:,}: "
                "it is a record of another plan; train again (`gristmill train`)"
            )
        if batch_size is None and self.end.step:
            # The last step's is the best guess of the next one's.
            earlier, _ = self._around("step", self.end.step)
            steps = self.end.step - earlier.step
            batch_size = max(round((self.end.sequences - earlier.sequences) / steps), 1)
        self._batch_size = batch_size

    def step(self, number: int) -> Step:
        """What a step (from 1) took. Raises ValueError if the run has no such step, or if the
        record does not tell."""
        if number < 1:
            raise ValueError(f"step {number}: steps are counted from 1")
        before, after = self._around("step", number)
        if after is not None:
            first = self._walk(before, after, number - 1)
            return Step(number, first, self._walk(before, after, number), True)
        ahead = before.sequences < self._total
        first = self._ahead(before, number - 1 - before.step) if ahead else self._total
        if first >= self._total:
            last = self._steps_ahead(before, self._total - 1) if ahead else before.step
            raise ValueError(
                f"step {number:,}: the run of {self._total:,} sequences ends with step {last:,}"
            )
        return Step(number, first, self._ahead(Mark(number - 1, first), 1), False)

    def step_at(self, position: int) -> Step:
        """The step that took, or will take, the sequence at a position of the run."""
        before, after = self._around("sequences", position + 1)
        if after is None:
            return self.step(self._steps_ahead(before, position))
        low, high = before.step, after.step  # the step that ends beyond the position
        while high - low > 1:
            middle = (low + high) // 2
            if self._walk(before, after, middle) > position:
                high = middle
            else:
                low = middle
        return self.step(high)

    def _line_at(self, at: int) -> tuple[dict | None, int]:
        """The first line of a step that begins at byte `at` or later, and its end.

        Lines of evaluations are passed over, and a last line that was cut short.
        """
        data = self._data
        if at:
            newline = data.find(b"\n", at - 1)
            at = newline + 1 if newline >= 0 else len(data)
        while at < len(data):
            newline = data.find(b"\n", at)
            end = newline + 1 if newline >= 0 else len(data)
            try:
                line = json.loads(data[at:end])
            except ValueError:
                if newline < 0 or end == len(data):
                    return None, len(data)
                raise ValueError(f"{self._path}: damaged at byte {at:,}: no JSON there") from None
            if isinstance(line, dict) and "sequences" in line and "step" in line:
                return line, end
            at = end
        return None, len(data)

    def _around(self, key: str, value: int) -> tuple[Mark, Mark | None]:
        """The last line whose `key` is below a value, and the first one where it is not."""
        before, after = START, None
        low, high = 0, len(self._data)
        while low < high:
            middle = (low + high) // 2
            line, end = self._line_at(middle)
            if line is None:
                high = middle
            elif line[key] < value:
                before, low = Mark(line["step"], line["sequences"]), end
            else:
                after, high = Mark(line["step"], line["sequences"]), middle
        return before, after

    def _walk(self, before: Mark, after: Mark, step: int) -> int:
        """The sequences consumed after a step between two recorded ones, both included."""
        if step in (before.step, after.step):
            return before.sequences if step == before.step else after.sequences
        if self._batch_size and self._ahead(before, after.step - before.step) == after.sequences:
            return self._ahead(before, step - before.step)
        each, rest = divmod(after.sequences - before.sequences, after.step - before.step)
        if rest:
            raise ValueError(
                f"{self._path}: steps {before.step + 1:,} to {after.step:,} have one line, and "
                f"took {after.sequences - before.sequences:,} sequences, no whole number each: "
                "give the --batch-size they had"
            )
        return before.sequences + each * (step - before.step)

    def _ahead(self, mark: Mark, steps: int) -> int:
        """The sequences consumed so many steps of the run's batch size after a mark."""
        at, size = mark.sequences, self._size()
        while steps > 0 and at < self._total:
            end = self._phase_end(at)
            here = min(steps, -(-(end - at) // size))
            at, steps = min(at + here * size, end), steps - here
        return at

    def _steps_ahead(self, mark: Mark, position: int) -> int:
        """The step that takes a position beyond a mark, at the run's batch size."""
        at, step, size = mark.sequences, mark.step, self._size()
        while True:
            end = self._phase_end(at)
            if position < end:
                return step + 1 + (position - at) // size
            at, step = end, step + -(-(end - at) // size)

    def _size(self) -> int:
        if self._batch_size is None:
            raise ValueError(
                f"{self._path}: no step recorded, and no batch size known: give the recipe instead "
                "of the run's folder, or --batch-size"
            )
        return self._batch_size
