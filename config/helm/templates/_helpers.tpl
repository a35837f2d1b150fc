{{/* The name of every object: the release's, which contains the chart's name. */}}
{{- define "spawnstall.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "spawnstall.metadata" -}}
name: {{ include "spawnstall.name" . }}
namespace: {{ .Release.Namespace }}
labels: {{- include "spawnstall.labels" . | nindent 2 }}
{{- end -}}

{{- define "spawnstall.labels" -}}
app.kubernetes.io/name: spawnstall
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{/* The labels that select the pods: a DaemonSet cannot change them. */}}
{{- define "spawnstall.selector" -}}
app.kubernetes.io/name: spawnstall
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "spawnstall.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{/* The web configuration (agent/serve/HTTP.md); empty without TLS and users. */}}
{{- define "spawnstall.web" -}}
{{- if .Values.tls.secret -}}
tls_server_config:
  cert_file: tls.crt
  key_file: tls.key
  {{- if .Values.tls.clientCertificates }}
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  {{- end }}
{{ else if .Values.tls.clientCertificates -}}
{{- fail "tls.clientCertificates needs tls.secret" -}}
{{- end -}}
{{- with .Values.users -}}
basic_auth_users: {{- toYaml . | nindent 2 }}
{{ end -}}
{{- end -}}

{{- define "spawnstall.port" -}}
{{- regexFind "[0-9]+$" (dig "web" "listen" "" .Values.config) | required "config.web.listen: expected an address with a port" -}}
{{- end -}}

{{/* The text of agent.yaml. */}}
{{- define "spawnstall.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if dig "web" "config_file" "" $config -}}
{{- fail "config.web.config_file: set tls and users instead, from which the chart makes this file" -}}
{{- end -}}
{{- if include "spawnstall.web" . -}}
{{- $config = mergeOverwrite $config (dict "web" (dict "config_file" "web.yml")) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* How the kubelet asks for the agent's health: itself, or with the agent's own check, which knows TLS and users. */}}
{{- define "spawnstall.probe" -}}
{{- if include "spawnstall.web" . -}}
exec: {command: [/opt/spawnstall/bin/python, -I, -m, agent.serve.health, /etc/spawnstall/agent.yaml]}
{{- else -}}
httpGet: {path: /healthz, port: web}
{{- end -}}
{{- end -}}

{{/* The endpoint of a PodMonitor or ServiceMonitor. */}}
{{- define "spawnstall.endpoint" -}}
{{- $monitor := .Values.monitor -}}
port: web
interval: {{ $monitor.interval }}
{{- if .Values.tls.secret }}
scheme: https
tlsConfig:
  {{- if $monitor.serverName }}
  ca: {secret: {name: {{ .Values.tls.secret }}, key: ca.crt}}
  serverName: {{ $monitor.serverName }}
  {{- else }}
  insecureSkipVerify: true
  {{- end }}
  {{- if .Values.tls.clientCertificates }}
  {{- $client := required "monitor.clientSecret: tls.clientCertificates needs it" $monitor.clientSecret }}
  cert: {secret: {name: {{ $client }}, key: tls.crt}}
  keySecret: {name: {{ $client }}, key: tls.key}
  {{- end }}
{{- end }}
{{- if .Values.users }}
{{- $user := required "monitor.userSecret: users need it" $monitor.userSecret }}
basicAuth:
  username: {name: {{ $user }}, key: username}
  password: {name: {{ $user }}, key: password}
{{- end }}
relabelings:
  - {targetLabel: job, replacement: spawnstall} # the alerts need this name
  - {sourceLabels: [__meta_kubernetes_pod_node_name], targetLabel: instance} # the dashboards name hosts by it
{{- end -}}
