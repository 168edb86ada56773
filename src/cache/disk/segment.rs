//! A file of records, one behind the other; it only grows until it is deleted as a whole.
//!
//! It begins with a salt of its own, which nobody can know who only chooses what is in the records.
//! What is behind the first head that is not whole is nothing: it is cut off. Readers share the
//! open file; a file that is deleted meanwhile is still read to its end.
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::record::{self, Head, LONGEST_HEAD, SALT, SUM, Spot};
use crate::cache::{Entry, Key};

const MAGIC: [u8; 8] = *b"TGcache\x01";
/// Bytes before the first record.
pub(super) const HEADER: u64 = (MAGIC.len() + SALT + SUM) as u64;
/// What is read at once when heads are looked for.
const WINDOW: usize = 4 * LONGEST_HEAD;
const EXTENSION: &str = "seg";

pub(super) struct Segment {
    pub(super) id: u32,
    path: PathBuf,
    file: File,
    salt: [u8; SALT],
}

/// A record that is to be erased.
pub(super) struct Meant {
    offset: u64,
    head: Vec<u8>,
    payload: u32,
}

impl Segment {
    /// A new one, without records. Leaves nothing behind when it fails.
    pub(super) fn create(directory: &Path, id: u32) -> io::Result<Self> {
        let path = directory.join(format!("{id:08x}.{EXTENSION}"));
        let mut salt = [0; SALT];
        File::open("/dev/urandom")?.read_exact(&mut salt)?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let mut header = [&MAGIC[..], &salt].concat();
        header.extend(header_sum(&header));
        if let Err(error) = file.write_all_at(&header, 0) {
            // if it stays it is no segment, and is deleted at the next start
            let _ = delete(&path);
            return Err(error);
        }
        Ok(Self { id, path, file, salt })
    }

    /// One of an earlier process, and its length. `None`: it is none, or damaged.
    pub(super) fn open(path: PathBuf, id: u32) -> io::Result<Option<(Self, u64)>> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let len = file.metadata()?.len();
        let mut header = [0; HEADER as usize];
        match file.read_exact_at(&mut header, 0) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let (said, sum) = header.split_at(MAGIC.len() + SALT);
        let Some(salt) = said.strip_prefix(&MAGIC).and_then(|salt| salt.try_into().ok()) else {
            return Ok(None);
        };
        Ok((sum == header_sum(said)).then_some((Self { id, path, file, salt }, len)))
    }

    /// The number of the segment that a file of this name is.
    pub(super) fn id(path: &Path) -> Option<u32> {
        let stem = path.file_stem()?.to_str()?;
        let named = path.extension()? == EXTENSION && stem.len() == 8;
        named.then(|| u32::from_str_radix(stem, 16).ok()).flatten()
    }

    /// Calls `found` with every record in `..len` and where it begins. Where the last whole one
    /// ends.
    pub(super) fn walk(&self, len: u64, mut found: impl FnMut(u64, &Head<'_>)) -> io::Result<u64> {
        let mut window = vec![0; WINDOW];
        let (mut begin, mut filled) = (0, 0);
        let mut at = HEADER;
        while at < len {
            let needed = (LONGEST_HEAD as u64).min(len - at);
            if at + needed > begin + filled {
                begin = at;
                filled = (WINDOW as u64).min(len - at);
                match self.file.read_exact_at(&mut window[..filled as usize], begin) {
                    // shorter than it was
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                    read => read?,
                }
            }
            let bytes = &window[(at - begin) as usize..filled as usize];
            let Some(head) = record::head(self.spot(at), bytes) else { break };
            if head.whole() > len - at {
                break;
            }
            found(at, &head);
            at += head.whole();
        }
        Ok(at.min(len))
    }

    /// Writes a record at `offset`, where the last one ends. `false`: it is too long in some part,
    /// and nothing was written. After an error anything may stand there.
    pub(super) fn write(
        &self,
        offset: u64,
        key: &Key,
        entry: &Entry,
        scratch: &mut Vec<u8>,
    ) -> io::Result<bool> {
        if record::encode(self.spot(offset), key, entry, scratch).is_none() {
            return Ok(false);
        }
        self.file.write_all_at(scratch, offset)?;
        self.file.write_all_at(&entry.body, offset + scratch.len() as u64)?;
        Ok(true)
    }

    /// The answer in a record. `None`: it is not what was written. Blocks.
    pub(super) fn read(&self, offset: u64, len: u32, key: &Key) -> io::Result<Option<Entry>> {
        let mut record = vec![0; len as usize];
        match self.file.read_exact_at(&mut record, offset) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        Ok(record::decode(self.spot(offset), key, &Bytes::from(record)))
    }

    /// What is needed to erase a record later.
    pub(super) fn meant(&self, offset: u64, head: &Head<'_>) -> Meant {
        let erased = record::erased(self.spot(offset), head);
        Meant { offset, head: erased, payload: head.payload }
    }

    /// Overwrites records; they are gone from the disk when it returns well. Blocks for a sync.
    pub(super) fn erase(&self, records: &[Meant]) -> io::Result<()> {
        let zeros = vec![0; WINDOW];
        for Meant { offset, head, payload } in records {
            self.file.write_all_at(head, *offset)?;
            let mut at = offset + head.len() as u64;
            let end = at + u64::from(*payload);
            while at < end {
                let part = (WINDOW as u64).min(end - at);
                self.file.write_all_at(&zeros[..part as usize], at)?;
                at += part;
            }
        }
        self.file.sync_data()
    }

    /// Ends it at `len`.
    pub(super) fn cut(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    /// Somebody else has deleted it.
    pub(super) fn is_gone(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn spot(&self, offset: u64) -> Spot<'_> {
        Spot { salt: &self.salt, offset }
    }
}

/// Deletes a file that may be gone already.
pub(super) fn delete(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn header_sum(said: &[u8]) -> [u8; SUM] {
    let mut sum = [0; SUM];
    blake3::Hasher::new().update(said).finalize_xof().fill(&mut sum);
    sum
}
