//! A small ext4 in a file, on a loop device: a disk that can be filled.
//!
//! INVARIANT: unmounted when it is dropped.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::needs::{done, is_root};

/// Bytes of the volume: the first segments (4, 16 and 64 MiB), the next one, and some room.
const VOLUME_SIZE: u64 = 192 * 1024 * 1024;
/// Bytes written at a time to fill it, and in the end, where the last blocks are.
const FILL_SIZES: [usize; 2] = [1024 * 1024, 4096];

/// A mounted volume.
#[derive(Debug)]
pub struct Volume {
    mounted: PathBuf,
    _directory: TempDir,
}

impl Volume {
    /// A new, empty one; its file lies in `parent`.
    ///
    /// # Errors
    /// If this machine cannot.
    pub fn new(parent: &Path) -> Result<Volume, String> {
        is_root()?;
        let directory = TempDir::with_prefix_in("daybook-chaos-", parent);
        let directory = directory.map_err(|error| error.to_string())?;
        let (image, mounted) = (directory.path().join("image"), directory.path().join("volume"));
        std::fs::create_dir(&mounted).map_err(|error| error.to_string())?;
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(VOLUME_SIZE).map_err(|error| error.to_string())?;
        let text = |path: &Path| path.display().to_string();
        // No blocks kept for root: the server may be root, and shall find it full.
        done("mkfs.ext4", &["-q", "-F", "-m", "0", &text(&image)])?;
        done("mount", &["-o", "loop", &text(&image), &text(&mounted)])?;
        Ok(Volume { mounted, _directory: directory })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    /// Takes all the room there is. Answers with the file to remove.
    ///
    /// # Errors
    /// If it cannot be filled.
    pub fn fill(&self) -> Result<PathBuf, String> {
        let path = self.mounted.join("filler");
        let mut file = std::fs::File::create(&path).map_err(|error| error.to_string())?;
        for size in FILL_SIZES {
            let block = vec![0x5a; size];
            // At most as often as fits on the volume.
            for _ in 0..VOLUME_SIZE / size as u64 {
                if file.write_all(&block).is_err() {
                    break;
                }
            }
        }
        Ok(path)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = done("umount", &["--lazy", &self.mounted.display().to_string()]);
    }
}
