//! Whether we can listen where the policy says, and who does so if we cannot.
//!
//! A port is tried by taking it for a moment, as the start would. One that is taken is looked up in
//! the kernel's table, and its socket among the descriptors of all processes that we may look into.
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::finding::Finding;
use crate::cli::instance::{Instance, reachable};
use crate::config::{Address, Config};

const CHECK: &str = "ports";

/// A process that listens.
#[derive(Debug, PartialEq, Eq)]
struct Holder {
    pid: u32,
    /// As the kernel has it: 15 characters at most.
    name: String,
}

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let admin = config.admin.as_ref().map(|admin| (&admin.at, "admin"));
    let all = config.listen.iter().map(|listen| (&listen.at, "listen")).chain(admin);
    all.map(|(at, what)| match at {
        Address::Tcp(at) => tcp(*at, what, config),
        Address::Unix(path) => unix(path, what),
        Address::Inherited(name) => {
            let name = name.as_deref().unwrap_or_default();
            Finding::ok(CHECK, format!("{what} systemd:{name}: systemd hands it over"))
        }
    })
    .collect()
}

fn tcp(at: SocketAddr, what: &str, config: &Config) -> Finding {
    let error = match TcpListener::bind(at) {
        Ok(_) if at.port() == 0 => {
            return Finding::ok(CHECK, format!("{what} {at}: any free port"));
        }
        Ok(_) => return Finding::ok(CHECK, format!("{what} {at}: free")),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::AddrInUse => taken(at, what, holder(at), || answers(config)),
        ErrorKind::PermissionDenied => {
            let advice = "systemd/tidegate.socket holds ports below 1024 for it; or another port";
            Finding::fail(CHECK, format!("{what} {at}: not allowed"), advice)
        }
        ErrorKind::AddrNotAvailable => {
            let advice = "`ip address` shows those that there are";
            Finding::fail(CHECK, format!("{what} {at}: no address of this machine"), advice)
        }
        _ => Finding::fail(CHECK, format!("{what} {at}: {error}"), "another address"),
    }
}

/// `ours`: whether an instance of this policy answers.
fn taken(
    at: SocketAddr,
    what: &str,
    holder: Option<Holder>,
    ours: impl FnOnce() -> bool,
) -> Finding {
    let who = match &holder {
        Some(Holder { pid, name }) => format!("{name}, process {pid}"),
        None => "a process that we may not look into".to_owned(),
    };
    if holder.is_none_or(|holder| holder.name == "tidegate") && ours() {
        return Finding::ok(CHECK, format!("{what} {at}: taken by the instance that runs ({who})"));
    }
    let advice = "end it, or take another port: --listen, --admin, or the policy";
    Finding::fail(CHECK, format!("{what} {at}: taken by {who}"), advice)
}

/// Whether a Tidegate answers where the policy says that its admin listener is.
fn answers(config: &Config) -> bool {
    // over TLS it cannot be asked: then its name has to do
    if config.admin.as_ref().is_some_and(|admin| admin.tls.is_some()) {
        return true;
    }
    let at = reachable(config.admin.as_ref().map(|admin| admin.at.clone()));
    let ask = |at| Instance { at, token: None }.ask("GET", "/state", "");
    at.ok().and_then(|at| ask(at).ok()).is_some_and(|answer| answer.is_some())
}

fn unix(path: &Path, what: &str) -> Finding {
    let shown = path.display();
    match UnixStream::connect(path) {
        Ok(_) => {
            let says = format!("{what} unix:{shown}: somebody listens there already");
            Finding::warn(
                CHECK,
                says,
                "well if that is the running instance; else a start would fail",
            )
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let advice = "run it as the service's user";
            Finding::fail(CHECK, format!("{what} unix:{shown}: not allowed"), advice)
        }
        // a file that nobody listens at is taken over
        Err(_) => match path.parent().map(fs::metadata) {
            Some(Ok(parent)) if parent.is_dir() => {
                Finding::ok(CHECK, format!("{what} unix:{shown}: free"))
            }
            _ => {
                let says = format!("{what} unix:{shown}: its directory is not there");
                Finding::fail(CHECK, says, "make it, or RuntimeDirectory=tidegate in the unit")
            }
        },
    }
}

