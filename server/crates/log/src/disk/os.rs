//! The machine's disk: one directory of the file system, locked for as long as it is open.
//!
//! Everything goes through the directory's descriptor (`openat`, `renameat` …), so a directory that
//! is moved or mounted over while the server runs stays the one that was locked.
//!
//! The lock is `flock` on the file [`LOCK_FILE`]: exclusive for who writes, shared for who only
//! reads (verification, statistics of a stopped store). The kernel drops it with the process,
//! however that dies, so there is no stale lock to clean up. The file's text names the last writer
//! and is there for the message to a second one; the lock, never the text, decides.
//!
//! INVARIANT: a failed sync is not tried again. Linux reports a lost page once and then calls it
//! clean, so a second, successful `fsync` would be a lie.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::{Disk, DiskError, DiskFile, check_name};

/// The file whose lock is the directory's. Not one of the store's: never listed, never opened.
pub const LOCK_FILE: &str = "lock";
/// More text than this in the lock file was not written by us.
const LOCK_TEXT_MAX: u64 = 64;
/// What stands before the process number in the lock file.
const LOCK_TEXT_PREFIX: &str = "process ";

/// Mode of a created directory: events are nobody else's business.
const DIRECTORY_MODE: u32 = 0o700;
/// Mode of a created file, for the same reason.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// What a directory is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Alone, to change it; the directory is created if missing.
    Write,
    /// Beside other readers, never beside a writer; nothing is created.
    Read,
}

/// Who holds a directory's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The process of this number, which writes; as the process itself saw its number, so in
    /// another container it may mean another process.
    Process(u32),
    /// A writer that has not said who it is.
    Unknown,
    /// One or more commands that only read.
    Readers,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(id) => write!(f, "process {id}"),
            Self::Unknown => f.write_str("another process"),
            Self::Readers => f.write_str("a command that reads it (verify, stats, backup)"),
        }
    }
}

/// Why a directory was not opened, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenDiskError {
    /// Someone else has it.
    #[error("data directory {} is in use by {holder}; {}", path.display(), advice(*holder))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who has it.
        holder: Holder,
    },
    /// There is nothing to read.
    #[error("data directory {} does not exist; check the path", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The path, or a part of it, is a file.
    #[error("{} is not a directory; name the directory that holds the store", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// Its owner, mode or mount forbids what is asked.
    #[error(
        "data directory {} cannot be {}: {source}; \
         give user {} access to it, and see that its volume is mounted for that",
        path.display(),
        match access { Access::Write => "written", Access::Read => "read" },
        rustix::process::geteuid().as_raw()
    )]
    Denied {
        /// The directory.
        path: PathBuf,
        /// What it was to be opened for.
        access: Access,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file system cannot lock: without a lock two servers would destroy each other's data.
    #[error(
        "data directory {} cannot be locked: {source}; \
         use a local file system, or a network one that supports flock",
        path.display()
    )]
    NoLocks {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// What the second opener can do.
const fn advice(holder: Holder) -> &'static str {
    match holder {
        Holder::Readers => "wait until it has finished",
        Holder::Process(_) | Holder::Unknown => "stop it, or use --url to talk to it",
    }
}

/// One directory of the machine, locked.
#[derive(Debug)]
pub struct OsDisk {
    path: PathBuf,
    access: Access,
    directory: File,
    /// Held for its lock. None: a directory that neither has a lock file nor lets us make one.
    _lock: Option<File>,
}

