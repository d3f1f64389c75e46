//! A bounded map that forgets what was not used lately (CLOCK: a hand passes over the cells and spares those used since it last
//! came by).

use hashbrown::HashMap;
use std::hash::Hash;

/// The map.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    capacity: usize,
    cells: Vec<Cell<K, V>>,
    places: HashMap<K, usize>,
    hand: usize,
}

#[derive(Debug)]
struct Cell<K, V> {
    key: K,
    value: V,
    used: bool,
}

impl<K: Copy + Eq + Hash, V: Clone> Recent<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), cells: Vec::new(), places: HashMap::new(), hand: 0 }
    }

    pub(super) fn get(&mut self, key: K) -> Option<V> {
        let cell = &mut self.cells[*self.places.get(&key)?];
        cell.used = true;
        Some(cell.value.clone())
    }

    /// Stores a value and returns the one that had to go, if any.
    pub(super) fn put(&mut self, key: K, value: V) -> Option<V> {
        if let Some(at) = self.places.get(&key) {
            return Some(std::mem::replace(&mut self.cells[*at].value, value));
        }
        let fresh = Cell { key, value, used: false };
        if self.cells.len() < self.capacity {
            self.places.insert(key, self.cells.len());
            self.cells.push(fresh);
            return None;
        }
        while std::mem::take(&mut self.cells[self.hand].used) {
            self.hand = (self.hand + 1) % self.capacity;
        }
        let old = std::mem::replace(&mut self.cells[self.hand], fresh);
        self.places.remove(&old.key);
        self.places.insert(key, self.hand);
        self.hand = (self.hand + 1) % self.capacity;
        Some(old.value)
    }

    /// Forgets what `keep` says no to.
    pub(super) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.cells.retain(|cell| keep(&cell.key));
        self.places = self.cells.iter().enumerate().map(|(i, cell)| (cell.key, i)).collect();
        self.hand = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_holds_more_than_its_capacity_and_spares_what_is_used() {
        let mut recent = Recent::new(8);
        for i in 0..1000_u32 {
            recent.put(i, i);
            assert_eq!(recent.get(0), Some(0), "0 is used all the time");
            assert!(recent.cells.len() <= 8 && recent.places.len() == recent.cells.len());
        }
        recent.retain(|k| *k == 0);
        assert_eq!((recent.get(0), recent.get(999)), (Some(0), None));
    }
}
