"""What every reason means, and what to do next: docs/reasons.md is made from it.

Owns: these words; those of what is well are in runbooks_well.py. Must not know: how a reason is detected.
"""

from __future__ import annotations

from .reasons import Reason
from .runbook import Runbook
from .runbooks_well import WELL

RUNBOOKS: dict[Reason, Runbook] = WELL | {
    Reason.INVALID_SPEC: Runbook(
        "The spec has a value that the API server let through. What runs keeps running.", "Correct the field named."
    ),
    Reason.CONFIG_MAP_NOT_FOUND: Runbook(
        "A ConfigMap or a key of it is missing.", "Create it; it is looked for again."
    ),
    Reason.SECRET_NOT_FOUND: Runbook(
        "A Secret or a key of it is missing.", "Create it; kubelet looks again by itself."
    ),
    Reason.CLAIM_NOT_FOUND: Runbook("A PersistentVolumeClaim is missing.", "Create it; it is looked for again."),
    Reason.FINE_TUNE_JOB_NOT_FOUND: Runbook("The FineTuneJob named does not exist.", "Create it, or correct the name."),
    Reason.FINE_TUNE_JOB_FAILED: Runbook("The FineTuneJob named failed.", "Read its conditions; run it again."),
    Reason.CHECKSUM_MISMATCH: Runbook(
        "A file does not have the SHA-256 that was given. It was deleted and is not served.",
        "Correct the digest, or find out who changed the file.",
    ),
    Reason.SOURCE_NOT_FOUND: Runbook("The repository, revision, file or path does not exist.", "Correct the source."),
    Reason.INVALID_MODEL: Runbook(
        "The files are no model that the engine can load.", "Correct the source or the engine."
    ),
    Reason.INVALID_DATASET: Runbook("The data set cannot be used; the line is named.", "Mend the line."),
    Reason.UNSAFE_FILE: Runbook(
        "Only files of types that are known, and cannot execute code, are fetched.",
        "Use safetensors or GGUF; for a data set JSONL.",
    ),
    Reason.UNSUPPORTED: Runbook("The combination asked for does not exist.", "The message says what does."),
    Reason.HUB_AUTH_FAILED: Runbook(
        "The hub refused the token, or wants one.", "Set tokenSecretRef; accept the licence."
    ),
    Reason.HUB_RATE_LIMITED: Runbook("The hub asked us to slow down.", "Wait, use a token, or a mirror."),
    Reason.HUB_UNREACHABLE: Runbook("The hub or the server did not answer.", "Check the network, or set an endpoint."),
    Reason.DOWNLOAD_FAILED: Runbook("A download failed for the reason in the message.", "Read the message."),
    Reason.DOWNLOAD_STALLED: Runbook(
        "A server sends less than 1 KiB a second, and did so each time it was asked.",
        "Look at the server and at proxies on the way, or give a mirror.",
    ),
    Reason.DISK_FULL: Runbook("The volume has no room for the files.", "Use a larger volume, or fewer files."),
    Reason.IMAGE_PULL_ERROR: Runbook(
        "A node cannot pull an image.", "Correct image or secrets; if others can, cordon the node, delete the pod."
    ),
    Reason.UNSCHEDULABLE: Runbook("No node can take the pod: the scheduler says why.", "Ask for less, or add nodes."),
    Reason.INSUFFICIENT_SURGE_CAPACITY: Runbook(
        "The new revision needs room for one more pod and there is none. The old revision serves. Spare replicas, "
        "where there are any, make room by themselves after two minutes. Of a canary that another change came over: "
        "the stable revision needs the room, to take back what the canary carries.",
        "Free or add a node or GPU, or scale down by one, or to what there is room for, for the time of the rollout.",
    ),
    Reason.CANARY_ROLLED_BACK: Runbook(
        "The canary was given up for the reason in the message; the stable revision has all the traffic.",
        "Apply a revision that is better, or `pilotboat rollout retry NAME`.",
    ),
    Reason.PROMETHEUS_NOT_PERMITTED: Runbook(
        "The operator may not read the Secret that analysis.prometheus.tokenSecretRef names, so its queries are not "
        "asked. The canary keeps its share and is not promoted.",
        "Set prometheus.tokens=true in the chart's values, which grants it.",
    ),
    Reason.QUERY_UNANSWERED: Runbook(
        "A query of analysis.prometheus has no series, or no answer, for the stable revision either. The canary has no "
        "users yet.",
        "Correct the query that the message names, or its Prometheus; or `pilotboat rollout skip NAME`.",
    ),
    Reason.REVISION_NOT_FOUND: Runbook(
        "spec.rollout.rollbackTo names a revision that is not kept.", "Take one of status.revisions."
    ),
    Reason.ACTION_IGNORED: Runbook(
        "spec.rollout.action names a revision that is not the canary. Nothing was done, nor will be for that id.",
        "Look at the canary that there is: `pilotboat rollout status NAME`. What you ask of it needs a new id.",
    ),
    Reason.CONTAINER_CONFIG_ERROR: Runbook("kubelet cannot make the container.", "Read the message."),
    Reason.POD_REJECTED: Runbook(
        "The API server or a node refuses the pods.", "Read the message: quota, policy, podTemplate or devices."
    ),
    Reason.NAME_TAKEN: Runbook(
        "An object of the name we need belongs to somebody else.", "Rename or delete one of the two."
    ),
    Reason.GATEWAY_UNAVAILABLE: Runbook(
        "Requests go through the namespace's gateway, and no replica of it is available.",
        "Look at the pods of Deployment pilotboat-gateway; `traffic: Direct` does without it.",
    ),
    Reason.NO_GATEWAY_PORT: Runbook(
        "Every port of the namespace's gateway is taken, so requests go to the replicas directly.",
        "Use another namespace, or `traffic: Direct`.",
    ),
    Reason.GATEWAY_API_MISSING: Runbook(
        "`traffic: HTTPRoute` needs the Gateway API (1.2 or later), which is not installed, or which the operator may "
        "not use. No canary starts; the Service serves.",
        "Install the Gateway API's CRDs or mend the operator's rights, or use `traffic: Gateway`.",
    ),
    Reason.GATEWAY_NOT_FOUND: Runbook(
        "The Gateway named in spec.routing.gateway does not exist. No canary starts; the Service serves.",
        "Create the Gateway, or correct the name; it is looked for again.",
    ),
    Reason.ROUTE_NOT_ACCEPTED: Runbook(
        "The Gateway's controller refuses the HTTPRoute, or a part of it; its words follow. Weights stay as they are.",
        "Read the message: the listener's allowedRoutes, the hostnames, the sectionName.",
    ),
    Reason.ROUTE_NOT_FOUND: Runbook(
        "The HTTPRoute named in spec.routing.httpRoute does not exist. No canary starts; the Service serves.",
        "Create the HTTPRoute, or correct the name; it is looked for again.",
    ),
    Reason.ROUTE_WITHOUT_BACKEND: Runbook(
        "No rule of the HTTPRoute named in spec.routing.httpRoute sends anything to this ModelDeployment.",
        "Put a backendRef to the ModelDeployment's Service, by its name and port, into the rules that are meant.",
    ),
    Reason.ROUTE_TOO_COARSE: Runbook(
        "A rule gives the Service a weight beside others that is too small for a step. No step is taken.",
        "Multiply the weights of all backendRefs of that rule by the number in the message; shares stay as they are.",
    ),
    Reason.ROUTE_OVERWRITTEN: Runbook(
        "In mid-rollout somebody wrote the HTTPRoute back to the plain Service, so the canary had no requests. The "
        "weights are written again, and no step ends meanwhile.",
        "Have the tool that applies the HTTPRoute leave spec.rules out of its comparison. Once is harmless.",
    ),
    Reason.BACKENDS_LEFT: Runbook(
        "A deleted ModelDeployment is named in an HTTPRoute still, for half a minute it could not be written.",
        "Take its backendRefs out of the HTTPRoute, or name another Service there.",
    ),
    Reason.CAPACITY_PENDING: Runbook(
        "No node has room for who is to stand in for lost replicas, or too few serve elsewhere to empty a zone.",
        "Add nodes or GPUs in the zones that are left, or free some; spec.zones.spare keeps replicas warm for this.",
    ),
    Reason.SPARES_PENDING: Runbook(
        "No node has room for all of the spare replicas (spec.zones.spare); the scheduler's words follow. As many "
        "serve as spec.replicas asks for; rollouts and drains do not wait for the rest.",
        "Ask for fewer spares, or add nodes or GPUs: they come by themselves when there is room.",
    ),
    Reason.ZONES_NOT_LABELLED: Runbook(
        "spec.zones asks for something, nodes tell of no zone, and fewer than two are told by others: nothing can be "
        "moved.",
        "Label the nodes with topology.kubernetes.io/zone, or leave spec.zones out.",
    ),
    Reason.SINGLE_ZONE: Runbook(
        "spec.zones asks for something, and all nodes are in one zone: if it is lost there is nowhere to move to.",
        "Add nodes in another zone, or leave spec.zones out; a label that is wrong on all of them looks the same.",
    ),
    Reason.FEEDBACK_FLOODED: Runbook(
        "More outcomes were posted to /v1/feedback than a gateway takes (200 in 10 s of one address, 2,000 of all); "
        "the rest was refused (429). Nothing else suffers; what is known of outcomes may be wrong or incomplete.",
        "Find out who posts; post each request's outcome once. Admit to the gateway's port only applications of yours, "
        "or have what stands before it refuse the others /v1/feedback.",
    ),
    Reason.NODE_LOST: Runbook(
        "A node is not heard of and its pods do not serve or train: others are made, or the message says why not; none "
        "is killed by force. A FineTuneJob goes on from its last checkpoint; a trainer that still runs is replaced.",
        "Look at the node. When it is well again for a while, surplus replicas go by themselves.",
    ),
    Reason.GPU_FAULT: Runbook(
        "A device of the node is out of order and the replica on it does not serve: another is made elsewhere.",
        "Look at the node's conditions and at its device plugin; cordon it until it is repaired.",
    ),
    Reason.ZONE_LOST: Runbook(
        "Most of a zone fails: it gets no traffic until it has been well for a while.", "Look at the zone's nodes."
    ),
    Reason.POD_LOST: Runbook("A replica was deleted or evicted; another is made.", "Nothing, if somebody meant it."),
    Reason.PROCESS_DIED: Runbook(
        "A server process ended and was started anew in its pod.", "Read `kubectl logs --previous`."
    ),
    Reason.POD_UNREADY: Runbook("A replica does not serve any more, and its process lives.", "Read the pod's logs."),
    Reason.DNS_ANSWERED: Runbook("The host name is answered, and this region does its part in it.", "Nothing."),
    Reason.DNS_MOVED: Runbook(
        "Callers of the host name are sent to another region; the message says which and why.",
        "Nothing, unless it is a surprise: then look at the region that was left.",
    ),
    Reason.DNS_STARTING: Runbook(
        "This region looks at the name server first, or nobody is answered yet.", "Nothing; it takes seconds."
    ),
    Reason.DNS_UPDATE_REFUSED: Runbook(
        "The name server refuses us, or the TSIG key cannot be had; the message says which. Callers are sent where "
        "they were; this region loses them to another after 20 s.",
        "Compare zones.dns.rfc2136 (zone, key name, algorithm, Secret) with the name server's own configuration.",
    ),
    Reason.DNS_SERVER_UNREACHABLE: Runbook(
        "The name server does not answer. Callers are sent where they were; if only we cannot reach it, another region "
        "takes over after 20 s.",
        "Look at the name server, and at the way to it: TCP to its port from the operator's pods.",
    ),
    Reason.DNS_NOT_PERMITTED: Runbook(
        "The operator may not read the Secret with the TSIG key, set its finalizer, or write a DNSEndpoint or the "
        "Service's annotations; the message says which.",
        "Set dns.enabled=true in the chart's values, which grants it; of a Service, look at Ready.",
    ),
    Reason.DNS_NAME_TAKEN: Runbook(
        "No region has written the addresses of the host name, its CNAME, or records beside it. They are left alone.",
        "Delete them in the name server, or take another hostname.",
    ),
    Reason.DNS_REGION_TAKEN: Runbook(
        "Another cluster uses the same host name under the same region. This one stands back.",
        "Give every cluster a zones.dns.region of its own.",
    ),
    Reason.DNS_RECORDS_LEFT: Runbook(
        "The ModelDeployment, or its zones.dns, is gone, and the name server could not be told within 30 s.",
        "Delete the records that the message names; no other region is disturbed by them.",
    ),
    Reason.DNS_WITHDRAWN: Runbook(
        "Nothing serves here, so this region's record is withdrawn; the message says when it returns.",
        "Look at Available.",
    ),
    Reason.EXTERNAL_DNS_MISSING: Runbook(
        "`zones.dns.externalDNS` needs the kind DNSEndpoint, which is not installed.",
        "Install external-dns with its CRD and --source=crd, or set externalDNS.source to Service, or use rfc2136.",
    ),
    Reason.CONTAINER_OOM_KILLED: Runbook(
        "The container used more memory than its limit.",
        "Do what the message says: raise spec.podTemplate.resources.limits.memory, or lower the fields it names.",
    ),
    Reason.CRASH_LOOP_BACK_OFF: Runbook("The container keeps dying; its last lines follow.", "Read them."),
    Reason.CONTAINER_FAILED: Runbook("The container ended with an error; its last lines follow.", "Read them."),
    Reason.POD_EVICTED: Runbook(
        "kubelet evicted the pod.", "Give the node, or the pod's requests, more of what ran out."
    ),
    Reason.POD_DELETED: Runbook(
        "A trainer pod was deleted, and how it ended was not heard of.", "Nothing; the job goes on from its checkpoint."
    ),
    Reason.NOT_READY: Runbook(
        "The pod served and does not now: its readiness probe fails, or its node is not heard of.",
        "Read the pod's logs; look at its node.",
    ),
    Reason.TRAINING_FAILED: Runbook("The trainer stopped with an error.", "Read the message and the logs."),
    Reason.NOTHING_LEARNED: Runbook(
        "Training ended and no weight had changed.", "Check learning rate and targetModules."
    ),
    Reason.INSUFFICIENT_MEMORY: Runbook("Training ran out of memory.", "Lower batchSize or maxLength, or use LoRA."),
    Reason.DEADLINE_EXCEEDED: Runbook(
        "A job's activeDeadlineSeconds passed; or a canary that another change came over gave nothing back for"
        " rollout.deadline.",
        "Give the job more time; look at the stable revision's pods.",
    ),
    Reason.BACKOFF_LIMIT_EXCEEDED: Runbook(
        "The trainer failed backoffLimit times.", "Read the message for the last cause."
    ),
    Reason.JOB_DELETED: Runbook("The batch Job of a finished run is gone.", "Nothing; the record stays."),
    Reason.REVISION_UNREACHABLE: Runbook(
        "The Service of the revision named does not answer a probe.",
        "Look at the revision's pods, and at network policies between them and the probe's pod.",
    ),
    Reason.API_KEY_REFUSED: Runbook(
        "The revision named does not accept the first API key of service.apiKeySecretRef.",
        "Compare the Secret with what the revision's pods were started with.",
    ),
    Reason.INVALID_ANSWER: Runbook(
        "The revision named answers with something else than OpenAI's API does.", "Correct engine.image or its args."
    ),
    Reason.PROBE_FAILED: Runbook(
        "A probe could not measure for the reason in the message; that says nothing about the revision.",
        "Read the message and the probe's logs; the rollout holds until it is retried or skipped.",
    ),
    Reason.PROBE_INTERRUPTED: Runbook(
        "A probe was ended before it had measured all it should.", "Nothing; it runs again."
    ),
}
