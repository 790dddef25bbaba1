//! The format of a row of the commit log: packed updates, followed by a checksum.
//!
//! A row can be read without the other tables: an update that holds only the difference to the
//! previous state always follows one with the whole state, in the same memtable.

use std::sync::Arc;

use super::{
    checksum::Checksum,
    memtable::{Memtable, PendingUpdate},
};
use crate::{
    id::ServerId,
    storage::{Record, StorageError, StorageErrorKind, Update, encoded::Encoded},
};

/// A row of this size is full. The limit keeps the deletion of a row short.
pub const ROW_BYTES: usize = 256 << 10;
/// The size from which only the difference of a state is written. A smaller state would save
/// little.
pub const SPLICE_MIN: usize = 1 << 10;

const DELETE: u8 = 0;
const APPEND: u8 = 1;
const PUT: u8 = 2;
const UPDATE_MASK: u8 = 3;
/// The kind is the same as that of the previous update.
const SAME_KIND: u8 = 4;
const HAS_DUE: u8 = 8;
const IS_SPLICE: u8 = 16;

/// A row under construction.
pub struct Row {
    /// The log number of the first update.
    number: u64,
    bytes: Vec<u8>,
    kind: Option<String>,
}

impl Row {
    /// Begins a row at a log number, reusing `buffer`.
    pub fn new(number: u64, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { number, bytes: buffer, kind: None }
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds an update. `old` is the server's state in the active memtable: then only the
    /// difference is written.
    pub fn push(&mut self, server: &ServerId, update: &Update, old: Option<&Encoded>) {
        let same_kind = self.kind.as_deref() == Some(server.kind());
        let start = self.bytes.len();
        self.bytes.push(if same_kind { SAME_KIND } else { 0 });
        if !same_kind {
            let kind = self.kind.get_or_insert_default();
            kind.clear();
            kind.push_str(server.kind());
            self.put_bytes(server.kind().as_bytes());
        }
        self.put_bytes(server.key().as_bytes());
        self.bytes[start] |= match update {
            Update::Delete => DELETE,
            Update::Append(messages) => {
                self.put_messages(messages);
                APPEND
            }
            Update::Put(record) => PUT | self.put_record(record, old),
        };
    }

    /// Adds the checksum and returns the whole row.
    pub fn seal(&mut self) -> &[u8] {
        let sum = checksum(self.number, &self.bytes);
        self.bytes.extend_from_slice(&sum.to_le_bytes());
        &self.bytes
    }

    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    fn put_record(&mut self, record: &Record, old: Option<&Encoded>) -> u8 {
        let mut flags = 0;
        self.put_number(record.version.into());
        self.put_number(record.format.into());
        match old {
            Some(old) => {
                flags |= IS_SPLICE;
                let difference = record.state.difference(old);
                self.put_number(old.len() as u64);
                self.put_number(difference.start as u64);
                self.put_number(difference.end as u64);
                self.put_bytes(difference.bytes());
            }
            None => {
                self.put_number(record.state.len() as u64);
                record.state.pieces().for_each(|piece| self.bytes.extend_from_slice(piece));
            }
        }
        self.put_bytes(&record.reminders);
        if let Some(due) = record.due {
            flags |= HAS_DUE;
            self.put_number(due);
        }
        self.put_messages(&record.messages);
        flags
    }

    fn put_messages(&mut self, messages: &[Arc<[u8]>]) {
        self.put_number(messages.len() as u64);
        for message in messages {
            self.put_bytes(message);
        }
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes seven bits per byte, the lowest first. The highest bit is set if more follow.
    fn put_number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.bytes.push(number.to_le_bytes()[0]);
    }
}

/// Returns how many log numbers an update takes: one for itself and one per message.
pub fn numbers(update: &Update) -> u64 {
    match update {
        Update::Put(Record { messages, .. }) | Update::Append(messages) => {
            1 + messages.len() as u64
        }
        Update::Delete => 1,
    }
}

/// Returns the weight of an update: the bytes written, its memory, and the work to read it again.
pub fn weight(written: usize, update: &Update, spliced: bool) -> usize {
    /// The approximate size of an entry in the memtable.
    const ENTRY: usize = 128;
    /// Copying a byte of a state costs this much less than writing it.
    const COPY: usize = 16;
    let copied = if spliced { update.bytes() / COPY } else { 0 };
    ENTRY + written + copied
}

/// Reads a row into a memtable. Returns the log number after the last of the row.
pub fn replay(number: u64, row: &[u8], memtable: &mut Memtable) -> Result<u64, StorageError> {
    let damaged = || {
        let text = format!("row {number} of the commit log is damaged");
        StorageError::new(StorageErrorKind::Corrupt, text)
    };
    let (updates, sum) = row.split_last_chunk::<8>().ok_or_else(damaged)?;
    if checksum(number, updates) != u64::from_le_bytes(*sum) {
        return Err(damaged());
    }
    let mut reader = Reader { rest: updates, kind: None };
    let mut next = number;
    while !reader.rest.is_empty() {
        let before = reader.rest.len();
        let (server, update, spliced) = reader.update(memtable).ok_or_else(damaged)?;
        let weight = weight(before - reader.rest.len(), &update, spliced);
        let pending = PendingUpdate::new(next, update);
        next = next.checked_add(numbers(&pending.update)).ok_or_else(damaged)?;
        memtable.add(server, pending, weight);
    }
    Ok(next)
}

struct Reader<'a> {
    rest: &'a [u8],
    kind: Option<&'a str>,
}

