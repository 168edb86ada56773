//! Callers without end, until the program is gone.
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::ledger::{Ledger, submission};
use crate::support::Dice;
use crate::support::client::{Answer, Client, End, get, request};

const CLIENTS: u64 = 8;
/// Tasks that may be open before callers only look.
const OPEN: usize = 300;

/// A caller with a connection.
pub(super) struct Asker {
    to: SocketAddr,
    client: Option<Client>,
}

impl Asker {
    pub(super) fn new(to: SocketAddr) -> Self {
        Self { to, client: None }
    }

    /// A whole answer; `None`: it was killed before.
    pub(super) async fn ask(&mut self, request: &[u8]) -> Option<Answer> {
        if self.client.is_none() {
            self.client = Client::try_connect(self.to).await;
        }
        let client = self.client.as_mut()?;
        client.send(request).await;
        let head = client.head().await?;
        let answer = client.rest(head, false).await;
        (answer.end == End::Whole).then_some(answer)
    }
}

pub(super) fn begin(to: SocketAddr, ledger: &Arc<Ledger>, dice: &mut Dice) -> JoinSet<()> {
    let mut all = JoinSet::new();
    for at in 0..CLIENTS {
        let (ledger, dice) = (Arc::clone(ledger), Dice(dice.roll(1 << 31) + at));
        all.spawn(async move {
            // `None`: it was killed
            let _: Option<()> = if at == 0 {
                follow(to, &ledger, dice).await
            } else {
                call(to, &ledger, dice).await
            };
        });
    }
    all
}

async fn call(to: SocketAddr, ledger: &Ledger, mut dice: Dice) -> Option<()> {
    let mut asker = Asker::new(to);
    loop {
        let action = dice.roll(10);
        if action < 4 && ledger.open() < OPEN {
            ledger.submit(&mut asker, &mut dice).await?;
            continue;
        }
        let Some(task) = ledger.any(&mut dice) else { continue };
        match action {
            4 if task.keyed => {
                let answer = asker.ask(&submission(task.number, task.work, true)).await?;
                ledger.taken_on(&answer, task.number, task.work, true);
            }
            5 if task.keyed => {
                // the key, and another body
                let other =
                    task.work.body(task.number).replace("\"role\"", "\"name\":\"x\",\"role\"");
                let lines = format!(
                    "content-type: application/json\r\nprefer: respond-async\r\nidempotency-key: key-{}\r\n",
                    task.number
                );
                let answer = asker.ask(&request("POST", super::CHAT, &lines, &other)).await?;
                assert_eq!(answer.status, 422, "{task:?}: {answer:?}");
            }
            6 if dice.roll(3) == 0 => {
                ledger.is_to_be_cancelled(&task);
                let path = format!("/-/tasks/{}/cancel", task.id);
                let answer = asker.ask(&request("POST", &path, "", "")).await?;
                assert!(matches!(answer.status, 200 | 202), "{task:?}: {answer:?}");
                ledger.seen(&task, None, &answer);
            }
            7 | 8 => ledger.result(&mut asker, &task).await?,
            _ => drop(ledger.look(&mut asker, &task).await?),
        }
    }
}

/// Reads one stream of events after the other, each from where it was left.
async fn follow(to: SocketAddr, ledger: &Ledger, mut dice: Dice) -> Option<()> {
    loop {
        let Some(task) = ledger.a_stream(&mut dice) else {
            Client::try_connect(to).await?;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            continue;
        };
        let mut client = Client::try_connect(to).await?;
        let last = if task.event > 0 {
            format!("last-event-id: {}\r\n", task.event)
        } else {
            String::new()
        };
        client.send(&get(&format!("/-/tasks/{}/events", task.id), &last)).await;
        let head = client.head().await?;
        assert_eq!(head.status, 200, "{task:?}: {}", head.text);
        let mut text = String::new();
        // an error: it was killed, and what came whole counts
        while let Ok(chunk) = client.chunk().await
            && !chunk.is_empty()
        {
            text.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some(end) = text.find("\n\n") {
                let event: String = text.drain(..end + 2).collect();
                let field = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default()
                };
                if let Ok(number) = field("id: ").parse() {
                    ledger.event(&task, number, field("event: "), field("data: "));
                }
            }
        }
    }
}
