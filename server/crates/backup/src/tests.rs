//! What backups promise: a restored log is the original up to where it was cut, only what is new
//! is copied, and whatever breaks or is broken leaves earlier backups and the target alone.

mod faults;
mod kept;
mod log;
mod scenes;
