//! Whoever keeps something beside values is told of each that is gone, by whichever call, and of none that is not.
#![expect(clippy::unwrap_used, reason = "a test: its helpers panic")]

use diskcache_core::{Cache, Companion, KeyRef, Options, ProfileOverride, Put, PutData, Setting, ValueKind};
use std::path::Path;
use std::sync::{Arc, Mutex};

#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

impl Companion for Told {
    fn listens(&self) -> bool {
        true
    }

    fn removed(&self, value: &[u8]) {
        self.0.lock().unwrap().push(String::from_utf8(value.to_vec()).unwrap());
    }
}

impl Told {
    /// Returns what was told since the last time, in order.
    fn take(&self) -> Vec<String> {
        let mut told = std::mem::take(&mut *self.0.lock().unwrap());
        told.sort();
        told
    }
}

fn open(dir: &Path, profile: ProfileOverride, settings: &[(&str, Setting)]) -> (Cache, Arc<Told>) {
    let told = Arc::new(Told::default());
    let companion: Arc<Told> = Arc::clone(&told);
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let options = Options { profile: Some(profile), companion: Some(companion), settings, ..Options::default() };
    (Cache::open(dir, options).unwrap(), told)
}

fn row(text: &str) -> Put<'_> {
    Put { kind: ValueKind::Custom1, data: PutData::Bytes(text.as_bytes()), expire: None, tag: None }
}

fn set(cache: &Cache, key: &str, text: &str) {
    cache.set(KeyRef::text(key), row(text)).unwrap();
}

const PROFILES: [ProfileOverride; 2] = [ProfileOverride::Local, ProfileOverride::Shared];

#[test]
fn it_is_told_of_what_is_replaced_removed_expired_evicted_and_cleared() {
    for profile in PROFILES {
        let dir = tempfile::tempdir().unwrap();
        let (cache, told) = open(dir.path(), profile, &[("cull_limit", Setting::Int(0))]);
        set(&cache, "a", "a1");
        assert!(told.take().is_empty());
        set(&cache, "a", "a2");
        assert_eq!(told.take(), ["a1"]);
        assert!(!cache.add(KeyRef::text("a"), row("a3")).unwrap());
        assert!(told.take().is_empty());
        assert!(cache.delete(KeyRef::text("a")).unwrap());
        assert_eq!(told.take(), ["a2"]);
        set(&cache, "b", "b1");
        assert!(cache.pop(KeyRef::text("b")).unwrap().is_some());
        assert_eq!(told.take(), ["b1"]);

        cache.set(KeyRef::text("c"), row("c1").expiring(-1.0)).unwrap();
        cache.set(KeyRef::text("d"), row("d1").tagged(KeyRef::text("t"))).unwrap();
        set(&cache, "e", "e1");
        assert_eq!(cache.expire(None).unwrap(), 1);
        assert_eq!(told.take(), ["c1"]);
        assert_eq!(cache.evict(KeyRef::text("t")).unwrap(), 1);
        assert_eq!(told.take(), ["d1"]);
        cache.set(KeyRef::text("plain"), Put::text("no row")).unwrap();
        let large = "large ".repeat(100_000);
        set(&cache, "f", &large);
        assert_eq!(cache.clear().unwrap(), 3);
        assert_eq!(told.take(), ["e1".to_owned(), large]);
    }
}

#[test]
fn it_is_told_of_what_a_write_takes_along_because_of_the_size_limit() {
    for profile in PROFILES {
        let dir = tempfile::tempdir().unwrap();
        let settings = [("size_limit", Setting::Int(64 << 10)), ("eviction_policy", Setting::Text("least-recently-stored".to_owned()))];
        let (cache, told) = open(dir.path(), profile, &settings);
        let texts: Vec<String> = (0..400).map(|number| format!("{number:03} {}", "x".repeat(1000))).collect();
        for text in &texts {
            set(&cache, &text[..3], text);
        }
        let mut gone = told.take();
        gone.extend(texts.iter().filter(|text| cache.contains(KeyRef::text(&text[..3])).unwrap()).cloned());
        gone.sort();
        assert!(gone.len() > 300 && cache.len().unwrap() < 100);
        assert_eq!(gone, texts, "what is there and what it was told of are all that was stored, each once");
    }
}

#[test]
fn of_a_transaction_it_is_told_once_that_is_committed_and_never_if_it_is_rolled_back() {
    for profile in PROFILES {
        let dir = tempfile::tempdir().unwrap();
        let (cache, told) = open(dir.path(), profile, &[]);
        let change = || {
            set(&cache, "a", "a2");
            set(&cache, "a", "a3");
            set(&cache, "b", "b1");
            assert!(cache.delete(KeyRef::text("b")).unwrap());
        };
        set(&cache, "a", "a1");
        cache.transact_begin(None).unwrap();
        change();
        cache.clear().unwrap();
        cache.transact_rollback().unwrap();
        assert!(told.take().is_empty());
        cache.transact_begin(None).unwrap();
        change();
        assert!(told.take().is_empty());
        cache.transact_commit().unwrap();
        assert_eq!(told.take(), ["a1", "a2", "b1"]);
        cache.transact_begin(None).unwrap();
        set(&cache, "c", "c1");
        cache.clear().unwrap();
        cache.transact_commit().unwrap();
        assert_eq!(told.take(), ["a3", "c1"]);
    }
}
