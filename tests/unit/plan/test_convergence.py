"""The ModelDeployment planner against a cluster in miniature, with anything happening at any time."""

from __future__ import annotations

import dataclasses
import random
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pilotboat.api import labels
from pilotboat.api.crd import MODEL_DEPLOYMENT
from pilotboat.engine.compare import matches
from pilotboat.plan import diagnose
from pilotboat.plan.build import dig
from pilotboat.plan.types import Plan, Ref
from unit.plan.cluster import Cluster
from unit.plan.world import check_schema, condition, types

SOME = st.integers(0, 99)


class Life(RuleBasedStateMachine):
    """Every rule is one thing that may happen; every invariant holds for every plan made of what then is."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(replicas=3)
        assert self.cluster.settle()
        self.plan = self.cluster.plan()

    @rule()
    def a_pass(self) -> None:
        self._keeps_what_serves(self.plan)
        self.cluster.carry_out(self.plan)

    @rule(rounds=st.integers(1, 6), which=SOME)
    def time_goes_by(self, rounds: int, which: int) -> None:
        """Kubernetes follows; between two passes one of the controllers is faster than the others."""
        for _ in range(rounds):
            self.cluster.follow()
            for _ in range(2):
                plan = self.cluster.plan()
                self._keeps_what_serves(plan)
                self.cluster.carry_out(plan)
                self.a_controller_acts(which)

    def a_controller_acts(self, which: int) -> None:
        if deployments := self.cluster.deployments:
            self.cluster.control(deployments[which % len(deployments)])

    @rule(which=SOME, what=st.sampled_from(["advance", "advance", "kill", "evict", "unready"]))
    def something_happens_to_a_pod(self, which: int, what: str) -> None:
        if names := sorted(self.cluster.pods):
            getattr(self.cluster, what)(names[which % len(names)])

    @rule(size=st.sampled_from([1, 2, 3]), broken=st.booleans())
    def the_model_is_edited(self, size: int, broken: bool) -> None:
        self.cluster.edit(inference={"batchSize": size})
        if broken and (revision := (self.cluster.plan().status or {}).get("updateRevision")):
            self.cluster.broken.add(revision)

    @rule(replicas=st.integers(0, 4))
    def it_is_scaled(self, replicas: int) -> None:
        self.cluster.edit(replicas=replicas)

    @rule(spare=st.integers(0, 2), room=st.sampled_from([3, 5, 99]))
    def it_has_spares(self, spare: int, room: int) -> None:
        self.cluster.edit(zones={"spare": spare})
        self.cluster.room = room

    @rule()
    def it_is_edited_wrongly(self) -> None:
        self.cluster.edit(inference={"batchSize": -1})

    @rule(which=SOME)
    @precondition(lambda self: self.cluster.objects)
    def a_child_is_deleted(self, which: int) -> None:
        refs = sorted(ref for ref in self.cluster.objects if ref.kind != "Deployment")
        if refs:
            del self.cluster.objects[refs[which % len(refs)]]

    @rule(which=SOME)
    def a_child_loses_its_labels(self, which: int) -> None:
        children = [raw for _, raw in sorted(self.cluster.objects.items()) if raw["kind"] != "Deployment"]
        if children:
            children[which % len(children)]["metadata"]["labels"].pop(labels.REVISION, None)

    @invariant()
    def status_is_true(self) -> None:
        self.plan = self.cluster.plan()
        status, cluster = self.plan.status, self.cluster
        assert status is not None
        check_schema(MODEL_DEPLOYMENT, status)
        serving = [name for name in cluster.pods if cluster.serves(name)]
        says = types(status)
        assert says["Available"] == ("True" if serving else "False")
        if says["Ready"] == "True":
            target = status["updateRevision"]
            mine = [n for n in serving if dig(cluster.pods[n][1].raw, "metadata", "labels", labels.REVISION) == target]
            spec = cluster.parent["spec"]
            spare = spec.get("zones", {}).get("spare", 0) if spec["replicas"] else 0
            assert len(mine) == len(serving) == spec["replicas"] + spare
            assert says["Progressing"] == "False"
            assert "lastFailure" not in status
        else:
            assert condition(status, "Ready")["message"]
        told = {c["observedGeneration"] for c in status["conditions"]} | {status["observedGeneration"]}
        assert told == {cluster.parent["metadata"]["generation"]}

    @invariant()
    def the_order_of_what_is_seen_does_not_matter(self) -> None:
        seen = self.cluster.observed
        mixed = random.Random(7)
        children, pods = list(seen.children), list(seen.pods)
        mixed.shuffle(children)
        mixed.shuffle(pods)
        other = self.cluster.plan(dataclasses.replace(seen, children=tuple(children), pods=tuple(pods)))
        assert other.status == self.plan.status
        assert sorted(map(str, other.apply)) == sorted(map(str, self.plan.apply))
        assert set(other.delete) == set(self.plan.delete)

    @invariant()
    def time_alone_changes_nothing(self) -> None:
        """What a status says again an hour later, it says in the same words and with the same times."""
        if any(diagnose.starved(pod.raw) for _, pod in self.cluster.pods.values()):
            return  # spares make room for a rollout that has waited for it
        told = {**self.cluster.parent, "status": self.plan.status}
        seen = dataclasses.replace(self.cluster.observed, parent=told)
        again = self.cluster.plan(seen, now=self.cluster.now + timedelta(hours=1))
        assert (again.status, again.events) == (self.plan.status, ())
        assert again.apply == self.plan.apply

    def _keeps_what_serves(self, plan: Plan) -> None:
        """By what the Deployments' controllers last said, no step takes a serving replica that is needed."""
        want, scaled = self.cluster.parent["spec"]["replicas"], {}
        for manifest in plan.apply:
            if manifest["kind"] == "Deployment":
                scaled[manifest["metadata"]["name"]] = manifest["spec"]["replicas"]
        before = after = 0
        for deployment in self.cluster.deployments:
            name, replicas = deployment["metadata"]["name"], deployment["spec"]["replicas"]
            ready = min(sum(map(self.cluster.serves, self.cluster.pods_of(deployment))), replicas)
            if dig(deployment, "status", "observedGeneration") != deployment["metadata"]["generation"]:
                assert not want or scaled.get(name, replicas) >= min(replicas, want)
            elif ready != (dig(deployment, "status", "availableReplicas") or 0):
                return  # the controller has not counted yet: its word and ours can only be older than the pods
            before += ready
            after += min(ready, scaled.get(name, replicas))
        assert after >= min(want, before)

    def teardown(self) -> None:
        """Once the spec is good and nothing more happens, it ends whole and at rest."""
        self.cluster.broken.clear()
        self.cluster.room = 99
        self.cluster.edit(inference={"batchSize": 7}, replicas=3, rollout={"history": 0}, zones={"spare": 1})
        assert self.cluster.settle()
        status = self.cluster.plan().status
        assert types(status)["Ready"] == "True"
        assert [n for d in self.cluster.deployments if (n := d["spec"]["replicas"])] == [4]
        assert sorted(ref.kind for ref in self.cluster.objects) == [
            *("ConfigMap", "ConfigMap", "Deployment", "PodDisruptionBudget", "Service", "Service"),
        ]
        plan = self.cluster.plan()
        assert all(matches(manifest, self.cluster.objects[Ref.of(manifest)]) for manifest in plan.apply)
        assert not plan.delete


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=settings().max_examples // 8, stateful_step_count=15, deadline=None)
