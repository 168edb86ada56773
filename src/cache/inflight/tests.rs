use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::*;

#[test]
fn who_joins_late_gets_everything_and_who_is_last_ends_it() {
    let hubs: Arc<Hubs<(), ()>> = Arc::default();
    let key = Key([7; 32]);
    let Claim::Lead(lead, first) = hubs.claim(key, 100) else { panic!("nobody was there") };
    let cx = &mut Context::from_waker(Waker::noop());
    lead.push(Bytes::from_static(b"a"), 0);
    let Claim::Join(second) = hubs.claim(key, 100) else { panic!("one was there") };
    drop(first);
    assert!(lead.poll_deserted(cx).is_pending());
    lead.push(Bytes::from_static(b"b"), 1);
    for piece in [&b"a"[..], b"b"] {
        match second.poll_piece(cx) {
            Poll::Ready(Some(Ok(got))) => assert_eq!(got, piece),
            other => panic!("{other:?}"),
        }
    }
    assert!(second.poll_piece(cx).is_pending());
    drop(second);
    assert!(lead.poll_deserted(cx).is_ready());
    assert!(hubs.join(&key).is_none(), "it is given up");
    drop(lead);
    assert!(hubs.is_empty());
}
