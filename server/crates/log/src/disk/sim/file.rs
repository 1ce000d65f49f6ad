//! One simulated file: what is durable, what is only in the page cache, and what a power cut makes
//! of it.

use std::ops::Range;
use std::sync::Arc;

use super::image::Image;
use super::{CrashMode, Rng};

/// Bytes that a power cut keeps or loses together: a disk's sector.
pub const SECTOR_SIZE: u64 = 512;

/// What a power cut may do to a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Anything; a sync makes it durable.
    Pending,
    /// Anything, and no sync changes that: one failed since, and the cache calls it clean.
    Forsaken,
    /// Nothing. Still listed, because it lies above something forsaken.
    Durable,
}

/// Makes the pending ones durable; all of them may go from the list if none is forsaken.
pub(super) fn settle<'a>(fates: impl Iterator<Item = &'a mut Fate>) -> bool {
    let mut all = true;
    for fate in fates {
        match fate {
            Fate::Pending => *fate = Fate::Durable,
            Fate::Forsaken => all = false,
            Fate::Durable => {}
        }
    }
    all
}

/// A sync failed: what was pending will not be durable by a later one.
pub(super) fn forsake<'a>(fates: impl Iterator<Item = &'a mut Fate>) {
    for fate in fates {
        if *fate == Fate::Pending {
            *fate = Fate::Forsaken;
        }
    }
}

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Data<'a> {
    /// So many zeros.
    Zeros(u64),
    Bytes(&'a [u8]),
}

impl Data<'_> {
    pub(super) const fn len(self) -> u64 {
        match self {
            Self::Zeros(length) => length,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// The first `length` bytes; all if there are no more.
    pub(super) fn first(self, length: u64) -> Self {
        let length = length.min(self.len());
        match self {
            Self::Zeros(_) => Self::Zeros(length),
            Self::Bytes(bytes) => Self::Bytes(&bytes[..length as usize]),
        }
    }

    pub(super) fn digest(self) -> u32 {
        match self {
            Self::Zeros(_) => 0,
            Self::Bytes(bytes) => crc32fast::hash(bytes),
        }
    }
}

#[derive(Clone, Debug)]
enum Content {
    Zeros,
    Bytes(Arc<[u8]>),
}

#[derive(Clone, Debug)]
struct Write {
    range: Range<u64>,
    content: Content,
    fate: Fate,
}

impl Write {
    /// Puts the part of this write that lies in `range` into `image`.
    fn apply(&self, image: &mut Image, range: Range<u64>) {
        match &self.content {
            Content::Zeros => image.zero(range),
            Content::Bytes(bytes) => {
                let within = |at: u64| (at - self.range.start) as usize;
                image.write(&bytes[within(range.start)..within(range.end)], range.start);
            }
        }
    }

    /// The part of this write in the `index`-th sector it touches.
    fn sector(&self, index: u64) -> Range<u64> {
        let sector = self.range.start / SECTOR_SIZE + index;
        let start = self.range.start.max(sector * SECTOR_SIZE);
        start..self.range.end.min((sector + 1) * SECTOR_SIZE)
    }

    fn sector_count(&self) -> u64 {
        self.range.end.div_ceil(SECTOR_SIZE) - self.range.start / SECTOR_SIZE
    }

    /// Puts what a power cut keeps of this write into `image`.
    fn survive(&self, image: &mut Image, rng: &mut Rng) {
        let count = self.sector_count();
        match rng.below(4) {
            0 => {}
            1 => self.apply(image, self.range.clone()),
            2 => {
                let kept = rng.below(count);
                self.apply(image, self.range.start..self.sector(kept).start);
            }
            // Zeros upon zeros: whichever are kept, nothing is to be seen.
            _ if matches!(self.content, Content::Zeros) && image.has_no_page_in(&self.range) => {}
            _ => {
                let odds = rng.between(1, 7);
                for index in 0..count {
                    if rng.chance(odds, 8) {
                        self.apply(image, self.sector(index));
                    }
                }
            }
        }
        // The sector under the head when the power went.
        if rng.chance(1, 4) {
            let index = rng.below(count);
            self.tear(image, self.sector(index), rng);
        }
    }

    /// Leaves `sector` half written, or with garbage where it was being written; bytes beside the
    /// write stay as they are.
    fn tear(&self, image: &mut Image, sector: Range<u64>, rng: &mut Rng) {
        let end = rng.between(sector.start, sector.end);
        if rng.chance(1, 2) {
            self.apply(image, sector.start..end);
        } else {
            let mut garbage = vec![0; (end - sector.start) as usize];
            rng.fill(&mut garbage);
            image.write(&garbage, sector.start);
        }
    }
}

/// A file, with or without a name.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    /// Its latest name, for messages and faults.
    pub(super) name: Arc<str>,
    /// One more holder for each open handle.
    pub(super) handles: Arc<()>,
    durable: Image,
    current: Image,
    writes: Vec<Write>,
}

