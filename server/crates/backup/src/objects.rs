//! A place for objects: a directory, or a bucket. Each object is written whole or not at all.
//!
//! What a bucket needs to be reached (keys, region, endpoint) comes from the environment, under the
//! names that its own tools use: `AWS_…`, `GOOGLE_…`, `AZURE_…`. The keys of an S3 bucket may come
//! from a [`KeySource`] instead, which is asked for each request, so that they can change.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use daybook_model::Timestamp;
use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    ClientConfigKey, CredentialProvider, ObjectStore, ObjectStoreExt as _, PutMode,
};
use tokio::runtime::Handle;

use crate::error::RepositoryError;

/// Bytes of an object; a larger one is not read. Pieces hold at least one frame, and a frame can
/// be as large as an append.
const OBJECT_SIZE_MAX: u64 = 512 * 1024 * 1024;
/// Time that one request to an object store may take: a piece of 32 MiB over a line of 1 Mbit/s.
const REQUEST_TIMEOUT: &str = "300 seconds";

/// The keys of an S3 bucket.
#[derive(Clone, PartialEq, Eq)]
pub struct BucketKeys {
    /// Which key it is.
    pub id: String,
    /// The key.
    pub secret: String,
}

/// Who has an S3 bucket's keys.
pub trait KeySource: fmt::Debug + Send + Sync {
    /// The keys as they are now; asks nobody over the network.
    ///
    /// # Errors
    /// Why there are none.
    fn keys(&self) -> Result<BucketKeys, Box<dyn std::error::Error + Send + Sync>>;
}

/// Asks for the keys with each request.
#[derive(Debug)]
struct Asked(Arc<dyn KeySource>);

type Credential<'a> =
    Pin<Box<dyn Future<Output = Result<Arc<AwsCredential>, object_store::Error>> + Send + 'a>>;

impl CredentialProvider for Asked {
    type Credential = AwsCredential;

    fn get_credential<'a: 'b, 'b>(&'a self) -> Credential<'b>
    where
        Self: 'b,
    {
        let keys = self.0.keys();
        Box::pin(async move {
            match keys {
                Ok(BucketKeys { id, secret }) => {
                    Ok(Arc::new(AwsCredential { key_id: id, secret_key: secret, token: None }))
                }
                Err(source) => Err(object_store::Error::Generic { store: "S3", source }),
            }
        })
    }
}

/// What is to be done with a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is there, and nothing is changed.
    Read,
    /// It is made if it is not there.
    Write,
}

/// An object that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub key: String,
    /// Its bytes.
    pub size: u64,
    /// When it was written.
    pub modified: Timestamp,
}

/// A place for objects. A clone is another handle.
#[derive(Clone, Debug)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
    location: String,
}

