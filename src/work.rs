//! Who makes the calls of tasks: each worker thread claims what is due, as long as there are places.
//!
//! How many run at once is the book's to say. Nothing is claimed while memory is short, for tasks can
//! wait, nor once the sidecar drains: what runs then has the time that open calls have, and what is
//! not done by its end is found again at the next start.
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::drain::Stage;
use crate::identity::Class;
use crate::pipeline::offload;
use crate::pipeline::worker::Worker;
use crate::tasks::Tasks;

/// How long to wait where memory is short.
const SHORT: Duration = Duration::from_secs(1);

/// Claims and runs until the sidecar drains.
pub async fn work(worker: Rc<Worker>, tasks: Arc<Tasks>) {
    loop {
        if worker.takes(Class::Batch).is_err() {
            tokio::select! {
                () = tokio::time::sleep(SHORT) => continue,
                () = worker.drain.reached(Stage::Draining) => return,
            }
        }
        let job = tokio::select! {
            biased;
            () = worker.drain.reached(Stage::Draining) => return,
            job = tasks.claim() => job,
        };
        // the runtime moves a task a few times: a pointer is moved cheaply
        tokio::task::spawn_local(Box::pin(offload::run(Rc::clone(&worker), job)));
    }
}
