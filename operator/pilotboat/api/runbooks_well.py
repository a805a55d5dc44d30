"""What the reasons mean that are good, or only take time, and what to do next.

Owns: these words. Must not know: how a reason is detected, or the others (runbooks.py).
"""

from __future__ import annotations

from .reasons import Reason
from .runbook import Runbook

WELL: dict[Reason, Runbook] = {
    Reason.SERVING: Runbook("At least one replica answers requests.", "Nothing."),
    Reason.ROLLED_OUT: Runbook("Every replica runs this generation and is ready.", "Nothing."),
    Reason.VALID: Runbook("The spec was understood whole.", "Nothing."),
    Reason.FETCHED: Runbook("The files are there and have their digests.", "Nothing."),
    Reason.SEEDED: Runbook("Every node that replicas may be on has the model in its cache.", "Nothing."),
    Reason.TRAINED: Runbook("Training reached its last step.", "Nothing."),
    Reason.PUBLISHED: Runbook("The result is on the output volume; status.output has path and digests.", "Nothing."),
    Reason.RESUMED: Runbook("The job runs again after it was suspended.", "Nothing."),
    Reason.ROUTED: Runbook("Requests are split by the gateway that is asked for.", "Nothing."),
    Reason.PROBED: Runbook("The probe has measured; its figures are judged elsewhere.", "Nothing."),
    Reason.ROLLOUT_STARTED: Runbook("A new revision is a canary beside the one that serves.", "Nothing."),
    Reason.ROLLOUT_STEP: Runbook("The canary has the share of the traffic that a step says.", "Nothing."),
    Reason.ROLLOUT_PROMOTED: Runbook("The canary has all the traffic: it is the revision that serves.", "Nothing."),
    Reason.ROLLOUT_SUPERSEDED: Runbook("Another change came while a canary was under way; it is over.", "Nothing."),
    Reason.ZONES_UP: Runbook("No zone is lost.", "Nothing."),
    Reason.RECOVERED: Runbook("As many replicas serve as are asked for, after a loss.", "Nothing."),
    Reason.SCALED_TO_ZERO: Runbook("spec.replicas is 0, so nothing serves.", "Set spec.replicas above 0."),
    Reason.FEEDBACK_TAKEN: Runbook("After a flood no post to /v1/feedback has been refused for a while.", "Nothing."),
    Reason.STARTING: Runbook("Pods are being created or placed.", "Wait; the message names what is waited for."),
    Reason.FETCHING: Runbook("An init container is fetching.", "Wait, or follow `kubectl logs POD -c fetch`."),
    Reason.SEEDING: Runbook(
        "The model is being brought to the nodes that replicas may be on (model.cache); nothing waits for it.",
        "Wait. Where it stays so, look at the pods of the DaemonSet NAME-REVISION-seed.",
    ),
    Reason.LOADING: Runbook("The server is loading the model.", "Wait, or ask the pod's /startupz for the phase."),
    Reason.ROLLING_OUT: Runbook("Replicas of a new revision replace the old one's, one by one.", "Wait."),
    Reason.CANARY_PAUSED: Runbook(
        "spec.rollout.paused is true: weights stay as they are.", "`pilotboat rollout resume NAME` to go on."
    ),
    Reason.AWAITING_APPROVAL: Runbook(
        "The hold of a step with `approval: true` is over.", "`pilotboat rollout approve NAME`, or `abort`."
    ),
    Reason.CANARY_HOLDING: Runbook(
        "The evidence decides neither for nor against the canary; the message says what is missing.",
        "Wait for more requests, or decide yourself: `pilotboat rollout promote NAME` or `abort`.",
    ),
    Reason.SCALING: Runbook("The number of replicas is changing.", "Wait."),
    Reason.GATEWAY_STARTING: Runbook(
        "The namespace's gateway is not up yet (or the one that is named has said nothing of its HTTPRoute); until it "
        "is, requests go to the replicas directly.",
        "Wait; if it lasts, look at the pods of Deployment pilotboat-gateway (or at the named gateway's controller).",
    ),
    Reason.LEAVING_GATEWAY: Runbook(
        "The Service points at the replicas again; the gateway keeps the route until nobody can still be sent there.",
        "Wait a minute.",
    ),
    Reason.TRAINING: Runbook("The trainer is running.", "Follow status.progress, or TensorBoard on the output volume."),
    Reason.WAITING_FOR_FINE_TUNE_JOB: Runbook(
        "The FineTuneJob named as source is not complete yet.", "Wait; pods start when it completes."
    ),
    Reason.WAITING_FOR_CHECKPOINT: Runbook(
        "No checkpoint has been saved yet.", "Wait for checkpoints.everySteps steps."
    ),
    Reason.CHECKPOINT_SAVED: Runbook("A restart continues from the checkpoint named.", "Nothing."),
    Reason.SUSPENDED: Runbook(
        "spec.suspend is true: the pods are gone, checkpoints stay.", "Set spec.suspend to false."
    ),
    Reason.ZONE_SUSPECT: Runbook(
        "Enough nodes and replicas of a zone fail; it is lost when that lasts, unless the message says why not.",
        "Look at the nodes of the zone.",
    ),
    Reason.ZONE_RETURNING: Runbook(
        "A zone that was lost is well again and gets its traffic back after a while, step by step.",
        "Wait; with `failback.mode: Manual`, name it in spec.zones.failback.approved.",
    ),
    Reason.RESTARTING: Runbook("A trainer pod ended early and another continues.", "Read the message for the cause."),
    Reason.SUPERSEDED: Runbook(
        "A trainer pod found that another pod of its job has taken its place; it stopped and wrote nothing.",
        "Nothing: the other pod trains.",
    ),
}