impl OsDisk {
    /// Opens and locks the directory `path`.
    ///
    /// # Errors
    /// [`OpenDiskError`] names the directory, the reason and what to do.
    pub fn open(path: &Path, access: Access) -> Result<Self, OpenDiskError> {
        if access == Access::Write {
            create_directory(path)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))
            .map_err(|errno| refusal("open", path, access, errno.into()))?;
        let directory = File::from(directory);
        let lock = match access {
            Access::Write => Some(lock_to_write(path, &directory)?),
            Access::Read => lock_to_read(path, &directory)?,
        };
        Ok(Self { path: path.to_owned(), access, directory, _lock: lock })
    }

    /// Opens the directory `path` of a stopped store for reading: [`OsDisk::open`] with
    /// [`Access::Read`].
    ///
    /// # Errors
    /// [`OpenDiskError`] names the directory, the reason and what to do.
    pub fn open_read_only(path: &Path) -> Result<Self, OpenDiskError> {
        Self::open(path, Access::Read)
    }

    /// The directory's path, as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn fail(&self, action: &'static str, name: &str, source: impl Into<io::Error>) -> DiskError {
        let path = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
        DiskError { action, path: path.display().to_string(), source: source.into() }
    }

    /// Refuses a name that is not one of the store's files.
    fn check(&self, action: &'static str, name: &str) -> Result<(), DiskError> {
        check_name(name).map_err(|error| self.fail(action, name, error))?;
        if name == LOCK_FILE {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "it is the directory's lock");
            return Err(self.fail(action, name, error));
        }
        Ok(())
    }

    fn check_change(&self, action: &'static str, name: &str) -> Result<(), DiskError> {
        self.check(action, name)?;
        match self.access {
            Access::Write => Ok(()),
            Access::Read => Err(self.fail(action, name, opened_for_reading())),
        }
    }

    fn file(&self, name: &str, file: File) -> Arc<dyn DiskFile> {
        let path = self.path.join(name).display().to_string();
        Arc::new(OsFile { path, access: self.access, file })
    }

    fn open_at(&self, name: &str, flags: OFlags) -> Result<File, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        retry_on_intr(|| rustix::fs::openat(&self.directory, name, flags, FILE_MODE))
            .map(File::from)
    }

    fn is_directory(&self, entry: &rustix::fs::DirEntry) -> Result<bool, Errno> {
        match entry.file_type() {
            // Some file systems do not say; what vanished meanwhile is no file either.
            FileType::Unknown => {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                match rustix::fs::statat(&self.directory, entry.file_name(), flags) {
                    Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode).is_dir()),
                    Err(Errno::NOENT) => Ok(true),
                    Err(errno) => Err(errno),
                }
            }
            known => Ok(known.is_dir()),
        }
    }

    fn names(&self) -> Result<Vec<String>, Errno> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.directory)? {
            let entry = entry?;
            // A name that is not UTF-8 is not ours, but must be seen to be refused.
            let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_string_lossy();
            if name.starts_with('.') || name == LOCK_FILE || self.is_directory(&entry)? {
                continue;
            }
            names.push(name.into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }
}

impl Disk for OsDisk {
    fn open(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        self.check("open", name)?;
        let flags = match self.access {
            Access::Write => OFlags::RDWR,
            Access::Read => OFlags::RDONLY,
        };
        let file = self.open_at(name, flags).map_err(|errno| self.fail("open", name, errno))?;
        Ok(self.file(name, file))
    }

    fn create(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        self.check_change("create", name)?;
        // Not truncated but unlinked: a backup may hold the old bytes by a hard link.
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(self.fail("replace", name, errno)),
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = self.open_at(name, flags).map_err(|errno| self.fail("create", name, errno))?;
        Ok(self.file(name, file))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.check_change("rename", from)?;
        self.check_change("rename", to)?;
        rustix::fs::renameat(&self.directory, from, &self.directory, to)
            .map_err(|errno| self.fail("rename", from, errno))
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.check_change("remove", name)?;
        rustix::fs::unlinkat(&self.directory, name, AtFlags::empty())
            .map_err(|errno| self.fail("remove", name, errno))
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.names().map_err(|errno| self.fail("list", "", errno))
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        self.directory.sync_all().map_err(|error| self.fail("sync", "", error))
    }

    fn free_space(&self) -> Result<u64, DiskError> {
        let volume = rustix::fs::fstatvfs(&self.directory)
            .map_err(|errno| self.fail("ask for the free space of", "", errno))?;
        Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }
}

/// One open file of the machine.
#[derive(Debug)]
struct OsFile {
    path: String,
    access: Access,
    file: File,
}

impl OsFile {
    fn fail(&self, action: &'static str, source: io::Error) -> DiskError {
        DiskError { action, path: self.path.clone(), source }
    }
}

impl DiskFile for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), DiskError> {
        // Goes on after a short read and an interruption.
        self.file.read_exact_at(buffer, offset).map_err(|error| self.fail("read", error))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        if self.access == Access::Read {
            return Err(self.fail("write to", opened_for_reading()));
        }
        // Goes on after a short write and an interruption.
        self.file.write_all_at(bytes, offset).map_err(|error| self.fail("write to", error))
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(|error| self.fail("sync", error))
    }

    fn len(&self) -> Result<u64, DiskError> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(|error| self.fail("ask for the length of", error))?.len())
    }
}

fn opened_for_reading() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "the directory was opened for reading only")
}

/// Sorts a failure to open the directory or its lock by what the operator can do about it.
fn refusal(action: &'static str, path: &Path, access: Access, source: io::Error) -> OpenDiskError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => OpenDiskError::Missing { path },
        io::ErrorKind::NotADirectory => OpenDiskError::NotADirectory { path },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            OpenDiskError::Denied { path, access, source }
        }
        _ => DiskError { action, path: path.display().to_string(), source }.into(),
    }
}

