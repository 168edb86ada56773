//! `tasks` as YAML.
use std::fmt::{self, Write as _};

use super::{REDACTED, quoted, times};
use crate::config::{Tasks, Webhook};
use crate::units::show_size;

pub(super) fn write_tasks(out: &mut String, tasks: Option<&Tasks>) -> fmt::Result {
    let Some(tasks) = tasks else { return writeln!(out, "tasks: off") };
    writeln!(out, "tasks:\n  workers: {}", tasks.workers)?;
    let (count, bytes) = (tasks.per_agent_count, show_size(tasks.per_agent_bytes));
    writeln!(out, "  per_agent: {{ count: {count}, bytes: {bytes} }}")?;
    times(out, "  ", &[("keep", tasks.keep), ("max_age", tasks.max_age)])?;
    writeln!(out, "  attempts: {}", tasks.attempts)?;
    writeln!(out, "  max_result: {}", show_size(tasks.max_result))?;
    if !tasks.webhooks.is_empty() {
        writeln!(out, "  webhooks:")?;
    }
    tasks.webhooks.iter().try_for_each(|webhook| write_webhook(out, webhook))
}

fn write_webhook(out: &mut String, webhook: &Webhook) -> fmt::Result {
    // a path of that kind is often all the proof that is asked for there
    let bare = webhook.query.is_none() && webhook.path.trim_matches('/').is_empty();
    let url = format!("{}{}", webhook.origin, if bare { "" } else { "/redacted" });
    let secrets = vec![REDACTED; webhook.secrets.len()].join(", ");
    let events: Vec<_> = webhook.events.iter().map(|end| end.as_str()).collect();
    writeln!(out, "    {}:\n      url: {}", quoted(&webhook.name), quoted(url))?;
    writeln!(out, "      secret: [{secrets}]\n      events: [{}]", events.join(", "))?;
    writeln!(out, "      private: {}", webhook.private)
}
