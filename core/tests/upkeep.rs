//! What a shared cache leaves on the drive stays in proportion to what lives in it, however long it is written to.

use diskcache_core::chance::SeededChance;
use diskcache_core::clock::ManualClock;
use diskcache_core::vfs::{MemVfs, Vfs};
use diskcache_core::{Cache, KeyRef, Options, ProfileOverride, Put};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// When the next merge or fold is due was reckoned by the bytes that a *local* log may have, so that between two checkpoints of a shared
/// one it never was, unless processes raced for the checkpoint: one writer's commit files and index runs became ever more.
#[test]
fn the_log_and_the_index_of_a_lone_writer_on_a_network_drive_stay_short() {
    const KEYS: u64 = 50;
    const COMMITS: u64 = 1500;
    for seed in 0..2 {
        let (vfs, clock) = (MemVfs::new(), ManualClock::default());
        let options = Options {
            profile: Some(ProfileOverride::Shared),
            chance: Arc::new(SeededChance::new(seed)),
            checkpoint_commits: 16,
            fold_commits: 32,
            grace: Duration::from_secs(10),
            ..Options::default()
        };
        let cache = Cache::open_on(Arc::new(vfs.clone()), Arc::new(clock.clone()), Path::new("/c"), options, 1).unwrap();
        let files = |folder: &str| vfs.read_dir(&Path::new("/c").join(folder)).map_or(0, |names| names.len());
        let mut most = (0, 0);
        for i in 0..COMMITS {
            cache.set(KeyRef::text(&(i % KEYS).to_string()), Put::bytes(&i.to_le_bytes())).unwrap();
            clock.advance(Duration::from_millis(200));
            if i % KEYS == 0 {
                most = (most.0.max(files("log")), most.1.max(files("run")));
            }
        }
        // 50 commits come within a grace, twice as many may wait for the next fold, and it takes a moment to remove what may go.
        assert!(most.0 < 400, "seed {seed}: {} commit files at once", most.0);
        // Each checkpoint writes a run, and what is not needed any more stays for a minute: 300 commits, 19 checkpoints.
        assert!(most.1 < 60, "seed {seed}: {} index runs at once", most.1);
        for key in 0..KEYS {
            let value = cache.get(KeyRef::text(&key.to_string())).unwrap().unwrap().bytes().unwrap().to_vec();
            assert_eq!(value, (COMMITS - KEYS + key).to_le_bytes());
        }
    }
}
