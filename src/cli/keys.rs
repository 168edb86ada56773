//! `tidegate keys`: makes, lists and revokes the keys of agents.
//!
//! A new key is printed once, on stdout, and kept nowhere: the store has its keyed hash, the policy
//! file its hash. Where `state` is set, the keys are those of the store: it is opened here, or,
//! when an instance has it open, that instance is asked over its admin listener
//! (`cli/keys/ask.rs`). Without it, what belongs into the policy file is said on stderr.
mod ask;
mod show;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use self::ask::Instance;
use super::{Admin, BAD_USAGE, CANNOT_START, NO_STORE, admin, refuse, say, tell};
use crate::config::{self, Faults, Overrides, Reach, Source};
use crate::store::{
    self, Ack, KeyError, KeyHmac, KeyRecord, KeyView, NewKey, NewRecord, Pepper, Store, StoreError,
};
use crate::units;

/// For the store to write what waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// For another command like this one to let go of the store; an instance does not.
const BRIEFLY: Duration = Duration::from_millis(200);
/// Ids are short; two keys that share one are not told apart.
const TRIES: usize = 4;

#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Make a key, and print it once
    New(New),
    /// List the stored keys, without the keys themselves
    List(List),
    /// Revoke a stored key: it lets nobody in from now on
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(super) struct New {
    /// Whose key it is
    #[arg(long, value_name = "NAME")]
    agent: String,
    /// The team of that agent
    #[arg(long, value_name = "NAME")]
    team: Option<String>,
    /// Until when it is good: 30d, 2027-01-01 (the start of that day, UTC), or RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = expiry)]
    expires: Option<i64>,
    /// Models that it may ask for, as a glob; may be repeated; without it, any
    #[arg(long = "model", value_name = "GLOB")]
    models: Vec<String>,
    /// Routes that it may take, as a glob over their names; may be repeated; without it, any
    #[arg(long = "route", value_name = "GLOB")]
    routes: Vec<String>,
    #[command(flatten)]
    policy: Policy,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    policy: Policy,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The id of the key, as `keys list` shows it
    id: String,
    #[command(flatten)]
    policy: Policy,
}

#[derive(Debug, Args)]
struct Policy {
    /// The policy file
    #[arg(short, long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Where the admin listener is of the instance that has the store open; without it, where the
    /// policy file says
    #[arg(long, value_name = "ADDRESS", env = "TIDEGATE_ADMIN", value_parser = admin)]
    admin: Option<Admin>,
}

impl Policy {
    /// Where the keys are, and who may have them open.
    fn reach(&self) -> Result<Reach, Faults> {
        let source = Source { path: self.config.clone(), overrides: Overrides::default() };
        let mut reach = source.reach()?;
        if let Some(Admin(at)) = &self.admin {
            reach.admin = at.clone().map(config::Admin::at);
        }
        Ok(reach)
    }
}

/// What a command prints when it went well.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    out: String,
    err: String,
}

/// Why it did not: an exit code and a text for stderr.
#[derive(Debug, PartialEq, Eq)]
struct Failure(u8, String);

impl Failure {
    #[expect(clippy::needless_pass_by_value, reason = "the shape that map_err asks for")]
    fn usage(text: impl ToString) -> Self {
        Self(BAD_USAGE, text.to_string())
    }

    #[expect(clippy::needless_pass_by_value, reason = "the shape that map_err asks for")]
    fn cannot(text: impl ToString) -> Self {
        Self(CANNOT_START, text.to_string())
    }
}

impl From<KeyError> for Failure {
    fn from(fault: KeyError) -> Self {
        match fault {
            KeyError::Store(_) | KeyError::TooMany => Self::cannot(fault),
            KeyError::Invalid { .. } | KeyError::Exists { .. } | KeyError::Unknown { .. } => {
                Self::usage(fault)
            }
        }
    }
}

pub(super) fn run(command: &Keys) -> ExitCode {
    let policy = match command {
        Keys::New(New { policy, .. })
        | Keys::List(List { policy })
        | Keys::Revoke(Revoke { policy, .. }) => policy,
    };
    let reach = match policy.reach() {
        Ok(reach) => reach,
        Err(faults) => return refuse(&faults),
    };
    match act(&reach, command) {
        Ok(said) => {
            let code = say(&said.out);
            tell(&said.err);
            code
        }
        Err(Failure(code, text)) => {
            tell(&format!("tidegate: {text}\n"));
            ExitCode::from(code)
        }
    }
}

fn act(reach: &Reach, command: &Keys) -> Result<Said, Failure> {
    match (command, &reach.state) {
        (Keys::New(new), Some(state)) => store_new(reach, state, new),
        (Keys::New(new), None) => print_new(reach, new),
        (_, None) => Err(Failure::usage(
            "the policy sets no `state`: all keys stand in the policy file, under `agents.keys`",
        )),
        (Keys::List(_), Some(state)) => {
            let keys = reach_kept(reach, state)?.map_or(Ok(Vec::new()), Book::list)?;
            Ok(Said { out: show::table(&keys), err: String::new() })
        }
        (Keys::Revoke(Revoke { id, .. }), Some(state)) => {
            let unknown = || KeyError::Unknown { id: id.clone() };
            let view = reach_kept(reach, state)?.ok_or_else(unknown)?.revoke(id)?;
            let err = format!("revoked {} of {}\n", view.id, view.agent);
            Ok(Said { out: String::new(), err })
        }
    }
}

