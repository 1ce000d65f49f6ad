//! An immutable sorted file: `(key, number) -> bytes`, and a sorted list of names.
//!
//! ```text
//!   header 64   magic 8 | format u32 | kind u32 | store id 16 | first position u64
//!               | end position u64 | generation u32 | zeros 8 | crc32
//!   blocks      entry: key 12 | size varint | number varint if odd | value … then crc32
//!   name blocks entry: shared varint | length varint | rest of the name … then crc32
//!   footer      block list: key 12 | number u32 | offset u64 | size u32, each
//!               name list: offset u64 | size u32 | length u32 | first name, each
//!               filter words u64 …
//!   tail 64     magic 8 | footer offset u64 | block count u32 | name block count u32
//!               | filter words u32 | names u64 | entries u64 | zeros | crc32 of footer | crc32
//! ```
//!
//! Little-endian. An entry's size is twice its value's length, and odd if a number follows, which is
//! not 0 only where a key has many values. A block ends at the first entry beyond [`BLOCK_SIZE`]. The footer is held in
//! memory while the file is open: about 1/150 of the file, and the filter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use daybook_log::checksum::crc;
use daybook_log::disk::{Disk, DiskError, DiskFile};
use daybook_log::planted::{self, Bug};
use daybook_model::Position;
use uuid::Uuid;

use crate::index::Access;
use crate::index::key::{KEY_SIZE, Key};
use crate::read::ReadError;
use crate::record::{VARINT_SIZE_MAX, put_varint, take_varint};

/// The version of the format this code writes; files of another are rebuilt.
pub(crate) const TABLE_FORMAT: u32 = 3;
/// Bytes after which a block ends.
pub(crate) const BLOCK_SIZE: usize = 4096;
/// Bytes collected before they are written.
const WRITE_SIZE: usize = 1024 * 1024;
const HEADER_SIZE: usize = 64;
const TAIL_SIZE: usize = 64;
const MAGIC: &[u8; 8] = b"DAYTABL\n";
const TAIL_MAGIC: &[u8; 8] = b"DAYTEND\n";
/// Filter words (of 64 bits) for this many keys: 12 bits a key, about one false answer in 200.
const FILTER_KEYS_PER_WORD: f64 = 64.0 / 12.0;
/// Words of one filter block: a cache line.
const FILTER_BLOCK: usize = 8;
/// Bits set for a key.
const FILTER_BITS: u32 = 6;

/// What a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableKind {
    /// One segment's postings.
    Segment = 1,
    /// A run of the directory.
    Directory = 2,
}

/// What a table covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableHeader {
    pub kind: TableKind,
    pub store_id: Uuid,
    pub first: Position,
    pub end: Position,
    pub generation: u32,
}

