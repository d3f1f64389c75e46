//! What each operation costs in round trips to the server, on one host of the `nfs4` drive.
//!
//! Each operation is made many times and everything that happens meanwhile is counted in, deferred clean-up too; the
//! figure is the mean of one.

use std::collections::BTreeMap;
use std::time::Duration;

use reports::TripRow;
use serde_json::json;

use crate::control::Stats;
use crate::daemon::{Daemon, host_names};
use crate::drive::{Plan, Profile};
use crate::engine::{Engine, Worker};
use crate::history::{Op, Outcome};
use crate::runner::Bench;

const DEADLINE: Duration = Duration::from_secs(30);
const HOST: &str = "host-a";
const KEYS: u64 = 20;
const SIZE: u64 = 128;

struct Count<'b> {
    engine: &'b Engine,
    daemon: Daemon,
    rows: Vec<TripRow>,
}

fn of_host(stats: &Stats) -> (BTreeMap<String, u64>, u64) {
    let kinds = stats.trips.get(HOST).cloned().unwrap_or_default();
    (kinds, stats.lookup_before_link.get(HOST).copied().unwrap_or(0))
}

/// Counts the round trips of an engine's operations.
///
/// # Errors
/// The drive or a worker could not be had, or an operation failed on a drive without faults.
pub fn measure(bench: &Bench, engine: &Engine) -> Result<Vec<TripRow>, String> {
    let temp = tempfile::Builder::new().prefix("harness-").tempdir().map_err(|err| format!("no temporary folder: {err}"))?;
    let daemon = Daemon::start(&bench.program, temp.path(), &Profile::nfs4(), &host_names(1), &Plan::default(), 1)?;
    let dir = daemon.mount(HOST).join("cache");
    let mut count = Count { engine, daemon, rows: Vec::new() };
    let start = |options: Option<serde_json::Value>| -> Result<(Worker, Engine), String> {
        let mut engine = engine.clone();
        if let (Some(serde_json::Value::Object(more)), serde_json::Value::Object(map)) = (options, &mut engine.options) {
            map.extend(more);
        }
        Ok((engine.worker(&bench.python, HOST, &temp.path().join("workers.log"))?, engine))
    };
    let (mut worker, with) = start(None)?;
    count.many("open", "create the cache", 1, None, |_| worker.open(&with, &dir, DEADLINE))?;
    let key = |number: u64| format!("key/{}", number % KEYS);
    for number in 0..KEYS {
        must(worker.call(&Op::Set { key: key(number), seq: 0, size: SIZE, ttl_ms: None }, DEADLINE))?;
    }
    count.many("set", "set, 128 bytes", 300, Some(7.0), |number| {
        worker.call(&Op::Set { key: key(number), seq: number, size: SIZE, ttl_ms: None }, DEADLINE)
    })?;
    count.many("get", "get, hit", 200, Some(1.0), |number| worker.call(&Op::Get { key: key(number) }, DEADLINE))?;
    count.many("get", "get, miss", 200, Some(1.0), |number| worker.call(&Op::Get { key: format!("none/{number}") }, DEADLINE))?;
    count.many("incr", "incr", 200, Some(7.0), |_| worker.call(&Op::Incr { key: "count/0".to_owned(), delta: 1 }, DEADLINE))?;
    count.many("delete", "delete", 20, None, |number| worker.call(&Op::Delete { key: key(number) }, DEADLINE))?;
    let keys: Vec<String> = (0..100).map(|number| format!("batch/{number}")).collect();
    count.many("batch", "100 sets in one transaction", 5, Some(9.0), |number| {
        worker.call(&Op::Batch { keys: keys.clone(), seq: number, size: SIZE }, DEADLINE)
    })?;
    count.many("set", "set, 64 KiB", 20, None, |number| {
        worker.call(&Op::Set { key: key(number), seq: number, size: 65_536, ttl_ms: None }, DEADLINE)
    })?;
    must(worker.call(&Op::Close, DEADLINE))?;
    let (mut again, with) = start(None)?;
    count.many("open", "open a cache", 1, Some(20.0), |_| again.open(&with, &dir, DEADLINE))?;
    must(again.call(&Op::Close, DEADLINE))?;
    if engine.ours {
        let (mut lazy, with) = start(Some(json!({"max_staleness": 600})))?;
        must(lazy.open(&with, &dir, DEADLINE))?;
        must(lazy.call(&Op::Get { key: key(0) }, DEADLINE))?;
        count.many("get", "get within max_staleness", 200, Some(0.0), |_| lazy.call(&Op::Get { key: key(0) }, DEADLINE))?;
        must(lazy.call(&Op::Close, DEADLINE))?;
    }
    Ok(count.rows)
}

