//! Processes that write a cache on a real disk are killed (SIGKILL) at any moment, again and again, while the others go on.
//!
//! Each worker tells the parent over a pipe what it is about to do and what came of it. Whatever was acknowledged must be there at the
//! end, what was under way may be, whole or not at all; numbers add up, queue items come out once, nothing needs repair, nothing is
//! left over once a check has tidied, and nobody waits for the dead.
//!
//! `DISKCACHE_TORTURE_KILLS` says how many are killed, `DISKCACHE_TORTURE_SEED` which and what they do, and
//! `DISKCACHE_TORTURE_WAIT_MS` how long one call may take (default 2000, for the machine may be busy; in shared mode, where others wait for
//! the hold of a dead transaction until it runs out after 5 s, 15000: who takes the next hold then may be killed, too, and who waits meets both).
#![expect(clippy::unwrap_used, reason = "a test: its helpers panic")]

use diskcache_core::clock::{Clock, OsClock};
use diskcache_core::verify::ProblemKind;
use diskcache_core::{Cache, KeyRef, Number, Options, ProfileOverride, Put, Setting};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const WORKERS: u64 = 4;
const KEYS: u64 = 12;
/// Operations that a worker gets to acknowledge before it may be killed.
const OPERATIONS_MIN: usize = 15;
const WORKER_VARIABLE: &str = "DISKCACHE_TORTURE_WORKER";

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn options(mode: ProfileOverride) -> Options {
    let settings = [("disk_min_file_size", 60_000), ("cull_limit", 0)];
    Options {
        profile: Some(mode),
        delta_entries_max: 60,
        fold_commits: 100,
        settings: settings.map(|(name, value)| (name.to_owned(), Setting::Int(value))).to_vec(),
        ..Options::default()
    }
}

/// The only value of operation `number` of worker `id`.
fn value(id: u64, number: u64) -> Vec<u8> {
    let len = [12, 300, 5_000, 20_000, 90_000][usize::try_from(number * 7 % 5).unwrap()];
    format!("{id}:{number};").bytes().cycle().take(len).collect()
}

/// Returns whose a value is, if every byte of it is.
fn author(bytes: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (id, number) = text.split(';').next()?.split_once(':')?;
    let (id, number) = (id.parse().ok()?, number.parse().ok()?);
    (bytes == value(id, number)).then_some((id, number))
}

mod worker {
    use super::*;

