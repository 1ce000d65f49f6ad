//! What changes one generation: rows in, one batch out.

use std::sync::Arc;

use daybook_cache::limits::BATCH_OPERATIONS_MAX;
use daybook_client::Checkpoint;
use daybook_model::Position;

use super::codec::{self, Reach};
use super::live::{Built, Committed, Live, TakenOver, fault};
use super::recent::Recent;
use super::{ROWS_MAX, SledBackend};
use crate::change::{Change, ChangeSet, Changed};
use crate::order;
use crate::projection::Projection;
use crate::store::{CommitError, Parked, StoreError, Writer};
use crate::table::{Row, Table, Value};

/// Events that a place may be ahead of what is committed, all of them without a row: what is looked
/// at again after a restart, in some 20 ms.
pub(super) const PASSED_MAX: u64 = 64 * 1024;

/// The writer of one generation in sled.
pub struct SledWriter {
    backend: SledBackend,
    projection: &'static str,
    tables: &'static [Table],
    built: Arc<Built>,
    token: u64,
    reach: Reach,
    /// How far it was as committed: `reach` may have passed events that change nothing.
    kept: Option<Position>,
    recent: Recent,
    scratch: Vec<u8>,
}

impl SledWriter {
    pub(super) fn new(
        backend: SledBackend,
        projection: &dyn Projection,
        taken: TakenOver,
    ) -> SledWriter {
        let recent = Recent::new(backend.shared.recent);
        SledWriter {
            backend,
            projection: projection.name(),
            tables: projection.tables(),
            built: taken.built,
            token: taken.token,
            reach: taken.reach,
            kept: None,
            recent,
            scratch: Vec::new(),
        }
    }

    fn table_number(&self, table: &Table) -> Option<u8> {
        self.tables.iter().position(|known| known.is(table)).and_then(|at| u8::try_from(at).ok())
    }

    /// Adds to `batch` what becomes of one row and its index entries.
    fn change(
        &mut self,
        table: (u8, &Table),
        key: &[u8],
        changed: &Changed,
        batch: &mut Batch,
    ) -> Result<(), daybook_cache::Damage> {
        let (number, table) = table;
        let (before, after) = match changed.change() {
            Change::None => return Ok(()),
            Change::Put { before, after } => (before, Some(after)),
            Change::Delete { before } => (Some(before), None),
        };
        for (at, index) in (0u8..).zip(table.indexes) {
            let differ = |columns: &[usize]| match (before, after) {
                (Some(before), Some(after)) => columns.iter().any(|c| before[*c] != after[*c]),
                _ => true,
            };
            if !differ(index.columns) {
                continue;
            }
            let entry = |row: &Row| codec::entry_key(number, at, index.columns, row, key);
            if let Some(before) = before {
                batch.sled.remove(entry(before));
            }
            if let Some(after) = after {
                batch.sled.insert(entry(after), key);
            }
        }
        let row_key = codec::row_key(number, key);
        match after {
            Some(row) => batch.sled.insert(row_key, codec::seal_row(row, &mut self.scratch)?),
            None => batch.sled.remove(row_key),
        }
        batch.rows += u64::from(before.is_none());
        batch.rows = batch.rows.saturating_sub(u64::from(after.is_none()));
        Ok(())
    }

    /// Everything that is to be committed, as one batch.
    fn batch(
        &mut self,
        changes: &ChangeSet,
        parked: &[Parked],
    ) -> Result<Batch, daybook_cache::Damage> {
        let mut batch = Batch { sled: sled::Batch::default(), rows: self.reach.rows };
        for (number, (table, rows)) in (0u8..).zip(changes.tables()) {
            for (key, changed) in rows {
                self.change((number, table), key, changed, &mut batch)?;
            }
        }
        for parked in parked {
            batch.sled.insert(codec::parked_key(parked.position), codec::seal_parked(parked)?);
        }
        Ok(batch)
    }

    /// What was committed is what stands there now.
    fn remember(&mut self, changes: &ChangeSet) {
        for (number, (_, rows)) in (0u8..).zip(changes.tables()) {
            for (key, changed) in rows {
                let key = codec::row_key(number, key);
                match &changed.after {
                    Some(row) => self.recent.put(key, row.clone()),
                    None => self.recent.remove(&key),
                }
            }
        }
    }

    fn gone(&self) -> StoreError {
        let (number, name) = (self.built.number, self.projection);
        let reason = "it was removed, or set aside with the others".to_owned();
        StoreError { action: format!("use generation {number} of {name}"), reason, transient: true }
    }

    fn refused(&self, reason: String) -> StoreError {
        StoreError { action: format!("commit to {}", self.projection), reason, transient: false }
    }
}

/// A batch of sled's, and the rows that there are after it.
struct Batch {
    sled: sled::Batch,
    rows: u64,
}

impl Writer for SledWriter {
    fn checkpoint(&self) -> Option<Checkpoint> {
        self.reach.checkpoint.map(Checkpoint)
    }

    fn commit_rows_max(&self) -> usize {
        let indexes = self.tables.iter().map(|table| table.indexes.len()).max().unwrap_or(0);
        BATCH_OPERATIONS_MAX / (1 + indexes)
    }

    fn load(
        &mut self,
        table: &'static Table,
        key: &[Value],
    ) -> Result<Option<Arc<Row>>, StoreError> {
        let Some(number) = self.table_number(table) else {
            return Err(self.refused(format!("it has no table {}", table.name)));
        };
        let mut bytes = codec::rows_of(number);
        order::encode(key, &mut bytes);
        if let Some(row) = self.recent.get(&bytes) {
            return Ok(Some(row));
        }
        let columns = table.columns.len();
        let found = self.backend.ask(
            || format!("read a row of {} of {}", table.name, self.projection),
            |live| live.row(&self.built, &bytes, columns),
        )?;
        let row = found.ok_or_else(|| self.gone())?.map(Arc::new);
        if let Some(row) = &row {
            self.recent.put(bytes, row.clone());
        }
        Ok(row)
    }

    fn commit(
        &mut self,
        changes: &ChangeSet,
        parked: &[Parked],
        through: Checkpoint,
    ) -> Result<(), CommitError> {
        let batch = self.batch(changes, parked);
        let Batch { sled, rows } = batch.map_err(|damage| self.refused(fault(damage).0))?;
        if rows > ROWS_MAX {
            let reason = format!(
                "it has outgrown this store: {rows} rows, the limit is {ROWS_MAX}; keep it in \
                 PostgreSQL"
            );
            return Err(self.refused(reason).into());
        }
        let reach = Reach { checkpoint: Some(through.0), rows };
        let committed = self.backend.ask(
            || format!("commit to {}", self.projection),
            |live| live.commit(&self.built, self.token, sled, reach),
        )?;
        match committed {
            Committed::Done => {
                self.reach = reach;
                self.kept = Some(through.position());
                self.remember(changes);
                Ok(())
            }
            Committed::Fenced => {
                Err(CommitError::Fenced { projection: self.projection.to_owned() })
            }
            Committed::Gone => Err(self.gone().into()),
        }
    }

    fn pass(&mut self, through: Checkpoint) -> bool {
        if self.reach.checkpoint >= Some(through.0) {
            return true;
        }
        let Some(kept) = self.kept else { return false };
        if through.position().0.saturating_sub(kept.0) >= PASSED_MAX {
            return false;
        }
        let reach = Reach { checkpoint: Some(through.0), ..self.reach };
        let passed = Live::pass(&self.built, self.token, reach);
        if passed {
            self.reach = reach;
        }
        passed
    }
}