impl<'a> Reader<'a> {
    fn update(&mut self, memtable: &Memtable) -> Option<(ServerId, Update, bool)> {
        let (&tag, rest) = self.rest.split_first()?;
        self.rest = rest;
        if tag & SAME_KIND == 0 {
            self.kind = Some(self.text()?);
        }
        let server = ServerId::new(self.kind?.to_owned(), self.text()?);
        let update = match tag & UPDATE_MASK {
            DELETE => Update::Delete,
            APPEND => Update::Append(self.messages()?),
            PUT => Update::Put(Record {
                version: self.number()?.try_into().ok()?,
                format: self.number()?.try_into().ok()?,
                state: match tag & IS_SPLICE {
                    0 => self.bytes()?.into(),
                    _ => self.splice(memtable.state(&server)?)?,
                },
                reminders: self.bytes()?.into(),
                due: if tag & HAS_DUE == 0 { None } else { Some(self.number()?) },
                messages: self.messages()?,
            }),
            _ => return None,
        };
        Some((server, update, tag & IS_SPLICE != 0))
    }

    fn splice(&mut self, old: &Encoded) -> Option<Encoded> {
        let old = old.bytes();
        if self.number()? != old.len() as u64 {
            return None;
        }
        let start = old.get(..self.size()?)?;
        let end = old.len().checked_sub(self.size()?).and_then(|end| old.get(end..))?;
        Some([start, self.bytes()?, end].concat().into())
    }

    fn messages(&mut self) -> Option<Vec<Arc<[u8]>>> {
        let count = self.size()?;
        // Each message takes at least one byte, so a wrong count cannot reserve much memory.
        if count > self.rest.len() {
            return None;
        }
        (0..count).map(|_| Some(self.bytes()?.into())).collect()
    }

    fn text(&mut self) -> Option<&'a str> {
        str::from_utf8(self.bytes()?).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let size = self.size()?;
        let (bytes, rest) = self.rest.split_at_checked(size)?;
        self.rest = rest;
        Some(bytes)
    }

    fn size(&mut self) -> Option<usize> {
        self.number()?.try_into().ok()
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

fn checksum(number: u64, updates: &[u8]) -> u64 {
    Checksum::new().number(number).bytes(updates).value()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(state: &[u8]) -> Record {
        Record::new(300, 1, state)
            .with_reminders(*b"reminders", Some(u64::MAX))
            .with_messages(vec![(*b"one").into(), [].into()])
    }

    /// A row with an update of each type, and a difference.
    fn row() -> Vec<u8> {
        let mut row = Row::new(7, Vec::new());
        let (a, b) = (ServerId::new("kind", "a"), ServerId::new("other", ""));
        row.push(&a, &Update::Put(record(b"the old state")), None);
        row.push(&a, &Update::Put(record(b"the new state")), Some(&b"the old state"[..].into()));
        row.push(&b, &Update::Append(vec![(*b"message").into()]), None);
        row.push(&ServerId::new("other", "c"), &Update::Delete, None);
        row.seal().to_vec()
    }

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let mut memtable = Memtable::default();
        // Two records with two messages each, one message by itself, a delete.
        assert_eq!(replay(7, &row(), &mut memtable).unwrap(), 7 + 3 + 3 + 2 + 1);
        let update = |kind, key| memtable.get(&ServerId::new(kind, key)).unwrap().clone();
        let put = Update::Put(record(b"the new state"));
        assert_eq!(update("kind", "a"), PendingUpdate::new(10, put));
        let append = Update::Append(vec![(*b"message").into()]);
        assert_eq!(update("other", ""), PendingUpdate::new(13, append));
        assert_eq!(update("other", "c"), PendingUpdate::new(15, Update::Delete));
    }

    #[test]
    fn a_flipped_bit_or_a_cut_is_an_error_wherever_it_is() {
        let row = row();
        for bit in 0..row.len() * 8 {
            let mut row = row.clone();
            row[bit / 8] ^= 1 << (bit % 8);
            replay(7, &row, &mut Memtable::default()).unwrap_err();
        }
        for length in 0..row.len() {
            replay(7, &row[..length], &mut Memtable::default()).unwrap_err();
        }
        replay(8, &row, &mut Memtable::default()).unwrap_err();
    }

    /// The checksums are right, as a program that knows the format could write them.
    #[test]
    fn an_invalid_row_with_a_valid_checksum_is_an_error_and_no_panic() {
        let row = row();
        let updates = &row[..row.len() - 8];
        let sealed = |bytes: &[u8]| {
            let mut row = Row { number: 7, bytes: bytes.to_vec(), kind: None };
            replay(7, row.seal(), &mut Memtable::default())
        };
        assert!(sealed(updates).is_ok());
        let mut refused = 0;
        for at in 0..updates.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut updates = updates.to_vec();
                updates[at] = byte;
                refused += u32::from(sealed(&updates).is_err());
            }
        }
        assert!(refused > 100, "{refused}");
        for invalid in [
            // A count of messages, a length and a number that are too large.
            &b"\x01\x01k\x00\xff\xff\xff\xff\x0f"[..],
            b"\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01k",
            b"\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01k",
            // A key without a kind, and a difference without a previous state.
            b"\x04\x01k",
            b"\x12\x01k\x00\x01\x01\x00\x00\x00\x00\x00\x00",
        ] {
            sealed(invalid).unwrap_err();
        }
    }
}
