{{/* What Kafka knows of an installation. A test compares it with crates/runtime/src/install/topics.rs and with the roles. */}}

{{/* Role to inbox. */}}
{{- define "waypost.inboxes" -}}
identity: wp1.identity
segmenter: wp1.segment
orchestrator: wp1.journey
sender: wp1.send
{{- end }}

{{/* The consumer group of a keyed role: (root, component). The number is that of the layout. */}}
{{- define "waypost.group" -}}
{{ .root.Values.config.install.prefix }}waypost.1.{{ .component }}
{{- end }}

{{/* Every topic without prefix, as `waypost init` makes it. */}}
{{- define "waypost.topics" -}}
{{- $v := int .Values.config.install.partitions }}
{{- $day := 86400000 }}
{{- $large := dict "max.message.bytes" 2097152 }}
{{- $delete := dict "cleanup.policy" "delete" }}
{{- $topics := list }}
{{- range $_, $inbox := include "waypost.inboxes" . | fromYaml }}
{{- $topics = append $topics (dict "name" $inbox "partitions" $v "config" (merge (dict "retention.ms" (mul 10 $day) "retention.bytes" -1) $delete $large)) }}
{{- end }}
{{- $topics = append $topics (dict "name" "wp1.definitions" "partitions" 8 "config" (merge (dict "cleanup.policy" "compact") $large)) }}
{{- $topics = append $topics (dict "name" "wp1.control" "partitions" 1 "config" (merge (dict "retention.ms" -1 "retention.bytes" -1) $delete)) }}
{{- $topics = append $topics (dict "name" "wp1.audit" "partitions" 1 "config" (merge (dict "retention.ms" (mul 400 $day)) $delete)) }}
{{- $topics = append $topics (dict "name" "wp1.reports" "partitions" 1 "config" (dict "cleanup.policy" "compact,delete" "segment.bytes" 67108864 "retention.ms" (mul 790 $day))) }}
{{- $topics = append $topics (dict "name" "wp1.progress" "partitions" 1 "config" (merge (dict "retention.ms" 3600000) $delete)) }}
{{- $topics = append $topics (dict "name" "wp1.operations" "partitions" 1 "config" (dict "cleanup.policy" "compact,delete" "retention.ms" (mul 30 $day))) }}
{{- range $name, $partitions := dict "wp1.dead" 8 "wp1.parked" $v "waypost.events.v1" 8 "waypost.segment-changes.v1" 8 "waypost.decisions.v1" 8 "waypost.messages.v1" 8 }}
{{- $topics = append $topics (dict "name" $name "partitions" $partitions "config" (merge (dict "retention.ms" (mul 30 $day)) $delete $large)) }}
{{- end }}
{{- $replicas := int .Values.config.install.replication }}
{{- range $topics }}
{{- $_ := set .config "min.insync.replicas" (ternary 2 1 (ge $replicas 3)) }}
{{- $_ := set .config "unclean.leader.election.enable" false }}
{{- $_ := set .config "message.timestamp.type" "LogAppendTime" }}
{{- end }}
{{- toYaml $topics }}
{{- end }}

{{/*
Who reads, writes and joins what, without prefix. Everybody also describes every topic, because the start-up check compares them
with how they have to be, and reads definitions, journal and progress. Nobody creates, alters or deletes but the jobs, which only
create.
*/}}
{{- define "waypost.rights" -}}
everybody:
  read: [wp1.control, wp1.definitions, wp1.progress]
  write: [wp1.progress]
ingest:
  read: [waypost.events.v1]
  write: [wp1.identity, wp1.dead]
  groups: [waypost.events-door]
identity:
  read: [wp1.identity]
  write: [wp1.identity, wp1.segment, wp1.dead]
  groups: [waypost.1.identity]
segmenter:
  read: [wp1.segment]
  write: [wp1.segment, wp1.journey, waypost.segment-changes.v1, wp1.dead]
  groups: [waypost.1.segmenter]
orchestrator:
  read: [wp1.journey]
  write: [wp1.journey, wp1.segment, wp1.identity, wp1.send, waypost.decisions.v1, wp1.dead]
  groups: [waypost.1.orchestrator]
sender:
  read: [wp1.send]
  write: [wp1.send, wp1.identity, wp1.segment, waypost.messages.v1, wp1.dead]
  groups: [waypost.1.sender]
control:
  read: [wp1.audit, wp1.dead, wp1.operations, wp1.reports, wp1.identity, wp1.segment, wp1.journey, wp1.send, waypost.events.v1, waypost.segment-changes.v1, waypost.decisions.v1, waypost.messages.v1]
  write: [wp1.definitions, wp1.control, wp1.audit, wp1.operations, wp1.reports, wp1.identity, wp1.segment, wp1.send, waypost.events.v1]
jobs:
  read: [wp1.identity, wp1.segment, wp1.journey, wp1.send]
  write: [wp1.control]
  create: true
{{- end }}
