//! A repository: objects that are named by what they hold, and whose they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use daybook_log::segment::FORMAT_REWRITTEN;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::error::RepositoryError;
use crate::keys::Keys;
use crate::manifest::{Encrypted, Identity, Kind, ListRef, Manifest, Piece, SegmentCopy, VERSION};
use crate::objects::Objects;
use crate::pace::Pace;

/// The object that says whose repository it is.
pub const IDENTITY_KEY: &str = "repository.json";
/// Where pieces of segments are.
pub(crate) const SEGMENTS: &str = "segments";
/// Where archiving keeps pieces of the last segment.
pub(crate) const TAILS: &str = "tails";
/// Where lists of segments are.
pub(crate) const LISTS: &str = "lists";
const BACKUPS: &str = "backups";
const ARCHIVE: &str = "archive";
const JSON: &str = ".json";
/// Digits of a hash in an object's name: enough that no two objects share one.
const HASH_DIGITS: usize = 32;

/// The name of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// When it was taken, in nanoseconds since 1970.
    pub taken: i64,
    /// The epoch of its log.
    pub epoch: u32,
    /// How many events it holds.
    pub end: u64,
    /// The object.
    pub key: String,
}

impl Name {
    /// Who took it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        if self.key.starts_with(ARCHIVE) { Kind::Archive } else { Kind::Backup }
    }

    /// The newest of `names`: in the epoch in which a backup was taken last, the one that goes
    /// furthest. Times alone do not say it: two machines' clocks differ.
    pub(crate) fn newest(names: &[Name]) -> Option<&Name> {
        let epoch = names.iter().max_by_key(|name| (name.taken, name.epoch))?.epoch;
        let of_it = names.iter().filter(|name| name.epoch == epoch);
        of_it.max_by_key(|name| (name.end, name.taken))
    }

    /// The name that `key` is; none if it is not a manifest's.
    #[must_use]
    pub fn parse(key: &str) -> Option<Name> {
        let (prefix, file) = key.split_once('/')?;
        if ![BACKUPS, ARCHIVE].contains(&prefix) {
            return None;
        }
        let mut parts = file.strip_suffix(JSON)?.splitn(4, '-');
        let taken = parts.next()?.parse().ok()?;
        let epoch = parts.next()?.parse().ok()?;
        let end = parts.next()?.parse().ok()?;
        parts.next()?;
        Some(Name { taken, epoch, end, key: key.to_owned() })
    }
}

/// See the module.
pub struct Repository {
    objects: Objects,
    store: Uuid,
    keys: Keys,
    pace: Pace,
    halt: Halt,
}

/// Stops whoever is at work in a repository. A clone is another handle.
#[derive(Clone, Debug, Default)]
pub struct Halt(Arc<AtomicBool>);

