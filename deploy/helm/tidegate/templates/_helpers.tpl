{{- define "tidegate.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 54 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 54 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 54 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What a selector may use: it never changes in the life of a release. */}}
{{- define "tidegate.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tidegate.labels" -}}
{{ include "tidegate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tidegate
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The default is not in values.yaml, because Helm adds maps up: it would stay beside what somebody else names. */}}
{{- define "tidegate.brokerSelector" -}}
{{- toYaml (default (dict "apps.emqx.io/instance" "emqx") .Values.brokers.selector) -}}
{{- end -}}

{{/* On the nodes' network the admin API is for the node alone, unless somebody scrapes it. */}}
{{- define "tidegate.adminHost" -}}
{{- if and .Values.hostNetwork (not .Values.podMonitor.enabled) -}}127.0.0.1{{- else -}}0.0.0.0{{- end -}}
{{- end -}}

{{- define "tidegate.probeHost" -}}
{{- if eq (include "tidegate.adminHost" .) "127.0.0.1" -}}, host: 127.0.0.1{{- end -}}
{{- end -}}

{{- define "tidegate.config" -}}
{{- if .Values.config -}}
{{- if .Values.extraConfig -}}
{{- fail "extraConfig is added to the configuration that the chart makes; with config of your own put it there" -}}
{{- end -}}
{{- if not (regexMatch "bind *= *\"(0\\.0\\.0\\.0|\\[::\\]):9090\"" .Values.config) -}}
{{- fail "config: the probes come from outside of the pod; it needs [admin] with bind = \"0.0.0.0:9090\" and token_file = \"/etc/tidegate/secrets/admin.token\"" -}}
{{- end -}}
{{ .Values.config }}
{{- else -}}
# What every instance of the tier runs with. Every key is explained in config/tidegate.toml of the sources.

[admin]
# Probes and Prometheus come from outside of the pod; everything but /healthz and /readyz asks for the token.
bind = "{{ include "tidegate.adminHost" . }}:9090"
token_file = "/etc/tidegate/secrets/admin.token"

[dns]
# CoreDNS answers with 5 s or 30 s; pods come and go faster than that when a node is lost.
ttl_ceiling = "5s"

[limits]
# What the pod's memory carries: a connection over TLS takes 13 KB of it with the kernel's part, and buffers_max comes on
# top. Without this the limit of descriptors rules, and memory ends first.
max_connections = {{ .Values.maxConnections }}

[drain]
# Until every kube-proxy and load balancer has heard that the pod is not ready.
delay = "5s"
# Closed per second: all connections within what is left of the timeout.
rate = {{ .Values.drainRate }}
# Less than terminationGracePeriodSeconds.
timeout = "{{ max 1 (sub (int .Values.terminationGracePeriodSeconds) 15) }}s"

[cluster]
advertise = "${POD_IP}:7946"
seeds = ["dns+a://{{ include "tidegate.fullname" . }}-gossip:7946"]
keys_file = "/etc/tidegate/secrets/gossip.keys"

[[listeners]]
name = "mqtt"
bind = "0.0.0.0:1883"
protocol = "mqtt"
pool = "emqx"
{{- if .Values.tls.secretName }}

[[listeners]]
name = "mqtts"
bind = "0.0.0.0:8883"
protocol = "mqtt"
pool = "emqx"
tls = { cert = "/etc/tidegate/tls/tls.crt", key = "/etc/tidegate/tls/tls.key" }
{{- end }}

[pools.emqx]
{{- if .Values.brokers.discover }}
discover = {{ .Values.brokers.discover | quote }}
{{- else }}
discover = "dns+a://{{ include "tidegate.fullname" . }}-brokers:{{ .Values.brokers.port }}"
{{- end }}
# EMQX needs its half: listeners.tcp.default.proxy_protocol = true.
proxy_protocol = {{ .Values.brokers.proxyProtocol | quote }}
{{- with .Values.brokers.maxConnections }}
# Below that of the brokers' listener.
max_connections = {{ . }}
{{- end }}
health = { probe = {{ .Values.brokers.probe | quote }}, interval = "2s"{{ if and (eq .Values.brokers.probe "http") (ne (int .Values.brokers.httpPort) 18083) }}, port = {{ .Values.brokers.httpPort }}{{ end }} }
{{- with .Values.extraConfig }}

{{ . }}
{{- end }}
{{- end }}
{{- end -}}
