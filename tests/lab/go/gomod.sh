#!/usr/bin/env bash
# Writes go.mod anew: k8s.io/kubernetes with its staging modules at their published versions, because a dependency's own
# replace lines do not count. Run it only to move to another Kubernetes; go.mod and go.sum are checked in.
set -euo pipefail
cd "$(dirname "$0")"
kube=v1.36.3 staging=v0.36.3 etcd=v3.6.8 helm=v4.2.4 kwok=v0.8.0 coredns=v1.14.3
dir=$(cd "$(mktemp -d)" && go mod download -json k8s.io/kubernetes@$kube | python3 -c 'import json,sys; print(json.load(sys.stdin)["Dir"])')
cat > go.mod <<MOD
module pilotboat.dev/lab

go 1.26.0

godebug default=go1.26

require (
	github.com/coredns/coredns $coredns
	go.etcd.io/etcd/server/v3 $etcd
	helm.sh/helm/v4 $helm
	k8s.io/kubernetes $kube
	sigs.k8s.io/kwok $kwok
)

replace (
$(grep -oE '^\s+k8s.io/[a-z-]+ =>' "$dir/go.mod" | awk -v v=$staging '{print "\t" $1 " => " $1 " " v}')
)
MOD
go mod tidy