impl Objects {
    /// The objects of `store`, which an operator knows as `location`; requests run on `runtime`.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, location: String, runtime: Handle) -> Objects {
        Objects { store, runtime, location }
    }

    /// The place that `url` names: a directory, or a URL of an object store.
    ///
    /// # Errors
    /// [`RepositoryError::BadUrl`] if there is no such place.
    pub fn open(url: &str, access: Access, runtime: Handle) -> Result<Objects, RepositoryError> {
        Objects::open_with(url, access, runtime, None)
    }

    /// As [`Objects::open`]; an S3 bucket is opened with the keys that `source` has.
    ///
    /// # Errors
    /// [`RepositoryError::BadUrl`] if there is no such place.
    pub fn open_with(
        url: &str,
        access: Access,
        runtime: Handle,
        source: Option<Arc<dyn KeySource>>,
    ) -> Result<Objects, RepositoryError> {
        let bad = |reason: String| RepositoryError::BadUrl { url: url.to_owned(), reason };
        let told = |error: object_store::Error| bad(error.to_string());
        let (bucket, prefix) = match parse(url)? {
            Kind::Directory(path) => {
                let store = directory(path, access).map_err(bad)?;
                return Ok(Objects::new(Arc::new(store), path.to_owned(), runtime));
            }
            Kind::Bucket { bucket, prefix } => (bucket, prefix),
        };
        let store: Arc<dyn ObjectStore> = match url.split("://").next().unwrap_or_default() {
            "s3" => {
                let timeout = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
                let builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
                let builder = match source {
                    Some(source) => builder.with_credentials(Arc::new(Asked(source))),
                    None => builder,
                };
                Arc::new(builder.with_config(timeout, REQUEST_TIMEOUT).build().map_err(told)?)
            }
            "gs" => {
                let timeout = GoogleConfigKey::Client(ClientConfigKey::Timeout);
                let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
                Arc::new(builder.with_config(timeout, REQUEST_TIMEOUT).build().map_err(told)?)
            }
            _ => {
                let timeout = AzureConfigKey::Client(ClientConfigKey::Timeout);
                let builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket);
                Arc::new(builder.with_config(timeout, REQUEST_TIMEOUT).build().map_err(told)?)
            }
        };
        let store: Arc<dyn ObjectStore> =
            if prefix.is_empty() { store } else { Arc::new(PrefixStore::new(store, prefix)) };
        Ok(Objects::new(store, url.to_owned(), runtime))
    }

    /// Whether `url` is one that [`Objects::open`] understands; nothing is asked.
    ///
    /// # Errors
    /// [`RepositoryError::BadUrl`] if it is not.
    pub fn understand(url: &str) -> Result<(), RepositoryError> {
        parse(url).map(|_| ())
    }

    /// The place as an operator knows it.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Writes an object, which may be there already.
    ///
    /// # Errors
    /// [`RepositoryError::Object`]; it is not known whether it is there.
    pub fn put(&self, key: &str, bytes: Bytes) -> Result<(), RepositoryError> {
        self.put_as(key, bytes, PutMode::Overwrite).map(|_| ())
    }

    /// Writes an object unless it is there. Answers whether it was not.
    ///
    /// # Errors
    /// [`RepositoryError::Object`]; it is not known whether it is there.
    pub fn put_new(&self, key: &str, bytes: Bytes) -> Result<bool, RepositoryError> {
        self.put_as(key, bytes, PutMode::Create)
    }

    fn put_as(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<bool, RepositoryError> {
        let path = Path::from(key);
        let put = self.store.put_opts(&path, bytes.into(), mode.into());
        match self.runtime.block_on(put) {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(source) => Err(self.failed("write", key, source)),
        }
    }

    /// Reads an object.
    ///
    /// # Errors
    /// [`RepositoryError::Missing`] if it is not there.
    pub fn get(&self, key: &str) -> Result<Bytes, RepositoryError> {
        let path = Path::from(key);
        let got = self.runtime.block_on(async {
            let found = self.store.get(&path).await?;
            let size = found.meta.size;
            if size > OBJECT_SIZE_MAX { Ok(Err(size)) } else { found.bytes().await.map(Ok) }
        });
        match got {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(size)) => Err(self.damaged(key, format!("it has {size} bytes"))),
            Err(object_store::Error::NotFound { .. }) => Err(RepositoryError::Missing {
                object: key.to_owned(),
                location: self.location.clone(),
            }),
            Err(source) => Err(self.failed("read", key, source)),
        }
    }

    /// The objects whose names begin with `prefix` and a slash, sorted.
    ///
    /// # Errors
    /// [`RepositoryError::Object`].
    pub fn list(&self, prefix: &str) -> Result<Vec<Listed>, RepositoryError> {
        let path = Path::from(prefix);
        let listed = self.store.list(Some(&path)).try_collect::<Vec<_>>();
        let found = self.runtime.block_on(listed);
        let found = found.map_err(|source| self.failed("list", prefix, source))?;
        let listed = |meta: object_store::ObjectMeta| Listed {
            key: meta.location.to_string(),
            size: meta.size,
            modified: Timestamp(meta.last_modified.timestamp_nanos_opt().unwrap_or(i64::MAX)),
        };
        let mut found: Vec<Listed> = found.into_iter().map(listed).collect();
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    /// Removes an object; it need not be there.
    ///
    /// # Errors
    /// [`RepositoryError::Object`].
    pub fn remove(&self, key: &str) -> Result<(), RepositoryError> {
        match self.runtime.block_on(self.store.delete(&Path::from(key))) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(self.failed("remove", key, source)),
        }
    }

    /// Waits on the clock of the runtime that the requests run on.
    pub(crate) fn wait(&self, until: impl Future<Output = ()>) {
        self.runtime.block_on(until);
    }

    pub(crate) fn damaged(&self, key: &str, reason: impl Into<String>) -> RepositoryError {
        let (object, location) = (key.to_owned(), self.location.clone());
        RepositoryError::Damaged { object, location, reason: reason.into() }
    }

    fn failed(
        &self,
        action: &'static str,
        key: &str,
        source: object_store::Error,
    ) -> RepositoryError {
        let (object, location) = (key.to_owned(), self.location.clone());
        RepositoryError::Object { action, object, location, source: Box::new(source) }
    }
}

