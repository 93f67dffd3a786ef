{{/* Where credentials lie, and the settings that name them. */}}

{{/* Which credentials Kafka gets: (root, component, identity?). A component is a role, or `jobs`. */}}
{{- define "waypost.kafka" -}}
{{- $kafka := .root.Values.kafka }}
{{- $strimzi := and .root.Values.strimzi.enabled .root.Values.strimzi.users }}
{{- $own := dict }}
{{- if eq .component "jobs" }}
{{- $own = .root.Values.jobs.kafka }}
{{- else }}
{{- $own = (include "waypost.role" (dict "root" .root "name" .component) | fromYaml).kafka }}
{{- end }}
{{- $apart := false }}
{{- with .identity }}
{{- $theirs := (get $.root.Values.jobs .).kafka }}
{{- if $theirs.existingSecret }}{{ $apart = true }}{{ $own = $theirs }}{{ end }}
{{- end }}
{{- $mechanism := $kafka.sasl.mechanism }}
{{- $secret := $own.existingSecret | default $kafka.existingSecret }}
{{- $user := $own.username | default $kafka.sasl.username }}
{{- $cert := $kafka.tls.certKey }}
{{- $key := $kafka.tls.keyKey }}
{{- $caSecret := $kafka.tls.caSecret | default $secret }}
{{- $caKey := $kafka.tls.caKey }}
{{- if $strimzi }}
{{- $secret = printf "%s-%s" (include "waypost.fullname" .root) .component }}
{{- $user = $secret }}
{{- if $apart }}
{{- $secret = $own.existingSecret }}
{{- $user = $own.username }}
{{- end }}
{{- if not $kafka.tls.caKey }}
{{- $caSecret = printf "%s-cluster-ca-cert" .root.Values.strimzi.cluster }}
{{- $caKey = "ca.crt" }}
{{- end }}
{{- if eq .root.Values.strimzi.authentication "tls" }}
{{- $cert = "user.crt" }}
{{- $key = "user.key" }}
{{- else }}
{{- $mechanism = "scram-sha-512" }}
{{- end }}
{{- end }}
{{- $protocol := ternary "ssl" "plaintext" $kafka.tls.enabled }}
{{- dict "security" (ternary (printf "sasl_%s" $protocol) $protocol (ne $mechanism "")) "mechanism" $mechanism "secret" $secret "user" $user
  "cert" $cert "key" $key "caSecret" $caSecret "caKey" $caKey "tls" $kafka.tls.enabled
  "password" (has $mechanism (list "plain" "scram-sha-256" "scram-sha-512")) | toYaml }}
{{- end }}

