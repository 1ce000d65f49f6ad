//! Events as JSON lines: one event a line, in the form of `/v1`, byte for byte what was stored.

use std::io::{BufRead, Read as _};

use anyhow::{Context as _, bail};
use daybook_model::RecordedEvent;

use crate::http::event;

/// Bytes of a line: the largest event as base64 (4/3), its metadata, and its names.
pub const LINE_SIZE_MAX: u64 = 48 * 1024 * 1024;

/// Reads events, a line each.
#[derive(Debug)]
pub struct Lines<R> {
    from: R,
    line: Vec<u8>,
    number: u64,
    /// Bytes read.
    read: u64,
}

impl<R: BufRead> Lines<R> {
    /// Reads from `from`.
    pub fn new(from: R) -> Lines<R> {
        Lines { from, line: Vec::new(), number: 0, read: 0 }
    }

    /// How many lines were read.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many bytes were read.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read
    }

    /// The next event; none at the end. Empty lines are passed over.
    ///
    /// # Errors
    /// Names the line and what is wrong with it.
    pub fn next_event(&mut self) -> anyhow::Result<Option<RecordedEvent>> {
        loop {
            if self.read_line()? == 0 {
                return Ok(None);
            }
            if !self.line.trim_ascii().is_empty() {
                let number = self.number;
                let event = event::read_recorded(&self.line)
                    .map_err(|problem| anyhow::anyhow!("line {number}: {}", problem.detail()))?;
                return Ok(Some(event));
            }
        }
    }

    /// Passes over events, as far as line `number`.
    ///
    /// # Errors
    /// If there are not so many lines.
    pub fn skip_to(&mut self, number: u64) -> anyhow::Result<()> {
        while self.number < number {
            if self.read_line()? == 0 {
                bail!("the file has {} lines, and {number} were taken before", self.number);
            }
        }
        Ok(())
    }

    /// Reads one line. Answers its bytes; none at the end.
    fn read_line(&mut self) -> anyhow::Result<u64> {
        self.line.clear();
        let number = self.number + 1;
        let read = (&mut self.from)
            .take(LINE_SIZE_MAX)
            .read_until(b'\n', &mut self.line)
            .with_context(|| format!("cannot read line {number}"))? as u64;
        if read == LINE_SIZE_MAX && self.line.last() != Some(&b'\n') {
            bail!("line {number} is longer than {LINE_SIZE_MAX} bytes, which no event is");
        }
        self.number += u64::from(read > 0);
        self.read += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use daybook_model::{ContentType, Revision, StreamName, Timestamp};
    use uuid::Uuid;

    use super::*;

    /// Data that is not what JSON in a line would give back: spaces around it, lines in it, no JSON.
    const DATA: [&[u8]; 6] = [b"{\"a\":1}", b" {} ", b"{\n}", b"", b"{", b"\xff\x00"];

    fn line(number: u64, data: &'static [u8], metadata: &'static [u8]) -> RecordedEvent {
        RecordedEvent {
            position: daybook_model::Position(number),
            revision: Revision(number),
            time: Timestamp(1_764_000_000_000_000_001),
            id: Uuid::from_u128(u128::from(number)),
            stream: StreamName::new("a").expect("a name"),
            event_type: "T".to_owned(),
            content_type: ContentType::Json,
            tombstone: false,
            metadata: metadata.into(),
            data: data.into(),
        }
    }

    #[test]
    fn lines_give_back_every_byte() {
        let metadata = [&b""[..], b"null", b"{\"m\":2}"];
        let events: Vec<RecordedEvent> = (0..)
            .zip(DATA.iter().flat_map(|data| metadata.iter().map(move |m| (*data, *m))))
            .map(|(number, (data, metadata))| line(number, data, metadata))
            .collect();
        let mut text = Vec::new();
        for event in &events {
            event::write_exactly(&event.view(), &mut text);
            text.push(b'\n');
        }
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), events.len());
        let mut lines = Lines::new(&text[..]);
        for event in &events {
            assert_eq!(lines.next_event().expect("a line").as_ref(), Some(event));
        }
        assert!(lines.next_event().expect("the end").is_none());
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, word) in [("\n\n{", "line 3"), ("{}", "revision"), ("[]", "line 1")] {
            let error = Lines::new(text.as_bytes()).next_event().expect_err(text).to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        let error = Lines::new(&b"\n"[..]).skip_to(2).expect_err("too far").to_string();
        assert!(error.contains("1 lines"), "{error}");
    }
}
