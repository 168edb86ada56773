{{- define "tidegate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "tidegate.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "tidegate.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "tidegate.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "tidegate.selector" -}}
app.kubernetes.io/name: {{ include "tidegate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tidegate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "tidegate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* What no schema can say. */}}
{{- define "tidegate.refuse" -}}
{{- $standalone := eq .Values.mode "standalone" }}
{{- if dig "server" "drain" "" .Values.policy }}
{{- fail "policy.server.drain: say `drain` instead, so that the pod's grace is longer than the drain" }}
{{- end }}
{{- if and $standalone .Values.state.enabled (gt (int .Values.replicas) 1) }}
{{- fail "state.enabled: one directory has one process, so `replicas` must be 1" }}
{{- end }}
{{- if and (not $standalone) (not .Values.agent.image) }}
{{- fail "mode: sidecar needs `agent.image`" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled (not $standalone) }}
{{- fail "serviceMonitor.enabled: a sidecar has no Service, take podMonitor" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
{{- fail "serviceMonitor and podMonitor: each would count every pod, take one" }}
{{- end }}
{{- if hasKey .Values.policy "admin" }}
{{- fail "policy.admin: say `ports.admin` and `admin` instead, so that the probes ask where it is" }}
{{- end }}
{{- if eq (int .Values.ports.proxy) (int .Values.ports.admin) }}
{{- fail "ports.proxy and ports.admin are the same" }}
{{- end }}
{{- end }}

{{/* Readiness of a sidecar fails only when its agent is gone: it has no delay. */}}
{{- define "tidegate.delay" -}}
{{- ternary .Values.drain.delay 0 (eq .Values.mode "standalone") }}
{{- end }}

{{- define "tidegate.grace" -}}
{{- $own := add (include "tidegate.delay" . | int) (int .Values.drain.timeout) (int .Values.drain.margin) }}
{{- if eq .Values.mode "standalone" }}{{ $own }}{{ else }}{{ add $own (int .Values.agent.grace) }}{{ end }}
{{- end }}

{{/* The policy file, with what this chart knows better. */}}
{{- define "tidegate.policy" -}}
{{- $policy := deepCopy .Values.policy }}
{{- if not (hasKey $policy "listen") }}
{{- $any := ternary "[::]" "0.0.0.0" .Values.ipv6 }}
{{- $host := ternary $any "127.0.0.1" (eq .Values.mode "standalone") }}
{{- $_ := set $policy "listen" (printf "%s:%d" $host (int .Values.ports.proxy)) }}
{{- end }}
{{- if and .Values.state.enabled (not (hasKey $policy "state")) }}
{{- $_ := set $policy "state" (dict "dir" .Values.state.path) }}
{{- end }}
{{- if .Values.admin.actions }}
{{- /* TIDEGATE_ADMIN says where it is in truth */}}
{{- $_ := set $policy "admin" (dict "at" (printf "127.0.0.1:%d" (int .Values.ports.admin)) "actions" "on") }}
{{- end }}
{{- $server := deepCopy (default dict $policy.server) }}
{{- $delay := printf "%ds" (include "tidegate.delay" . | int) }}
{{- $_ := set $server "drain" (dict "delay" $delay "timeout" (printf "%ds" (int .Values.drain.timeout))) }}
{{- $_ := set $policy "server" $server }}
{{- toYaml $policy }}
{{- end }}

{{/* Where the token of the admin listener is. */}}
{{- define "tidegate.adminSecret" -}}
{{- default (printf "%s-admin" (include "tidegate.fullname" . | trunc 57 | trimSuffix "-")) .Values.admin.secret }}
{{- end }}

{{/* For an agent in the same pod. */}}
{{- define "tidegate.clientEnv" -}}
{{- $at := printf "http://127.0.0.1:%d" (int .Values.ports.proxy) -}}
- { name: OPENAI_BASE_URL, value: {{ printf "%s/v1" $at | quote }} }
- { name: ANTHROPIC_BASE_URL, value: {{ $at | quote }} }
- { name: GOOGLE_GEMINI_BASE_URL, value: {{ $at | quote }} }
{{- end }}

{{/* The container: under `containers`, or under `initContainers` with `restartPolicy: Always`. */}}
{{- define "tidegate.container" -}}
name: tidegate
image: {{ printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args:
  - run
  {{- with .Values.extraArgs }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
env:
  # variables, so that commands in the container (`/tidegate agents`) find the same instance
  - { name: TIDEGATE_CONFIG, value: /etc/tidegate/config.yaml }
  # the probes come from the node, so the admin listener is on the pod's address
  - name: POD_IP
    valueFrom: { fieldRef: { fieldPath: status.podIP } }
  - { name: TIDEGATE_ADMIN, value: {{ printf (ternary "[$(POD_IP)]:%d" "$(POD_IP):%d" .Values.ipv6) (int .Values.ports.admin) | quote }} }
  # asked of everybody there, but of the probes
  - name: TIDEGATE_ADMIN_TOKEN
    valueFrom: { secretKeyRef: { name: {{ include "tidegate.adminSecret" . }}, key: {{ .Values.admin.key }} } }
  {{- if .Values.workers }}
  - { name: TIDEGATE_WORKERS, value: {{ .Values.workers | quote }} }
  {{- end }}
  {{- with .Values.log.level }}
  - { name: TIDEGATE_LOG, value: {{ . | quote }} }
  {{- end }}
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - { name: proxy, containerPort: {{ .Values.ports.proxy }}, protocol: TCP }
  - { name: admin, containerPort: {{ .Values.ports.admin }}, protocol: TCP }
startupProbe:
  httpGet: { path: /readyz, port: admin }
  periodSeconds: 1
  failureThreshold: 60
readinessProbe:
  httpGet: { path: /readyz, port: admin }
  periodSeconds: 2
  failureThreshold: 1
livenessProbe:
  httpGet: { path: /livez, port: admin }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
volumeMounts:
  # whole directories: a single file (subPath) would never see a change
  - { name: tidegate-policy, mountPath: /etc/tidegate, readOnly: true }
  {{- if .Values.keys.secret }}
  - { name: tidegate-keys, mountPath: {{ .Values.keys.path | quote }}, readOnly: true }
  {{- end }}
  {{- if .Values.state.enabled }}
  - { name: tidegate-state, mountPath: {{ .Values.state.path | quote }} }
  {{- end }}
  {{- with .Values.volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "tidegate.volumes" -}}
- name: tidegate-policy
  configMap: { name: {{ include "tidegate.fullname" . }} }
{{- if .Values.keys.secret }}
- name: tidegate-keys
  secret: { secretName: {{ .Values.keys.secret | quote }}, defaultMode: 0440 }
{{- end }}
{{- if .Values.state.enabled }}
- name: tidegate-state
  {{- if eq .Values.mode "standalone" }}
  persistentVolumeClaim: { claimName: {{ default (include "tidegate.fullname" .) .Values.state.existingClaim }} }
  {{- else }}
  emptyDir: { sizeLimit: {{ .Values.state.size | quote }} }
  {{- end }}
{{- end }}
{{- with .Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Of a Deployment or Job: everything below `template`. */}}
{{- define "tidegate.pod" -}}
metadata:
  labels:
    {{- include "tidegate.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- if .Values.rolloutOnChange }}
    checksum/policy: {{ include "tidegate.policy" . | sha256sum }}
    {{- end }}
    kubectl.kubernetes.io/default-container: {{ ternary "tidegate" "agent" (eq .Values.mode "standalone") }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  # longer than the drain
  terminationGracePeriodSeconds: {{ include "tidegate.grace" . }}
  automountServiceAccountToken: {{ .Values.serviceAccount.automount }}
  {{- with .Values.serviceAccount.name }}
  serviceAccountName: {{ . }}
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- toYaml (ternary .Values.podSecurityContext (omit .Values.podSecurityContext "runAsNonRoot") (eq .Values.mode "standalone")) | nindent 4 }}
  {{- if eq .Values.mode "standalone" }}
  containers:
    - {{- include "tidegate.container" . | nindent 6 }}
  {{- else }}
  {{- if eq .Values.agent.kind "Job" }}
  restartPolicy: Never
  {{- end }}
  initContainers:
    # an init container that stays: ready before the agent starts, ended after it
    - restartPolicy: Always
      {{- include "tidegate.container" . | nindent 6 }}
  containers:
    - name: agent
      image: {{ .Values.agent.image | quote }}
      {{- with .Values.agent.command }}
      command:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.agent.args }}
      args:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      env:
        {{- include "tidegate.clientEnv" . | nindent 8 }}
        {{- with .Values.agent.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- range $name := list "envFrom" "ports" "volumeMounts" "resources" "securityContext" }}
      {{- with get $.Values.agent $name }}
      {{ $name }}:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
  {{- end }}
  volumes:
    {{- include "tidegate.volumes" . | nindent 4 }}
  {{- range $name := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
  {{- with get $.Values $name }}
  {{ $name }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
{{- end }}
