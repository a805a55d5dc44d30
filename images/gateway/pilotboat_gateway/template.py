"""The parts of HAProxy's configuration that are the same for every deployment.

Owns: time-outs, probes, retries, errors in OpenAI's shape, the log's format. Must not know: routes.
"""

from __future__ import annotations

import json

BUFFER = 131072
"""Bytes of a request, header and body, that HAProxy keeps so that it can send it to another replica."""

MOST_COPIES = 16
"""Copies of one deployment's requests that are under way at a time; what comes beyond them is dropped."""

MOST_HELD = 512
"""Connections to a deployment's spill above which nobody waits there (hold.lua): each that does has one for every lane
it tried, and one more."""

COPY_HOP = 99
"""What a copy says of the lanes it has tried, more than there are: it is not tried again, and goes nowhere else."""

LOG_FIELDS = (
    "frontend",
    "backend",
    "server",
    "status",
    "TR",
    "Tw",
    "Tc",
    "Tr",
    "state",
    "retries",
    "revision",
    "stopping",
    "asked",
    "took",
    "lasted",
)
LOG_FORMAT = (
    "%f %b %s %ST %TR %Tw %Tc %Tr %ts %rc %[var(txn.revision)] %[stopping]"
    " %[var(txn.asked)] %[var(txn.took)] %[date(0,ms),sub(txn.asked)]"
)

GLOBAL = (
    """\
# Written by the gateway's agent. Changes are lost.
global
  description {description}
  stats socket {runtime} mode 600 level admin
  stats timeout 60s
  nbthread {threads}
  maxconn 8192
  no strict-limits
  hard-stop-after {longest}s
  tune.bufsize """
    + str(BUFFER)
    + """
{lua}
ring evidence
  format raw
  maxlen 1024
  size 4194304
  timeout connect 1s
  timeout server 5s
  server agent unix@{log}

defaults
  mode http
  log ring@evidence format raw local0
  log-format \""""
    + LOG_FORMAT
    + """\"
  option dontlognull
  option http-buffer-request
  # A first token is small: without this it waits up to 200 ms for company in one packet.
  option http-no-delay
  option abortonclose
  option redispatch 1
  option srvtcpka
  srvtcpka-idle 2s
  srvtcpka-intvl 2s
  srvtcpka-cnt 2
  retries 3
  # The server answers only with its first token, so whatever has no answer yet may be asked elsewhere.
  retry-on conn-failure empty-response junk-response response-timeout 503
  balance leastconn
  timeout connect 1s
  timeout http-request 30s
  timeout http-keep-alive 75s
  timeout client 75s
  timeout check 1300ms
  # Any answer but 200 means: nothing new, and what runs goes on. Only silence means death.
  option httpchk
  http-check send meth GET uri /readyz
  http-check expect status 200 error-status L7OKC
  http-error {unavailable}
  http-error {bad}
  http-error {late}
  http-error {slow}
  http-error {wrong}
"""
)

FEEDBACK = """\
backend pilotboat:agent
  timeout server 5s
  timeout queue 1s
  retries 0
  server agent 127.0.0.1:{port} maxconn 16

backend pilotboat:callers
  stick-table type ipv6 size 10k expire 60s store http_req_rate(10s)

backend pilotboat:all
  # One entry, and room: threads that miss it at once each make one, and where there is none they track nothing.
  stick-table type integer size 100 expire 60s store http_req_rate(10s)
"""

NEXT = """\
# What comes to a worker that was replaced, on a connection that had a stream: the one that accepts now knows the shares
# and replicas of now. Without a port it is asked on the one that the caller came to.
backend pilotboat:next
  timeout server {timeout}s
  retry-on conn-failure
  server next 127.0.0.1
"""

RULES = """\
frontend {name}
  bind :{port}
  timeout client {timeout}s
  # When a model was asked, its request being here, and the milliseconds until its answer's header.
  http-request set-var(txn.asked) date(0,ms) if METH_POST
  http-response set-var(txn.took) date(0,ms),sub(txn.asked)
  http-request del-header x-pilotboat-hop
  http-request del-header x-pilotboat-held
  http-request set-var(txn.next) bool(true) if {{ stopping }} {{ str(replaced),map_str({map}) -m found }}
  acl next var(txn.next) -m found
  # The worker that takes it has the line that tells of it.
  http-request set-log-level silent if next
  # For the agent, which asks replicas themselves; a request here counts for its revision.
  http-request return status 404 if {{ path,url_dec -m beg /readyz/ }}
  acl feedback path /v1/feedback
  http-request track-sc1 src table pilotboat:callers if feedback
  http-request track-sc2 int(1) table pilotboat:all if feedback
  acl flood sc1_http_req_rate gt 200
  acl flood sc2_http_req_rate gt 2000
  http-request set-log-level silent if feedback
  http-request set-header x-pilotboat-deployment {name} if feedback
  http-request track-sc0 int(1) table {name}:turns if !feedback
{number}
  http-request set-var(txn.split) str(split/{name}),map_str({map})
{testers}
{choices}
  http-request return {unavailable} if !feedback !next !{{ var(txn.be) -m found }}
{copies}
  http-response set-header connection close if {{ str(leaving),map_str({map}) -m found }}
  http-response set-status 503 if {{ status 530 }}
  use_backend {flood} if feedback flood
  use_backend pilotboat:agent if feedback
  use_backend pilotboat:next if next
  use_backend %[var(txn.be)]

backend {flood}
  # A backend of its own counts what it refuses. Lines in the log would push out those of requests.
  http-request return {too_many}

backend {name}:turns
  # One entry, and room for the threads that make it at once: who tracks nothing has no turn, and is answered 503.
  stick-table type integer size 100 nopurge store gpc0,gpc1
"""

