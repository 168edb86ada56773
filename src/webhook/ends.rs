//! From the book of tasks to messages: one for each end and each target that its task names.
//!
//! An end counts as told when all of its messages are in the store; a crash before that has it told
//! again, under the same ids. Where too many messages wait, ends wait in the book of tasks; a target
//! that takes none is not waited for.
use std::time::Duration;

use tokio::time::sleep;

use super::{NotifyError, Receipt, Webhooks};
use crate::pipeline::offload;
use crate::store::Failed;
use crate::tasks::{Tasks, View};

/// Ends whose messages share a commit.
const TOGETHER: usize = 64;
/// Before a message is offered again that there was no room for.
const PAUSE: Duration = Duration::from_secs(1);

impl Webhooks {
    /// Has the ends of tasks told, for as long as it is polled; to its end where nothing can be
    /// kept any more. May be dropped at any time and begun again; one at a time.
    pub async fn tell(&self, tasks: &Tasks) {
        let mut crowded = false;
        loop {
            let ended = tasks.untold(TOGETHER).await;
            // all of them first: they go to the disk together
            let posted = ended.iter().map(|view| {
                let names = view.record.webhooks.iter();
                names.map(|name| self.post_end(name, view)).collect::<Vec<_>>()
            });
            let posted: Vec<_> = posted.collect();
            for (view, posted) in ended.iter().zip(posted) {
                for (name, posted) in view.record.webhooks.iter().zip(posted) {
                    if self.until_kept(name, view, posted, &mut crowded).await.is_err() {
                        tracing::error!("no ends of tasks are told: nothing can be kept any more");
                        return;
                    }
                }
                tasks.told(view.record.id);
            }
        }
    }

    fn post_end(&self, name: &str, view: &View) -> Result<Receipt, NotifyError> {
        let record = &view.record;
        let at = record.finished_ms.unwrap_or(record.created_ms) / 1000;
        let event = (offload::event_name(record.state), at.cast_signed());
        self.post(name, &record.id.to_string(), event, &offload::brief(view))
    }

    /// Offers a message until there is room for it.
    async fn until_kept(
        &self,
        name: &str,
        view: &View,
        mut posted: Result<Receipt, NotifyError>,
        crowded: &mut bool,
    ) -> Result<(), Failed> {
        loop {
            let kept = match posted {
                Ok(receipt) => receipt.kept().await,
                Err(why) => Err(why),
            };
            match kept {
                Ok(()) => {
                    *crowded = false;
                    return Ok(());
                }
                Err(why @ (NotifyError::Unknown | NotifyError::Hopeless)) => {
                    tracing::warn!(webhook = name, task = %view.record.id, "nobody is told: {why}");
                    return Ok(());
                }
                Err(NotifyError::Store(why @ (Failed::Broken | Failed::Closed))) => {
                    return Err(why);
                }
                Err(why @ (NotifyError::Full | NotifyError::Store(_))) => {
                    if !std::mem::replace(crowded, true) {
                        tracing::warn!(%why, "ends of tasks wait to be told");
                    }
                    sleep(PAUSE).await;
                    posted = self.post_end(name, view);
                }
            }
        }
    }
}
