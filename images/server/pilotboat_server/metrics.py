"""The Prometheus metrics: vLLM's names, so that its dashboards and the Gateway API's endpoint picker work unchanged.

Owns the registry: one a server, kept where the engine is, whatever the number of HTTP processes. Must not know: who
calls it. Beyond vLLM's there are `pilotboat:*` gauges: quantiles over a sliding window, and the start-up's phases.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from pilotboat.api.routing import BOUNDS, GROWTH

from .window import Window

disable_created_metrics()  # type: ignore[no-untyped-call]

QUANTILES = (0.5, 0.9, 0.99)
JUDGED = tuple(bound / 1000 for bound in BOUNDS if bound <= 10_000 * GROWTH)
"""Of the series that rollouts are judged by: the gateway's own bounds, so that counts can be compared one by one."""

FIRST_TOKEN = (*JUDGED, 20, 40, 80, 160, 640)
PER_TOKEN = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
)
WHOLE = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920)


class Metrics:
    """All series of one server, labelled with the model's name."""

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry()
        self._model = model
        self.running = self._gauge("vllm:num_requests_running", "Requests the engine works on.")
        self.waiting = self._gauge("vllm:num_requests_waiting", "Requests waiting for a slot.")
        self.kv_usage = self._gauge("vllm:kv_cache_usage_perc", "Share of the context of all slots in use, 0 to 1.")
        self.prompt_tokens = self._counter("vllm:prompt_tokens", "Prompt tokens processed.")
        self.generation_tokens = self._counter("vllm:generation_tokens", "Tokens generated.")
        self.prefix_queries = self._counter("vllm:prefix_cache_queries", "Prompt tokens looked up in the prefix cache.")
        self.prefix_hits = self._counter("vllm:prefix_cache_hits", "Prompt tokens found in the prefix cache.")
        self._success = self._labelled("vllm:request_success", "Requests ended well.", "finished_reason")
        self._rejected = self._labelled("vllm:admission_rejections", "Requests refused at the door.", "reason")
        self._failed = self._labelled("pilotboat:request_failures", "Requests the server failed.", "reason")
        self._first = self._histogram("vllm:time_to_first_token_seconds", FIRST_TOKEN)
        self._between = self._histogram("vllm:inter_token_latency_seconds", PER_TOKEN)
        self.per_token = self._histogram("vllm:request_time_per_output_token_seconds", JUDGED)
        self.whole = self._histogram("vllm:e2e_request_latency_seconds", WHOLE)
        self.queue_time = self._histogram("vllm:request_queue_time_seconds", WHOLE)
        self.inference_time = self._histogram("vllm:request_inference_time_seconds", WHOLE)
        self._windows = {"time_to_first_token": Window(), "inter_token_latency": Window()}
        self._quantiles = {
            name: self._multi(f"pilotboat:{name}_quantile_seconds", "Over the last five minutes.", "quantile")
            for name in self._windows
        }
        self._phases = self._multi("pilotboat:startup_phase_seconds", "Time each phase of the start took.", "phase")

    def first_token(self, now: float, seconds: float) -> None:
        """From the request's arrival at the HTTP front to its first token."""
        self._first.observe(seconds)
        self._windows["time_to_first_token"].add(now, seconds)

    def between_tokens(self, now: float, seconds: float, tokens: int) -> None:
        """`tokens` tokens came `seconds` after the ones before: each counts its share."""
        for _ in range(tokens):
            self._between.observe(seconds / tokens)
        self._windows["inter_token_latency"].add(now, seconds / max(1, tokens))

    def succeeded(self, reason: str) -> None:
        """`stop`, `length`, or `abort` where the caller went away, as vLLM says it."""
        self._success.labels(self._model, "abort" if reason == "cancelled" else reason).inc()

    def rejected(self, reason: str) -> None:
        """Refused before it was queued."""
        self._rejected.labels(self._model, reason).inc()

    def failed(self, reason: str) -> None:
        """Admitted, and not answered whole."""
        self._failed.labels(self._model, reason).inc()

    def phase(self, name: str, seconds: float) -> None:
        """A phase of the start is over."""
        self._phases.labels(self._model, name).set(seconds)

    def render(self, now: float) -> bytes:
        """The text of /metrics."""
        for name, window in self._windows.items():
            for share, value in zip(QUANTILES, window.quantiles(now, QUANTILES), strict=True):
                self._quantiles[name].labels(self._model, str(share)).set(value)
        return generate_latest(self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, ["model_name"], registry=self.registry).labels(self._model)

    def _multi(self, name: str, text: str, label: str) -> Gauge:
        return Gauge(name, text, ["model_name", label], registry=self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, ["model_name"], registry=self.registry).labels(self._model)

    def _labelled(self, name: str, text: str, label: str) -> Counter:
        return Counter(name, text, ["model_name", label], registry=self.registry)

    def _histogram(self, name: str, buckets: tuple[float, ...]) -> Histogram:
        text = "As vLLM defines it."
        return Histogram(name, text, ["model_name"], buckets=buckets, registry=self.registry).labels(self._model)
