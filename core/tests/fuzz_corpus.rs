//! The stored seeds of the fuzz targets, replayed: inputs that were found to matter stay tests.

mod targets;

use diskcache_core::vfs::{OpenMode, OsVfs, Vfs};
use std::path::PathBuf;
use targets::TARGETS;

fn seeds_of(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target)
}

#[test]
fn no_stored_seed_of_any_target_fails() {
    for (name, target) in TARGETS {
        let dir = seeds_of(name);
        let mut names = OsVfs.read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        names.sort_unstable();
        assert!(!names.is_empty(), "{name} has no seeds");
        for seed in names {
            let path = dir.join(&seed);
            let file = OsVfs.open(&path, OpenMode::Read).unwrap();
            let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            println!("{}", path.display());
            target(&bytes);
        }
    }
}

#[test]
fn short_and_plain_inputs_fail_no_target() {
    for (_, target) in TARGETS {
        target(b"");
        for byte in [0, 1, 9, 255] {
            for len in [1, 8, 57, 120] {
                target(&vec![byte; len]);
            }
        }
    }
}
