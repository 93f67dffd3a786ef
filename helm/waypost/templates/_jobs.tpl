{{/* The pod of `init` and `doctor`: (root, component, command, configMap, serviceAccount). */}}
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
    args: [{{ .command }}, --config, /etc/waypost/waypost.toml]
    {{- with include "waypost.env" . | trim }}
    env:
      {{- . | nindent 6 }}
    {{- end }}
    resources:
      {{- toYaml $jobs.resources | nindent 6 }}
    volumeMounts:
      {{- include "waypost.mounts" . | nindent 6 }}
volumes:
  {{- include "waypost.volumes" . | nindent 2 }}
{{- end }}
