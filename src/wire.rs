//! What the bytes of each vendor mean: pure functions on bytes, no I/O, no config, no async.
//!
//! One file a dialect. A dialect is a way of speaking (paths, fields, events, errors); a vendor
//! is only data in `config`. Nothing here changes a byte of what passes.

/// A way of speaking. Closed on purpose: a new OpenAI-compatible vendor is configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    OpenAi,
    Anthropic,
    Gemini,
    Ollama,
    /// Anything else over HTTP: proxied as it is, errors in the OpenAI shape.
    Http,
}
