"""Stories of a ModelDeployment: what may happen to it, one after the other, by a seed.

Owns: how often each action is taken, and how a story is told. Must not know: what must hold meanwhile.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from unit.plan import happenings as may
from unit.plan.surroundings import Judge, Surroundings

WEIGHTS: dict[Callable[[Surroundings, random.Random], object], int] = {
    may.push: 2,
    may.edit_wrongly: 1,
    may.scale: 2,
    may.ask_for_spares: 1,
    may.change_model: 1,
    may.change_traffic: 1,
    may.ask_for_steps: 2,
    may.ask_for_no_steps: 1,
    may.say: 2,
    may.pause_or_go_on: 1,
    may.go_back: 1,
    may.ask_for_devices: 1,
    may.lose_status: 1,
    may.write_a_condition: 1,
    may.delete_a_child: 1,
    may.scale_a_child: 1,
    may.take_a_childs_label: 1,
    may.refuse_or_take: 1,
    may.newest_breaks: 1,
    may.newest_fails: 1,
    may.source_goes: 1,
    may.job_ends: 1,
    may.node_goes_silent: 1,
    may.node_goes: 1,
    may.device_fails: 1,
    may.room_changes: 1,
    may.gateway_fails: 1,
    may.gateway_is_mute: 1,
    may.route_is_taken: 1,
    may.something_happens_to_a_pod: 4,
    may.clock_jumps: 2,
    may.requests_come: 3,
    may.a_pass: 1,
    may.a_controller_acts: 1,
    may.all_follow: 5,
}
LENGTH = 40
OFTEN = 0.6
"""How often, after an action, all follow and a pass is made before the next."""


class Story:
    """One life; the same for the same seed. Whatever goes wrong in it comes with what happened until then."""

    def __init__(self, seed: int, judge: Judge) -> None:
        self.chance = random.Random(seed)
        self.world = Surroundings(self.chance, judge)
        self.lines = [f"Story {seed} begins with {self.world.parent['spec']['replicas']} replicas."]

    def tell(self, end: Callable[[Surroundings], None]) -> None:
        try:
            self.world.settles()
            for number in range(1, LENGTH + 1):
                self._go_on(number)
            self.lines.append("The end.")
            end(self.world)
        except Exception as wrong:
            wrong.add_note("\n".join(self.lines))
            raise

    def _go_on(self, number: int) -> None:
        (action,) = self.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
        self.lines.append(f"{number:2} {action.__name__}")  # before it is taken: it may be what goes wrong
        said = action(self.world, self.chance)
        self.lines[-1] += f": {said}" if said != may.NOTHING else ""
        if self.chance.random() < OFTEN:
            self.world.follow()
            self.world.a_pass()
