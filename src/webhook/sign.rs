//! What a message says, and by what its receiver knows that it is ours (Standard Webhooks 1.0.0).
use std::sync::Arc;

use aws_lc_rs::hmac;
use serde::Serialize;
use serde_json::{Value, json};

use crate::io::base64;
use crate::units::show_instant;

/// Largest payload; the standard asks for less than 20 kB.
const LARGEST: usize = 20_000;

/// The same for the same event of the same task: a receiver that has seen it knows it again.
pub(super) fn message_id(name: &str, id: &str, event: &str) -> Arc<str> {
    let mut hash = blake3::Hasher::new_derive_key("tidegate webhook message v1");
    for part in [name, id, event] {
        hash.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    let hex = hash.finalize().to_hex();
    Arc::from(format!("msg_{}", &hex[..32]))
}

/// `at`: seconds since 1970. Data that are too large become the id alone.
pub(super) fn payload(event: &str, at: i64, id: &str, data: &Value) -> Arc<str> {
    #[derive(Serialize)]
    struct Payload<'p> {
        r#type: &'p str,
        timestamp: String,
        data: &'p Value,
    }
    let write = |data: &Value| {
        let payload = Payload { r#type: event, timestamp: show_instant(at), data };
        // maps with keys of text and numbers: nothing that JSON has not
        serde_json::to_string(&payload).unwrap_or_default()
    };
    let whole = write(data);
    if whole.len() <= LARGEST { Arc::from(whole) } else { Arc::from(write(&json!({ "id": id }))) }
}

/// `v1,…` for each key, with spaces between. `at`: seconds since 1970, of this attempt.
pub(super) fn signatures(keys: &[hmac::Key], id: &str, at: i64, body: &str) -> String {
    let at = at.to_string();
    let one = |key: &hmac::Key| {
        let mut mac = hmac::Context::with_key(key);
        for part in [id, ".", &at, ".", body] {
            mac.update(part.as_bytes());
        }
        format!("v1,{}", base64::encode(mac.sign().as_ref()))
    };
    keys.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SigningSecret;

    fn key(text: &str) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, SigningSecret::read(text).unwrap().expose())
    }

    /// The vector in the tests of the reference implementations.
    #[test]
    fn a_signature_is_that_of_the_reference() {
        let old = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = r#"{"test": 2432232314}"#;
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signatures(std::slice::from_ref(&old), id, 1_614_265_330, body), signature);
        let new = key("whsec_C2FtcGxlLXNlY3JldC1vZi0yNC1ieXRlcw==");
        let both = signatures(&[new, old], id, 1_614_265_330, body);
        // the second one as the `standardwebhooks` package of Python signs
        assert_eq!(both, format!("v1,SxCL+I+rYvambWZSO4Dyw0lELKiRL4CguYm9ZqCSpuk= {signature}"));
    }

    #[test]
    fn the_id_is_stable_and_of_its_parts() {
        let id = message_id("ops", "task_1", "task.failed");
        assert!(id.starts_with("msg_") && id.len() == 36);
        assert_eq!(id, message_id("ops", "task_1", "task.failed"));
        for (a, b, c) in [
            ("op", "stask_1", "task.failed"),
            ("ops", "task_2", "task.failed"),
            ("ops", "task_1", "task.expired"),
        ] {
            assert_ne!(id, message_id(a, b, c));
        }
    }

    #[test]
    fn a_payload_has_its_form_and_its_bound() {
        let small =
            payload("task.failed", 0, "task_1", &json!({ "id": "task_1", "state": "failed" }));
        let expected = r#"{"type":"task.failed","timestamp":"1970-01-01T00:00:00Z","data":{"id":"task_1","state":"failed"}}"#;
        assert_eq!(&*small, expected);
        let large = payload("task.failed", 0, "task_1", &json!({ "text": "x".repeat(LARGEST) }));
        assert!(large.ends_with(r#""data":{"id":"task_1"}}"#) && large.len() < 200);
    }
}
