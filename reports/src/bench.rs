//! How fast engines are beside each other: the data of the report of benchmarks, and the statistics that its claims rest on.
//!
//! Fields are only ever added, each with a default. A change of meaning raises [`BENCH_VERSION`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stats::{Estimate, median_of, ratio_of};

/// The version of the data.
pub const BENCH_VERSION: u32 = 1;

/// An engine that was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BenchEngine {
    /// Short name.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// Version that was run.
    pub version: String,
    /// Whether it is ours; ratios are ours against each of the others.
    pub ours: bool,
    /// How it was set up, as far as it matters: "WAL, synchronous = NORMAL".
    pub setup: String,
}

/// What was measured, so that rows of several engines and of several reports can be laid beside each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BenchId {
    /// `python`, `rust`, `processes`, `threads`, ...
    pub group: String,
    /// `get hit`, `set new`, ...
    pub operation: String,
    /// Bytes of a value; nothing where that plays no part.
    pub value_bytes: Option<u64>,
    /// Entries in the cache.
    pub entries: Option<u64>,
    /// Processes or threads at work.
    pub workers: Option<u64>,
    /// What survives what: `none`, `process`, `host`.
    pub durability: String,
}

/// One operation of one engine. All rounds were interleaved with those of the other engines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BenchRow {
    /// What was measured.
    pub id: BenchId,
    /// Of which engine.
    pub engine: String,
    /// One figure a round, in [`BenchRow::unit`]; round by round the same ones for all engines.
    pub rounds: Vec<f64>,
    /// `us` (microseconds an operation: less is better) or `1/s` (operations a second: more is better).
    pub unit: String,
    /// Operations that were made and seen to succeed.
    pub succeeded: u64,
    /// Operations that failed. Any voids the row.
    pub failed: u64,
    /// Criterion's own page of it, relative to the report.
    pub criterion: Option<String>,
}

/// The distribution of single operations, as python-diskcache's own tables give it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TailRow {
    /// The mix: "90 % get, 9 % set, 1 % delete; Zipf".
    pub mix: String,
    /// `processes` or `threads`.
    pub workers_are: String,
    /// How many.
    pub workers: u64,
    /// Of which engine.
    pub engine: String,
    /// `get`, `set`, `delete`, `total`.
    pub operation: String,
    /// How many.
    pub count: u64,
    /// How many of them missed.
    pub miss: u64,
    /// Microseconds.
    pub median_us: f64,
    /// Microseconds.
    pub p90_us: f64,
    /// Microseconds.
    pub p99_us: f64,
    /// Microseconds.
    pub p999_us: f64,
    /// Microseconds.
    pub max_us: f64,
    /// Seconds, all of them together.
    pub total_s: f64,
}

/// What must be reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BenchTarget {
    /// Of what.
    pub id: BenchId,
    /// Against which engine.
    pub against: String,
    /// How many times as fast at least.
    pub at_least: f64,
}

/// A figure that is not a speed: memory, disk, write amplification, scale.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Resource {
    /// Under which heading: "memory", "disk", "scale".
    pub group: String,
    /// What, in words.
    pub what: String,
    /// Of which engine.
    pub engine: String,
    /// How much.
    pub value: f64,
    /// Of what: `B`, `ms`, `x`, `s`.
    pub unit: String,
    /// What it must not exceed.
    pub limit: Option<f64>,
}

/// One policy's hits on one trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Curve {
    /// Which trace: "Zipf 0.9, drifting".
    pub trace: String,
    /// Which policy: `least-recently-used`, `optimum`.
    pub policy: String,
    /// Cache size as a share of all keys (0 to 1), and the share of requests that hit (0 to 1).
    pub points: Vec<(f64, f64)>,
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BenchReport {
    /// What kind of report it is: `bench`.
    pub kind: String,
    /// [`BENCH_VERSION`].
    pub version: u32,
    /// When, RFC 3339.
    pub created: String,
    /// The command that made it.
    pub command: String,
    /// Machine, kernel, versions: see [`crate::machine`].
    pub environment: BTreeMap<String, String>,
    /// How it was measured, a sentence each.
    pub method: Vec<String>,
    /// Engines, in the order of columns.
    pub engines: Vec<BenchEngine>,
    /// Speeds.
    pub rows: Vec<BenchRow>,
    /// What must be reached.
    pub targets: Vec<BenchTarget>,
    /// Distributions.
    pub tails: Vec<TailRow>,
    /// Memory, disk, scale.
    pub resources: Vec<Resource>,
    /// Hit ratios.
    pub curves: Vec<Curve>,
    /// Criterion's index page, relative to the report.
    pub criterion: Option<String>,
}