{{/*
Every file with a credential: (root, component, identity?), as [{section, setting, secret, key, only?}]. Its path is section/setting below
the mount; `only` names the components that get it, all others do without.
*/}}
{{- define "waypost.files" -}}
{{- $v := .root.Values }}
{{- $kafka := include "waypost.kafka" . | fromYaml }}
{{- $files := list }}
{{- if $kafka.tls }}
{{- if $kafka.caKey }}{{ $files = append $files (dict "section" "kafka" "setting" "ca_file" "secret" $kafka.caSecret "key" $kafka.caKey) }}{{ end }}
{{- if $kafka.cert }}
{{- $files = append $files (dict "section" "kafka" "setting" "cert_file" "secret" $kafka.secret "key" $kafka.cert) }}
{{- $files = append $files (dict "section" "kafka" "setting" "key_file" "secret" $kafka.secret "key" $kafka.key) }}
{{- end }}
{{- end }}
{{- if $kafka.password }}
{{- $files = append $files (dict "section" "kafka" "setting" "password_file" "secret" $kafka.secret "key" $v.kafka.sasl.passwordKey) }}
{{- else if and (eq $kafka.mechanism "oauthbearer") $v.kafka.sasl.oauth.tokenUrl }}
{{- $files = append $files (dict "section" "kafka" "setting" "client_secret_file" "secret" $kafka.secret "key" $v.kafka.sasl.oauth.clientSecretKey) }}
{{- end }}
{{- if and $v.redis.existingSecret $v.redis.passwordKey }}
{{- $secret := $v.redis.existingSecret }}
{{- if and (eq (.identity | default "") "operator") $v.jobs.operator.redis.existingSecret }}{{ $secret = $v.jobs.operator.redis.existingSecret }}{{ end }}
{{- $files = append $files (dict "section" "redis" "setting" "password_file" "secret" $secret "key" $v.redis.passwordKey) }}
{{- end }}
{{- if $v.redis.tls.enabled }}
{{- if $v.redis.tls.caKey }}
{{- $files = append $files (dict "section" "redis" "setting" "ca_file" "secret" (default $v.redis.existingSecret $v.redis.tls.caSecret) "key" $v.redis.tls.caKey) }}
{{- end }}
{{- if $v.redis.tls.certKey }}
{{- $files = append $files (dict "section" "redis" "setting" "cert_file" "secret" $v.redis.existingSecret "key" $v.redis.tls.certKey) }}
{{- $files = append $files (dict "section" "redis" "setting" "key_file" "secret" $v.redis.existingSecret "key" $v.redis.tls.keyKey) }}
{{- end }}
{{- end }}
{{- if $v.schemaRegistry.username }}
{{- $files = append $files (dict "section" "registry" "setting" "password_file" "secret" $v.schemaRegistry.existingSecret "key" $v.schemaRegistry.passwordKey) }}
{{- else if $v.schemaRegistry.tokenKey }}
{{- $files = append $files (dict "section" "registry" "setting" "token_file" "secret" $v.schemaRegistry.existingSecret "key" $v.schemaRegistry.tokenKey) }}
{{- end }}
{{- if $v.schemaRegistry.caKey }}
{{- $files = append $files (dict "section" "registry" "setting" "ca_file" "secret" (default $v.schemaRegistry.existingSecret $v.schemaRegistry.caSecret) "key" $v.schemaRegistry.caKey) }}
{{- end }}
{{- $control := list "control" }}
{{- with $v.control.tls.existingSecret }}
{{- $files = append $files (dict "section" "control" "setting" "tls_cert_file" "secret" . "key" $v.control.tls.certKey "only" $control) }}
{{- $files = append $files (dict "section" "control" "setting" "tls_key_file" "secret" . "key" $v.control.tls.keyKey "only" $control) }}
{{- if $v.control.tls.clientCaKey }}
{{- $files = append $files (dict "section" "control" "setting" "client_ca_file" "secret" . "key" $v.control.tls.clientCaKey "only" $control) }}
{{- end }}
{{- end }}
{{- with $v.control.access.existingSecret }}
{{- $files = append $files (dict "section" "control" "setting" "access_file" "secret" . "key" $v.control.access.key "only" $control) }}
{{- end }}
{{- $roles := include "waypost.roles" .root | splitList " " }}
{{- with $v.owner.tls.existingSecret }}
{{- $files = append $files (dict "section" "owner" "setting" "tls_cert_file" "secret" . "key" $v.owner.tls.certKey "only" $roles) }}
{{- $files = append $files (dict "section" "owner" "setting" "tls_key_file" "secret" . "key" $v.owner.tls.keyKey "only" $roles) }}
{{- $files = append $files (dict "section" "owner" "setting" "ca_file" "secret" . "key" $v.owner.tls.caKey "only" $roles) }}
{{- end }}
{{- with $v.linkKey.existingSecret }}
{{- $files = append $files (dict "section" "secrets" "setting" "link_key_file" "secret" . "key" $v.linkKey.key "only" $roles) }}
{{- end }}
{{- with $v.smtp.existingSecret }}
{{- $files = append $files (dict "section" "mail" "setting" "smtp_password_file" "secret" . "key" $v.smtp.passwordKey "only" (list "sender")) }}
{{- end }}
{{- toYaml $files }}
{{- end }}