impl Inode {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            handles: Arc::new(()),
            durable: Image::default(),
            current: Image::default(),
            writes: Vec::new(),
        }
    }

    pub(super) const fn len(&self) -> u64 {
        self.current.len()
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) {
        self.current.read(buffer, offset);
    }

    pub(super) fn write(&mut self, data: Data<'_>, offset: u64) {
        if data.len() == 0 {
            return;
        }
        let range = offset..offset + data.len();
        let content = match data {
            Data::Zeros(_) => {
                self.current.zero(range.clone());
                Content::Zeros
            }
            Data::Bytes(bytes) => {
                self.current.write(bytes, offset);
                Content::Bytes(bytes.into())
            }
        };
        self.writes.push(Write { range, content, fate: Fate::Pending });
    }

    pub(super) fn sync(&mut self) {
        if !settle(self.writes.iter_mut().map(|write| &mut write.fate)) {
            return;
        }
        // Nothing forsaken, so what these writes touched now is as it is in the cache.
        for write in self.writes.drain(..) {
            self.durable.adopt(&self.current, &write.range);
        }
    }

    pub(super) fn fail_sync(&mut self) {
        forsake(self.writes.iter_mut().map(|write| &mut write.fate));
    }

    /// The power goes.
    pub(super) fn crash(&mut self, mode: CrashMode, rng: &mut Rng) {
        let length_max = self.current.len();
        let mut image = std::mem::take(&mut self.durable);
        // The length that is certain: the durable one, or what a durable write needs.
        let mut length = image.len();
        for write in std::mem::take(&mut self.writes) {
            if write.fate == Fate::Durable || mode.keeps_data() {
                write.apply(&mut image, write.range.clone());
                length = length.max(write.range.end);
            } else if mode == CrashMode::Random {
                write.survive(&mut image, rng);
            }
        }
        if mode == CrashMode::Random && length < length_max {
            // The length is written apart from the data: it may be early, late or in between.
            length = match rng.below(3) {
                0 => length,
                1 => length_max,
                _ => rng.between(length, length_max),
            };
        }
        image.set_len(length);
        self.replace(image);
    }

    /// Inverts a bit of what is durable and of what is seen, behind the store's back.
    pub(super) fn damage(&mut self, byte: u64, bit: u32) {
        self.current.flip(byte, bit);
        if byte < self.durable.len() {
            self.durable.flip(byte, bit);
        }
    }

    /// Makes `bytes` all there is, durably.
    pub(super) fn set_content(&mut self, bytes: &[u8]) {
        let mut image = Image::default();
        image.write(bytes, 0);
        self.writes.clear();
        self.replace(image);
    }

    /// Cuts or extends the file, durably.
    pub(super) fn set_len(&mut self, length: u64) {
        let mut image = self.current.clone();
        image.set_len(length);
        self.writes.clear();
        self.replace(image);
    }

    fn replace(&mut self, image: Image) {
        self.current = image.clone();
        self.durable = image;
    }
}
