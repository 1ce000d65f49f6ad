//! What is found when a sled is opened: whose it is, and what is in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use daybook_cache::{Fault, guarded};
use daybook_client::Checkpoint;
use uuid::Uuid;

use super::codec::{self, ENVELOPE, Entry, PLACE_KEY, Reach, Stamp};
use super::live::{Built, Generations, Place, fault};

const CATALOG: &str = "catalog";

/// The catalog and the generations of `db`, which is stamped if there is nothing in it yet.
pub(super) fn checked(db: &sled::Db, place: &Place) -> Result<(sled::Tree, Generations), Fault> {
    check_stamp(db, place.store)?;
    let catalog = guarded("open a tree of", || db.open_tree(CATALOG))?;
    let mut all = BTreeMap::new();
    let mut trees = Vec::new();
    let prefix = codec::catalog_all();
    let entries = guarded("read", || catalog.scan_prefix(prefix).collect::<Result<Vec<_>, _>>())?;
    for (key, value) in entries {
        let Some((name, number)) = codec::parse_catalog_key(&key) else {
            return Err(Fault("its catalog has a key that does not parse".to_owned()));
        };
        let entry: Entry = ENVELOPE.open(&value).map_err(fault)?;
        let tree_name = codec::tree_name(&name, number);
        let tree = guarded("open a tree of", || db.open_tree(&tree_name))?;
        let reach = guarded("read", || tree.get(PLACE_KEY))?;
        let reach = match reach {
            Some(value) => ENVELOPE.open::<Reach>(&value).map_err(fault)?,
            None => Reach::default(),
        };
        let reached = place.progress.of(&name);
        if entry.serving {
            reached.send_replace(reach.checkpoint.map(Checkpoint));
        }
        trees.push(tree_name);
        let built = Arc::new(Built::new(number, entry, tree, reach, &reached));
        all.insert((name, number), built);
    }
    // A kill between the catalog and the tree leaves one behind.
    for name in guarded("read", || Ok(db.tree_names()))? {
        let Ok(text) = std::str::from_utf8(&name) else { continue };
        if text.starts_with(codec::TREE_PREFIX) && !trees.iter().any(|known| known == text) {
            guarded("drop a tree of", || db.drop_tree(&name))?;
        }
    }
    Ok((catalog, all))
}

fn check_stamp(db: &sled::Db, store: Uuid) -> Result<(), Fault> {
    let Some(value) = guarded("read", || db.get(PLACE_KEY))? else {
        let trees = guarded("read", || Ok(db.tree_names()))?;
        if trees.len() > 1 || !guarded("read", || Ok(db.is_empty()))? {
            return Err(Fault("it has no stamp".to_owned()));
        }
        let value = ENVELOPE.seal(&Stamp { store: *store.as_bytes() }).map_err(fault)?;
        guarded("write to", || db.insert(PLACE_KEY, value).and_then(|_| db.flush()))?;
        return Ok(());
    };
    let stamp: Stamp = ENVELOPE.open(&value).map_err(|e| Fault(format!("its stamp: {e}")))?;
    if stamp.store != *store.as_bytes() {
        let found = Uuid::from_bytes(stamp.store);
        return Err(Fault(format!("it is of the store {found}, this is {store}")));
    }
    Ok(())
}