impl TableHeader {
    fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&TABLE_FORMAT.to_le_bytes());
        bytes[12..16].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes[16..32].copy_from_slice(self.store_id.as_bytes());
        bytes[32..40].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.end.0.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.generation.to_le_bytes());
        let sum = crc(&bytes[..60]);
        bytes[60..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

#[derive(Clone, Copy, Debug)]
struct BlockRef {
    key: Key,
    number: u32,
    offset: u64,
    size: u32,
}

#[derive(Clone, Debug)]
struct NameBlock {
    first: Box<str>,
    offset: u64,
    size: u32,
}

/// Writes a table, entries first, in ascending order, then names.
pub(crate) struct TableWriter {
    disk: Arc<dyn Disk>,
    name: String,
    temporary: String,
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    written: u64,
    block: Vec<u8>,
    block_key: (Key, u32),
    blocks: Vec<BlockRef>,
    name_block: Vec<u8>,
    name_first: String,
    name_last: String,
    name_blocks: Vec<NameBlock>,
    names: u64,
    entries: u64,
    hashes: Option<Vec<u64>>,
    last_key: Option<Key>,
}

impl TableWriter {
    /// A writer of the file `name`, which appears when it is complete and durable. With a filter
    /// if `filtered`.
    pub fn new(
        disk: Arc<dyn Disk>,
        name: String,
        header: &TableHeader,
        filtered: bool,
    ) -> Result<TableWriter, DiskError> {
        let temporary = format!("{name}.tmp");
        let file = disk.create(&temporary)?;
        Ok(TableWriter {
            disk,
            name,
            temporary,
            file,
            buffer: header.encode().to_vec(),
            written: 0,
            block: Vec::new(),
            block_key: (Key::OFFSETS, 0),
            blocks: Vec::new(),
            name_block: Vec::new(),
            name_first: String::new(),
            name_last: String::new(),
            name_blocks: Vec::new(),
            names: 0,
            entries: 0,
            hashes: filtered.then(Vec::new),
            last_key: None,
        })
    }

    pub fn entry(&mut self, key: Key, number: u32, value: &[u8]) -> Result<(), DiskError> {
        if self.block.is_empty() {
            self.block_key = (key, number);
        }
        if self.last_key != Some(key) {
            if let Some(hashes) = &mut self.hashes {
                hashes.push(key.hash());
            }
            self.last_key = Some(key);
        }
        self.block.extend_from_slice(&key.0);
        put_varint(&mut self.block, (value.len() as u64) << 1 | u64::from(number > 0));
        if number > 0 {
            put_varint(&mut self.block, u64::from(number));
        }
        self.block.extend_from_slice(value);
        self.entries += 1;
        if self.block.len() >= BLOCK_SIZE { self.end_block() } else { Ok(()) }
    }

    pub fn name(&mut self, name: &str) -> Result<(), DiskError> {
        if self.name_block.is_empty() {
            self.end_block()?;
            self.name_first = name.to_owned();
            self.name_last.clear();
        }
        let shared = name.bytes().zip(self.name_last.bytes()).take_while(|(a, b)| a == b).count();
        put_varint(&mut self.name_block, shared as u64);
        put_varint(&mut self.name_block, (name.len() - shared) as u64);
        self.name_block.extend_from_slice(&name.as_bytes()[shared..]);
        self.name_last.clear();
        self.name_last.push_str(name);
        self.names += 1;
        if self.name_block.len() >= BLOCK_SIZE { self.end_name_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<(), DiskError> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::take(&mut self.block);
        let (offset, size) = self.put(&block)?;
        let (key, number) = self.block_key;
        self.blocks.push(BlockRef { key, number, offset, size });
        self.block = block;
        self.block.clear();
        Ok(())
    }

    fn end_name_block(&mut self) -> Result<(), DiskError> {
        if self.name_block.is_empty() {
            return Ok(());
        }
        let block = std::mem::take(&mut self.name_block);
        let (offset, size) = self.put(&block)?;
        let first = std::mem::take(&mut self.name_first).into_boxed_str();
        self.name_blocks.push(NameBlock { first, offset, size });
        self.name_block = block;
        self.name_block.clear();
        Ok(())
    }

    /// Adds a block and its checksum to the file. Returns its place, without the checksum.
    fn put(&mut self, block: &[u8]) -> Result<(u64, u32), DiskError> {
        let offset = self.written + self.buffer.len() as u64;
        self.buffer.extend_from_slice(block);
        self.buffer.extend_from_slice(&crc(block).to_le_bytes());
        if self.buffer.len() >= WRITE_SIZE {
            self.flush()?;
        }
        Ok((offset, block.len() as u32))
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        self.file.write_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Completes the file, makes it durable and gives it its name. The caller syncs the names.
    pub fn finish(mut self) -> Result<(), DiskError> {
        self.end_block()?;
        self.end_name_block()?;
        let footer_offset = self.written + self.buffer.len() as u64;
        let filter = self.hashes.take().map(|hashes| Filter::of(&hashes)).unwrap_or_default();
        let footer = encode_footer(&self.blocks, &self.name_blocks, &filter);
        let mut tail = [0; TAIL_SIZE];
        tail[..8].copy_from_slice(TAIL_MAGIC);
        tail[8..16].copy_from_slice(&footer_offset.to_le_bytes());
        tail[16..20].copy_from_slice(&(self.blocks.len() as u32).to_le_bytes());
        tail[20..24].copy_from_slice(&(self.name_blocks.len() as u32).to_le_bytes());
        tail[24..28].copy_from_slice(&(filter.0.len() as u32).to_le_bytes());
        tail[28..36].copy_from_slice(&self.names.to_le_bytes());
        tail[36..44].copy_from_slice(&self.entries.to_le_bytes());
        tail[56..60].copy_from_slice(&crc(&footer).to_le_bytes());
        let sum = crc(&tail[..60]);
        tail[60..].copy_from_slice(&sum.to_le_bytes());
        self.buffer.extend_from_slice(&footer);
        self.buffer.extend_from_slice(&tail);
        self.flush()?;
        self.file.sync()?;
        self.disk.rename(&self.temporary, &self.name)
    }
}

fn encode_footer(blocks: &[BlockRef], names: &[NameBlock], filter: &Filter) -> Vec<u8> {
    let mut footer = Vec::new();
    for block in blocks {
        footer.extend_from_slice(&block.key.0);
        footer.extend_from_slice(&block.number.to_le_bytes());
        footer.extend_from_slice(&block.offset.to_le_bytes());
        footer.extend_from_slice(&block.size.to_le_bytes());
    }
    for block in names {
        footer.extend_from_slice(&block.offset.to_le_bytes());
        footer.extend_from_slice(&block.size.to_le_bytes());
        footer.extend_from_slice(&(block.first.len() as u32).to_le_bytes());
        footer.extend_from_slice(block.first.as_bytes());
    }
    for word in &filter.0 {
        footer.extend_from_slice(&word.to_le_bytes());
    }
    footer
}

/// A blocked Bloom filter over keys' hashes. Empty: it knows nothing and admits everything.
#[derive(Clone, Debug, Default)]
struct Filter(Vec<u64>);

impl Filter {
    fn of(hashes: &[u64]) -> Filter {
        let words = (hashes.len() as f64 / FILTER_KEYS_PER_WORD) as usize + 1;
        let mut filter = Filter(vec![0; words.next_multiple_of(FILTER_BLOCK)]);
        for hash in hashes {
            let block = filter.block(*hash);
            for bit in bits(*hash) {
                filter.0[block + bit / 64] |= 1 << (bit % 64);
            }
        }
        filter
    }

    fn admits(&self, hash: u64) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let block = self.block(hash);
        bits(hash).all(|bit| self.0[block + bit / 64] & (1 << (bit % 64)) != 0)
    }

    fn block(&self, hash: u64) -> usize {
        let blocks = (self.0.len() / FILTER_BLOCK) as u64;
        (((hash >> 32) * blocks) >> 32) as usize * FILTER_BLOCK
    }
}

/// Which bits of its filter block a hash sets.
fn bits(hash: u64) -> impl Iterator<Item = usize> {
    let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..FILTER_BITS).map(move |i| (mixed >> (9 * i) & 511) as usize)
}

/// Blocks of tables, shared by all of a store's.
pub(crate) type BlockCache = quick_cache::sync::Cache<(u64, u32), Bytes, BlockWeight>;

/// A block weighs its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockWeight;

impl quick_cache::Weighter<(u64, u32), Bytes> for BlockWeight {
    fn weight(&self, _: &(u64, u32), block: &Bytes) -> u64 {
        block.len() as u64 + 64
    }
}

/// An open table.
#[derive(Debug)]
pub(crate) struct Table {
    pub header: TableHeader,
    pub name: String,
    pub size: u64,
    number: u64,
    file: Arc<dyn DiskFile>,
    cache: Arc<BlockCache>,
    blocks: Vec<BlockRef>,
    name_blocks: Vec<NameBlock>,
    filter: Filter,
    damaged: AtomicBool,
}

/// Is given an entry's key, number and value.
pub(crate) type VisitEntry<'a> = dyn FnMut(Key, u32, &[u8]) -> Result<(), ReadError> + 'a;

/// Numbers the tables of the process, as keys of the block cache.
static TABLES: AtomicU64 = AtomicU64::new(0);

impl Table {
    /// Opens the file `name`. None if it is missing, damaged, or not what `expected` says: it must
    /// be built anew then.
    pub fn open(
        disk: &dyn Disk,
        name: &str,
        cache: Arc<BlockCache>,
        expected: &TableHeader,
    ) -> Result<Option<Table>, DiskError> {
        let file = match disk.open(name) {
            Ok(file) => file,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e),
        };
        let size = file.len()?;
        if size < (HEADER_SIZE + TAIL_SIZE) as u64 {
            return Ok(None);
        }
        let mut header = [0; HEADER_SIZE];
        file.read_at(&mut header, 0)?;
        let mut tail = [0; TAIL_SIZE];
        file.read_at(&mut tail, size - TAIL_SIZE as u64)?;
        let tail_sum = u32::from_le_bytes(tail[60..].try_into().expect("four bytes"));
        let fits = header == expected.encode() || planted::is(Bug::StaleIndexBelieved);
        if !fits || crc(&tail[..60]) != tail_sum || &tail[..8] != TAIL_MAGIC {
            return Ok(None);
        }
        let u32_at = |at: usize| u32::from_le_bytes(tail[at..at + 4].try_into().expect("four"));
        let u64_at = |at: usize| u64::from_le_bytes(tail[at..at + 8].try_into().expect("eight"));
        let Some(footer_size) = (size - TAIL_SIZE as u64).checked_sub(u64_at(8)) else {
            return Ok(None);
        };
        let mut footer = vec![0; footer_size as usize];
        file.read_at(&mut footer, u64_at(8))?;
        if crc(&footer) != u32_at(56) {
            return Ok(None);
        }
        let counts = (u32_at(16) as usize, u32_at(20) as usize, u32_at(24) as usize);
        let Some((blocks, name_blocks, filter)) = decode_footer(&footer, counts) else {
            return Ok(None);
        };
        Ok(Some(Table {
            header: expected.clone(),
            name: name.to_owned(),
            size,
            number: TABLES.fetch_add(1, Ordering::Relaxed),
            file,
            cache,
            blocks,
            name_blocks,
            filter,
            damaged: AtomicBool::new(false),
        }))
    }

    /// Whether bytes of it were found damaged: maintenance builds it anew.
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Whether the table may have `key`.
    pub fn may_have(&self, key: Key) -> bool {
        self.filter.admits(key.hash())
    }

    /// The values of `key` from the one that holds `number` on, until `visit` says that it has
    /// enough by answering false. It is given the number of each value's first entry.
    pub fn values(
        &self,
        key: Key,
        number: u32,
        access: Access,
        visit: &mut dyn FnMut(u32, &[u8]) -> bool,
    ) -> Result<(), ReadError> {
        // The last block that begins at or before (key, number) may hold its beginning.
        let after = self.blocks.partition_point(|b| (b.key, b.number) <= (key, number));
        let mut index = after.saturating_sub(1);
        // The value that holds `number` is the last that begins at or before it.
        let mut held: Option<(u32, Bytes)> = None;
        while let Some(block) = self.blocks.get(index) {
            if block.key > key {
                break;
            }
            let bytes = self.block(index, block.offset, block.size, access)?;
            let mut rest = &bytes[..];
            let mut last: Option<(u32, &[u8])> = None;
            while let Some((found, at, value)) = take_entry(&mut rest) {
                if found < key || (found == key && at <= number) {
                    if found == key {
                        last = Some((at, value));
                    }
                    continue;
                }
                // What a later entry has overtaken is not wanted.
                let before = held.take();
                let before = before.as_ref().map(|(at, value)| (*at, &value[..]));
                if let Some((at, value)) = last.take().or(before)
                    && !visit(at, value)
                {
                    return Ok(());
                }
                if found > key || !visit(at, value) {
                    return Ok(());
                }
            }
            if let Some((at, value)) = last {
                held = Some((at, bytes.slice_ref(value)));
            }
            index += 1;
        }
        if let Some((at, value)) = held {
            visit(at, &value);
        }
        Ok(())
    }

    /// All entries, in order.
    pub fn entries(&self, visit: &mut VisitEntry<'_>) -> Result<(), ReadError> {
        for block in &self.blocks {
            let bytes = self.load(block.offset, block.size)?;
            let mut rest = &bytes[..];
            while let Some((key, number, value)) = take_entry(&mut rest) {
                visit(key, number, value)?;
            }
        }
        Ok(())
    }

    /// Number of blocks of entries, for a merge that walks them one at a time.
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// The entries of the `index`-th block.
    pub fn block_bytes(&self, index: usize) -> Result<Bytes, ReadError> {
        let block = &self.blocks[index];
        self.load(block.offset, block.size)
    }

    /// Number of blocks of names.
    pub fn name_block_count(&self) -> usize {
        self.name_blocks.len()
    }

    /// The names of the `index`-th block of names.
    pub fn name_block(&self, index: usize) -> Result<Vec<String>, ReadError> {
        let block = &self.name_blocks[index];
        let bytes = self.load(block.offset, block.size)?;
        let mut names = Vec::new();
        let mut rest = &bytes[..];
        let mut last = String::new();
        while let Some(name) = take_name(&mut rest, &last) {
            names.push(name.clone());
            last = name;
        }
        Ok(names)
    }

    /// The index of the block of names that may hold `name`.
    pub fn name_block_of(&self, name: &str) -> usize {
        self.name_blocks.partition_point(|block| &*block.first <= name).saturating_sub(1)
    }

    fn block(
        &self,
        index: usize,
        offset: u64,
        size: u32,
        access: Access,
    ) -> Result<Bytes, ReadError> {
        let id = (self.number, index as u32);
        if let Some(bytes) = self.cache.get(&id) {
            return Ok(bytes);
        }
        if access == Access::Memory {
            return Err(ReadError::NotInMemory);
        }
        let bytes = self.load(offset, size)?;
        self.cache.insert(id, bytes.clone());
        Ok(bytes)
    }

    fn load(&self, offset: u64, size: u32) -> Result<Bytes, ReadError> {
        let mut bytes = vec![0; size as usize + 4];
        self.file.read_at(&mut bytes, offset)?;
        let sum = bytes.split_off(size as usize);
        if sum != crc(&bytes).to_le_bytes() {
            self.damaged.store(true, Ordering::Relaxed);
            return Err(ReadError::IndexDamaged { file: self.name.clone(), offset });
        }
        Ok(bytes.into())
    }
}

