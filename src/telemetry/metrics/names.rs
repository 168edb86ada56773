//! Every metric name, as it reads in `/metrics`, with its help text. Nothing else names one.
//!
//! Ours are `tidegate_<noun>_<unit>`; `gen_ai_*` are OpenTelemetry's `GenAI` names in Prometheus
//! spelling; `process_*` are what every Prometheus client library calls them.

/// A metric family. `full` is without the suffixes that its kind adds to samples.
#[derive(Debug)]
pub(in crate::telemetry) struct Name {
    pub full: &'static str,
    pub help: &'static str,
    pub kind: Kind,
}

/// What a family counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::telemetry) enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// Labels, and a value of 1.
    Info,
}

impl Name {
    /// The end of the name, where that is a unit.
    pub(in crate::telemetry) fn unit(&self) -> Option<&'static str> {
        let (_, end) = self.full.rsplit_once('_')?;
        ["seconds", "bytes", "dollars"].into_iter().find(|unit| *unit == end)
    }
}

macro_rules! names {
    ($($constant:ident = $kind:ident $name:literal $help:literal;)*) => {
        $(pub(in crate::telemetry) static $constant: Name =
            Name { full: $name, help: $help, kind: Kind::$kind };)*
        #[cfg(test)]
        pub(super) const ALL: &[&Name] = &[$(&$constant),*];
    };
}

