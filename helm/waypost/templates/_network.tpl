{{/* Ports of a list of host:port, each once: JSON. */}}
{{- define "waypost.ports" -}}
{{- $ports := list }}
{{- range . }}{{ $ports = append $ports (regexFind "[0-9]+$" (trim .) | int) }}{{ end }}
{{- $ports | uniq | sortAlpha | toJson }}
{{- end }}

{{/* Port of a URL. */}}
{{- define "waypost.urlPort" -}}
{{- $host := (urlParse .).host }}
{{- regexFind ":[0-9]+$" $host | trimPrefix ":" | default (ternary "443" "80" (hasPrefix "https:" .)) }}
{{- end }}

{{/* A rule: (peers, ports, protocols?, direction). No peers: anybody, anywhere. */}}
{{- define "waypost.rule" -}}
{{- $protocols := .protocols | default (list "TCP") -}}
- ports:
    {{- range $port := .ports }}
    {{- range $protocols }}
    - {protocol: {{ . }}, port: {{ int $port }}}
    {{- end }}
    {{- end }}
  {{- with .peers }}
  {{ $.direction }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* What a component may reach: (root, component). */}}
{{- define "waypost.egress" -}}
{{- $v := .root.Values }}
{{- $to := $v.networkPolicy.egress }}
{{- include "waypost.rule" (dict "direction" "to" "peers" $to.dns "ports" $to.dnsPorts "protocols" (list "UDP" "TCP")) }}
{{- $brokers := splitList "," $v.kafka.bootstrapServers }}
{{ include "waypost.rule" (dict "direction" "to" "peers" $to.kafka "ports" ($to.kafkaPorts | default (include "waypost.ports" $brokers | fromJsonArray))) }}
{{- $stores := $v.redis.endpoints }}
{{- if eq $v.redis.mode "sentinel" }}{{ $stores = append $stores "master:6379" }}{{ end }}
{{ include "waypost.rule" (dict "direction" "to" "peers" $to.redis "ports" ($to.redisPorts | default (include "waypost.ports" $stores | fromJsonArray))) }}
{{- with $v.schemaRegistry.url }}
{{ include "waypost.rule" (dict "direction" "to" "peers" $to.schemaRegistry "ports" (list (include "waypost.urlPort" .))) }}
{{- end }}
{{- if or $v.kafka.sasl.oauth.tokenUrl (and (eq .component "control") $v.config.control.oidc_issuer) }}
{{ include "waypost.rule" (dict "direction" "to" "peers" $to.identityProvider "ports" $to.identityProviderPorts) }}
{{- end }}
{{- if eq .component "control" }}
{{- $keyed := dict "matchExpressions" (list (dict "key" "app.kubernetes.io/component" "operator" "In" "values" (include "waypost.keyed" . | splitList " "))) }}
{{- $_ := set $keyed "matchLabels" (omit (include "waypost.selector" . | fromYaml) "app.kubernetes.io/component") }}
{{ include "waypost.rule" (dict "direction" "to" "peers" (list (dict "podSelector" $keyed)) "ports" (list 7071)) }}
{{- end }}
{{- with $v.config.telemetry.otlp_endpoint }}
{{ include "waypost.rule" (dict "direction" "to" "peers" $to.otlp "ports" (list (include "waypost.urlPort" .))) }}
{{- end }}
{{- if eq .component "sender" }}
{{- $ports := list 443 }}
{{- if $v.config.mail.smtp_host }}{{ $ports = append $ports $v.config.mail.smtp_port }}{{ end }}
{{ include "waypost.rule" (dict "direction" "to" "peers" $to.providers "ports" ($to.providersPorts | default $ports)) }}
{{- end }}
{{- with $to.extra }}
{{ toYaml . }}
{{- end }}
{{- end }}
