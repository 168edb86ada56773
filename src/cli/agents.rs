//! `tidegate agents`: who calls a running instance, as a table that keeps itself up to date.
//!
//! It asks the admin listener for `/state` and changes nothing. On a terminal each table is drawn
//! over the one before; elsewhere tables follow each other, without any control characters. The
//! instance may end and come back: only an instance that never answered is an error.
mod ask;
mod table;

use std::io::{self, IsTerminal, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::runtime::LocalRuntime;

use self::ask::{AskError, Told, ask};
use self::table::Table;
use super::{Admin, CANNOT_START, admin, refuse, tell};
use crate::config::{Address, Overrides, Source};
use crate::units;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where the instance's admin listener is; without it, where the policy file says
    #[arg(long, value_name = "ADDRESS", env = "TIDEGATE_ADMIN", value_parser = admin)]
    admin: Option<Admin>,
    /// The policy file of the instance; without it, 127.0.0.1:8081 is asked
    #[arg(short, long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Print one table and end
    #[arg(long)]
    once: bool,
    /// Time between two tables
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = interval)]
    interval: Duration,
    /// Print what the instance told as JSON, one line each time
    #[arg(long)]
    json: bool,
    /// Agents shown on a terminal, the busiest first; 0: all
    #[arg(long, value_name = "N", default_value_t = 30)]
    rows: usize,
}

fn interval(text: &str) -> Result<Duration, String> {
    let least = Duration::from_millis(100);
    match units::duration(text) {
        Ok(time) if time >= least => Ok(time),
        Ok(_) => Err("expected 100ms or more".to_owned()),
        Err(fault) => Err(format!("expected {fault}")),
    }
}

pub(super) fn run(options: &Options) -> ExitCode {
    let at = if let Some(Admin(at)) = &options.admin {
        at.clone()
    } else {
        let source = Source { path: options.config.clone(), overrides: Overrides::default() };
        match source.load() {
            Ok(loaded) => loaded.config.admin.map(|admin| admin.at),
            Err(faults) => return refuse(&faults),
        }
    };
    let served = reachable(at).and_then(|at| {
        let runtime = LocalRuntime::new().map_err(|error| error.to_string())?;
        runtime.block_on(watch(&at, options))
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tell(&format!("tidegate agents: {why}\n"));
            ExitCode::from(CANNOT_START)
        }
    }
}

/// Where to connect for an admin listener at this address.
fn reachable(at: Option<Address>) -> Result<Address, String> {
    match at {
        Some(Address::Tcp(mut at)) => {
            if at.port() == 0 {
                return Err(
                    "the policy lets the admin listener take any free port; say which one \
                            it took with --admin"
                        .to_owned(),
                );
            }
            // what listens everywhere listens here
            match at.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => at.set_ip(Ipv4Addr::LOCALHOST.into()),
                IpAddr::V6(ip) if ip.is_unspecified() => at.set_ip(Ipv6Addr::LOCALHOST.into()),
                _ => {}
            }
            Ok(Address::Tcp(at))
        }
        Some(at @ Address::Unix(_)) => Ok(at),
        Some(Address::Inherited(_)) => {
            Err("the admin socket comes from systemd; say where it is with --admin".to_owned())
        }
        None => Err("the admin listener is off; without it nobody can be asked".to_owned()),
    }
}

/// Asks and shows until told to end. The error is a sentence.
async fn watch(at: &Address, options: &Options) -> Result<(), String> {
    let drawn = io::stdout().is_terminal() && !options.once && !options.json;
    let rows = if drawn && options.rows > 0 { options.rows } else { usize::MAX };
    let mut table = Table::new(show(at), rows);
    let mut answered = false;
    loop {
        let text = match ask(at).await {
            Ok(told) => {
                answered = true;
                if options.json { told.line() } else { table.of(&told.view, Instant::now()) }
            }
            Err(error) if answered => {
                let why = explain(at, &error);
                if drawn { table.stale(&why) } else { format!("{why}\n") }
            }
            Err(error) => return Err(explain(at, &error)),
        };
        let text = if drawn { table::over(&text) } else { text };
        match print(&text) {
            // the reader has seen enough
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            printed => printed.map_err(|error| format!("stdout: {error}"))?,
        }
        if options.once {
            return Ok(());
        }
        tokio::time::sleep(options.interval).await;
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn explain(at: &Address, error: &AskError) -> String {
    let at = show(at);
    match error {
        AskError::Nobody(error) => format!(
            "nobody answers at {at}: {error}. Is it running, and is this its admin listener? \
             --admin says another address"
        ),
        AskError::Silent => format!("{at} does not answer in time"),
        AskError::Stranger => format!("what answers at {at} is no admin listener of Tidegate"),
        AskError::Refused(status) => format!("{at} answers with status {status}"),
        AskError::NoAgents => format!("the instance at {at} does not tell about agents"),
    }
}

fn show(at: &Address) -> String {
    match at {
        Address::Tcp(at) => format!("http://{at}"),
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Inherited(_) => "systemd:".to_owned(),
    }
}

impl Told {
    fn line(&self) -> String {
        format!("{}\n", self.json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_here() {
        let at = |text: &str| reachable(Some(crate::config::address(text).unwrap()));
        assert_eq!(show(&at("0.0.0.0:8081").unwrap()), "http://127.0.0.1:8081");
        assert_eq!(show(&at("[::]:8081").unwrap()), "http://[::1]:8081");
        assert_eq!(show(&at("10.0.0.1:8081").unwrap()), "http://10.0.0.1:8081");
        assert_eq!(show(&at("unix:/a").unwrap()), "unix:/a");
        assert!(at("127.0.0.1:0").is_err() && at("systemd:").is_err() && reachable(None).is_err());
    }

    #[test]
    fn intervals_are_durations() {
        assert_eq!(interval("500ms"), Ok(Duration::from_millis(500)));
        assert!(interval("10ms").is_err() && interval("2").is_err());
    }
}