/// For the store.
fn store_new(reach: &Reach, state: &Path, new: &New) -> Result<Said, Failure> {
    // before a directory is made for it
    record(new, &NewKey::generate().map_err(Failure::cannot)?, &[]).check()?;
    let book = Book::reach(reach, state)?;
    let (key, id) = book.add(new)?;
    let directory = state.display();
    let err = format!("stored as {id} in {directory}; the key is not shown again\n");
    Ok(Said { out: format!("{}\n", key.expose()), err })
}

/// For the policy file.
fn print_new(reach: &Reach, new: &New) -> Result<Said, Failure> {
    let key = NewKey::generate().map_err(Failure::cannot)?;
    record(new, &key, &[]).check()?;
    let hash = match &reach.pepper {
        Some(pepper) => show::Hash::Hmac(key.hmac(pepper.expose().as_bytes())),
        None => show::Hash::Sha256(key.sha256()),
    };
    let err = format!(
        "the key is not shown again; add this to the policy file:\n\nagents:\n  keys:\n    - {}\n",
        show::line(new, &hash)
    );
    Ok(Said { out: format!("{}\n", key.expose()), err })
}

fn record(new: &New, key: &NewKey, pepper: &[u8]) -> NewRecord {
    NewRecord {
        id: key.id(),
        hmac: KeyHmac(key.hmac(pepper)),
        agent: new.agent.clone(),
        team: new.team.clone(),
        expires: new.expires,
        models: new.models.clone(),
        routes: new.routes.clone(),
    }
}

/// The stored keys, wherever they can be reached.
enum Book {
    Own(Box<Store>),
    Running { instance: Instance, pepper: Pepper },
}

/// As [`Book::reach`]; `None`, and nothing is made, where there is no store yet.
fn reach_kept(reach: &Reach, state: &Path) -> Result<Option<Book>, Failure> {
    if store::exists(state) { Book::reach(reach, state).map(Some) } else { Ok(None) }
}

impl Book {
    fn reach(reach: &Reach, state: &Path) -> Result<Self, Failure> {
        match Store::open_patiently(state, BRIEFLY) {
            Ok(store) => Ok(Self::Own(Box::new(store))),
            Err(StoreError::InUse { .. }) => {
                let instance = Instance::find(reach, state).map_err(Failure::cannot)?;
                let pepper = store::read_pepper(state).map_err(Failure::cannot)?;
                Ok(Self::Running { instance, pepper })
            }
            Err(error) => Err(Failure(NO_STORE, error.to_string())),
        }
    }

    /// The key and its id, once it is kept.
    fn add(self, new: &New) -> Result<(NewKey, String), Failure> {
        let mut fault = None;
        for _ in 0..TRIES {
            let key = NewKey::generate().map_err(Failure::cannot)?;
            let added = match &self {
                Self::Own(store) => {
                    let record = record(new, &key, store.pepper().expose());
                    store.keys().add(record, now()).map_err(Failure::from).and_then(kept)
                }
                Self::Running { instance, pepper } => {
                    instance.add(&record(new, &key, pepper.expose()))
                }
            };
            match added {
                Ok(()) => {
                    self.close()?;
                    let id = key.id();
                    return Ok((key, id));
                }
                Err(Failure(BAD_USAGE, text)) => fault = Some(Failure::usage(text)),
                Err(other) => return Err(other),
            }
        }
        Err(fault.unwrap_or_else(|| Failure::cannot("no key could be made")))
    }

    fn list(self) -> Result<Vec<KeyView>, Failure> {
        match &self {
            Self::Own(store) => Ok(store.keys().list().iter().map(KeyRecord::view).collect()),
            Self::Running { instance, .. } => instance.list(),
        }
    }

    fn revoke(self, id: &str) -> Result<KeyView, Failure> {
        match &self {
            Self::Own(store) => {
                let (view, ack) = store.keys().revoke(id, now())?;
                kept(ack)?;
                self.close()?;
                Ok(view)
            }
            Self::Running { instance, .. } => instance.revoke(id),
        }
    }

    fn close(self) -> Result<(), Failure> {
        match self {
            Self::Own(store) if !store.close(PATIENCE) => {
                Err(Failure::cannot("the store could not be written to its end"))
            }
            _ => Ok(()),
        }
    }
}

/// Waits until it is on the disk.
fn kept(ack: Ack) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(Failure::cannot)?;
    runtime.block_on(ack).map_err(Failure::cannot)
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}

fn expiry(text: &str) -> Result<i64, String> {
    expiry_after(now(), text)
}

/// In Unix seconds.
fn expiry_after(now: i64, text: &str) -> Result<i64, String> {
    const EXPECTED: &str = "expected a time to come, like 30d, 2027-01-01 or 2027-01-01T12:00:00Z";
    let within = units::duration(text).ok().map(|within| now + within.as_secs().cast_signed());
    let at =
        within.or_else(|| text.parse::<Timestamp>().ok().map(Timestamp::as_second)).or_else(|| {
            let day = text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok()?;
            Some(day.timestamp().as_second())
        });
    at.filter(|at| *at > now).ok_or_else(|| EXPECTED.to_owned())
}