/// How a speed compares with what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trend {
    /// Slower, beyond noise.
    Regression,
    /// Faster, beyond noise.
    Improvement,
    /// It cannot be told from noise.
    Noise,
}

/// One speed beside that of a baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What was measured.
    pub id: BenchId,
    /// Of which engine.
    pub engine: String,
    /// What it was.
    pub before: Estimate,
    /// What it is.
    pub after: Estimate,
    /// How many times as fast it is now.
    pub speed: f64,
    /// What that means.
    pub trend: Trend,
    /// In which unit.
    pub unit: String,
}

/// What two medians must differ by, beyond their intervals, before it is called a change: machines are never the same twice.
pub const NOISE: f64 = 0.05;

impl BenchRow {
    /// Whether it means anything: it has rounds, and no operation failed.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.failed == 0 && self.succeeded > 0 && !self.rounds.is_empty() && self.rounds.iter().all(|it| it.is_finite() && *it > 0.0)
    }

    /// The median of its rounds with its 95 % interval.
    #[must_use]
    pub fn estimate(&self) -> Option<Estimate> {
        if self.is_valid() { median_of(&self.rounds) } else { None }
    }

    /// Whether less is better.
    #[must_use]
    pub fn is_time(&self) -> bool {
        self.unit != "1/s"
    }
}

impl BenchReport {
    /// An empty report of this version.
    #[must_use]
    pub fn new(created: &str, command: &str) -> BenchReport {
        BenchReport {
            kind: "bench".to_owned(),
            version: BENCH_VERSION,
            created: created.to_owned(),
            command: command.to_owned(),
            environment: crate::machine(),
            ..BenchReport::default()
        }
    }

    /// A row by what it measures.
    #[must_use]
    pub fn row(&self, id: &BenchId, engine: &str) -> Option<&BenchRow> {
        self.rows.iter().find(|row| row.id == *id && row.engine == engine)
    }

    /// How many times as fast one engine is as another, from the ratios of each round; nothing when either row is void.
    #[must_use]
    pub fn ratio(&self, id: &BenchId, engine: &str, against: &str) -> Option<Estimate> {
        let (its, other) = (self.row(id, engine)?, self.row(id, against)?);
        if !its.is_valid() || !other.is_valid() || its.unit != other.unit {
            return None;
        }
        if its.is_time() { ratio_of(&other.rounds, &its.rounds) } else { ratio_of(&its.rounds, &other.rounds) }
    }

    /// Everything that was measured, once each, in the order of the rows.
    #[must_use]
    pub fn ids(&self) -> Vec<&BenchId> {
        let mut ids: Vec<&BenchId> = Vec::new();
        for row in &self.rows {
            if !ids.contains(&&row.id) {
                ids.push(&row.id);
            }
        }
        ids
    }

    /// How each speed compares with a baseline. What only one of them has, or a void row, is left out.
    #[must_use]
    pub fn against(&self, baseline: &BenchReport) -> Vec<Change> {
        let change = |row: &BenchRow| {
            let old = baseline.row(&row.id, &row.engine).filter(|old| old.unit == row.unit)?;
            let (before, after) = (old.estimate()?, row.estimate()?);
            let speed = if row.is_time() { before.value / after.value } else { after.value / before.value };
            let apart = before.high < after.low || after.high < before.low;
            let trend = match speed {
                _ if !apart => Trend::Noise,
                speed if speed < 1.0 - NOISE => Trend::Regression,
                speed if speed > 1.0 + NOISE => Trend::Improvement,
                _ => Trend::Noise,
            };
            Some(Change { id: row.id.clone(), engine: row.engine.clone(), before, after, speed, trend, unit: row.unit.clone() })
        };
        self.rows.iter().filter_map(change).collect()
    }
}

impl BenchId {
    /// In words: "get hit, 128 B".
    #[must_use]
    pub fn title(&self) -> String {
        let mut parts = vec![self.operation.clone()];
        parts.extend(self.value_bytes.map(bytes));
        parts.extend(self.entries.map(|entries| format!("{} entries", crate::wording::grouped(entries))));
        parts.extend(self.workers.map(|workers| format!("{workers} {}", if self.group == "threads" { "threads" } else { "processes" })));
        if !self.durability.is_empty() && self.durability != "none" {
            parts.push(format!("durable: {}", self.durability));
        }
        parts.join(", ")
    }
}

/// `65536` as `64 KiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value.fract() == 0.0 { format!("{value:.0} {}", UNITS[unit]) } else { format!("{value:.1} {}", UNITS[unit]) }
}