/// Creates `path` and what is missing above it, each made to survive a power cut.
fn create_directory(path: &Path) -> Result<(), OpenDiskError> {
    if path.is_dir() {
        return Ok(());
    }
    let above = match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => return Ok(()),
    };
    create_directory(above)?;
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return if path.is_dir() {
                Ok(())
            } else {
                Err(OpenDiskError::NotADirectory { path: path.to_owned() })
            };
        }
        Err(error) => return Err(refusal("create", path, Access::Write, error)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(above, flags, Mode::empty())
        .map(File::from)
        .map_err(io::Error::from)
        .and_then(|above| above.sync_all())
        .map_err(|error| refusal("sync", above, Access::Write, error))
}

/// The exclusive lock, with this process named in its file.
fn lock_to_write(path: &Path, directory: &File) -> Result<File, OpenDiskError> {
    let deny = |errno: Errno| refusal("write to", path, Access::Write, errno.into());
    // A lock file can be writable in a directory that is not.
    let needed = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::accessat(directory, ".", needed, AtFlags::EACCESS).map_err(deny)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let lock = retry_on_intr(|| rustix::fs::openat(directory, LOCK_FILE, flags, FILE_MODE))
        .map_err(deny)?;
    let lock = File::from(lock);
    if !try_lock(path, &lock, FlockOperation::NonBlockingLockExclusive)? {
        let holder = holder(path, &lock)?;
        return Err(OpenDiskError::Locked { path: path.to_owned(), holder });
    }
    // Only a message depends on the text, and it need not survive a power cut.
    let text = format!("{LOCK_TEXT_PREFIX}{}\n", std::process::id());
    let named = lock.set_len(0).and_then(|()| lock.write_all_at(text.as_bytes(), 0));
    if let Err(error) = named {
        tracing::warn!(path = %path.display(), %error, "cannot name this process in the lock file");
    }
    Ok(lock)
}

/// The shared lock, or none where there is no lock file and none can be made: then no server that
/// may write here has been here, for it would have left one.
fn lock_to_read(path: &Path, directory: &File) -> Result<Option<File>, OpenDiskError> {
    let open = |flags: OFlags| {
        let flags = flags | OFlags::CLOEXEC;
        retry_on_intr(|| rustix::fs::openat(directory, LOCK_FILE, flags, FILE_MODE))
    };
    let lock = match open(OFlags::RDONLY) {
        Err(Errno::NOENT) => match open(OFlags::RDWR | OFlags::CREATE) {
            Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => return Ok(None),
            created => created,
        },
        opened => opened,
    };
    let lock = lock.map_err(|errno| refusal("lock", path, Access::Read, errno.into()))?;
    let lock = File::from(lock);
    if try_lock(path, &lock, FlockOperation::NonBlockingLockShared)? {
        return Ok(Some(lock));
    }
    let holder = named_process(&lock);
    Err(OpenDiskError::Locked { path: path.to_owned(), holder })
}

/// Whether the lock was free and now is ours.
fn try_lock(path: &Path, lock: &File, how: FlockOperation) -> Result<bool, OpenDiskError> {
    match retry_on_intr(|| rustix::fs::flock(lock, how)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno @ (Errno::NOLCK | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL)) => {
            Err(OpenDiskError::NoLocks { path: path.to_owned(), source: errno.into() })
        }
        Err(errno) => Err(refusal("lock", path, Access::Write, errno.into())),
    }
}

/// Who keeps us from the exclusive lock. If it can be shared then only readers do, and the text is
/// that of a writer long gone.
fn holder(path: &Path, lock: &File) -> Result<Holder, OpenDiskError> {
    if try_lock(path, lock, FlockOperation::NonBlockingLockShared)? {
        return Ok(Holder::Readers);
    }
    Ok(named_process(lock))
}