fn holder(at: SocketAddr) -> Option<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let inode = tables.iter().find_map(|table| inode(&fs::read_to_string(table).ok()?, at))?;
    owner(Path::new("/proc"), inode)
}

/// Of the socket that listens there, by the kernel's table.
fn inode(table: &str, at: SocketAddr) -> Option<u64> {
    const LISTENS: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (ip, port) = fields.nth(1)?.split_once(':')?;
        let state = fields.nth(1)?;
        let same = state == LISTENS && u16::from_str_radix(port, 16) == Ok(at.port());
        let meets = address(ip)
            .is_some_and(|ip| ip == at.ip() || ip.is_unspecified() || at.ip().is_unspecified());
        if same && meets { fields.nth(5)?.parse().ok() } else { None }
    })
}

/// Words of four bytes, each as this machine has it in memory.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    if hex.len() == 8 {
        return Some(IpAddr::from(word(0)?));
    }
    let mut bytes = [0; 16];
    for at in 0..4 {
        bytes[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
    }
    Some(IpAddr::from(bytes).to_canonical())
}

/// The process that has this socket open, if we may see that.
fn owner(proc: &Path, inode: u64) -> Option<Holder> {
    let wanted = format!("socket:[{inode}]");
    let has = |pid: u32| -> io::Result<bool> {
        let open = fs::read_dir(proc.join(pid.to_string()).join("fd"))?;
        Ok(open.flatten().any(|fd| {
            fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
        }))
    };
    let all = fs::read_dir(proc).ok()?.flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    // others' processes are closed to us, and some end meanwhile
    let pid = pids.into_iter().find(|pid| has(*pid).unwrap_or(false))?;
    let name = fs::read_to_string(proc.join(pid.to_string()).join("comm")).ok()?;
    Some(Holder { pid, name: name.trim_end().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Fail, Ok};
    use super::*;

    #[test]
    fn who_holds_a_port_is_found() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = held.local_addr().unwrap();
        let holder = holder(at).expect("it is ours");
        assert_eq!(holder.pid, std::process::id());
        let found = taken(at, "listen", Some(holder), || false);
        let id = std::process::id().to_string();
        assert!(found.verdict == Fail && found.says.contains(&id), "{found:?}");
        drop(held);
        assert_eq!(super::holder(at), None);
    }

    #[test]
    fn an_instance_of_ours_is_no_trouble() {
        let at = SocketAddr::from(([127, 0, 0, 1], 8080));
        let of = |name: &str| Some(Holder { pid: 7, name: name.to_owned() });
        assert_eq!(taken(at, "listen", of("tidegate"), || true).verdict, Ok);
        assert_eq!(taken(at, "listen", None, || true).verdict, Ok);
        assert_eq!(taken(at, "listen", of("tidegate"), || false).verdict, Fail);
        assert_eq!(taken(at, "listen", of("nginx"), || true).verdict, Fail);
    }

    #[test]
    fn the_table_of_the_kernel_is_read() {
        assert_eq!(address("00000000"), Some(IpAddr::from([0, 0, 0, 0])));
        assert_eq!(address("zz"), None);
        let here = "127.0.0.1:8080".parse().unwrap();
        let table = "head\n 0: 00000000:1F90 00000000:0000 0A 0:0 0:0 0 0 0 4711 1\n";
        assert_eq!(inode(table, here), Some(4711));
        // one that is connected, not listening
        assert_eq!(inode(&table.replace(" 0A ", " 01 "), here), None);
    }

    #[test]
    fn a_socket_needs_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(unix(&directory.path().join("x.sock"), "listen").verdict, Ok);
        assert_eq!(unix(&directory.path().join("no/x.sock"), "listen").verdict, Fail);
    }
}
