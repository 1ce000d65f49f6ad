//! The five bytes before each gRPC message.
//!
//! ```text
//!   0            1         5         5 + len
//!   | compressed | len     | message |          len is big-endian; compressed is 0 here
//! ```

use bytes::{BufMut, BytesMut};
use prost::Message;

/// Bytes before each message.
pub const PREFIX_SIZE: usize = 5;

/// What the bytes before a message say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Whether the message is compressed. No client does so unless asked.
    pub compressed: bool,
    /// The message's bytes.
    pub len: usize,
}

impl Prefix {
    /// Reads a prefix.
    #[must_use]
    pub fn read(bytes: [u8; PREFIX_SIZE]) -> Prefix {
        let [compressed, len @ ..] = bytes;
        Prefix { compressed: compressed != 0, len: u32::from_be_bytes(len) as usize }
    }
}

/// Writes the prefix of an uncompressed message of `len` bytes. A message of ours is an event and
/// its envelope, far below what 32 bits count.
pub fn put_prefix(len: usize, buf: &mut BytesMut) {
    let len = u32::try_from(len).expect("a message is smaller than 4 GiB");
    buf.put_u8(0);
    buf.put_u32(len);
}

/// Writes `message` with its prefix.
pub fn put_message(message: &impl Message, buf: &mut BytesMut) {
    let len = message.encoded_len();
    buf.reserve(PREFIX_SIZE + len);
    put_prefix(len, buf);
    message.encode(buf).expect("room was reserved");
}
