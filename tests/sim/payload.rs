//! What clients write: ordinary bytes, and bytes that imitate the log's own.

use daybook_log::checksum::crc;
use daybook_log::disk::sim::{Rng, SimDisk};

/// Bytes of a copy of the log in a payload, at most.
const COPY_SIZE_MAX: u64 = 700;

/// How a history's payloads look.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// All payloads have this size, so that one frame fits where another was.
    pub fixed: Option<usize>,
    /// Of 16 payloads so many imitate the log.
    pub forged: u64,
    /// Of 16 payloads so many are large.
    pub large: u64,
}

/// One payload, in a log on `disk` that ends at `end`.
pub fn data(rng: &mut Rng, style: &Style, disk: &SimDisk, end: u64) -> Vec<u8> {
    if let Some(size) = style.fixed {
        return random(rng, size);
    }
    if rng.chance(style.forged, 16) {
        return match rng.below(3) {
            0 => copy_of_log(rng, disk),
            1 => forged_frames(rng, end),
            _ => forged_record(rng),
        };
    }
    if rng.chance(style.large, 16) {
        let size = rng.between(300, 3000) as usize;
        return random(rng, size);
    }
    let size = rng.below(60) as usize;
    random(rng, size)
}

fn random(rng: &mut Rng, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    rng.fill(&mut bytes);
    bytes
}

/// Real bytes of a segment, as someone could have read them from a backup.
fn copy_of_log(rng: &mut Rng, disk: &SimDisk) -> Vec<u8> {
    let names: Vec<String> = disk.names().into_iter().filter(|n| n.ends_with(".log")).collect();
    let Some(name) = rng.pick(&names) else { return Vec::new() };
    let Ok(bytes) = disk.read_all(name) else { return Vec::new() };
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last as u64 + 1);
    let start = rng.below(used) & !7;
    let end = used.min(start + rng.between(40, COPY_SIZE_MAX));
    bytes[start as usize..end as usize].to_vec()
}

/// Sound frames, but for the salt, at each alignment, that claim what is to come.
fn forged_frames(rng: &mut Rng, end: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let first = end + rng.between(1, 40);
    for _ in 0..8 {
        let mut header = [0; 32];
        header[..2].copy_from_slice(&0xdb0c_u16.to_le_bytes());
        header[2] = 2;
        header[8..16].copy_from_slice(&first.to_le_bytes());
        header[16..24].copy_from_slice(&first.to_le_bytes());
        let sum = crc(&header[..28]);
        header[28..].copy_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(&[0; 9]);
    }
    out
}

/// A record with a checksum that lacks the store's salt.
fn forged_record(rng: &mut Rng) -> Vec<u8> {
    let size = rng.between(10, 40) as usize;
    let payload = random(rng, size);
    let len = (payload.len() as u32 + 1).to_le_bytes();
    let covered = [&len[..], &[9], &payload[..]].concat();
    [&len[..], &crc(&covered).to_le_bytes(), &[9], &payload[..]].concat()
}