/// What a URL names.
enum Kind<'a> {
    Directory(&'a str),
    Bucket { bucket: &'a str, prefix: &'a str },
}

fn parse(url: &str) -> Result<Kind<'_>, RepositoryError> {
    let bad = |reason: String| RepositoryError::BadUrl { url: url.to_owned(), reason };
    let (scheme, rest) = url.split_once("://").unwrap_or(("file", url));
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    match scheme {
        "file" if rest.is_empty() => Err(bad("it names no directory".to_owned())),
        "file" => Ok(Kind::Directory(rest)),
        "s3" | "gs" | "az" if bucket.is_empty() => Err(bad("it names no bucket".to_owned())),
        "s3" | "gs" | "az" => Ok(Kind::Bucket { bucket, prefix: prefix.trim_end_matches('/') }),
        _ => Err(bad(format!("{scheme}:// is not known"))),
    }
}

/// A directory, every object of which is durable before it counts as written.
fn directory(path: &str, access: Access) -> Result<LocalFileSystem, String> {
    if access == Access::Write {
        #[expect(clippy::disallowed_methods, reason = "a repository is not a store's directory")]
        std::fs::create_dir_all(path).map_err(|error| error.to_string())?;
    }
    if !std::path::Path::new(path).is_dir() {
        return Err("there is no such directory".to_owned());
    }
    let store = LocalFileSystem::new_with_prefix(path).map_err(|error| error.to_string())?;
    Ok(store.with_fsync(true))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Changing(AtomicUsize);

    impl KeySource for Changing {
        fn keys(&self) -> Result<BucketKeys, Box<dyn std::error::Error + Send + Sync>> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Err("not yet".into()),
                n => Ok(BucketKeys { id: format!("key {n}"), secret: "hush".to_owned() }),
            }
        }
    }

    #[test]
    fn keys_are_asked_for_each_time_and_never_shown() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let asked = Asked(Arc::new(Changing::default()));
        let get = || runtime.block_on(asked.get_credential());
        assert!(get().expect_err("none").to_string().contains("not yet"));
        assert_eq!(get().expect("keys").key_id, "key 1");
        let second = get().expect("keys");
        assert_eq!(second.key_id, "key 2");
        assert!(!format!("{second:?}").contains("hush"));
    }

    #[test]
    fn a_place_is_a_directory_or_a_known_stores_bucket() {
        for (url, good) in [
            ("/var/backups", true),
            ("backups", true),
            ("file:///var/backups", true),
            ("s3://bucket", true),
            ("s3://bucket/a/b/", true),
            ("gs://bucket/a", true),
            ("az://container/a", true),
            ("s3://", false),
            ("s3:///a", false),
            ("file://", false),
            ("", false),
            ("memory://a", false),
            ("https://bucket.s3.amazonaws.com", false),
        ] {
            assert_eq!(Objects::understand(url).is_ok(), good, "{url}");
        }
    }
}
