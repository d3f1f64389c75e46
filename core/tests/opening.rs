//! What opening a cache costs: little, and not more the more was written.

use diskcache_core::chance::SeededChance;
use diskcache_core::clock::OsClock;
use diskcache_core::vfs::MemVfs;
use diskcache_core::{Cache, KeyRef, Options, ProfileOverride, Put};
use std::path::Path;
use std::sync::Arc;

/// The last write of a process may itself have made the checkpoint that was due. Nobody named it then: the next to open the cache read all
/// commits since the one before.
#[test]
fn opening_a_shared_cache_that_was_closed_takes_few_requests_however_many_commits_there_are() {
    const REQUESTS_MAX: u64 = 20;
    for seed in 0..4 {
        for commits in 1..50 {
            let vfs = MemVfs::new();
            let open = |seed| {
                let options = Options {
                    profile: Some(ProfileOverride::Shared),
                    chance: Arc::new(SeededChance::new(seed)),
                    checkpoint_commits: 16,
                    ..Options::default()
                };
                Cache::open_on(Arc::new(vfs.process()), Arc::new(OsClock), Path::new("/c"), options, 1).unwrap()
            };
            let cache = open(2 * seed);
            for i in 0..commits {
                cache.set(KeyRef::text(&(i % 16).to_string()), Put::bytes(b"value")).unwrap();
            }
            cache.close().unwrap();
            let before = vfs.steps();
            let again = open(2 * seed + 1);
            let requests = vfs.steps() - before;
            assert!(requests <= REQUESTS_MAX, "seed {seed}: {requests} requests after {commits} commits");
            assert_eq!(again.len().unwrap(), commits.min(16));
        }
    }
}