type Footer = (Vec<BlockRef>, Vec<NameBlock>, Filter);

fn decode_footer(mut footer: &[u8], counts: (usize, usize, usize)) -> Option<Footer> {
    let u32_of = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let u64_of = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let mut blocks = Vec::with_capacity(counts.0);
    for _ in 0..counts.0 {
        let (entry, rest) = footer.split_at_checked(KEY_SIZE + 16)?;
        footer = rest;
        blocks.push(BlockRef {
            key: Key(entry[..KEY_SIZE].try_into().expect("a key's size")),
            number: u32_of(&entry[12..16]),
            offset: u64_of(&entry[16..24]),
            size: u32_of(&entry[24..28]),
        });
    }
    let mut names = Vec::with_capacity(counts.1);
    for _ in 0..counts.1 {
        let (entry, rest) = footer.split_at_checked(16)?;
        let (first, rest) = rest.split_at_checked(u32_of(&entry[12..]) as usize)?;
        footer = rest;
        names.push(NameBlock {
            first: std::str::from_utf8(first).ok()?.into(),
            offset: u64_of(&entry[..8]),
            size: u32_of(&entry[8..12]),
        });
    }
    if footer.len() != counts.2 * 8 || !counts.2.is_multiple_of(FILTER_BLOCK) {
        return None;
    }
    let filter = Filter(footer.chunks_exact(8).map(u64_of).collect());
    Some((blocks, names, filter))
}

/// Takes an entry from the front of a block.
pub(crate) fn take_entry<'a>(rest: &mut &'a [u8]) -> Option<(Key, u32, &'a [u8])> {
    let (key, mut after) = rest.split_first_chunk::<KEY_SIZE>()?;
    let size = usize::try_from(take_varint(&mut after)?).ok()?;
    let number = if size & 1 == 1 { take_varint(&mut after)? } else { 0 };
    let (value, after) = after.split_at_checked(size >> 1)?;
    *rest = after;
    Some((Key(*key), u32::try_from(number).ok()?, value))
}

fn take_name(rest: &mut &[u8], last: &str) -> Option<String> {
    let shared = usize::try_from(take_varint(rest)?).ok()?;
    let len = usize::try_from(take_varint(rest)?).ok()?;
    let (own, after) = rest.split_at_checked(len)?;
    *rest = after;
    let mut name = last.as_bytes().get(..shared)?.to_vec();
    name.extend_from_slice(own);
    String::from_utf8(name).ok()
}

const _: () = assert!(KEY_SIZE + 2 * VARINT_SIZE_MAX < BLOCK_SIZE);