impl Halt {
    /// Stops it before the next object.
    pub fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was told.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Repository {
    /// Opens the repository in `objects`.
    ///
    /// # Errors
    /// [`RepositoryError::NotARepository`] if there is none.
    pub fn open(objects: Objects, keys: Keys, pace: Pace) -> Result<Repository, RepositoryError> {
        let found = match objects.get(IDENTITY_KEY) {
            Ok(found) => found,
            Err(RepositoryError::Missing { location, .. }) => {
                return Err(RepositoryError::NotARepository { location });
            }
            Err(error) => return Err(error),
        };
        let identity: Identity = parse(&objects, IDENTITY_KEY, &found)?;
        known_version(&objects, IDENTITY_KEY, identity.version)?;
        Ok(Repository::of(objects, identity.store, keys, pace))
    }

    /// Opens the repository of `store` in `objects`, or makes it there.
    ///
    /// # Errors
    /// [`RepositoryError::AnotherStore`] if it is another's.
    pub fn open_for(
        store: Uuid,
        objects: Objects,
        keys: Keys,
        pace: Pace,
    ) -> Result<Repository, RepositoryError> {
        let text = json(&Identity { version: VERSION, store });
        // Read first: a place that is never written again may be closed to writers.
        match Repository::open(objects.clone(), keys.clone(), Pace::new(None)) {
            Err(RepositoryError::NotARepository { .. }) => {
                if objects.put_new(IDENTITY_KEY, text.into())? {
                    return Ok(Repository::of(objects, store, keys, pace));
                }
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        Repository::open_of(store, objects, keys, pace)
    }

    /// Opens the repository of `store` in `objects`, which is there.
    ///
    /// # Errors
    /// [`RepositoryError::NotARepository`] if there is none, [`RepositoryError::AnotherStore`] if
    /// it is another's.
    pub fn open_of(
        store: Uuid,
        objects: Objects,
        keys: Keys,
        pace: Pace,
    ) -> Result<Repository, RepositoryError> {
        let found = Repository::open(objects, keys, pace)?;
        if found.store != store {
            let location = found.location().to_owned();
            let (found, expected) = (found.store, store);
            return Err(RepositoryError::AnotherStore { location, found, expected });
        }
        Ok(found)
    }

    fn of(objects: Objects, store: Uuid, keys: Keys, pace: Pace) -> Repository {
        Repository { objects, store, keys, pace, halt: Halt::default() }
    }

    /// Whose it is.
    #[must_use]
    pub fn store(&self) -> Uuid {
        self.store
    }

    /// The place as an operator knows it.
    #[must_use]
    pub fn location(&self) -> &str {
        self.objects.location()
    }

    /// Its objects.
    pub(crate) fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Whom it is written for.
    pub(crate) fn recipients(&self) -> Vec<String> {
        self.keys.recipients.names()
    }

    /// Whether what `manifest` names can be read, and not only compared.
    pub(crate) fn can_read(&self, manifest: &Manifest) -> bool {
        manifest.recipients.is_empty() || !self.keys.identities.is_empty()
    }

    /// The same, which `halt` stops.
    #[must_use]
    pub fn halted_by(self, halt: Halt) -> Repository {
        Repository { halt, ..self }
    }

    /// Stops whoever is at work here.
    #[must_use]
    pub fn halt(&self) -> Halt {
        self.halt.clone()
    }

    fn go_on(&self) -> Result<(), RepositoryError> {
        if self.halt.is_set() { Err(RepositoryError::Halted) } else { Ok(()) }
    }

    /// The manifests that are there, by the time at which they were taken.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn names(&self) -> Result<Vec<Name>, RepositoryError> {
        let mut names = Vec::new();
        for prefix in [BACKUPS, ARCHIVE] {
            names.extend(
                self.objects.list(prefix)?.iter().filter_map(|each| Name::parse(&each.key)),
            );
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Whether the newest of its backups is encrypted; not, if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn is_encrypted(&self) -> Result<bool, RepositoryError> {
        let names = self.names()?;
        let Some(newest) = Name::newest(&names) else { return Ok(false) };
        Ok(!self.manifest(newest)?.recipients.is_empty())
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// [`RepositoryError::Damaged`] if it is not what was written, [`RepositoryError::Missing`] if
    /// it is not there any more.
    pub fn manifest(&self, name: &Name) -> Result<Manifest, RepositoryError> {
        self.go_on()?;
        let bytes = self.objects.get(&name.key)?;
        if !name.key.ends_with(&format!("-{}{JSON}", short(&hash(&bytes)))) {
            return Err(self.damaged(&name.key, "its bytes are not those that its name says"));
        }
        let manifest: Manifest = parse(&self.objects, &name.key, &bytes)?;
        known_version(&self.objects, &name.key, manifest.version)?;
        if manifest.format > FORMAT_REWRITTEN {
            known_version(&self.objects, &name.key, manifest.format)?;
        }
        if manifest.store != self.store {
            let location = self.location().to_owned();
            let (found, expected) = (manifest.store, self.store);
            return Err(RepositoryError::AnotherStore { location, found, expected });
        }
        Ok(manifest)
    }

    /// All segments of a backup, oldest first.
    ///
    /// # Errors
    /// [`RepositoryError::Damaged`] if the list is not what was written, or makes no log.
    pub fn segments(&self, manifest: &Manifest) -> Result<Vec<SegmentCopy>, RepositoryError> {
        let mut segments: Vec<SegmentCopy> = Vec::new();
        if let Some(list) = &manifest.list {
            let bytes = self.objects.get(&list.key)?;
            if bytes.len() as u64 != list.size || hash(&bytes) != list.blake3 {
                let reason = "its bytes are not those that the manifest names";
                return Err(self.damaged(&list.key, reason));
            }
            segments = parse(&self.objects, &list.key, &bytes)?;
        }
        segments.push(manifest.tail.clone());
        let mut next = 0;
        for copy in &segments {
            let gap = (copy.first != next).then_some("a segment before it is missing");
            if let Some(flaw) = gap.or_else(|| copy.flaw()) {
                return Err(self.damaged(&copy.name, flaw));
            }
            next = copy.end;
        }
        if next != manifest.end {
            return Err(self.damaged(&manifest.tail.name, "it does not end where the backup does"));
        }
        Ok(segments)
    }

    /// Waits until `bytes` more may have been moved.
    pub(crate) fn spend(&self, bytes: u64) {
        self.pace.spend(bytes, &self.objects, &self.halt);
    }

    /// Writes some bytes of a segment as an object under `prefix`.
    pub(crate) fn put_piece(
        &self,
        prefix: &str,
        segment: &str,
        from: u64,
        plain: Bytes,
    ) -> Result<Piece, RepositoryError> {
        self.go_on()?;
        let (size, crc32, blake3) = (plain.len() as u64, crc32fast::hash(&plain), hash(&plain));
        let (stored, encrypted, suffix) = if self.keys.recipients.is_empty() {
            (plain, None, "")
        } else {
            let stored = self.keys.recipients.encrypt(&plain)?;
            let encrypted = Encrypted { size: stored.len() as u64, blake3: hash(&stored) };
            (stored.into(), Some(encrypted), ".age")
        };
        let name = short(encrypted.as_ref().map_or(&blake3, |encrypted| &encrypted.blake3));
        let key = format!("{prefix}/{segment}/{from:012}-{name}{suffix}");
        let stored_size = stored.len() as u64;
        self.objects.put(&key, stored)?;
        self.spend(stored_size);
        Ok(Piece { key, from, size, crc32, blake3, encrypted })
    }

    /// Reads a piece as it is stored, and compares it with what its manifest says.
    pub(crate) fn stored(&self, piece: &Piece) -> Result<Bytes, RepositoryError> {
        self.go_on()?;
        let stored = self.objects.get(&piece.key)?;
        self.spend(stored.len() as u64);
        if stored.len() as u64 != piece.stored_size() {
            let (found, wanted) = (stored.len(), piece.stored_size());
            return Err(self.damaged(&piece.key, format!("it has {found} bytes and not {wanted}")));
        }
        if hash(&stored) != piece.stored_blake3() {
            return Err(self.damaged(&piece.key, "its bytes are not those that were written"));
        }
        Ok(stored)
    }

    /// The segment's bytes in a piece.
    pub(crate) fn plain(&self, piece: &Piece) -> Result<Bytes, RepositoryError> {
        let stored = self.stored(piece)?;
        if piece.encrypted.is_none() {
            return Ok(stored);
        }
        let plain = self.keys.identities.decrypt(&stored).map_err(|reason| {
            let (object, location) = (piece.key.clone(), self.location().to_owned());
            RepositoryError::Locked { object, location, reason }
        })?;
        if plain.len() as u64 != piece.size || hash(&plain) != piece.blake3 {
            let reason = "what it was encrypted from is not what was read of the store";
            return Err(self.damaged(&piece.key, reason));
        }
        Ok(plain.into())
    }

    /// Writes a list of segments that ends at `end` of `epoch`.
    pub(crate) fn put_list(
        &self,
        segments: &[SegmentCopy],
        epoch: u32,
    ) -> Result<Option<ListRef>, RepositoryError> {
        let Some(last) = segments.last() else { return Ok(None) };
        let text = json(&segments);
        let (size, blake3) = (text.len() as u64, hash(&text));
        let key = format!("{LISTS}/{epoch:010}-{:020}-{}{JSON}", last.end, short(&blake3));
        self.objects.put(&key, text.into())?;
        Ok(Some(ListRef { key, size, blake3 }))
    }

    /// Writes a manifest, and with it makes the backup.
    pub(crate) fn put_manifest(&self, manifest: &Manifest) -> Result<Name, RepositoryError> {
        self.go_on()?;
        let prefix = match manifest.kind {
            Kind::Backup => BACKUPS,
            Kind::Archive => ARCHIVE,
        };
        let text = json(manifest);
        let Manifest { taken, epoch, end, .. } = *manifest;
        let hash = hash(&text);
        let key = format!("{prefix}/{taken:020}-{epoch:010}-{end:020}-{}{JSON}", short(&hash));
        self.objects.put(&key, text.into())?;
        Ok(Name { taken, epoch, end, key })
    }

    /// Compares what is there with what `segments` are made of, by name and size.
    ///
    /// # Errors
    /// [`RepositoryError::Missing`] names the first object that is not there.
    pub(crate) fn all_there(&self, segments: &[SegmentCopy]) -> Result<(), RepositoryError> {
        let there = self.pieces_there()?;
        let lacking = segments.iter().find_map(|copy| self.lacks(&copy.pieces, &there));
        lacking.map_or(Ok(()), Err)
    }

    /// The pieces that are there, and their sizes.
    pub(crate) fn pieces_there(&self) -> Result<BTreeMap<String, u64>, RepositoryError> {
        let mut there = BTreeMap::new();
        for prefix in [SEGMENTS, TAILS] {
            there.extend(self.objects.list(prefix)?.into_iter().map(|each| (each.key, each.size)));
        }
        Ok(there)
    }

    /// The first of `pieces` that is not `there`, as an error.
    pub(crate) fn lacks(
        &self,
        pieces: &[Piece],
        there: &BTreeMap<String, u64>,
    ) -> Option<RepositoryError> {
        pieces.iter().find_map(|piece| match there.get(&piece.key) {
            Some(size) if *size == piece.stored_size() => None,
            Some(_) => Some(self.damaged(&piece.key, "it does not have its size")),
            None => {
                let (object, location) = (piece.key.clone(), self.location().to_owned());
                Some(RepositoryError::Missing { object, location })
            }
        })
    }

    pub(crate) fn damaged(&self, key: &str, reason: impl Into<String>) -> RepositoryError {
        self.objects.damaged(key, reason)
    }
}

/// The BLAKE3 of `bytes`, in hexadecimal.
fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// As much of a hash as a name has.
fn short(hash: &str) -> &str {
    &hash[..HASH_DIGITS]
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("it is plain data")
}

fn parse<T: DeserializeOwned>(
    objects: &Objects,
    key: &str,
    bytes: &[u8],
) -> Result<T, RepositoryError> {
    serde_json::from_slice(bytes).map_err(|error| objects.damaged(key, error.to_string()))
}

fn known_version(objects: &Objects, key: &str, version: u32) -> Result<(), RepositoryError> {
    if version == VERSION {
        return Ok(());
    }
    let (object, location) = (key.to_owned(), objects.location().to_owned());
    Err(RepositoryError::Version { object, location, version })
}