COPIED = """\
  http-request set-var(txn.copies) str(copies/{name}),map_str({map}) if !feedback !next
  http-request set-var(txn.percent) var(txn.copies),field(1,|),add(0)
  http-request set-var(txn.canary) var(txn.copies),field(2,|)
  http-request set-var(txn.size) req.body_size
  acl copies var(txn.copies) -m found
  acl canary var(txn.be),strcmp(txn.canary) eq 0
  # A body of unknown length, or one that is not all here, cannot be copied; what is a copy already is not.
  acl whole req.body_len,sub(txn.size) eq 0
  acl odd req.hdr(transfer-encoding) -m found
  acl odd req.hdr(x-pilotboat-mirror) -m found
  # Multiples of the share, modulo 100: below it exactly as often as it says, and evenly spread.
  http-request set-var(txn.turn) sc0_inc_gpc1,mul(txn.percent),mod(100),sub(txn.percent) if copies !canary whole !odd
  http-request lua.copy {socket} if {{ var(txn.turn) -m int lt 0 }}"""

COPIES = """\
# Copies come here, and get to the canary's lane or nowhere.
frontend {name}:copy
  bind unix@{socket} mode 600
  timeout client {timeout}s
  http-request return status 429 if {{ fe_conn gt {most} }}
  http-request set-var(txn.copies) str(copies/{name}),map_str({map})
  http-request set-var(txn.be) var(txn.copies),field(2,|)
  http-request set-var(txn.room) var(txn.copies),field(3,|),add(0)
  http-request return status 503 if !{{ var(txn.be) -m found }}
  http-request set-header x-pilotboat-mirror 1
  http-request set-header x-pilotboat-hop {hop}
  use_backend %[var(txn.be)]
"""

ROOM = """\
  acl copy var(txn.room) -m found
  http-request set-var(txn.most) nbsrv,mul(txn.room) if copy
  http-request return status 429 if copy {{ be_conn,sub(txn.most) gt 0 }}
  http-request set-priority-class int(1) if copy"""

SPILL = """\
# A lane without a usable server sends its requests here, and they try the lanes with a share one after the other.
frontend {name}:spill
  bind unix@{socket} mode 600
  timeout client {timeout}s
  http-request set-var(txn.asked) date(0,ms) if METH_POST
  http-response set-var(txn.took) date(0,ms),sub(txn.asked)
  http-request set-var(txn.hop) int(1)
  http-request set-var(txn.hop) req.hdr(x-pilotboat-hop),add(1) if {{ req.hdr(x-pilotboat-hop) -m found }}
  http-request set-header x-pilotboat-hop %[var(txn.hop)]
  http-request set-var(txn.split) str(split/{name}),map_str({map})
{choices}
  # The copy's own line tells of it.
  http-request set-log-level silent if {{ var(txn.hop) -m int gt {copy} }}
  # Nobody takes it: once, it waits for a moment (hold.lua), and begins anew with the lane that has somebody then.
  acl tried var(txn.hop) -m int gt {copy}
  acl tried req.hdr(x-pilotboat-held) -m found
  acl crowd fe_conn gt {most}
  http-request set-var(txn.held) bool(true) if !{{ var(txn.be) -m found }} !tried !crowd
  http-request lua.hold if {{ var(txn.held) -m found }}
  http-request set-header x-pilotboat-held 1 if {{ var(txn.held) -m found }}
  http-request set-header x-pilotboat-hop 1 if {{ var(txn.held) -m found }}
  # Not 503, which the lane before would ask for again.
  http-request return {unavailable} if !{{ var(txn.be) -m found }}
  use_backend %[var(txn.be)]
"""


def error(status: int, message: str, kind: str, code: str) -> str:
    """An answer in OpenAI's shape, as HAProxy's configuration says it."""
    body = json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})
    again = " hdr retry-after 1" if status in (429, 503, 530) else ""
    return f"status {status} content-type application/json string '{body}'{again}"
