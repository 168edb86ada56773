//! The way in: a policy file, or none, and what the command line puts in its place.
//!
//! Everything here blocks on small files: it belongs to the start, or to a blocking thread.
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::fault::Faults;
use super::listen::clash;
use super::read::{ReadFile, Reader, World};
use super::{
    Address, Admin, Config, Listen, ListenTls, LogForm, Otlp, Secret, file, otlp, validate,
};
use crate::units::show_size;

/// Largest policy file that is read.
const LARGEST: u64 = 1 << 20;

/// A configuration and what it was made of.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// All that must be watched: the policy file, secrets, certificates, keys.
    pub files: Vec<PathBuf>,
    /// 16 hexadecimal digits over the content of all files: equal means that nothing changed.
    pub digest: String,
}

/// What a command needs to find an instance and its store: the rest of the policy is not looked
/// at, nor are the variables that it names.
#[derive(Debug, Clone, PartialEq)]
pub struct Reach {
    /// As in [`Config`].
    pub admin: Option<Admin>,
    /// As in [`Config`].
    pub state: Option<PathBuf>,
    /// That of `agents`; read only without `state`, whose store has one of its own.
    pub pepper: Option<Secret>,
}

impl From<&Config> for Reach {
    fn from(config: &Config) -> Self {
        let (admin, state) = (config.admin.clone(), config.state.clone());
        Self { admin, state, pepper: config.agents.pepper.clone() }
    }
}

/// Where the configuration comes from, each time it is loaded.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// `None`: the known vendors.
    pub path: Option<PathBuf>,
    pub overrides: Overrides,
}

/// What the command line sets; it wins over the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// Empty: as in the file.
    pub listen: Vec<Address>,
    /// `Some(None)`: no admin listener.
    pub admin: Option<Option<Address>>,
    /// What the admin listener asks for.
    pub admin_token: Option<Secret>,
    pub level: Option<String>,
    pub form: Option<LogForm>,
}

impl Source {
    pub fn load(&self) -> Result<Loaded, Faults> {
        let mut loaded = if let Some(path) = &self.path {
            load(path)?
        } else {
            let mut config = without_file();
            config.telemetry.otlp = of_environment()?;
            Loaded { config, files: Vec::new(), digest: digest(b"", &[]) }
        };
        self.overrides.apply(&mut loaded.config)?;
        if let Some(admin) = &loaded.config.admin {
            let name = self.path.as_ref().map(|path| path.display().to_string());
            let name = name.as_deref().unwrap_or("command line");
            admin.check(name, loaded.config.state.is_some())?;
        }
        Ok(loaded)
    }

    /// Where the instance of this policy is found. A variable of an upstream may be unset here: who
    /// asks an instance need not have its keys.
    pub fn reach(&self) -> Result<Reach, Faults> {
        let Some(path) = &self.path else { return Ok(Reach::from(&without_file())) };
        let (name, text) = read_text(path)?;
        let env = |name: &str| std::env::var(name).ok();
        let reader = Reader::new(&name, world(&env, &read_bounded, path));
        validate::reach(&reader, &file::parse(&name, &text)?)
    }
}

impl Overrides {
    fn apply(&self, config: &mut Config) -> Result<(), Faults> {
        if !self.listen.is_empty() {
            let tls = if self.listen.iter().all(is_unix) { None } else { in_common(config)? };
            let there =
                |at: &Address| Listen { at: at.clone(), tls: tls.clone().filter(|_| !is_unix(at)) };
            config.listen = self.listen.iter().map(there).collect();
        }
        if let Some(admin) = &self.admin {
            let before = config.admin.take();
            config.admin = admin.clone().map(|at| moved(before, at));
        }
        if let (Some(admin), Some(token)) = (&mut config.admin, &self.admin_token) {
            admin.token = Some(token.clone());
        }
        if let Some(level) = &self.level {
            config.telemetry.level.clone_from(level);
        }
        if let Some(form) = self.form {
            config.telemetry.form = form;
        }
        let listen = config.listen.iter().map(|listen| &listen.at);
        let all: Vec<&Address> = listen.chain(config.admin.iter().map(|admin| &admin.at)).collect();
        let twice = all.iter().enumerate().any(|(i, at)| all[..i].iter().any(|b| clash(at, b)));
        if twice {
            let found = "an address that two listeners take".to_owned();
            let expected = "an address of its own for each --listen and --admin";
            return Err(Faults::whole("command line", found, expected));
        }
        Ok(())
    }
}

fn is_unix(at: &Address) -> bool {
    matches!(at, Address::Unix(_))
}

/// The TLS of the policy's listeners, for those that take their place: a door that asked for
/// certificates does not stand open because it was moved.
fn in_common(config: &Config) -> Result<Option<ListenTls>, Faults> {
    let mut all = config.listen.iter().filter(|listen| !is_unix(&listen.at)).map(|one| &one.tls);
    let first = all.next().cloned().flatten();
    if all.all(|tls| *tls == first) {
        return Ok(first);
    }
    let found = "listeners with different `tls` in the policy, and --listen for all of them";
    let expected = "their addresses in the policy, or the same `tls` for each of them there";
    Err(Faults::whole("command line", found.to_owned(), expected))
}

