//! Rows as they are being changed: over what is committed, and undone event by event.
//!
//! ```text
//!   get ──> changed here? ── no ──> the writer's cache or tables
//!   put, delete ──> here, and what stood before is noted until the event is accepted
//! ```
//!
//! INVARIANT: a row stands once in a [`ChangeSet`], as it is to be, with what is committed of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::order;
use crate::projection::ApplyError;
use crate::store::Writer;
use crate::table::{Row, Table, Value};

/// A row that was read or changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// The row as it is committed: what its index entries were made of.
    pub before: Option<Arc<Row>>,
    /// The row as it is to be; none if it is to go.
    pub after: Option<Arc<Row>>,
}

/// The rows of one table by the bytes of their keys ([`order::encoded`]), and so in order.
pub type ChangedRows = BTreeMap<Vec<u8>, Changed>;

/// Everything that is to be committed. Tables stand in the projection's order.
#[derive(Debug, Default)]
pub struct ChangeSet {
    tables: Vec<(&'static Table, ChangedRows)>,
    undo: Vec<(usize, Vec<u8>, Option<Arc<Row>>)>,
    changed: usize,
    /// The bytes of the key in hand.
    key: Vec<u8>,
}

/// The rows, to a projection that takes in an event.
pub struct Changes<'a> {
    set: &'a mut ChangeSet,
    writer: &'a mut dyn Writer,
}

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change<'a> {
    /// It stays as it is.
    None,
    /// It is new, or takes the place of `before`.
    Put {
        /// The committed row, if there is one.
        before: Option<&'a Row>,
        /// The row that is to stand there.
        after: &'a Row,
    },
    /// It goes.
    Delete {
        /// The committed row.
        before: &'a Row,
    },
}

impl Changed {
    /// What becomes of the row.
    #[must_use]
    pub fn change(&self) -> Change<'_> {
        match (self.before.as_deref(), self.after.as_deref()) {
            (None, None) => Change::None,
            (Some(before), Some(after)) if std::ptr::eq(before, after) => Change::None,
            (Some(before), Some(after)) if before == after => Change::None,
            (before, Some(after)) => Change::Put { before, after },
            (Some(before), None) => Change::Delete { before },
        }
    }
}

impl ChangeSet {
    /// Nothing changed yet in these tables.
    #[must_use]
    pub fn new(tables: &'static [Table]) -> ChangeSet {
        let tables = tables.iter().map(|table| (table, ChangedRows::new())).collect();
        ChangeSet { tables, ..ChangeSet::default() }
    }

    /// Each table with its rows. Some were only read: they are as before.
    pub fn tables(&self) -> impl Iterator<Item = (&'static Table, &ChangedRows)> {
        self.tables.iter().map(|(table, rows)| (*table, rows))
    }

    /// Rows that were read or changed since the last commit: a bound on what a commit writes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changed
    }

    /// Whether there is nothing to commit but the place.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed == 0
    }

    /// The rows over those of `writer`, for the next event.
    pub fn over<'a>(&'a mut self, writer: &'a mut dyn Writer) -> Changes<'a> {
        self.undo.clear();
        Changes { set: self, writer }
    }

    /// Undoes what was changed since [`ChangeSet::over`].
    pub fn undo(&mut self) {
        while let Some((table, key, row)) = self.undo.pop() {
            if let Some(changed) = self.tables[table].1.get_mut(&key) {
                changed.after = row;
            }
        }
    }

    /// Forgets everything, after a commit or before trying anew.
    pub fn clear(&mut self) {
        self.undo.clear();
        self.changed = 0;
        for (_, rows) in &mut self.tables {
            rows.clear();
        }
    }
}

impl Changes<'_> {
    /// The row of `table` under `key`, as changed so far.
    ///
    /// # Errors
    /// [`ApplyError`]: it cannot be read, or the key has a NUL character.
    pub fn get(&mut self, table: &Table, key: &[Value]) -> Result<Option<&Row>, ApplyError> {
        let (_, changed) = self.entry(table, key)?;
        Ok(changed.after.as_deref())
    }

    /// Puts `row` into `table`, in the place of one with its key.
    ///
    /// # Panics
    /// If the row is not one of the table: that is the projection's mistake, and poisons the event.
    ///
    /// # Errors
    /// [`ApplyError`]: what stands there cannot be read, or the row's key has a NUL character.
    pub fn put(&mut self, table: &Table, row: Row) -> Result<(), ApplyError> {
        assert!(table.takes(&row), "a row of {} has the wrong columns: {row:?}", table.name);
        let (at, changed) = self.entry(table, table.key(&row))?;
        let before = changed.after.replace(Arc::new(row));
        self.noted(at, before);
        Ok(())
    }

    /// Removes the row of `table` under `key`, if it is there.
    ///
    /// # Errors
    /// [`ApplyError`]: what stands there cannot be read, or the key has a NUL character.
    pub fn delete(&mut self, table: &Table, key: &[Value]) -> Result<(), ApplyError> {
        let (at, changed) = self.entry(table, key)?;
        let before = changed.after.take();
        self.noted(at, before);
        Ok(())
    }

    /// Notes what stood under the key in hand.
    fn noted(&mut self, table: usize, before: Option<Arc<Row>>) {
        self.set.undo.push((table, self.set.key.clone(), before));
    }

    fn entry(&mut self, table: &Table, key: &[Value]) -> Result<(usize, &mut Changed), ApplyError> {
        let set = &mut *self.set;
        let at = set.tables.iter().position(|(known, _)| known.is(table));
        let at = at.expect("a projection changes its own tables");
        let (table, rows) = &mut set.tables[at];
        assert!(
            key.len() == table.key_len,
            "a key of {} has the wrong length: {key:?}",
            table.name
        );
        // PostgreSQL's text cannot hold it; of two keys that differ in it only one could be kept.
        if key.iter().any(|value| matches!(value, Value::Text(text) if text.contains('\0'))) {
            let reason = format!("a key of {} has a NUL character: {key:?}", table.name);
            return Err(ApplyError::Poison { reason });
        }
        set.key.clear();
        order::encode(key, &mut set.key);
        if !rows.contains_key(set.key.as_slice()) {
            let before = self.writer.load(table, key)?;
            let after = before.clone();
            rows.insert(set.key.clone(), Changed { before, after });
            set.changed += 1;
        }
        let changed = rows.get_mut(set.key.as_slice());
        Ok((at, changed.expect("it is there or was just put there")))
    }
}
