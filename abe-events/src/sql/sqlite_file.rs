//! A SQLite file before anybody opens it: its name, and who may read it.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, ErrorKind, Result};

/// Makes the file for its owner only, unless it is there; SQLite gives what it puts beside it the same mode.
///
/// # Errors
///
/// [`ErrorKind::Config`] for what SQLite would take for a database in memory, or one that ends with its connection;
/// [`ErrorKind::Broker`] for a file that cannot be made.
pub(crate) fn create(path: &Path) -> Result<()> {
    let text = path.to_string_lossy();
    if text.is_empty() || text.starts_with(':') || text.starts_with("file:") {
        return Err(Error::new(ErrorKind::Config, "sqlite: a path to a file is needed; in memory there is `memory://`"));
    }
    // Closing a file drops the process's locks on it, so no other opening may be under way: neither of a broker nor of a store.
    static OPENING: Mutex<()> = Mutex::new(());
    let _one = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_made) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::new(ErrorKind::Broker, format!("sqlite: the file cannot be made: {}", error.kind()))),
    }
}