/// The same door elsewhere. A Unix socket has no TLS.
fn moved(before: Option<Admin>, at: Address) -> Admin {
    let mut admin = before.unwrap_or_else(|| Admin::at(at.clone()));
    if is_unix(&at) {
        admin.tls = None;
    }
    Admin { at, ..admin }
}

fn of_environment() -> Result<Option<Otlp>, Faults> {
    otlp::of_environment(&|name| std::env::var(name).ok()).map_err(|unread| {
        let found = format!("the variable {} of another form", unread.variable);
        Faults::whole("environment", found, unread.expected)
    })
}

/// Reads a policy file, with the variables of this process.
pub fn load(path: &Path) -> Result<Loaded, Faults> {
    let (name, text) = read_text(path)?;
    let env = |name: &str| std::env::var(name).ok();
    let reader = Reader::new(&name, world(&env, &read_bounded, path));
    let config = validate::root(&reader, &file::parse(&name, &text)?)?;
    let read = reader.files.take();
    let digest = digest(text.as_bytes(), &read);
    let files = std::iter::once(path.to_owned()).chain(read.into_iter().map(|(path, _)| path));
    let mut files: Vec<PathBuf> = files.collect();
    files.dedup();
    Ok(Loaded { config, files, digest })
}

/// The file's name, as faults say it, and its text.
fn read_text(path: &Path) -> Result<(String, String), Faults> {
    let name = path.display().to_string();
    let whole = |found: String, expected: &str| Faults::whole(&name, found, expected);
    let bytes = read_bounded(path, LARGEST).map_err(|error| {
        whole(format!("a file that cannot be read: {error}"), "a policy file of 1 MiB at most")
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        whole(format!("a byte that is not UTF-8, at offset {at}"), "a policy file in UTF-8")
    })?;
    Ok((name, text))
}

/// Reads the text of a policy file. `name` is its path: it stands in the faults, and relative
/// paths in the text start at its directory.
pub fn parse(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Faults> {
    parse_with(name, text, env, &read_bounded)
}

pub(super) fn parse_with(
    name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    read: ReadFile<'_>,
) -> Result<Config, Faults> {
    if text.len() as u64 > LARGEST {
        let found = format!("a text of {} bytes", text.len());
        return Err(Faults::whole(name, found, "a policy file of 1 MiB at most"));
    }
    let node = file::parse(name, text)?;
    validate::root(&Reader::new(name, world(env, read, Path::new(name))), &node)
}

/// What is served when there is no file: every known vendor under `/NAME`, and the bare paths
/// of the SDKs by their dialect.
pub fn without_file() -> Config {
    validate::standard()
}

fn world<'w>(
    env: &'w dyn Fn(&str) -> Option<String>,
    read: ReadFile<'w>,
    file: &'w Path,
) -> World<'w> {
    World { env, read, dir: file.parent().unwrap_or(Path::new("")) }
}

fn read_bounded(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    let mut bytes = Vec::new();
    file.take(largest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        let larger = format!("larger than {}", show_size(largest));
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, larger));
    }
    Ok(bytes)
}

fn digest(text: &[u8], files: &[(PathBuf, blake3::Hash)]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(blake3::hash(text).as_bytes());
    for (_, hash) in files {
        hasher.update(hash.as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(cert: &str) -> ListenTls {
        let (cert, key) = (PathBuf::from(cert), PathBuf::from("key.pem"));
        ListenTls { cert, key, client_ca: Some("ca.pem".into()), client_required: true }
    }

    fn tcp(port: u16, tls: Option<ListenTls>) -> Listen {
        Listen { at: Address::Tcp(([127, 0, 0, 1], port).into()), tls }
    }

    /// The policy's listeners, after `--listen` for these ports and a Unix socket.
    fn moved_to(listen: Vec<Listen>, ports: &[u16]) -> Result<Vec<Listen>, Faults> {
        let mut config = Config { listen, ..without_file() };
        let tcp = ports.iter().map(|port| tcp(*port, None).at);
        let listen = tcp.chain([Address::Unix("/run/a".into())]).collect();
        let overrides = Overrides { listen, ..Overrides::default() };
        overrides.apply(&mut config).map(|()| config.listen)
    }

    #[test]
    fn a_door_that_is_moved_keeps_its_certificates() {
        let unix = Listen { at: Address::Unix("/run/a".into()), tls: None };
        for kept in [None, Some(tls("a.pem"))] {
            let there = vec![tcp(1, kept.clone()), tcp(2, kept.clone()), unix.clone()];
            let moved = moved_to(there, &[3, 4]).unwrap();
            assert_eq!(moved, [tcp(3, kept.clone()), tcp(4, kept), unix.clone()]);
        }
        for other in [None, Some(tls("b.pem"))] {
            let two = vec![tcp(1, Some(tls("a.pem"))), tcp(2, other)];
            let refused = moved_to(two.clone(), &[3]).unwrap_err().to_string();
            assert!(refused.contains("different `tls`"), "{refused}");
            assert_eq!(moved_to(two, &[]).unwrap(), std::slice::from_ref(&unix), "none has TLS");
        }
    }
}