names! {
    // Calls. Samples of a counter end in `_total`.
    REQUESTS = Counter "tidegate_requests"
        "Calls by how they ended; code is what the client was told";
    IN_FLIGHT = Gauge "tidegate_requests_in_flight" "Calls begun and not ended";
    DURATION = Histogram "tidegate_request_duration_seconds"
        "From the first byte of the request to the last of the answer";
    FIRST_BYTE = Histogram "tidegate_time_to_first_byte_seconds"
        "From the first byte of the request to the first of upstream's answer";
    FIRST_TOKEN = Histogram "tidegate_time_to_first_token_seconds"
        "From the first byte of the request to the first content of a stream";
    OVERHEAD = Histogram "tidegate_overhead_seconds"
        "What this proxy added to a call by its own work";
    QUEUE_WAIT = Histogram "tidegate_queue_wait_seconds"
        "Waiting for a place before a call was sent";
    REQUEST_BYTES = Counter "tidegate_request_bytes" "Bytes of request bodies";
    RESPONSE_BYTES = Counter "tidegate_response_bytes" "Bytes of answers' bodies";
    STREAM_EVENTS = Counter "tidegate_stream_events" "Events with content in streamed answers";
    TOKENS = Counter "tidegate_tokens"
        "Tokens as upstream reported them; input includes cached_input and cache_write, output includes reasoning";

    SPEND = Counter "tidegate_spend_dollars" "What the calls cost by the prices that are known here";
    UNPRICED = Counter "tidegate_unpriced_calls"
        "Calls charged by a stand-in, because the price of their model is not known";
    DRIFT = Histogram "tidegate_settle_drift_tokens"
        "How far the tokens expected of a call were from the real ones, either way";

    // Agents and limits.
    AGENT_REQUESTS = Counter "tidegate_agent_requests" "Calls of an agent by how they ended";
    AGENT_TOKENS = Counter "tidegate_agent_tokens"
        "Tokens of an agent; input includes cached_input and cache_write, output includes reasoning";
    AGENT_SPEND = Counter "tidegate_agent_spend_dollars" "What the calls of an agent cost";
    AGENT_SAVED = Counter "tidegate_agent_saved_dollars"
        "What calls of an agent would have cost whose answers were there already";
    AGENT_WAIT = Counter "tidegate_agent_wait_seconds" "Time that calls of an agent waited for a place";
    AGENT_REFUSALS = Counter "tidegate_agent_refusals" "Calls of an agent that were told no, and why";
    AGENT_RUN = Histogram "tidegate_agent_run_seconds"
        "A session of an agent from its first call to its last, told when none came for ten minutes";
    AGENT_RUNS = Gauge "tidegate_agent_runs" "Sessions with a call in the last ten minutes";
    AGENT_NAMES = Gauge "tidegate_agent_labels" "Agents that have labels of their own";
    LIMIT_REFUSALS = Counter "tidegate_limit_refusals"
        "Calls that a limit refused; with mode observe, would have refused";
    LIMIT_USED = Gauge "tidegate_limit_used_ratio"
        "How full the fullest bucket of a limit is, running calls with it; above 1 is debt";
    RUNAWAY = Counter "tidegate_runaway" "What the guard against loops did";

    // The cache. The label `tier` is memory or disk.
    CACHE_REQUESTS = Counter "tidegate_cache_requests"
        "Calls by what the cache made of them; calls that no policy caches are not among them";
    CACHE_SAVED_TOKENS = Counter "tidegate_cache_saved_tokens"
        "Tokens that calls did not use because their answers were there already";
    CACHE_SAVED = Counter "tidegate_cache_saved_dollars"
        "What those tokens would have cost by the prices that are known here";
    CACHE_IN_FLIGHT = Gauge "tidegate_cache_in_flight"
        "Calls in flight that others who ask the same may join";
    CACHE_ENTRIES = Gauge "tidegate_cache_entries" "Answers that are kept";
    CACHE_BYTES = Gauge "tidegate_cache_bytes" "What the answers weigh that are kept";
    CACHE_BUDGET = Gauge "tidegate_cache_budget_bytes" "Most that they may weigh";
    CACHE_STORES = Counter "tidegate_cache_stores" "Answers that were kept";
    CACHE_EVICTIONS = Counter "tidegate_cache_evictions" "Answers taken out of memory to make room";
    CACHE_EXPIRED = Counter "tidegate_cache_expired" "Answers taken out of memory past their time";
    CACHE_DISK_READS = Counter "tidegate_cache_disk_reads" "Answers read from disk";
    CACHE_DISK_DROPPED = Counter "tidegate_cache_disk_dropped"
        "Answers not written to disk, because too much waited or it took nothing";
    CACHE_DISK_FAULTS = Counter "tidegate_cache_disk_faults"
        "Damaged records, of which none was given, and failures of the system";
    CACHE_DISK_HEALTHY = Gauge "tidegate_cache_disk_healthy"
        "1 while the directory can be written to, as far as is known";
    CACHE_QUESTIONS = Gauge "tidegate_cache_questions"
        "Questions whose answers are found in other words too";
    ALIKE_LOOKS = Counter "tidegate_cache_alike_looks" "Questions looked up in other words";
    ALIKE_HITS = Counter "tidegate_cache_alike_hits"
        "Questions found in other words; likeness counts those that were only compared too";
    ALIKE_SERVED = Counter "tidegate_cache_alike_served" "Hits by likeness that were given";
    ALIKE_TRIALS = Counter "tidegate_cache_alike_trials"
        "Hits by likeness that were compared with what upstream answered";
    ALIKE_FORGONE = Counter "tidegate_cache_alike_forgone_dollars"
        "What calls cost that were hits by likeness and were only compared";
    ALIKE_PRECISION = Gauge "tidegate_cache_alike_precision_ratio"
        "Share of hits by likeness that are right: the estimate, and where it lies at all times";
    ALIKE_THRESHOLD = Gauge "tidegate_cache_alike_threshold"
        "Least cosine of two questions that ask the same; no sample where nothing is served";
    ALIKE_QUARANTINED = Counter "tidegate_cache_alike_quarantined"
        "Answers that are no longer given by likeness, because they were wrong once";

    // GenAI conventions.
    GEN_AI_DURATION = Histogram "gen_ai_client_operation_duration_seconds"
        "Duration of an inference; error_type is empty for a success";
    GEN_AI_TOKENS = Histogram "gen_ai_client_token_usage" "Tokens of an inference";
    GEN_AI_FIRST_TOKEN = Histogram "gen_ai_server_time_to_first_token_seconds"
        "Until the first content of a stream";
    GEN_AI_PER_TOKEN = Histogram "gen_ai_server_time_per_output_token_seconds"
        "Time per token after the first, of complete streams with known usage";

    // Upstream connections.
    POOL_OPEN = Gauge "tidegate_pool_connections_open" "Connections to upstream, idle ones included";
    POOL_IDLE = Gauge "tidegate_pool_connections_idle" "Connections to upstream that wait for work";
    UPSTREAM_IN_FLIGHT = Gauge "tidegate_upstream_in_flight" "Calls sent to upstream and not finished";
    UPSTREAM_WAITING = Gauge "tidegate_upstream_waiting" "Calls that wait for a place at upstream";
    QUEUE_DEPTH = Gauge "tidegate_queue_depth" "Calls that wait in the fair queue, by class";
    LANE_RUNNING = Gauge "tidegate_lane_running" "Calls that run in a route's own lane";
    LANE_WAITING = Gauge "tidegate_lane_waiting" "Calls that wait in a route's own lane";
    LANE_SLOTS = Gauge "tidegate_lane_slots" "Places of a route's own lane, where they are bounded";
    UPSTREAM_SLOTS = Gauge "tidegate_upstream_slots"
        "Places for calls at an upstream at once, where they are bounded";
    ATTEMPTS = Counter "tidegate_upstream_attempts"
        "Attempts of calls by what came of them; answered: well, or with the caller's own fault; outrun: by a second request";
    HEDGES = Counter "tidegate_hedges"
        "Second requests sent because the first was late: won, lost, or both failed";
    RATE_LIMITED = Counter "tidegate_upstream_rate_limited" "Answers of upstream that said 429";
    PAUSED = Gauge "tidegate_pace_paused"
        "Credentials and models of upstream that are held back until it lets them go on";
    DIALLED = Counter "tidegate_pool_dialled" "Connections made to upstream";
    DIAL_FAILED = Counter "tidegate_pool_dial_failures" "Connections that could not be made";
    REUSED = Counter "tidegate_pool_reused" "Calls sent over a connection made earlier";
    RETIRED = Counter "tidegate_pool_retired" "Connections closed, by reason";
    RETRIED = Counter "tidegate_upstream_retries"
        "Attempts beyond a call's first, by what came of the one before";
    BREAKER = Gauge "tidegate_upstream_breaker_state" "0 closed, 1 half open, 2 open";
    OPENED = Counter "tidegate_upstream_breaker_opened"
        "Times that an upstream's breaker opened, by reason";
    EJECTED = Gauge "tidegate_upstream_ejected_addresses"
        "Addresses that get no calls because they fail";
    EJECTIONS = Counter "tidegate_upstream_ejections"
        "Times that an address was taken out, by reason";
    CHECK_FAILED = Counter "tidegate_upstream_health_check_failures"
        "Active checks of an address that did not go well";
    KEYS_ASIDE = Gauge "tidegate_upstream_keys_aside"
        "Keys that are not used for a while: refused, spent or at their limit";
    DEADLINES = Counter "tidegate_upstream_deadlines" "Deadlines that ran out, by what was waited for";

    // The database.
    STORE_HEALTHY = Gauge "tidegate_store_healthy" "1 while what is written to it is kept";
    STORE_COMMITS = Counter "tidegate_store_commits" "Commits, each of them synced";
    STORE_OPERATIONS = Counter "tidegate_store_operations" "Writes asked for; many go into one commit";
    STORE_REFUSED = Counter "tidegate_store_refused" "Writes refused, because too many waited";
    STATE_FREE = Gauge "tidegate_state_free_bytes" "Free on the disk of the state directory";

    // Clients.
    CONNECTIONS_OPEN = Gauge "tidegate_connections_open" "Connections that clients hold open";
    CONNECTIONS_ACCEPTED = Counter "tidegate_connections_accepted" "Connections accepted from clients";
    CONNECTIONS_REFUSED = Counter "tidegate_connections_refused"
        "Connections closed before they could ask";
    ACCEPT_ERRORS = Counter "tidegate_accept_errors"
        "Failures to accept a connection: it was gone already, or descriptors or memory had run out";
    GATE_REFUSALS = Counter "tidegate_gate_refusals" "Requests turned away as malformed or too large";
    REFUSALS = Counter "tidegate_refusals" "Answers that upstream did not give: whose fault, and why";

    // Calls that are answered later, and streams that can be taken up again.
    TASKS = Gauge "tidegate_tasks" "Tasks that are known, by state";
    TASKS_SUBMITTED = Counter "tidegate_tasks_submitted" "Tasks taken on";
    TASKS_ENDED = Counter "tidegate_tasks_ended" "Tasks that are over, by their end";
    TASK_RETRIES = Counter "tidegate_task_retries"
        "Attempts at a task that were followed by another, by why";
    TASKS_REFUSED = Counter "tidegate_tasks_refused" "Calls that were not taken on as tasks, by why";
    TASK_SUBMIT = Histogram "tidegate_task_submit_seconds"
        "Until a task was on the disk and could be answered 202";
    TASK_WAIT = Histogram "tidegate_task_queue_wait_seconds"
        "From a task's making to its first attempt";
    TASK_OLDEST = Gauge "tidegate_task_oldest_queued_seconds"
        "Age of the oldest task that waits for a place to run; 0 for none";
    TASK_BYTES = Gauge "tidegate_task_kept_bytes"
        "Requests of tasks that are not over, and answers of those that are";
    WEBHOOKS_SENT = Counter "tidegate_webhooks_sent" "Messages about tasks that were taken";
    WEBHOOKS_FAILED = Counter "tidegate_webhooks_failed"
        "Attempts to send such a message that did not arrive, or were not wanted";
    WEBHOOKS_GIVEN_UP = Counter "tidegate_webhooks_given_up" "Messages that nobody took";
    WEBHOOKS_WAITING = Gauge "tidegate_webhooks_waiting" "Messages that are still to be taken";
    STREAMS_KEPT = Gauge "tidegate_streams_kept" "Streams that can be taken up again";
    STREAMS_RESUMED = Counter "tidegate_streams_resumed" "Times that a stream was taken up again";

    // Memory.
    MEMORY_HELD = Gauge "tidegate_memory_held_bytes"
        "What calls hold of the budget: bodies, answers, logs of streams, and their own state";
    MEMORY_BUDGET = Gauge "tidegate_memory_budget_bytes" "The most that calls may hold";
    PRESSURE = Gauge "tidegate_pressure_level"
        "0 calm, 1 no sharing, 2 no extras, 3 urgent, 4 full";
    OVERLOAD_REFUSED = Counter "tidegate_overload_refused"
        "New calls refused for want of memory, by the level of pressure";
    OVERLOAD_CUT = Counter "tidegate_overload_cut"
        "Calls cut because they held most when there was no memory left";

    // Ourselves.
    RELOADS = Counter "tidegate_config_reloads" "Reloads of the policy by result";
    RELOAD_OK = Gauge "tidegate_config_last_reload_successful" "1 when the last reload succeeded";
    RELOAD_AT = Gauge "tidegate_config_last_reload_success_timestamp_seconds"
        "When the policy in force was loaded";
    DRAIN_STAGE = Gauge "tidegate_drain_stage"
        "0 serving, 1 leaving, 2 draining, 3 ending";
    CERTIFICATE = Gauge "tidegate_tls_certificate_not_after_timestamp_seconds"
        "When the certificate of a listener runs out";
    LOG_LINES = Counter "tidegate_log_lines" "Log lines handed over";
    LOG_DROPPED = Counter "tidegate_log_dropped_lines"
        "Log lines lost because their reader did not keep up";
    USAGE_RECORDS = Counter "tidegate_usage_records" "Usage records handed over";
    USAGE_DROPPED = Counter "tidegate_usage_dropped_records"
        "Usage records lost: their reader did not keep up, or the disk is full";
    TELEMETRY_SENT = Counter "tidegate_telemetry_sent"
        "Spans, and data points of metrics, that the collector has taken";
    TELEMETRY_DROPPED = Counter "tidegate_telemetry_dropped"
        "Spans, and data points of metrics, that it has not: there was no room, or it would not";
    MODEL_NAMES = Gauge "tidegate_model_labels" "Model names that have a label of their own";
    BUILD = Info "tidegate_build" "What runs here";

    // The process.
    PROCESS_CPU = Counter "process_cpu_seconds" "CPU time in user and system mode";
    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" "Resident memory";
    PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes" "Virtual memory";
    PROCESS_THREADS = Gauge "process_threads" "Threads";
    PROCESS_FDS = Gauge "process_open_fds" "Open file descriptors";
    PROCESS_MAX_FDS = Gauge "process_max_fds" "Most file descriptors allowed";
    PROCESS_START = Gauge "process_start_time_seconds" "Start of the process in Unix time";
}
