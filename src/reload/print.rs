//! What a file holds, told cheaply: metadata first, a hash of the content only when it differs.
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A file written this recently may be written again within one tick of the file system's clock.
const RACY: Duration = Duration::from_secs(2);

/// One look at one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Print {
    /// `None`: not there, or not readable.
    content: Option<blake3::Hash>,
    metadata: Option<Stamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    size: u64,
    /// Device and inode, behind all symlinks.
    identity: (u64, u64),
    /// So young that an equal stamp proves nothing.
    racy: bool,
}

impl Print {
    pub(super) fn read(path: &Path) -> Self {
        // the stamp first: a write in between makes the next look read again
        let metadata = std::fs::metadata(path).ok().map(|found| Stamp::of(&found));
        Self { content: hash(path).ok(), metadata }
    }

    /// The file as it is now; its content is read only if the metadata says so.
    pub(super) fn again(self, path: &Path) -> Self {
        let metadata = std::fs::metadata(path).ok().map(|found| Stamp::of(&found));
        let same = match (&self.metadata, &metadata) {
            (Some(then), Some(now)) => !then.racy && then == now,
            (None, None) => true,
            _ => false,
        };
        if same { self } else { Self::read(path) }
    }

    /// Whether the content is another one; metadata does not count.
    pub(super) fn differs(&self, other: &Self) -> bool {
        self.content != other.content
    }
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        let age = found.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        Self {
            modified: (found.mtime(), found.mtime_nsec()),
            size: found.size(),
            identity: (found.dev(), found.ino()),
            racy: age.is_none_or(|age| age < RACY),
        }
    }
}

fn hash(path: &Path) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Same size, inode and time: what a second write within one clock tick looks like.
    fn rewritten_unnoticed(age: Duration) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let at = SystemTime::now() - age;
        let write = |content: &str| {
            std::fs::write(&path, content).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        };
        write("a");
        let then = Print::read(&path);
        write("b");
        let now = then.clone().again(&path);
        !now.differs(&then)
    }

    #[test]
    fn a_young_file_is_read_again_and_an_old_one_is_not() {
        assert!(!rewritten_unnoticed(Duration::ZERO));
        assert!(rewritten_unnoticed(Duration::from_mins(1)));
    }
}
