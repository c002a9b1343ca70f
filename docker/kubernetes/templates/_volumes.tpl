{{- define "unroll.mounts" -}}
{{- if include "unroll.models" . }}
- name: models
  mountPath: /models
  readOnly: true
{{- end }}
{{- range $setting, $value := include "unroll.files" . | fromYaml }}
{{- with index $.Values $value }}
{{- if or .existingSecret .file }}
- name: {{ kebabcase $value }}
  mountPath: /etc/unroll/{{ $setting }}
  readOnly: true
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: tls
  mountPath: /etc/unroll/tls
  readOnly: true
{{- end }}
{{- end }}

{{- define "unroll.volumes" -}}
{{- $models := include "unroll.models" . }}
{{- if eq $models "volume" }}
- name: models
  {{- toYaml .Values.models.volume | nindent 2 }}
{{- else if $models }}
- name: models
  emptyDir:
    sizeLimit: {{ .Values.models.volumeSize }}
{{- end }}
{{- if eq $models "archive" }}
- name: fetch
  configMap:
    name: {{ include "unroll.name" . }}-fetch
{{- end }}
{{- range $setting, $value := include "unroll.files" . | fromYaml }}
{{- with index $.Values $value }}
{{- if or .existingSecret .file }}
- name: {{ kebabcase $value }}
  secret:
    secretName: {{ .existingSecret | default (include "unroll.name" $) }}
    defaultMode: 0440
    items:
      - key: {{ .key }}
        path: {{ .key }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.tls.existingSecret }}
- name: tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- end }}
