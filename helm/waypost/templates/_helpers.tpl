{{/* Names, labels and metadata. */}}

{{- define "waypost.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Short enough for every suffix. */}}
{{- define "waypost.fullname" -}}
{{- $name := include "waypost.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Every role, in pipeline order: crates/types/src/role.rs. */}}
{{- define "waypost.roles" -}}
ingest identity segmenter orchestrator sender control
{{- end }}

{{/* Those with an inbox. */}}
{{- define "waypost.keyed" -}}
identity segmenter orchestrator sender
{{- end }}

{{/* A role's values over roleDefaults: (root, name). */}}
{{- define "waypost.role" -}}
{{- mergeOverwrite (deepCopy .root.Values.roleDefaults) (deepCopy (get .root.Values.roles .name)) | toYaml }}
{{- end }}

{{- define "waypost.image" -}}
{{- $image := .Values.image.repository }}
{{- with .Values.global.imageRegistry }}{{ $image = printf "%s/%s" (trimSuffix "/" .) $image }}{{ end }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $image .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $image (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* Never changes: (root, component). */}}
{{- define "waypost.selector" -}}
app.kubernetes.io/name: {{ include "waypost.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* (root, component, labels?) */}}
{{- define "waypost.labels" -}}
{{- $own := include "waypost.selector" . | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/part-of" "waypost" }}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- $_ := set $own "app.kubernetes.io/version" (default .root.Chart.AppVersion .root.Values.image.tag | replace "+" "_" | trunc 63) }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63) }}
{{- mergeOverwrite (deepCopy .root.Values.commonLabels) (deepCopy (.labels | default dict)) $own | toYaml }}
{{- end }}

{{/* (root, component, name, namespace?, labels?, annotations?) */}}
{{- define "waypost.metadata" -}}
name: {{ .name }}
namespace: {{ default .root.Release.Namespace .namespace }}
labels:
  {{- include "waypost.labels" . | nindent 2 }}
{{- with mergeOverwrite (deepCopy .root.Values.commonAnnotations) (deepCopy (.annotations | default dict)) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "waypost.serviceAccount" -}}
{{- if .Values.serviceAccount.name }}
{{- .Values.serviceAccount.name }}
{{- else if .Values.serviceAccount.create }}
{{- include "waypost.fullname" . }}
{{- else -}}
default
{{- end }}
{{- end }}

{{/* Whether the init job is a hook. What Strimzi makes for it is part of the release, so then it is too. */}}
{{- define "waypost.initIsHook" -}}
{{- if not .Values.strimzi.enabled }}true{{ end }}
{{- end }}
