//! What the integration tests share.
#![allow(clippy::expect_used, reason = "helpers of tests fail the test")]
pub mod gated;
pub mod h2frames;
pub mod raw;
