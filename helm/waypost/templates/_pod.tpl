{{/* What every pod of ours has: (root, component). */}}

{{/* Variables of Services could be taken for settings, so there are none. */}}
{{- define "waypost.podSpec" -}}
{{- $v := .root.Values -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- toYaml $v.podSecurityContext | nindent 2 }}
{{- with $v.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "waypost.container" -}}
image: {{ include "waypost.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  {{- toYaml .root.Values.securityContext | nindent 2 }}
{{- end }}

{{/* The user stands here and not in the file, because each role may have its own. */}}
{{- define "waypost.env" -}}
{{- $kafka := include "waypost.kafka" . | fromYaml -}}
- name: WAYPOST_CONFIG # for commands that somebody runs in the pod
  value: /etc/waypost/waypost.toml
{{- if ne .component "jobs" }}
- name: POD_IP
  valueFrom:
    fieldRef: {fieldPath: status.podIP}
- name: WAYPOST_OWNER_ADVERTISE
  value: $(POD_IP):7071
{{- end }}
{{- if $kafka.password }}
- name: WAYPOST_KAFKA_USERNAME
  value: {{ $kafka.user | quote }}
{{- end }}
{{- if eq (.identity | default "") "operator" }}
{{- with .root.Values.jobs.operator.redis.username }}
- name: WAYPOST_REDIS_USERNAME
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* Whether a component gets any credential at all. */}}
{{- define "waypost.sources" -}}
{{- $component := .component }}
{{- range include "waypost.files" . | fromYamlArray }}
{{- if or (not .only) (has $component .only) }}
- secret:
    name: {{ .secret }}
    items:
      - {key: {{ .key | quote }}, path: {{ .section }}/{{ .setting }}}
{{- end }}
{{- end }}
{{- $oauth := .root.Values.kafka.sasl.oauth }}
{{- if and (eq (include "waypost.kafka" . | fromYaml).mechanism "oauthbearer") (not $oauth.tokenUrl) }}
- serviceAccountToken:
    audience: {{ $oauth.serviceAccountTokenAudience | quote }}
    expirationSeconds: {{ int64 $oauth.serviceAccountTokenSeconds }}
    path: kafka/token_file
{{- end }}
{{- end }}

{{- define "waypost.volumes" -}}
- name: config
  configMap:
    name: {{ .configMap }}
{{- with include "waypost.sources" . | trim }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- if and (eq .component "sender") .root.Values.channelSecrets.existingSecret }}
- name: channels
  secret:
    secretName: {{ .root.Values.channelSecrets.existingSecret }}
    defaultMode: 0440
{{- end }}
- name: tmp
  emptyDir:
    sizeLimit: {{ .root.Values.tmpSize }}
{{- end }}

{{- define "waypost.mounts" -}}
- {name: config, mountPath: /etc/waypost, readOnly: true}
{{- if include "waypost.sources" . | trim }}
- {name: secrets, mountPath: /etc/waypost-secrets, readOnly: true}
{{- end }}
{{- if and (eq .component "sender") .root.Values.channelSecrets.existingSecret }}
- {name: channels, mountPath: /etc/waypost-channels, readOnly: true}
{{- end }}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{/* A probe: (probe, path). A handler of its own replaces the path on the admin port. */}}
{{- define "waypost.probe" -}}
{{- $probe := deepCopy .probe }}
{{- if not (or $probe.httpGet $probe.grpc $probe.tcpSocket $probe.exec) }}
{{- $_ := set $probe "httpGet" (dict "path" .path "port" "admin") }}
{{- end }}
{{- toYaml $probe }}
{{- end }}
