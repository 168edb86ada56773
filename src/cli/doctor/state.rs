//! The directory of `state`: whose it is, who may look into it, how much room it has, and whether
//! somebody has it open. Nothing is made in it.
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, access, statvfs};
use rustix::process::geteuid;

use super::finding::Finding;
use crate::config::Config;
use crate::store;

const CHECK: &str = "state";
/// What the store keeps back for its own end, and some.
const NONE: u64 = 64 << 20;
const LITTLE: u64 = 1 << 30;

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    config.state.as_deref().map(look).unwrap_or_default()
}

fn look(directory: &Path) -> Vec<Finding> {
    let shown = directory.display();
    let metadata = match fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            let says = format!("{shown}: no directory");
            return vec![Finding::fail(CHECK, says, "move the file away, or name another")];
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return vec![missing(directory)],
        Err(error) => {
            let advice = "run this as the service's user";
            return vec![Finding::fail(CHECK, format!("{shown}: {error}"), advice)];
        }
    };
    let mut found = vec![owned(directory, metadata.uid(), metadata.mode())];
    found.extend(room(directory));
    found.extend(open(directory));
    found
}

/// It is made at the start, its parent is not.
fn missing(directory: &Path) -> Finding {
    let shown = directory.display();
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    if access(parent, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
        return Finding::ok(CHECK, format!("{shown}: made at the start"));
    }
    let says = format!("{shown}: not there, and it cannot be made in {}", parent.display());
    Finding::fail(CHECK, says, "make it for the service's user, or StateDirectory= in the unit")
}

fn owned(directory: &Path, owner: u32, mode: u32) -> Finding {
    let shown = directory.display();
    let (us, mode) = (geteuid().as_raw(), mode & 0o777);
    if access(directory, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let says = format!("{shown}: user {us} may not write there; it is user {owner}'s");
        return Finding::fail(CHECK, says, "run this as the service's user, or chown it");
    }
    if mode & 0o077 != 0 {
        let says = format!("{shown}: mode {mode:03o}, others may look into it");
        return Finding::warn(CHECK, says, format!("chmod 700 {shown}"));
    }
    if owner != us {
        let says = format!("{shown}: user {owner}'s, mode {mode:03o}; this is user {us}");
        return Finding::ok(CHECK, says);
    }
    Finding::ok(CHECK, format!("{shown}: ours, mode {mode:03o}"))
}

fn room(directory: &Path) -> Option<Finding> {
    let disk = statvfs(directory).ok()?;
    Some(free(directory, disk.f_bavail.saturating_mul(disk.f_frsize)))
}

fn free(directory: &Path, bytes: u64) -> Finding {
    let says = format!("{}: {} MiB free", directory.display(), bytes >> 20);
    let advice = "make room: without it budgets and tasks are not kept";
    match bytes {
        ..NONE => Finding::fail(CHECK, says, advice),
        NONE..LITTLE => Finding::warn(CHECK, says, advice),
        _ => Finding::ok(CHECK, says),
    }
}

/// Whoever has the database open holds a lock on its file.
fn open(directory: &Path) -> Option<Finding> {
    let path = directory.join(store::DATABASE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            let says = format!("{}: {error}", path.display());
            return Some(Finding::fail(CHECK, says, "run this as the service's user"));
        }
    };
    match file.try_lock_shared() {
        Ok(()) => Some(Finding::ok(CHECK, format!("{}: nobody has it open", path.display()))),
        Err(TryLockError::WouldBlock) => {
            let says = format!("{}: an instance has it open", path.display());
            Some(Finding::ok(CHECK, says))
        }
        Err(TryLockError::Error(error)) => {
            let says = format!("{}: it cannot be locked: {error}", path.display());
            Some(Finding::warn(CHECK, says, "a disk of this machine, none of the network's"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::finding::Verdict::{self, Fail, Ok, Warn};
    use super::*;
    use crate::store::Store;

    fn verdicts(directory: &Path) -> Vec<Verdict> {
        look(directory).iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn a_directory_is_looked_at_and_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("state");
        assert_eq!(verdicts(&directory), [Ok]);
        assert!(!directory.exists());
        assert_eq!(verdicts(&parent.path().join("no/state")), [Fail]);
        fs::write(parent.path().join("file"), "").unwrap();
        assert_eq!(verdicts(&parent.path().join("file")), [Fail]);

        let store = Store::open(&directory).unwrap();
        let found = look(&directory);
        assert!(found[2].says.ends_with("an instance has it open"), "{found:?}");
        assert!(store.close(std::time::Duration::from_secs(10)));
        let found = look(&directory);
        assert!(found[2].says.ends_with("nobody has it open"), "{found:?}");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(look(&directory)[0].verdict, Warn);
    }

    #[test]
    fn a_full_disk_is_told() {
        let at = Path::new("/x");
        assert_eq!(free(at, 10 << 20).verdict, Fail);
        assert_eq!(free(at, 100 << 20).verdict, Warn);
        assert_eq!(free(at, 10 << 30).verdict, Ok);
    }
}