/// The writer that the lock file's text names.
fn named_process(lock: &File) -> Holder {
    let mut text = String::new();
    if lock.take(LOCK_TEXT_MAX).read_to_string(&mut text).is_err() {
        return Holder::Unknown;
    }
    let id = text.strip_prefix(LOCK_TEXT_PREFIX).and_then(|id| id.trim_end().parse().ok());
    id.map_or(Holder::Unknown, Holder::Process)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests look at the seam from outside")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn bytes_and_names_come_back_after_reopening() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a/b");
        {
            let disk = OsDisk::open(&path, Access::Write).unwrap();
            let file = disk.create("next.tmp").unwrap();
            file.write_at(b"world", 6).unwrap();
            file.write_at(b"hello ", 0).unwrap();
            file.sync().unwrap();
            disk.create("gone").unwrap();
            disk.remove("gone").unwrap();
            disk.rename("next.tmp", "0.log").unwrap();
            disk.sync_names().unwrap();
            assert!(disk.free_space().unwrap() > 0);
        }
        assert_eq!((mode(&path), mode(&path.join("0.log"))), (0o700, 0o600));
        std::fs::create_dir(path.join("lost+found")).unwrap();
        std::fs::write(path.join(".hidden"), "").unwrap();

        let disk = OsDisk::open_read_only(&path).unwrap();
        assert_eq!(disk.list().unwrap(), ["0.log"]);
        assert_eq!(disk.location(), path.display().to_string());
        let file = disk.open("0.log").unwrap();
        assert_eq!(file.len().unwrap(), 11);
        let mut bytes = [0; 11];
        file.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"hello world");
        let error = file.read_at(&mut bytes, 1).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::UnexpectedEof);
        assert!(disk.open("gone").unwrap_err().is_not_found());
    }

    #[test]
    fn a_created_file_leaves_the_one_it_replaces_alone() {
        let home = tempfile::tempdir().unwrap();
        let disk = OsDisk::open(home.path(), Access::Write).unwrap();
        disk.create("x").unwrap().write_at(b"old", 0).unwrap();
        std::fs::hard_link(home.path().join("x"), home.path().join("kept")).unwrap();
        assert_eq!(disk.create("x").unwrap().len().unwrap(), 0);
        assert_eq!(std::fs::read(home.path().join("kept")).unwrap(), b"old");
    }

    #[test]
    fn a_second_opener_is_told_who_holds_the_lock() {
        let home = tempfile::tempdir().unwrap();
        let first = OsDisk::open(home.path(), Access::Write).unwrap();
        for access in [Access::Write, Access::Read] {
            let error = OsDisk::open(home.path(), access).unwrap_err();
            let message = format!(
                "data directory {} is in use by process {}; stop it, or use --url to talk to it",
                home.path().display(),
                std::process::id()
            );
            assert_eq!(error.to_string(), message);
        }
        drop(first);
        OsDisk::open(home.path(), Access::Write).unwrap();
    }

    #[test]
    fn readers_share_and_keep_a_writer_out() {
        let home = tempfile::tempdir().unwrap();
        drop(OsDisk::open(home.path(), Access::Write).unwrap());
        let first = OsDisk::open_read_only(home.path()).unwrap();
        let second = OsDisk::open_read_only(home.path()).unwrap();
        let error = OsDisk::open(home.path(), Access::Write).unwrap_err();
        assert!(matches!(error, OpenDiskError::Locked { holder: Holder::Readers, .. }), "{error}");
        drop((first, second));
        OsDisk::open(home.path(), Access::Write).unwrap();
    }

    #[test]
    fn a_reader_changes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("store");
        let error = OsDisk::open_read_only(&path).unwrap_err();
        assert!(matches!(error, OpenDiskError::Missing { .. }), "{error}");
        assert!(!path.exists());

        OsDisk::open(&path, Access::Write).unwrap().create("x").unwrap();
        let disk = OsDisk::open_read_only(&path).unwrap();
        let file = disk.open("x").unwrap();
        let failures = [
            file.write_at(b"y", 0).unwrap_err(),
            disk.create("y").unwrap_err(),
            disk.rename("x", "y").unwrap_err(),
            disk.remove("x").unwrap_err(),
        ];
        for error in failures {
            assert!(error.to_string().ends_with("was opened for reading only"), "{error}");
        }
        assert_eq!(disk.list().unwrap(), ["x"]);
    }

    #[test]
    fn a_file_is_not_a_directory() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            for access in [Access::Write, Access::Read] {
                let error = OsDisk::open(&path, access).unwrap_err();
                assert!(matches!(error, OpenDiskError::NotADirectory { .. }), "{error}");
            }
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_refused_but_can_be_read() {
        if rustix::process::geteuid().is_root() {
            return; // Modes do not bind root.
        }
        let home = tempfile::tempdir().unwrap();
        let set = |mode| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(home.path(), permissions).unwrap();
        };
        set(0o500);
        let error = OsDisk::open(home.path(), Access::Write).unwrap_err();
        assert!(matches!(error, OpenDiskError::Denied { .. }), "{error}");
        assert!(error.to_string().contains("cannot be written"), "{error}");
        OsDisk::open_read_only(home.path()).unwrap();
        set(0o700);
    }

    #[test]
    fn names_are_flat_and_the_lock_is_not_a_file_of_the_store() {
        let home = tempfile::tempdir().unwrap();
        let disk = OsDisk::open(home.path(), Access::Write).unwrap();
        disk.create("x").unwrap();
        for name in ["", ".", "..", ".x", "a/b", "../x", "a\0b", LOCK_FILE] {
            assert!(disk.create(name).is_err(), "{name:?}");
            assert!(disk.open(name).is_err(), "{name:?}");
            assert!(disk.remove(name).is_err(), "{name:?}");
            assert!(disk.rename("x", name).is_err(), "{name:?}");
            assert!(disk.rename(name, "x").is_err(), "{name:?}");
        }
        assert_eq!(disk.list().unwrap(), ["x"]);
    }
}
