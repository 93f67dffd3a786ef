{{/*
The pod of a command: (root, component, command, configMap, serviceAccount), and where they are not those of `init` and `doctor`:
(arguments, resources, claim, identity). The claim is mounted at /backups; an identity has credentials of its own.
*/}}
{{- define "waypost.jobPod" -}}
{{- $jobs := .root.Values.jobs }}
{{- include "waypost.podSpec" . }}
serviceAccountName: {{ .serviceAccount }}
restartPolicy: Never
{{- with $jobs.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $jobs.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: {{ .command }}
    {{- include "waypost.container" . | nindent 4 }}
    args: [{{ .command }}, {{ range .arguments }}{{ . | quote }}, {{ end }}--config, /etc/waypost/waypost.toml]
    {{- with include "waypost.env" . | trim }}
    env:
      {{- . | nindent 6 }}
    {{- end }}
    resources:
      {{- toYaml (.resources | default $jobs.resources) | nindent 6 }}
    volumeMounts:
      {{- include "waypost.mounts" . | nindent 6 }}
      {{- if .claim }}
      - {name: backups, mountPath: /backups}
      {{- end }}
volumes:
  {{- include "waypost.volumes" . | nindent 2 }}
  {{- with .claim }}
  - name: backups
    persistentVolumeClaim:
      claimName: {{ . }}
  {{- end }}
{{- end }}

{{/* Labels, annotations and pod of a CronJob, as `waypost.jobPod` has it. */}}
{{- define "waypost.cronPod" -}}
{{- $jobs := .root.Values.jobs }}
metadata:
  labels:
    {{- include "waypost.labels" (merge (dict "labels" $jobs.podLabels) .) | nindent 4 }}
  {{- with mergeOverwrite (deepCopy .root.Values.commonAnnotations) (deepCopy $jobs.podAnnotations) }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "waypost.jobPod" . | nindent 2 }}
{{- end }}
