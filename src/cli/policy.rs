//! The policy as commands that read it are told of it: the file, and what stands in its place.
use std::path::PathBuf;

use clap::Args;

use super::{Admin, admin, admin_token};
use crate::config::{self, Address, Overrides, Source};

#[derive(Debug, Args)]
pub(super) struct Policy {
    /// The policy file; without it, the known vendors are served
    #[arg(short, long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where agents connect, instead of what the file says; may be repeated
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "TIDEGATE_LISTEN",
        value_parser = config::address,
        value_delimiter = ','
    )]
    pub listen: Vec<Address>,
    /// The admin listener, instead of what the file says; or off
    #[arg(long, value_name = "ADDRESS", env = "TIDEGATE_ADMIN", value_parser = admin)]
    pub admin: Option<Admin>,
}

impl Policy {
    /// As `run` reads it with these arguments and this environment.
    pub(super) fn source(&self) -> Source {
        let overrides = Overrides {
            listen: self.listen.clone(),
            admin: self.admin.clone().map(|Admin(at)| at),
            admin_token: admin_token(),
            ..Overrides::default()
        };
        Source { path: self.config.clone(), overrides }
    }
}
