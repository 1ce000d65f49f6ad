//! Small files that security rests on: certificates, keys, lists, passwords.
//!
//! INVARIANT: what is read has a limit, and a failure names the file.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Bytes of such a file. A list of some ten thousand revoked certificates fits.
pub const FILE_SIZE_MAX: u64 = 4 * 1024 * 1024;
/// Who may read what is secret: the user that the server runs as.
const SECRET_MODE: u32 = 0o600;

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} '{}' cannot be used: {reason}", path.display())]
pub struct FileError {
    /// The setting that names it.
    pub what: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and what it should be.
    pub reason: String,
}

impl FileError {
    /// That `path`, which the setting `what` names, is wrong for a reason.
    #[must_use]
    pub fn new(what: &'static str, path: &Path, reason: impl Into<String>) -> FileError {
        FileError { what, path: path.to_owned(), reason: reason.into() }
    }
}

/// The bytes of a file.
///
/// # Errors
/// [`FileError`] if it cannot be read, or is larger than such files are.
#[expect(clippy::disallowed_methods, reason = "these files are not the store's")]
pub fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, FileError> {
    let failed = |error: io::Error| FileError::new(what, path, error.to_string());
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_SIZE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_SIZE_MAX {
        let reason = format!("it is larger than {FILE_SIZE_MAX} bytes");
        return Err(FileError::new(what, path, reason));
    }
    Ok(bytes)
}

/// The first line of a file: a password, or a token.
///
/// # Errors
/// [`FileError`] if it cannot be read, or the line is empty or no text.
pub fn read_secret(what: &'static str, path: &Path) -> Result<String, FileError> {
    first_line(what, path, read(what, path)?)
}

/// The first line of `bytes`, which came from `path`.
///
/// # Errors
/// [`FileError`] if the line is empty or no text.
pub fn first_line(what: &'static str, path: &Path, bytes: Vec<u8>) -> Result<String, FileError> {
    let Ok(text) = String::from_utf8(bytes) else {
        return Err(FileError::new(what, path, "it is no text in UTF-8"));
    };
    match text.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(line.to_owned()),
        None => Err(FileError::new(what, path, "its first line is empty; write the secret there")),
    }
}

/// Writes a new file that only this user may read.
///
/// # Errors
/// [`FileError`] if there is one already, or it cannot be written.
#[expect(clippy::disallowed_methods, reason = "these files are not the store's")]
pub fn write_new(what: &'static str, path: &Path, text: &str) -> Result<(), FileError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(SECRET_MODE);
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| FileError::new(what, path, error.to_string()))
}

/// Makes a directory and those above it.
///
/// # Errors
/// [`FileError`]
#[expect(clippy::disallowed_methods, reason = "these files are not the store's")]
pub fn make_directory(what: &'static str, path: &Path) -> Result<(), FileError> {
    let made = std::fs::create_dir_all(path);
    made.map_err(|error| FileError::new(what, path, error.to_string()))
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a text takes all");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_first_line_of_a_file_that_only_its_owner_reads() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::TempDir::new().expect("a directory");
        for (text, expected) in [("one\n", Some("one")), ("a b\nc", Some("a b")), ("\nx", None)] {
            let path = directory.path().join(format!("file-{}", text.len()));
            write_new("--file", &path, text).expect("written");
            let mode = path.metadata().expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, SECRET_MODE);
            assert_eq!(read_secret("--file", &path).ok().as_deref(), expected, "{text:?}");
            assert!(write_new("--file", &path, text).is_err(), "it is not overwritten");
        }
        let missing = read_secret("--file", &directory.path().join("none")).expect_err("missing");
        assert!(missing.to_string().contains("--file '"), "{missing}");
        assert_eq!(hex(&[0, 0xab]), "00ab");
    }
}
