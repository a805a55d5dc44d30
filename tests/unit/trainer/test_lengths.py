"""What is counted of packed rows: examples with a token to learn from, and no row without any."""

from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotboat_trainer.lengths import MASKED, leave_out

EXAMPLES = st.lists(st.sampled_from([MASKED, 7]), min_size=1, max_size=4)
ROWS = st.lists(st.lists(EXAMPLES, min_size=1, max_size=4), min_size=1, max_size=4)


@given(ROWS)
@settings(max_examples=25, deadline=None)  # each one makes a data set
def test_packed_rows(rows: list[list[list[int]]]) -> None:
    labels = [[label for example in row for label in example] for row in rows]
    packed = Dataset.from_dict({"labels": labels, "seq_lengths": [[len(example) for example in row] for row in rows]})
    kept, count = leave_out(packed)
    assert list(kept["labels"]) == [row for row in labels if 7 in row]
    assert count == sum(7 in example for row in rows for example in row)


def test_what_is_not_packed_was_left_out_before() -> None:
    rows = Dataset.from_dict({"labels": [[7], [MASKED, 7]]})
    assert leave_out(rows) == (rows, 2)
