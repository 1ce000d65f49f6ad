//! The bytes of a simulated file, in pages, of which those that are all zero are not kept.
//!
//! Segments are zeroed ahead, megabytes at a time, and a simulation does that thousands of times a
//! minute: zeros must cost nothing. Pages are shared until written, so that a synced file's durable
//! and current image, and the images of a copied disk, are mostly the same memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes in a page: small enough to share well, large enough to keep the map short.
pub(super) const PAGE_SIZE: u64 = 4096;
const PAGE_LEN: usize = PAGE_SIZE as usize;

type Page = [u8; PAGE_LEN];

static ZERO_PAGE: Page = [0; PAGE_LEN];

/// Whether `bytes` are all zero. By comparing whole pages: fast without optimisation, too.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(PAGE_LEN).all(|chunk| chunk == &ZERO_PAGE[..chunk.len()])
}

/// A file's bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    length: u64,
    /// By number; one that is absent is all zero. None lies wholly beyond `length`, and the bytes
    /// of the last beyond `length` are zero.
    pages: BTreeMap<u64, Arc<Page>>,
}

/// The part of one page that lies within `range`, and where it lies within the range.
struct Part {
    page: u64,
    in_page: Range<usize>,
    in_range: Range<usize>,
}

/// The pages that `range` touches.
fn page_numbers(range: &Range<u64>) -> Range<u64> {
    if range.is_empty() { 0..0 } else { range.start / PAGE_SIZE..range.end.div_ceil(PAGE_SIZE) }
}

fn part(page: u64, range: &Range<u64>) -> Part {
    let start = range.start.max(page * PAGE_SIZE);
    let end = range.end.min((page + 1) * PAGE_SIZE);
    let within = |base: u64| (start - base) as usize..(end - base) as usize;
    Part { page, in_page: within(page * PAGE_SIZE), in_range: within(range.start) }
}

impl Image {
    pub(super) const fn len(&self) -> u64 {
        self.length
    }

    #[cfg(test)]
    pub(super) fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Fills `buffer` from `offset`; what lies beyond the end is zero.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) {
        let range = offset..offset + buffer.len() as u64;
        buffer.fill(0);
        for (&page, bytes) in self.pages.range(page_numbers(&range)) {
            let part = part(page, &range);
            buffer[part.in_range].copy_from_slice(&bytes[part.in_page]);
        }
    }

    /// Whether no byte in `range` is other than zero, as far as the pages show.
    pub(super) fn has_no_page_in(&self, range: &Range<u64>) -> bool {
        self.pages.range(page_numbers(range)).next().is_none()
    }

    /// Puts `bytes` at `offset`.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        let range = offset..offset + bytes.len() as u64;
        self.length = self.length.max(range.end);
        for page in page_numbers(&range) {
            let part = part(page, &range);
            let bytes = &bytes[part.in_range];
            if is_zero(bytes) {
                self.zero_part(part.page, part.in_page);
            } else {
                let page = self.pages.entry(page).or_insert_with(|| Arc::new(ZERO_PAGE));
                Arc::make_mut(page)[part.in_page].copy_from_slice(bytes);
            }
        }
    }

    /// Puts zeros into `range`.
    pub(super) fn zero(&mut self, range: Range<u64>) {
        self.length = self.length.max(range.end);
        for page in self.present(&range) {
            self.zero_part(page, part(page, &range).in_page);
        }
    }

    fn zero_part(&mut self, page: u64, in_page: Range<usize>) {
        if in_page.len() == PAGE_LEN {
            self.pages.remove(&page);
        } else if let Some(bytes) = self.pages.get_mut(&page) {
            Arc::make_mut(bytes)[in_page].fill(0);
        }
    }

    fn present(&self, range: &Range<u64>) -> Vec<u64> {
        self.pages.range(page_numbers(range)).map(|(&page, _)| page).collect()
    }

    /// Takes over the pages of `other` that `range` touches, whole.
    pub(super) fn adopt(&mut self, other: &Self, range: &Range<u64>) {
        for page in self.present(range) {
            if !other.pages.contains_key(&page) {
                self.pages.remove(&page);
            }
        }
        for (&page, bytes) in other.pages.range(page_numbers(range)) {
            self.pages.insert(page, Arc::clone(bytes));
        }
        self.length = self.length.max(range.end.min(other.length));
    }

    /// Cuts the file, or extends it with zeros.
    pub(super) fn set_len(&mut self, length: u64) {
        if length < self.length {
            self.zero(length..self.length.next_multiple_of(PAGE_SIZE));
        }
        self.length = length;
    }

    /// Inverts one bit of the byte at `offset`.
    pub(super) fn flip(&mut self, offset: u64, bit: u32) {
        let mut byte = [0];
        self.read(&mut byte, offset);
        byte[0] ^= 1 << (bit % 8);
        self.write(&byte, offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(image: &Image) -> Vec<u8> {
        let mut bytes = vec![1; image.len() as usize];
        image.read(&mut bytes, 0);
        bytes
    }

    #[test]
    fn an_image_is_a_vec_of_bytes() {
        let mut rng = super::super::Rng::new(3);
        for _ in 0..300 {
            let (mut image, mut model) = (Image::default(), Vec::new());
            for step in 0..20_u8 {
                let offset = rng.below(5 * PAGE_SIZE);
                let length = rng.below(3 * PAGE_SIZE);
                let range = offset as usize..(offset + length) as usize;
                if model.len() < range.end && step % 4 != 3 {
                    model.resize(range.end, 0);
                }
                match step % 4 {
                    0 => {
                        image.write(&vec![step + 1; length as usize], offset);
                        model[range].fill(step + 1);
                    }
                    1 => {
                        image.zero(offset..offset + length);
                        model[range].fill(0);
                    }
                    2 => {
                        image.write(&vec![0; length as usize], offset);
                        model[range].fill(0);
                    }
                    _ => {
                        image.set_len(offset);
                        model.resize(offset as usize, 0);
                    }
                }
                assert_eq!(bytes(&image), model);
            }
        }
    }

    #[test]
    fn zeros_take_no_memory() {
        let mut image = Image::default();
        image.write(&vec![0; 1 << 20], 5);
        image.zero(0..1 << 22);
        assert_eq!((image.len(), image.page_count()), (1 << 22, 0));
        image.write(b"x", 1 << 21);
        assert_eq!(image.page_count(), 1);
        image.zero(0..1 << 22);
        assert_eq!(image.page_count(), 0);
    }
}