fn must(outcome: Outcome) -> Result<(), String> {
    match outcome {
        Outcome::Ok(_) => Ok(()),
        other => Err(format!("an operation failed on a drive without faults: {other:?}")),
    }
}

impl Count<'_> {
    /// Makes a call many times; none at all, where the engine cannot do it.
    fn many(
        &mut self,
        needs: &str,
        name: &str,
        times: u64,
        limit: Option<f64>,
        mut call: impl FnMut(u64) -> Outcome,
    ) -> Result<(), String> {
        if needs != "open" && !self.engine.can(needs) {
            return Ok(());
        }
        let before = of_host(&self.daemon.stats()?);
        for number in 0..times {
            must(call(number)).map_err(|err| format!("{name}: {err}"))?;
        }
        let after = of_host(&self.daemon.stats()?);
        let mean = |count: u64| count as f64 / times as f64;
        let kinds: BTreeMap<String, f64> = after
            .0
            .iter()
            .map(|(kind, count)| (kind.clone(), mean(count - before.0.get(kind).copied().unwrap_or(0))))
            .filter(|(_, count)| *count > 0.0)
            .collect();
        let trips = kinds.values().fold(0.0, |sum, count| sum + count);
        self.rows.push(TripRow {
            engine: self.engine.name.clone(),
            operation: name.to_owned(),
            trips,
            with_lookups: trips + mean(after.1 - before.1),
            kinds,
            limit: limit.filter(|_| self.engine.ours),
        });
        Ok(())
    }
}

/// The figures of several engines as a table for a terminal.
#[must_use]
pub fn table(rows: &[TripRow]) -> String {
    let mut text = String::new();
    for row in rows {
        let kinds: Vec<String> = row.kinds.iter().map(|(kind, count)| format!("{kind} {count:.2}")).collect();
        let limit = row
            .limit
            .map_or_else(String::new, |limit| format!(" (limit {limit}{})", if row.trips > limit + 0.05 { ": TOO MANY" } else { "" }));
        text += &format!(
            "{:<17} {:<29} {:>7.2}{limit}  with LOOKUP before LINK {:.2}  [{}]\n",
            row.engine,
            row.operation,
            row.trips,
            row.with_lookups,
            kinds.join(", ")
        );
    }
    text
}

/// Whether a figure exceeds its limit.
#[must_use]
pub fn too_many(rows: &[TripRow]) -> bool {
    rows.iter().any(|row| row.limit.is_some_and(|limit| row.trips > limit + 0.05))
}

/// Counts for each engine; a failure is told and leaves that engine out.
///
/// # Errors
/// Our engine could not be measured.
pub fn measure_all(bench: &Bench, engines: &[Engine]) -> Result<Vec<TripRow>, String> {
    let mut rows = Vec::new();
    for engine in engines {
        match measure(bench, engine) {
            Ok(more) => rows.extend(more),
            Err(why) if engine.ours => return Err(format!("round trips of {}: {why}", engine.name)),
            Err(why) => eprintln!("round trips of {}: {why}", engine.name),
        }
    }
    Ok(rows)
}
