"""A GPU that was given is trained on, or the training does not begin; without a word about GPUs all is as it was."""

import pytest

from pilotboat.api.reasons import Reason
from pilotboat_trainer import gpus
from pilotboat_trainer.errors import InvalidConfig, Unsupported


@pytest.mark.parametrize(("value", "count"), [(None, 0), ("", 0), ("0", 0), ("1", 1), (" 2\n", 2)])
def test_how_many_were_given(value: str | None, count: int) -> None:
    assert gpus.given({} if value is None else {"PILOTBOAT_GPUS": value}) == count


@pytest.mark.parametrize("value", ["all", "-1", "1.5", "²"])
def test_what_is_no_number_is_no_zero(value: str) -> None:
    with pytest.raises(InvalidConfig, match=r"PILOTBOAT_GPUS is .* not a number"):
        gpus.given({"PILOTBOAT_GPUS": value})


@pytest.mark.parametrize(("count", "seen"), [(0, False), (0, True), (1, True)])
def test_what_can_be_used(count: int, seen: bool) -> None:
    gpus.check(count, seen)


@pytest.mark.parametrize(
    ("count", "seen", "words"),
    [
        (1, False, ["gpu.count: 1 was asked for and torch sees no GPU", "driver", "runtimeClassName", "without gpu"]),
        (2, False, ["gpu.count: 2 was asked for", "trains on one GPU", "gpu.count 1"]),
        (2, True, ["gpu.count: 2 was asked for", "trains on one GPU", "gpu.count 1"]),
    ],
)
def test_what_would_be_held_for_nothing_is_refused_with_a_way_out(count: int, seen: bool, words: list[str]) -> None:
    with pytest.raises(Unsupported) as refused:
        gpus.check(count, seen)
    assert (refused.value.exit_code, refused.value.reason) == (64, Reason.UNSUPPORTED)
    assert all(word in str(refused.value) for word in words)