    fn tell(line: &str) {
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).expect("the parent listens");
    }

    /// Works until it is killed.
    pub(super) fn run(order: &str) -> ! {
        let mut parts = order.splitn(4, ' ');
        let mut number = || parts.next().unwrap().parse::<u64>().unwrap();
        let (id, mut next, shared) = (number(), number(), number() == 1);
        let dir = parts.next().unwrap();
        let mode = if shared { ProfileOverride::Shared } else { ProfileOverride::Local };
        let cache = Cache::open(Path::new(dir), options(mode)).unwrap();
        let mut rng = id << 32 | next;
        loop {
            let (what, key) = (random(&mut rng) % 20, random(&mut rng) % KEYS);
            let name = match what {
                0..=6 => "set",
                7 | 8 => "delete",
                9..=11 => "incr",
                12 | 13 => "push",
                14 | 15 => "pull",
                16 => "transact",
                _ => "read",
            };
            tell(&format!("\n@B {next} {name} {key}\n"));
            let begun = OsClock.boot();
            let answer = operate(&cache, name, id, next, key, &mut rng);
            let took = (OsClock.boot() - begun).as_millis();
            tell(&format!("\n@A {next} {took} {answer}\n"));
            next += 1;
        }
    }

    fn operate(cache: &Cache, name: &str, id: u64, number: u64, key: u64, rng: &mut u64) -> String {
        let own = format!("w{id}-{key}");
        let content = value(id, number);
        match name {
            "set" => cache.set(KeyRef::text(&own), Put::bytes(&content)).unwrap(),
            "delete" => drop(cache.delete(KeyRef::text(&own)).unwrap()),
            "incr" => drop(cache.incr(KeyRef::text("n"), Number::Int(1), Some(Number::Int(0))).unwrap()),
            "push" => drop(cache.push(Some("q"), false, Put::bytes(&content)).unwrap()),
            "pull" => {
                let Some(hit) = cache.pull(Some("q"), true).unwrap() else { return "none".to_owned() };
                let (id, number) = author(&hit.value.bytes().unwrap()).expect("a torn item");
                return format!("{id}:{number}");
            }
            "transact" => {
                cache.transact_begin(None).unwrap();
                cache.set(KeyRef::text(&format!("t{id}-a")), Put::bytes(&content)).unwrap();
                cache.set(KeyRef::text(&format!("t{id}-b")), Put::bytes(&content)).unwrap();
                if let Err(error) = cache.transact_commit() {
                    // In shared mode a hold may run out on a busy machine; nothing took effect then.
                    assert_eq!(error.kind(), diskcache_core::ErrorKind::Conflict, "{error}");
                    return "conflict".to_owned();
                }
            }
            _ => {
                let other = format!("w{}-{key}", random(rng) % WORKERS);
                let Some(found) = cache.get(KeyRef::text(&other)).unwrap() else { return "none".to_owned() };
                // The file of a large value may go while it is read; any bytes that there are must be somebody's.
                if let Ok(bytes) = found.bytes() {
                    author(&bytes).expect("a torn value");
                }
            }
        }
        "done".to_owned()
    }
}

/// One operation of a worker, as the parent was told.
#[derive(Debug, Clone)]
struct Told {
    number: u64,
    name: String,
    key: u64,
    answer: Option<String>,
}

#[derive(Debug, Default)]
struct Ledger {
    told: Vec<Told>,
    acknowledged: usize,
    slowest: u64,
    /// What does not belong: panic messages of the worker.
    noise: Vec<String>,
}

