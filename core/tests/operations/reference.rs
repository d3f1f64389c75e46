//! The reference: what a cache holds, as plainly as it can be said.

use std::collections::BTreeMap;

pub(crate) const QUEUE_START: i64 = 500_000_000_000_000;
const QUEUE_END: i64 = 999_999_999_999_999;

/// A key. The derived order is the order of keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) content: Content,
    pub(crate) expire: Option<f64>,
    pub(crate) tag: Option<String>,
    /// Place in insertion order.
    row: u64,
}

impl Item {
    pub(crate) fn is_live(&self, now: f64) -> bool {
        self.expire.is_none_or(|at| at > now)
    }
}

/// What came of adding to a number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    Is(i64),
    Missing,
    WrongType,
}

/// Everything that a cache holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reference {
    pub(crate) items: BTreeMap<Name, Item>,
    rows: u64,
}

impl Reference {
    pub(crate) fn live(&self, name: &Name, now: f64) -> Option<&Item> {
        self.items.get(name).filter(|item| item.is_live(now))
    }

    pub(crate) fn set(&mut self, name: &Name, content: Content, expire: Option<f64>, tag: Option<String>) {
        let row = self.items.get(name).map_or_else(
            || {
                self.rows += 1;
                self.rows
            },
            |old| old.row,
        );
        self.items.insert(name.clone(), Item { content, expire, tag, row });
    }

    pub(crate) fn incr(&mut self, name: &Name, delta: i64, default: Option<i64>, now: f64) -> Sum {
        if let Some(item) = self.items.get_mut(name).filter(|item| item.is_live(now)) {
            let Content::Int(number) = &mut item.content else { return Sum::WrongType };
            let Some(sum) = number.checked_add(delta) else { return Sum::WrongType };
            *number = sum;
            return Sum::Is(sum);
        }
        let Some(default) = default else { return Sum::Missing };
        let Some(sum) = default.checked_add(delta) else { return Sum::WrongType };
        self.set(name, Content::Int(sum), None, None);
        Sum::Is(sum)
    }

    pub(crate) fn touch(&mut self, name: &Name, expire: Option<f64>, now: f64) -> bool {
        let found = self.items.get_mut(name).filter(|item| item.is_live(now));
        found.map(|item| item.expire = expire).is_some()
    }

    pub(crate) fn take(&mut self, name: &Name, now: f64) -> Option<Item> {
        self.live(name, now)?;
        self.items.remove(name)
    }

    /// Returns the first or last key of a queue, expired or not.
    fn queue_edge(&self, prefix: Option<&str>, front: bool) -> Option<(Name, i64)> {
        let number = |name: &Name| match (name, prefix) {
            (Name::Int(i), None) => Some(*i),
            (Name::Text(text), Some(prefix)) => text.strip_prefix(prefix)?.strip_prefix('-')?.parse().ok(),
            _ => None,
        };
        let mut inside = self.items.keys().filter_map(|name| Some((name.clone(), number(name)?)));
        let within = |(_, n): &(Name, i64)| *n > 0 && *n < QUEUE_END;
        if front { inside.find(within) } else { inside.rfind(within) }
    }

    pub(crate) fn push(&mut self, prefix: Option<&str>, front: bool, content: Content, expire: Option<f64>, tag: Option<String>) -> Name {
        let number = self.queue_edge(prefix, front).map_or(QUEUE_START, |(_, n)| n + if front { -1 } else { 1 });
        let name = prefix.map_or(Name::Int(number), |prefix| Name::Text(format!("{prefix}-{number:015}")));
        self.set(&name, content, expire, tag);
        name
    }

    /// Returns the first or last item of a queue that is live; those that expired before it are removed, and with `take` itself.
    pub(crate) fn queue_end(&mut self, prefix: Option<&str>, front: bool, now: f64, take: bool) -> Option<(Name, Item)> {
        loop {
            let (name, _) = self.queue_edge(prefix, front)?;
            let item = self.items[&name].clone();
            let live = item.is_live(now);
            if take || !live {
                self.items.remove(&name);
            }
            if live {
                return Some((name, item));
            }
        }
    }

    /// Returns the item stored first or last that is live; those that expired before it are removed, if `exact`. (Else they may have been
    /// removed before, and one of them stored again elsewhere.)
    pub(crate) fn edge(&mut self, last: bool, now: f64, exact: bool) -> Option<(Name, Item)> {
        let mut names = self.in_order();
        if last {
            names.reverse();
        }
        for name in names {
            let item = self.items[&name].clone();
            if item.is_live(now) {
                return Some((name, item));
            }
            if exact {
                self.items.remove(&name);
            }
        }
        None
    }

    /// Removes what matches. Returns how many were.
    pub(crate) fn remove_where(&mut self, matches: impl Fn(&Item) -> bool) -> u64 {
        let before = self.items.len();
        self.items.retain(|_, item| !matches(item));
        (before - self.items.len()) as u64
    }

    /// Returns all keys as they were first stored.
    pub(crate) fn in_order(&self) -> Vec<Name> {
        let mut names: Vec<(u64, &Name)> = self.items.iter().map(|(name, item)| (item.row, name)).collect();
        names.sort_unstable();
        names.into_iter().map(|(_, name)| name.clone()).collect()
    }
}
