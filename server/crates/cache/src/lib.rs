//! Disposable sled databases.
