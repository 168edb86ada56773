//! Asks the instance that has the store open for `/keys`.
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::Failure;
use crate::cli::instance;
use crate::config::{Address, Reach};
use crate::store::{self, KeyView, NewRecord};

/// A running one, and the token of its store.
pub(super) struct Instance(instance::Instance);

#[derive(Deserialize)]
struct Listed {
    keys: Vec<KeyView>,
}

impl Instance {
    /// By its admin address. The text says why it cannot be asked.
    pub(super) fn find(reach: &Reach, state: &Path) -> Result<Self, String> {
        let held = format!("another process has {} open", state.display());
        let at = match &reach.admin {
            Some(admin) if admin.tls.is_some() => {
                Err("its admin listener speaks TLS, which this command does not: stop it first")
            }
            Some(admin) => match &admin.at {
                Address::Tcp(at) if at.port() == 0 => {
                    Err("the policy's `admin` has no port: say with --admin which one it took")
                }
                at @ (Address::Tcp(_) | Address::Unix(_)) => Ok(at.clone()),
                Address::Inherited(_) => {
                    Err("its admin socket comes from systemd: say with --admin where it is")
                }
            },
            None => Err("it has no admin listener to be asked at: stop it first"),
        };
        let at = at.map_err(|why| format!("{held}, and {why}"))?;
        let token = store::read_token(state).map_err(|error| format!("{held}, but {error}"))?;
        Ok(Self(instance::Instance { at, token: Some(token) }))
    }

    pub(super) fn add(&self, record: &NewRecord) -> Result<(), Failure> {
        let body = serde_json::to_string(record).map_err(Failure::cannot)?;
        self.ask("POST", "/keys", &body).map(drop)
    }

    pub(super) fn list(&self) -> Result<Vec<KeyView>, Failure> {
        let answer = self.ask("GET", "/keys", "")?;
        let listed: Listed = serde_json::from_value(answer).map_err(|_| self.strange())?;
        Ok(listed.keys)
    }

    pub(super) fn revoke(&self, id: &str) -> Result<KeyView, Failure> {
        // what stands in no path can be no id
        let plain: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
        let answer = self.ask("DELETE", &format!("/keys/{plain}"), "")?;
        serde_json::from_value(answer).map_err(|_| self.strange())
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value, Failure> {
        let answer = self.0.ask(method, path, body).map_err(|error| {
            Failure::cannot(format!(
                "the instance that has the store open does not answer at {}: {error}",
                instance::show(&self.0.at)
            ))
        })?;
        let (status, value) = answer.ok_or_else(|| self.strange())?;
        let said = || value["error"]["message"].as_str().unwrap_or("no reason is given").to_owned();
        match status {
            200..300 => Ok(value),
            400 | 404 | 409 => Err(Failure::usage(said())),
            401 => Err(Failure::cannot(format!(
                "the instance at {} does not know the token: another one has the store open",
                instance::show(&self.0.at)
            ))),
            _ => Err(Failure::cannot(said())),
        }
    }

    fn strange(&self) -> Failure {
        Failure::cannot(format!(
            "what answers at {} is no Tidegate with this store",
            instance::show(&self.0.at)
        ))
    }
}
