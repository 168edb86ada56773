//! Whether the collector of `telemetry.otlp` takes what it would be sent: a report with nothing in it.
use super::finding::Finding;
use crate::collector::{Told, probe};
use crate::config::{Config, Host, Otlp};
use crate::upstream::host_of;

const CHECK: &str = "collector";

/// `keys`: the headers that the policy has for it are sent.
pub(super) async fn findings(config: &Config, keys: bool) -> Vec<Finding> {
    let Some(otlp) = &config.telemetry.otlp else { return Vec::new() };
    let at = match &otlp.endpoint.host {
        Host::Unix(path) => format!("unix:{}", path.display()),
        Host::Name(_) => host_of(&otlp.endpoint),
    };
    let withheld = !keys && !otlp.headers.is_empty();
    let bare = Otlp { headers: Vec::new(), ..otlp.clone() };
    let asked = if withheld { &bare } else { otlp };
    match probe(asked, &crate::app::environment).await {
        Ok(told) => told.into_iter().map(|one| judged(&at, one, withheld)).collect(),
        Err(error) => vec![Finding::fail(CHECK, error.to_string(), "mend telemetry.otlp")],
    }
}

/// Calls go on without a collector: nothing here fails more than a warning.
fn judged(at: &str, (signal, told): (&str, Told), withheld: bool) -> Finding {
    match told {
        Told::Takes => Finding::ok(CHECK, format!("{at}: takes {signal}")),
        Told::Refuses(why) if withheld => {
            let says = format!("{at}: answers for {signal}, {why}; its headers were not sent");
            Finding::skip(CHECK, format!("{says}: --keys does"))
        }
        Told::Refuses(why) => Finding::warn(
            CHECK,
            format!("{at}: refuses {signal}: {why}"),
            "look at endpoint, protocol (http: 4318, grpc: 4317) and headers of telemetry.otlp",
        ),
        Told::NotNow(why) => Finding::warn(
            CHECK,
            format!("{at}: does not take {signal}: {why}"),
            "start it, or mend telemetry.otlp; until then spans are dropped, and calls go on",
        ),
    }
}
