//! What an answer cost in tokens, in one shape for every dialect.

/// Tokens of one call, as the backend counted them. `input` includes the cached ones and
/// `output` includes the reasoning, as OpenTelemetry's `gen_ai.usage.*` has it.
#[derive(Copy, Clone, Default, PartialEq, Eq, Debug)]
pub struct Usage {
    pub input: u64,
    pub output: u64,
    /// Input read from the backend's prompt cache.
    pub cached_input: u64,
    /// Input written to the backend's prompt cache.
    pub cache_write: u64,
    /// Output that the model thought and did not say.
    pub reasoning: u64,
}

/// A thousand times the largest context window there is: a larger count is nonsense.
const ABSURD: u64 = 1_000_000_000;

/// A token count, unless it is missing, negative or absurd.
pub(super) fn count(value: super::json::Raw<'_>) -> Option<u64> {
    value.number().filter(|&count| count < ABSURD)
}

/// Puts a count where it belongs; says whether there was one.
pub(super) fn set(field: &mut u64, value: super::json::Raw<'_>) -> bool {
    let count = count(value);
    if let Some(count) = count {
        *field = count;
    }
    count.is_some()
}
