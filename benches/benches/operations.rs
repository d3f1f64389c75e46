//! Single operations with criterion: the engine in Rust, the same through Python, and other caches through Python, in one process.
//!
//! ```text
//! cargo bench                                    all, about ten minutes; pages in target/criterion/report/index.html
//! cargo bench -- 'get hit'                       what has that in its name
//! cargo bench -- --save-baseline before          criterion's own options
//! BENCH_OPEN_MAX=1000000 cargo bench -- open     opening of up to a million entries (default: a hundred thousand)
//! ```
//! A row in which an operation did not do what it was asked for is void: it is named at the end, and the program ends with 1.

use benches::python::{PythonCache, available, start};
use benches::rust::RustCache;
use benches::{Failed, Operation, Subject, entries_of};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const SIZES: [usize; 4] = [128, 4 << 10, 64 << 10, 1 << 20];
const RUST: &str = "diskcache-core (Rust)";
/// The classes of durability are compared like with like: none synced, or all.
const SYNCED: [&str; 4] = [RUST, "diskcache_rs", "diskcache", "lmdb"];

fn main() -> ExitCode {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let mut names = vec![RUST.to_owned()];
    match start().and_then(|()| available()) {
        Ok(found) => names.extend(found),
        Err(why) => eprintln!("only the Rust engine is measured: {why}"),
    }
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(why) => {
            eprintln!("no folder for the caches: {why}");
            return ExitCode::from(2);
        }
    };
    let mut bench = Bench { names, folder: folder.path().to_owned(), void: Vec::new() };
    for size in SIZES {
        let mut store = bench.store(&format!("size-{size}"), size, entries_of(size), false);
        for operation in Operation::AT_EVERY_SIZE {
            if size == SIZES[0] || operation.depends_on_size() {
                bench.measure(&mut criterion, &format!("{operation}, {size} bytes"), operation, &mut store);
            }
        }
    }
    let mut store = bench.store("synced", SIZES[0], 1000, true);
    bench.measure(&mut criterion, "set new, every write synced", Operation::SetNew, &mut store);
    let most = std::env::var("BENCH_OPEN_MAX").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    for entries in [1_000, 10_000, 100_000, 1_000_000].into_iter().filter(|entries| *entries <= most) {
        let mut store = bench.store(&format!("open-{entries}"), SIZES[0], entries, false);
        bench.measure(&mut criterion, &format!("open, {entries} entries"), Operation::Open, &mut store);
    }
    criterion.final_summary();
    for row in &bench.void {
        eprintln!("VOID {row}");
    }
    if bench.void.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is compared, where, and what came to nothing.
struct Bench {
    names: Vec<String>,
    folder: PathBuf,
    void: Vec<String>,
}

/// Caches of one filling, each opened and filled when it is first needed: criterion may have been asked for others only.
struct Store {
    folder: PathBuf,
    size: usize,
    entries: u64,
    synced: bool,
    open: BTreeMap<String, Box<dyn Subject>>,
}

impl Store {
    fn time(&mut self, name: &str, operation: Operation, times: u64) -> Result<Duration, Failed> {
        if !self.open.contains_key(name) {
            let (path, size, entries) = (self.folder.join(name.replace(' ', "-")), self.size, self.entries);
            let subject: Box<dyn Subject> = if name == RUST {
                Box::new(RustCache::open(&path, size, entries, self.synced)?)
            } else {
                Box::new(PythonCache::open(name, &path, size, entries, self.synced)?)
            };
            self.open.insert(name.to_owned(), subject);
        }
        self.open.get_mut(name).map_or_else(|| Err(Failed(format!("{name} is not open"))), |subject| subject.time(operation, times))
    }
}

impl Bench {
    fn store(&self, name: &str, size: usize, entries: u64, synced: bool) -> Store {
        Store { folder: self.folder.join(name), size, entries, synced, open: BTreeMap::new() }
    }

    fn measure(&mut self, criterion: &mut Criterion, title: &str, operation: Operation, store: &mut Store) {
        let mut group = criterion.benchmark_group(title);
        group.throughput(Throughput::Elements(1));
        if operation == Operation::Open {
            group.sampling_mode(SamplingMode::Flat);
        }
        let synced = store.synced;
        for name in self.names.iter().filter(|name| has(name, operation) && (!synced || SYNCED.contains(&name.as_str()))) {
            let mut failure = None;
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter_custom(|times| {
                    if failure.is_none() {
                        match store.time(name, operation, times) {
                            Ok(took) => return took,
                            Err(why) => failure = Some(why),
                        }
                    }
                    Duration::from_secs(3600) // so that nobody takes it for a fast one
                });
            });
            if let Some(why) = failure {
                self.void.push(format!("{title}, {name}: {why}"));
            }
        }
        group.finish();
    }
}

/// Returns whether a cache has an operation at all: only some have queues.
fn has(name: &str, operation: Operation) -> bool {
    match operation {
        Operation::Push | Operation::Pull => [RUST, "diskcache_rs", "diskcache", "floor"].contains(&name),
        Operation::Open => name != "floor",
        _ => true,
    }
}