{{/* waypost.toml: `config`, and over it what the chart knows. */}}
{{- define "waypost.toml" -}}
{{- $v := .Values }}
{{- $config := deepCopy $v.config }}
{{- $kafka := include "waypost.kafka" (dict "root" . "component" "jobs") | fromYaml }}
{{- $_ := set $config "kafka" (dict "brokers" $v.kafka.bootstrapServers "security" $kafka.security) }}
{{- with $kafka.mechanism }}{{ $_ := set $config.kafka "sasl" . }}{{ end }}
{{- if eq $kafka.mechanism "oauthbearer" }}
{{- with $v.kafka.sasl.oauth }}
{{- if .tokenUrl }}
{{- $_ := set $config.kafka "token_url" .tokenUrl }}
{{- $_ := set $config.kafka "client_id" .clientId }}
{{- $_ := set $config.kafka "scope" .scope }}
{{- else }}
{{- $_ := set $config.kafka "token_file" "/etc/waypost-secrets/kafka/token_file" }}
{{- end }}
{{- end }}
{{- end }}
{{- $address := first (concat $v.redis.endpoints (list "")) }}
{{- $_ := set $config.redis "url" (printf "%s://%s/%d" (ternary "rediss" "redis" $v.redis.tls.enabled) $address (int $v.redis.database)) }}
{{- with $v.redis.username }}{{ $_ := set $config.redis "username" . }}{{ end }}
{{- if eq $v.redis.mode "sentinel" }}
{{- $_ := set $config.redis "sentinels" (join "," $v.redis.endpoints) }}
{{- $_ := set $config.redis "master" $v.redis.master }}
{{- else if eq $v.redis.mode "cluster" }}
{{- $_ := set $config.redis "cluster" (join "," $v.redis.endpoints) }}
{{- end }}
{{- $_ := set $config "registry" (dict "url" $v.schemaRegistry.url) }}
{{- with $v.schemaRegistry.username }}{{ $_ := set $config.registry "username" . }}{{ end }}
{{- $_ := set $config.ingest "listen" "0.0.0.0:8080" }}
{{- /* Settings are checked as a whole in every process, so an API that nobody serves is on loopback. */}}
{{- if (include "waypost.role" (dict "root" . "name" "control") | fromYaml).enabled }}
{{- $_ := set $config.control "listen" "0.0.0.0:7070" }}
{{- end }}
{{- $_ := set $config "owner" (dict "listen" "0.0.0.0:7071") }}
{{- /* One certificate for all: pods have no names of their own. */}}
{{- if $v.owner.tls.existingSecret }}{{ $_ := set $config.owner "tls_name" "waypost-owner" }}{{ end }}
{{- $_ := set $config "admin" (dict "listen" "0.0.0.0:9090") }}
{{- $_ := set $config.mail "catcher_dir" "/tmp/mail" }}
{{- $_ := set $config "secrets" dict }}
{{- if $v.channelSecrets.existingSecret }}{{ $_ := set $config.secrets "dir" "/etc/waypost-channels" }}{{ end }}
{{- range include "waypost.files" (dict "root" . "component" "jobs") | fromYamlArray }}
{{- $_ := set (get $config .section) .setting (printf "/etc/waypost-secrets/%s/%s" .section .setting) }}
{{- end }}
{{- range $section, $settings := $config }}
{{- if $settings }}
[{{ $section }}]
{{- range $name, $value := $settings }}
{{- /* Helm has no whole numbers: those that are one are written as one. */}}
{{ $name }} = {{ if kindIs "string" $value }}{{ toRawJson $value }}{{ else if kindIs "bool" $value }}{{ $value }}{{ else if eq (floor $value) (float64 $value) }}{{ int64 $value }}{{ else }}{{ $value }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
