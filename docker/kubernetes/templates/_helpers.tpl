{{- define "unroll.name" -}}
{{- .Values.nameOverride | default .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{- define "unroll.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "unroll.labels" -}}
{{ include "unroll.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "unroll.metadata" -}}
name: {{ include "unroll.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "unroll.labels" . | nindent 2 }}
{{- end }}

{{- define "unroll.image" -}}
{{- with .Values.image -}}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end }}

{{- /* A number of YAML is a float to Helm, which would write 1073741824 as 1.073741824e+09. */ -}}
{{- define "unroll.word" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ printf "%.0f" . }}{{ else }}{{ . }}{{ end -}}
{{- end }}

{{- /* The files the pods are given: what the settings call each, and the value it comes from. */ -}}
{{- define "unroll.files" -}}
api_keys_file: apiKeys
state_secret_file: stateSecret
{{- end }}

{{- define "unroll.scheme" -}}
{{- if .Values.tls.existingSecret }}HTTPS{{ else }}HTTP{{ end -}}
{{- end }}

{{- /* volume, copy, archive, or nothing for the bundled model. */ -}}
{{- define "unroll.models" -}}
{{- with .Values.models -}}
{{- $ways := list -}}
{{- if .volume }}{{ $ways = append $ways "volume" }}{{ end -}}
{{- if .copy.image }}{{ $ways = append $ways "copy" }}{{ end -}}
{{- if .archive.url }}{{ $ways = append $ways "archive" }}{{ end -}}
{{- if gt (len $ways) 1 }}{{ fail (printf "Models come from one place; set one of models.%s." (join ", models." $ways)) }}{{ end -}}
{{- if and .archive.url (not .archive.sha256) }}{{ fail "An archive of models needs its digest: set models.archive.sha256." }}{{ end -}}
{{- join "" $ways -}}
{{- end -}}
{{- end }}

{{- define "unroll.container" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end }}

{{- define "unroll.gauge" -}}
{{- $own := printf `namespace="%s",service="%s-management"` .root.Release.Namespace (include "unroll.name" .root) -}}
sum({{ .gauge }}{{ "{" }}{{ .root.Values.autoscaling.series | default $own }}{{ "}" }})
{{- end }}
