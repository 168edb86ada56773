//! Room held back for bad times: a file that is let go when the disk is full.
//!
//! What must still be written then (the ends of tasks, the marks of budgets) is written into the
//! room it leaves. It is put back when the disk has twice its size free. Until then nothing new is
//! admitted, unless the database has as much room inside (`writer.rs`). Its blocks are allocated, not
//! merely promised.
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

pub(super) const BALLAST: &str = "ballast";
/// In bytes; so much must be free beside it.
const SIZE: u64 = 16 << 20;

/// How many bytes are free on the disk of a directory.
pub(super) type Free = Box<dyn Fn(&Path) -> io::Result<u64> + Send + Sync>;

pub(super) struct Ballast {
    path: PathBuf,
    size: u64,
    free: Free,
}

impl Ballast {
    pub(super) fn new(directory: &Path) -> Self {
        Self { path: directory.join(BALLAST), size: SIZE, free: Box::new(free) }
    }

    #[cfg(test)]
    pub(super) fn with(directory: &Path, size: u64, free: Free) -> Self {
        Self { path: directory.join(BALLAST), size, free }
    }

    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes free on its disk, if that can be told.
    pub(super) fn free(&self) -> io::Result<u64> {
        (self.free)(self.path.parent().unwrap_or(Path::new(".")))
    }

    /// Whether it is there, or could be made.
    pub(super) fn is_ready(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|file| file.len() == self.size) || self.restore()
    }

    pub(super) fn release(&self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != ErrorKind::NotFound
        {
            let path = self.path.display();
            tracing::warn!(%path, %error, "room that was held back cannot be freed");
        }
    }

    /// Makes it, if there is room for it and as much again.
    pub(super) fn restore(&self) -> bool {
        if !self.free().is_ok_and(|free| free >= 2 * self.size) {
            return false;
        }
        let made = self.make();
        if let Err(error) = &made {
            let path = self.path.display();
            tracing::warn!(%path, %error, "no room can be held back for a full disk");
            let _ = fs::remove_file(&self.path);
        }
        made.is_ok()
    }

    fn make(&self) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.size) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let zeros = vec![0; 1 << 20];
                for _ in 0..self.size >> 20 {
                    file.write_all(&zeros)?;
                }
            }
            made => made?,
        }
        file.sync_all()
    }
}

fn free(directory: &Path) -> io::Result<u64> {
    let disk = statvfs(directory)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
