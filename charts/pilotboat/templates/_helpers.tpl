{{- define "pilotboat.name" -}}
{{- if contains "pilotboat" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-pilotboat" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "pilotboat.account" -}}
{{- default (include "pilotboat.name" .) .Values.serviceAccount.name }}
{{- end }}

{{- define "pilotboat.selector" -}}
app.kubernetes.io/name: pilotboat
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "pilotboat.labels" -}}
{{ include "pilotboat.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* What a Prometheus may select by comes beside the chart's own labels, which stand. */}}
{{- define "pilotboat.monitored" -}}
{{- mergeOverwrite (include "pilotboat.strings" .Values.monitoring.labels | fromYaml) (include "pilotboat.labels" . | fromYaml) | toYaml }}
{{- end }}

{{- define "pilotboat.image" -}}
{{- required (printf "images.%s is required: no images are published, see docs/images.md on how to build and push them" .name) (index .values.images .name) }}
{{- end }}

{{- /* Labels, annotations and their like: Kubernetes takes only strings for values, YAML has numbers and booleans, too. */}}
{{- define "pilotboat.strings" -}}
{{- $strings := dict }}
{{- range $name, $value := . }}
{{- if kindIs "string" $value }}{{ $_ := set $strings $name $value }}
{{- else if not (kindIs "invalid" $value) }}{{ $_ := set $strings $name (toYaml $value | trim) }}
{{- end }}
{{- end }}
{{- toYaml $strings }}
{{- end }}
