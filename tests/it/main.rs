//! The integration tests: one binary, one module a subject.
// the settings that allow these in tests do not reach helper functions
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod simulate;