struct Worker {
    id: u64,
    child: Child,
    listener: JoinHandle<()>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Worker {
    fn start(id: u64, dir: &Path, shared: bool, test: &str, ledger: Arc<Mutex<Ledger>>) -> Self {
        let next = ledger.lock().unwrap().told.last().map_or(1, |told| told.number + 1);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(WORKER_VARIABLE, format!("{id} {next} {} {}", u8::from(shared), dir.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (shared_ledger, errors) = (Arc::clone(&ledger), Arc::clone(&ledger));
        let listener = std::thread::spawn(move || {
            let complaints = std::thread::spawn(move || {
                BufReader::new(err).lines().map_while(Result::ok).for_each(|line| errors.lock().unwrap().noise.push(line));
            });
            BufReader::new(out).lines().map_while(Result::ok).for_each(|line| note(&mut shared_ledger.lock().unwrap(), &line));
            complaints.join().unwrap();
        });
        Self { id, child, listener, ledger }
    }

    fn kill(mut self) -> Arc<Mutex<Ledger>> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.listener.join().unwrap();
        self.ledger
    }

    /// Waits until it has acknowledged some more operations.
    fn await_progress(&mut self, at: &str) {
        let target = self.ledger.lock().unwrap().acknowledged + OPERATIONS_MIN;
        for _ in 0..12_000 {
            let ledger = self.ledger.lock().unwrap();
            assert!(ledger.noise.is_empty(), "{at}: worker {} says {:?}", self.id, ledger.noise);
            if ledger.acknowledged >= target {
                return;
            }
            drop(ledger);
            OsClock.sleep(Duration::from_millis(5));
        }
        let last = self.ledger.lock().unwrap().told.last().cloned();
        panic!("{at}: worker {} made no progress for a minute: {last:?}", self.id);
    }
}

fn note(ledger: &mut Ledger, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["@B", number, name, key] => {
            ledger.told.push(Told { number: number.parse().unwrap(), name: name.to_owned(), key: key.parse().unwrap(), answer: None })
        }
        ["@A", number, took, answer] => {
            let last = ledger.told.last_mut().expect("an answer follows its operation");
            assert_eq!(last.number.to_string(), number);
            last.answer = Some(answer.to_owned());
            ledger.acknowledged += 1;
            ledger.slowest = ledger.slowest.max(took.parse().unwrap());
        }
        _ => {}
    }
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn torture(test: &str, mode: ProfileOverride, kills: u64) {
    if let Ok(order) = std::env::var(WORKER_VARIABLE) {
        worker::run(&order);
    }
    let kills = number_of("DISKCACHE_TORTURE_KILLS").unwrap_or(kills);
    let seed = number_of("DISKCACHE_TORTURE_SEED").unwrap_or(1);
    let at = format!("DISKCACHE_TORTURE_SEED={seed} DISKCACHE_TORTURE_KILLS={kills} cargo test -p diskcache-core --test torture {test}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let shared = mode == ProfileOverride::Shared;
    let mut rng = seed;
    let mut workers: Vec<Worker> = (0..WORKERS).map(|id| Worker::start(id, &path, shared, test, Arc::default())).collect();
    for _ in 0..kills {
        let chosen = usize::try_from(random(&mut rng) % WORKERS).unwrap();
        workers[chosen].await_progress(&at);
        OsClock.sleep(Duration::from_micros(random(&mut rng) % 20_000));
        let worker = workers.swap_remove(chosen);
        let id = worker.id;
        let ledger = worker.kill();
        workers.push(Worker::start(id, &path, shared, test, ledger));
    }
    workers.iter_mut().for_each(|worker| worker.await_progress(&at));
    let ledgers: BTreeMap<u64, Vec<Told>> = workers
        .into_iter()
        .map(|worker| {
            let id = worker.id;
            let ledger = worker.kill();
            let mut ledger = ledger.lock().unwrap();
            let limit = number_of("DISKCACHE_TORTURE_WAIT_MS").unwrap_or(if shared { 15_000 } else { 2_000 });
            assert!(ledger.noise.is_empty(), "{at}: worker {id} says {:?}", ledger.noise);
            assert!(ledger.slowest <= limit, "{at}: worker {id} waited {} ms for the dead", ledger.slowest);
            println!("worker {id}: {} acknowledged, the slowest in {} ms", ledger.acknowledged, ledger.slowest);
            (id, std::mem::take(&mut ledger.told))
        })
        .collect();
    let cache = Cache::open(&path, options(mode)).unwrap();
    check_keys(&at, &cache, &ledgers);
    check_counter(&at, &cache, &ledgers);
    check_files(&at, &cache);
    check_queue(&at, &cache, &ledgers);
}

/// Every key holds what its last acknowledged write left, or what one left that was under way after that.
fn check_keys(at: &str, cache: &Cache, ledgers: &BTreeMap<u64, Vec<Told>>) {
    let holds = |key: &str| {
        let found = cache.get(KeyRef::text(key)).unwrap();
        found.map(|found| {
            let bytes = found.bytes().unwrap_or_else(|error| panic!("{at}: {key} cannot be read: {error}"));
            author(&bytes).unwrap_or_else(|| panic!("{at}: {key} is torn")).1
        })
    };
    for (id, told) in ledgers {
        let possible = |concerns: &dyn Fn(&&Told) -> bool| {
            let mut possible = vec![None];
            for told in told.iter().filter(concerns).filter(|told| told.answer.as_deref() != Some("conflict")) {
                if told.answer.is_some() {
                    possible.clear();
                }
                possible.push((told.name != "delete").then_some(told.number));
            }
            possible
        };
        for key in 0..KEYS {
            let possible = possible(&|told| told.key == key && (told.name == "set" || told.name == "delete"));
            let found = holds(&format!("w{id}-{key}"));
            assert!(possible.contains(&found), "{at}: w{id}-{key} holds {found:?}, not one of {possible:?}");
        }
        let possible = possible(&|told| told.name == "transact");
        let (a, b) = (holds(&format!("t{id}-a")), holds(&format!("t{id}-b")));
        assert!(a == b && possible.contains(&a), "{at}: a transaction of {id} left {a:?} and {b:?}, not one of {possible:?}");
    }
    assert_eq!(cache.damaged_reads().unwrap(), 0, "{at}");
}

fn check_counter(at: &str, cache: &Cache, ledgers: &BTreeMap<u64, Vec<Told>>) {
    let all = || ledgers.values().flatten().filter(|told| told.name == "incr");
    let (most, least) = (all().count(), all().filter(|told| told.answer.is_some()).count());
    let sum = cache.get(KeyRef::text("n")).unwrap().and_then(|value| value.as_number());
    let Some(Number::Int(sum)) = sum else { panic!("{at}: the counter is {sum:?}") };
    let sum = usize::try_from(sum).unwrap();
    println!("counter: {least} acknowledged, {most} tried, it says {sum}");
    assert!(least <= sum && sum <= most, "{at}: the counter says {sum}, but {least} were acknowledged and {most} tried");
}

/// Nothing is damaged; what killed processes left goes with the first check.
fn check_files(at: &str, cache: &Cache) {
    let problems = cache.check(true).unwrap().problems;
    assert!(problems.iter().all(|problem| problem.kind == ProblemKind::Leftover), "{at}: {problems:#?}");
    println!("{} files were left by the dead", problems.len());
    let report = cache.check(false).unwrap();
    assert!(report.problems.is_empty() && report.commits_lost == 0 && report.unknown.is_empty(), "{at}: {report:#?}");
}

/// Every item that was pushed came out once, or is still there.
fn check_queue(at: &str, cache: &Cache, ledgers: &BTreeMap<u64, Vec<Told>>) {
    let pushes = |acknowledged: bool| -> BTreeSet<(u64, u64)> {
        let all = ledgers.iter().flat_map(|(id, told)| told.iter().map(move |told| (*id, told)));
        all.filter(|(_, told)| told.name == "push" && (!acknowledged || told.answer.is_some()))
            .map(|(id, told)| (id, told.number))
            .collect()
    };
    let mut out = BTreeSet::new();
    let mut take = |item: (u64, u64)| {
        assert!(pushes(false).contains(&item), "{at}: nobody pushed {item:?}");
        assert!(out.insert(item), "{at}: {item:?} came out twice");
    };
    let pulls = || ledgers.values().flatten().filter(|told| told.name == "pull");
    for answer in pulls().filter_map(|told| told.answer.as_deref()).filter(|answer| *answer != "none") {
        let (id, number) = answer.split_once(':').unwrap();
        take((id.parse().unwrap(), number.parse().unwrap()));
    }
    let mut last = BTreeMap::new();
    while let Some(hit) = cache.pull(Some("q"), true).unwrap() {
        let (id, number) = author(&hit.value.bytes().unwrap()).unwrap_or_else(|| panic!("{at}: an item is torn"));
        assert!(last.insert(id, number).is_none_or(|before| before < number), "{at}: items of {id} are out of order");
        take((id, number));
    }
    let missing = pushes(true).difference(&out).count();
    let under_way = pulls().filter(|told| told.answer.is_none()).count();
    assert!(missing <= under_way, "{at}: {missing} items are lost, and {under_way} pulls were under way");
}

#[test]
fn killed_writers_of_a_local_cache_lose_nothing_that_was_acknowledged() {
    torture("killed_writers_of_a_local_cache_lose_nothing_that_was_acknowledged", ProfileOverride::Local, 30);
}

#[test]
fn killed_writers_of_a_shared_cache_lose_nothing_that_was_acknowledged() {
    torture("killed_writers_of_a_shared_cache_lose_nothing_that_was_acknowledged", ProfileOverride::Shared, 12);
}
