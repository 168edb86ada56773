//! The files of the store: `tidegate.redb`, `pepper` and `admin.token`, each for its owner alone.
//!
//! A file that must never be seen half made is made under another name and then linked to its own:
//! a crash in between leaves nothing under it. The database is whole at its first sight too: redb
//! takes a file whose making was cut short for a foreign one.
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, DatabaseError, ReadableDatabase as _};
use redb::{StorageError, TableError, TableHandle as _};

use super::base::{Opened, builder, open};
use super::secret::{Pepper, Token, hex, random};
use super::{StoreError, Table};

/// The name of the database in its directory.
pub const DATABASE: &str = "tidegate.redb";
const PEPPER: &str = "pepper";
/// The name of the admin token in its directory.
pub const TOKEN: &str = "admin.token";

/// A file up to this size is checked page by page whenever it is opened.
const CHECKED: u64 = 64 << 20;
/// Longest secret that is read.
const LONGEST: u64 = 1024;

/// What is in the tables and how. A database of a higher one is left alone.
const FORMAT: u8 = 1;
const FORMAT_KEY: &[u8] = b"format";

/// Makes sure that it is there.
pub(super) fn make(directory: &Path) -> Result<(), StoreError> {
    let io = || StoreError::io(directory);
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io())?;
    let mode = fs::metadata(directory).map_err(io())?.mode();
    if mode & 0o022 != 0 {
        let directory = directory.display();
        tracing::warn!(%directory, "others may write to the directory of the state: chmod go-w");
    }
    Ok(())
}

/// Opens the database, and makes it before if it is not there.
pub(super) fn database(directory: &Path) -> Result<Opened, StoreError> {
    let path = directory.join(DATABASE);
    if !fs::exists(&path).map_err(StoreError::io(&path))? {
        publish(directory, DATABASE, |file| begin(file, &path))?;
    }
    let metadata = fs::metadata(&path).map_err(StoreError::io(&path))?;
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(StoreError::io(&path))?;
    }
    if metadata.len() == 0 {
        return Err(StoreError::Damaged { path, why: "it is empty".to_owned() });
    }
    let opened = reopen(directory, metadata.len() <= CHECKED)?;
    let damaged = |why: String| StoreError::Damaged { path: path.clone(), why };
    match format(&opened.database) {
        Ok(Some(format)) if format <= FORMAT => {}
        Ok(Some(_)) => return Err(StoreError::Newer { path }),
        Ok(None) => return Err(damaged("no such tables".to_owned())),
        Err(error) => return Err(damaged(error.to_string())),
    }
    add_tables(&opened.database).map_err(|error| unwritten(&path, error))?;
    Ok(opened)
}

/// Opens a database that is there. `check`: page by page.
pub(super) fn reopen(directory: &Path, check: bool) -> Result<Opened, StoreError> {
    let path = directory.join(DATABASE);
    let file = OpenOptions::new().read(true).write(true).open(&path);
    let file = file.map_err(StoreError::io(&path))?;
    let opened = FileBackend::new(file).and_then(|file| open(file, check));
    opened.map_err(|error| unopened(directory, &path, error))
}

/// Those that an older version did not know.
fn add_tables(database: &Database) -> Result<(), redb::Error> {
    let there: Vec<String> =
        database.begin_read()?.list_tables()?.map(|table| table.name().to_owned()).collect();
    if Table::ALL.iter().all(|table| there.iter().any(|name| name == table.name())) {
        return Ok(());
    }
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    for table in Table::ALL {
        transaction.open_table(table.definition())?;
    }
    transaction.commit()?;
    Ok(())
}

/// A new database with its tables.
fn begin(file: File, path: &Path) -> Result<(), StoreError> {
    let made = || -> Result<(), redb::Error> {
        let database = builder().create_with_backend(FileBackend::new(file)?)?;
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        for table in Table::ALL {
            transaction.open_table(table.definition())?;
        }
        let format = [FORMAT];
        transaction.open_table(Table::Meta.definition())?.insert(FORMAT_KEY, &format[..])?;
        transaction.commit()?;
        database.close()?;
        Ok(())
    };
    made().map_err(|error| unwritten(path, error))
}

