use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Wake;

use super::*;

/// Counts how often the call's task is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn heard(upload: &Upload) -> Option<Stage> {
    upload.news(&Context::from_waker(Waker::noop()))
}

/// A piece that the backend takes at once, behind which the client is waited for again.
fn passes(upload: &Upload, bytes: usize) {
    upload.hands_over(bytes);
    upload.waits_for_client();
}

#[test]
fn a_client_that_drips_is_waited_for_all_the_time() {
    let upload = Upload::default();
    assert_eq!(heard(&upload), None);
    upload.waits_for_client();
    assert_eq!(heard(&upload), Some(Stage::Reading));
    for _ in 0..WORTH - 1 {
        passes(&upload, 1);
        assert_eq!(heard(&upload), None, "its clock runs on");
    }
    passes(&upload, 1);
    assert_eq!(heard(&upload), Some(Stage::Reading), "it has sent enough for a new wait");
    assert_eq!(heard(&upload), None);
}

/// Whatever the client was worth before: only one of them can be waited for.
#[test]
fn a_piece_that_is_not_taken_makes_the_backend_the_one_that_is_waited_for() {
    let upload = Upload::default();
    upload.waits_for_client();
    assert_eq!(heard(&upload), Some(Stage::Reading));
    upload.hands_over(1);
    assert_eq!(heard(&upload), Some(Stage::FirstByte));
    assert_eq!(heard(&upload), None, "the backend's clock runs as well");
    upload.waits_for_client();
    assert_eq!(heard(&upload), Some(Stage::Reading), "it has taken the piece");
    // the end of the body
    upload.hands_over(0);
    assert_eq!(heard(&upload), Some(Stage::FirstByte));
}

#[test]
fn a_wait_is_heard_of_although_a_drop_came_before_the_call_had_its_turn() {
    let upload = Upload::default();
    upload.waits_for_client();
    passes(&upload, 1);
    assert_eq!(heard(&upload), Some(Stage::Reading));
}

#[test]
fn the_call_is_woken_once_for_each_time_that_it_listens() {
    let (upload, woken) = (Upload::default(), Arc::new(Woken::default()));
    let waker = Waker::from(Arc::clone(&woken));
    let cx = Context::from_waker(&waker);
    assert_eq!(upload.news(&cx), None);
    upload.waits_for_client();
    passes(&upload, 1);
    assert_eq!(woken.0.load(Relaxed), 1, "a call that has its answer is left alone");
    assert_eq!(upload.news(&cx), Some(Stage::Reading));
    upload.fails("broken".into());
    assert_eq!(woken.0.load(Relaxed), 2);
    assert_eq!(upload.take_fault().map(|fault| fault.to_string()), Some("broken".to_owned()));
    assert!(upload.take_fault().is_none());
}
