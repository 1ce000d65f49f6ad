//! Rows as they are being changed: over what is committed, and undone event by event.
//!
//! ```text
//!   get ──> changed here? ── no ──> the writer's cache or tables
//!   put, delete ──> here, and what stood before is noted until the event is accepted
//! ```
//!
//! INVARIANT: a row stands once in a [`ChangeSet`], as it is to be, with what is committed of it.

use std::collections::BTreeMap;

use crate::store::{StoreError, Writer};
use crate::table::{Key, Row, Table, Value};

/// A row that was read or changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// The row as it is committed: what its index entries were made of.
    pub before: Option<Row>,
    /// The row as it is to be; none if it is to go.
    pub after: Option<Row>,
}

/// The rows of one table by key.
pub type ChangedRows = BTreeMap<Key, Changed>;

/// Everything that is to be committed. Tables stand in the projection's order.
#[derive(Debug, Default)]
pub struct ChangeSet {
    tables: Vec<(&'static Table, ChangedRows)>,
    undo: Vec<(usize, Key, Option<Row>)>,
    changed: usize,
}

/// The rows, to a projection that takes in an event.
pub struct Changes<'a> {
    set: &'a mut ChangeSet,
    writer: &'a mut dyn Writer,
}

impl ChangeSet {
    /// Nothing changed yet in these tables.
    #[must_use]
    pub fn new(tables: &'static [Table]) -> ChangeSet {
        let tables = tables.iter().map(|table| (table, ChangedRows::new())).collect();
        ChangeSet { tables, undo: Vec::new(), changed: 0 }
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
    /// [`StoreError`] if it cannot be read.
    pub fn get(&mut self, table: &Table, key: &[Value]) -> Result<Option<&Row>, StoreError> {
        let changed = self.entry(table, key)?.1;
        Ok(changed.after.as_ref())
    }

    /// Puts `row` into `table`, in the place of one with its key.
    ///
    /// # Panics
    /// If the row is not one of the table: that is the projection's mistake, and poisons the event.
    ///
    /// # Errors
    /// [`StoreError`] if what stands there cannot be read.
    pub fn put(&mut self, table: &Table, row: Row) -> Result<(), StoreError> {
        assert!(table.takes(&row), "a row of {} has the wrong columns: {row:?}", table.name);
        let key = table.key(&row).to_vec();
        self.replace(table, key, Some(row))
    }

    /// Removes the row of `table` under `key`, if it is there.
    ///
    /// # Errors
    /// [`StoreError`] if what stands there cannot be read.
    pub fn delete(&mut self, table: &Table, key: &[Value]) -> Result<(), StoreError> {
        self.replace(table, key.to_vec(), None)
    }

    fn replace(&mut self, table: &Table, key: Key, row: Option<Row>) -> Result<(), StoreError> {
        let (at, changed) = self.entry(table, &key)?;
        let before = std::mem::replace(&mut changed.after, row);
        self.set.undo.push((at, key, before));
        Ok(())
    }

    fn entry(&mut self, table: &Table, key: &[Value]) -> Result<(usize, &mut Changed), StoreError> {
        let set = &mut *self.set;
        let at = set.tables.iter().position(|(known, _)| known.name == table.name);
        let at = at.expect("a projection changes its own tables");
        let (table, rows) = &mut set.tables[at];
        if !rows.contains_key(key) {
            let before = self.writer.load(table, key)?;
            let after = before.clone();
            rows.insert(key.to_vec(), Changed { before, after });
            set.changed += 1;
        }
        Ok((at, rows.get_mut(key).expect("it is there or was just put there")))
    }
}