fn unwritten(path: &Path, error: redb::Error) -> StoreError {
    match error {
        redb::Error::Io(source) => StoreError::io(path)(source),
        other => StoreError::io(path)(io::Error::other(other)),
    }
}

/// `None`: it is a database, but not one of ours.
fn format(database: &Database) -> Result<Option<u8>, redb::Error> {
    let table = match database.begin_read()?.open_table(Table::Meta.definition()) {
        Ok(table) => table,
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(_) => return Ok(None),
    };
    let format = table.get(FORMAT_KEY)?;
    Ok(format.and_then(|format| format.value().first().copied()))
}

pub(super) fn unopened(directory: &Path, path: &Path, error: DatabaseError) -> StoreError {
    let damaged = |why: String| StoreError::Damaged { path: path.to_owned(), why };
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::InUse { directory: directory.to_owned() }
        }
        DatabaseError::Storage(StorageError::Io(error)) => match error.kind() {
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => damaged(error.to_string()),
            _ => StoreError::io(path)(error),
        },
        DatabaseError::Storage(StorageError::Corrupted(why)) => damaged(why),
        other => damaged(other.to_string()),
    }
}

/// The pepper, made if there is none. `needed`: there are keys that no other can tell.
pub(super) fn pepper(directory: &Path, needed: bool) -> Result<Pepper, StoreError> {
    match read_pepper(directory) {
        Err(StoreError::Io { path, source }) if source.kind() == ErrorKind::NotFound => {
            if needed {
                return Err(StoreError::Pepper { path });
            }
            let text = format!("{}\n", Pepper::generate()?.to_hex());
            publish(directory, PEPPER, |file| write(file, &text, &path))?;
            read_pepper(directory)
        }
        read => read,
    }
}

/// The pepper of a store that may be in use. Blocks for a small read.
pub fn read_pepper(directory: &Path) -> Result<Pepper, StoreError> {
    let path = directory.join(PEPPER);
    let text = read_private(&path)?;
    Pepper::read(text.trim_ascii_end()).ok_or(StoreError::Pepper { path })
}

/// The token of the instance that has the store in use. Blocks for a small read.
pub fn read_token(directory: &Path) -> Result<Token, StoreError> {
    let text = read_private(&directory.join(TOKEN))?;
    Ok(Token::of(text.trim_ascii_end()))
}

/// A new token in the place of any before.
pub(super) fn token(directory: &Path) -> Result<Token, StoreError> {
    let token = Token::generate()?;
    let path = directory.join(TOKEN);
    let (file, made) = create(directory, TOKEN)?;
    write(file, &format!("{}\n", token.expose()), &made)?;
    fs::rename(&made, &path).map_err(StoreError::io(&path))?;
    Ok(token)
}

fn read_private(path: &Path) -> Result<String, StoreError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST).read_to_string(&mut text))
        .map_err(StoreError::io(path))?;
    Ok(text)
}

fn write(mut file: File, text: &str, path: &Path) -> Result<(), StoreError> {
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(StoreError::io(path))
}

/// An empty file under a name that nobody else uses.
fn create(directory: &Path, name: &str) -> Result<(File, PathBuf), StoreError> {
    let path = directory.join(format!(".{name}.{}", hex(&random::<8>()?)));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
    Ok((file.map_err(StoreError::io(&path))?, path))
}

/// Makes a file that is seen whole or not at all. One that came there meanwhile stays.
fn publish(
    directory: &Path,
    name: &str,
    fill: impl FnOnce(File) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let (file, made) = create(directory, name)?;
    let path = directory.join(name);
    let linked = fill(file).and_then(|()| match fs::hard_link(&made, &path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(StoreError::io(&path)(error)),
        _ => Ok(()),
    });
    // if it stays, it is in nobody's way
    let _ = fs::remove_file(&made);
    linked?;
    File::open(directory).and_then(|open| open.sync_all()).map_err(StoreError::io(directory))
}
