{{- define "nri-inject.labels" -}}
app.kubernetes.io/name: nri-inject
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: nri-inject
{{- end }}

{{- define "nri-inject.selector" -}}
app.kubernetes.io/name: nri-inject
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "nri-inject.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "nri-inject.policyConfigMap" -}}
{{ .Values.policyConfigMap | default (printf "%s-policy" .Release.Name) }}
{{- end }}

{{- /* Whether the plugin writes what must outlive the pod. */ -}}
{{- define "nri-inject.hasState" -}}
{{- $policy := dig "policy" (dict) .Values.config -}}
{{- $keeps := and (kindIs "map" $policy) (eq (dig "on_fault" "" $policy) "keep") -}}
{{- if or $keeps .Values.criSocket }}true{{ end -}}
{{- end }}
