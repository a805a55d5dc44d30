"""Every label, annotation and name that Pilotboat writes, in one block.

Owns: keys and naming rules. Must not know: the objects they go on.
"""

GROUP = "pilotboat.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

NAME = "app.kubernetes.io/name"
INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "pilotboat"
"""Value of managed-by on every child: the selector of our watches."""

REVISION = f"{GROUP}/revision"
"""Revision hash of a ModelDeployment, on its Deployments, ConfigMaps and pods."""

SEED = f"{GROUP}/seed"
"""On the pods that bring a model to their node: the revision whose model it is. They serve nothing."""

GATEWAY_PORT = f"{GROUP}/gateway-port"
"""On the Service of a ModelDeployment: its port on the namespace's gateway, whether traffic goes there yet or not."""

GATEWAY = "pilotboat-gateway"
"""Name of everything a namespace's gateway is made of, and its `instance`."""

GATEWAYS = "gateways"
"""Plural of what has no kind in the API: a namespace's gateway, as the operator's parent of its objects."""

APPLIED = f"{GROUP}/applied"
"""Annotation of a child: hash of the manifest last applied, so that a field we stop sending is noticed."""

SERVING = f"{GROUP}/serving"
"""Label of a gateway's pod: whether callers are sent to it. Services choose by it."""

SERVES = "true"

STAND_INS = f"{GROUP}/stand-ins"
"""Annotation of a revision's Deployment: how many of its replicas are in the place of lost ones."""

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
"""Kubernetes' annotation of a pod: of those that serve, a ReplicaSet takes the one of the lowest first."""

SPENT = f"{GROUP}/spent-seconds"
"""Annotation of a Job that took the place of another: seconds of activeDeadlineSeconds that are over."""

FAILED = f"{GROUP}/earlier-failures"
"""Annotation of a Job that took the place of another: failures of backoffLimit that are used up."""

TESTERS = f"{GROUP}/testers"
"""Annotation of an HTTPRoute: `header=value` by which its rule for testers is known again."""

LEADERS_NODE = f"{GROUP}/node"
"""Annotation of the operator's Lease: the node that its holder runs on."""

REACH = f"{GROUP}/reach"
"""Annotation of an HTTPRoute: its parentRefs and hostnames that we put there, as JSON; all others are others'."""

DNS_FINALIZER = f"{GROUP}/dns"
"""On a ModelDeployment that has records in a name server: they go first, or half a minute has passed."""

ROUTE_FINALIZER = f"{GROUP}/http-route"
"""On a ModelDeployment with weights in an HTTPRoute of others: they go first, or half a minute has passed."""

FIELD_MANAGER = "pilotboat"
STATUS_MANAGER = "pilotboat-status"
PROGRESS_MANAGER = "pilotboat-progress"
DNS_MANAGER = "pilotboat-dns"
"""Owns DNS_FINALIZER and nothing else."""
ROUTE_MANAGER = "pilotboat-route"
"""Owns ROUTE_FINALIZER and nothing else."""


def child_labels(component: str, instance: str) -> dict[str, str]:
    """Labels of every child of a custom resource; component is `server`, `trainer`, `probe`, `seed` or `gateway`."""
    return {NAME: f"pilotboat-{component}", INSTANCE: instance, COMPONENT: component, MANAGED_BY: MANAGER}
