"""Progress lines."""

import io

from pilotboat_fetch.progress import Progress

MIB = 1 << 20


def test_a_line_every_few_seconds_with_speed_and_time_left() -> None:
    now, out = [0.0], io.StringIO()
    progress = Progress("model", out, lambda: now[0])
    progress.total = 40 * MIB
    progress.kept(10 * MIB)
    for _ in range(4):
        now[0] += 1
        progress.add(5 * MIB)
    assert out.getvalue() == "fetch model: 62 %, 25.0 MiB of 40.0 MiB, 5.0 MiB/s, 3 s left\n"


def test_without_a_total_there_is_no_share() -> None:
    assert Progress("x", io.StringIO(), lambda: 0.0).line(0.0) == "0.0 MiB, 0.0 MiB/s"
