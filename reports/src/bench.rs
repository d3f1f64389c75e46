//! How fast engines are beside each other: the data of the report of benchmarks, and what counts as a change.
//!
//! Fields are only ever added, each with a default. A change of meaning raises [`BENCH_VERSION`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the data.
pub const BENCH_VERSION: u32 = 1;

/// Our engine's name, where a report does not say another.
const OURS: &str = "diskcache_rs";

/// How many times as fast an engine is as another, over rounds in which they took turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Ratio {
    /// The median of the ratios of each round.
    pub ratio: f64,
    /// Its 95 % interval: from.
    pub ci_low: f64,
    /// To.
    pub ci_high: f64,
}

/// One operation of one engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BenchRow {
    /// Under which circumstances: "one process", "4 processes, 90/9/1, uniform keys".
    pub group: String,
    /// Which: "get hit", "set new"; "all" for a mix of them.
    pub operation: String,
    /// Bytes of a value; 0 where that plays no part.
    pub size_bytes: u64,
    /// Which engine.
    pub engine: String,
    /// `ns` (an operation: less is better), `/s` (operations a second: more is better), or what else was counted.
    pub unit: String,
    /// The median of the rounds.
    pub median: f64,
    /// Their 10th percentile.
    pub low: f64,
    /// Their 90th percentile.
    pub high: f64,
    /// How many rounds.
    pub samples: u64,
    /// By other engine, how many times as fast as it this one is.
    pub ratio_to: BTreeMap<String, Ratio>,
    /// Criterion's own page of it, relative to the report.
    pub criterion: Option<String>,
}

/// How long single operations took. Microseconds, but for the total.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Latency {
    /// Under which circumstances.
    pub group: String,
    /// Which engine.
    pub engine: String,
    /// `get`, `set`, `delete`.
    pub action: String,
    /// How many.
    pub count: f64,
    /// How many of them missed.
    pub miss: f64,
    /// The median.
    pub median: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p99_9: f64,
    /// The 99.99th percentile, where it was counted.
    pub p99_99: Option<f64>,
    /// The longest.
    pub max: f64,
    /// Seconds, all of them together.
    pub total: f64,
}

/// Figures that depend on another figure: hit ratios by size, times by number of entries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Curves {
    /// What is shown: "Hit ratio: Zipf, drifting".
    pub title: String,
    /// What the points depend on.
    pub x: String,
    /// What they are.
    pub y: String,
    /// By name: the points.
    pub series: BTreeMap<String, Vec<(f64, f64)>>,
}

/// A figure by itself, with what it is to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Fact {
    /// What, in words.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what: `x`, `ms`, `MB`.
    pub unit: String,
    /// What it is to be.
    pub bar: Option<f64>,
    /// Whether at most, instead of at least.
    pub at_most: bool,
    /// Whether it is so.
    pub met: Option<bool>,
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BenchReport {
    /// What kind of report it is: `bench`.
    pub kind: String,
    /// [`BENCH_VERSION`].
    pub version: u32,
    /// When it began: seconds since 1970.
    pub started: f64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Machine, command, and under `versions` those of the engines.
    pub environment: BTreeMap<String, serde_json::Value>,
    /// Which engine the ratios are of; `diskcache_rs` when it is not said.
    pub ours: String,
    /// Speeds and other figures by engine.
    pub rows: Vec<BenchRow>,
    /// Distributions.
    pub latencies: Vec<Latency>,
    /// Figures that depend on another.
    pub curves: Vec<Curves>,
    /// Figures by themselves.
    pub facts: Vec<Fact>,
    /// What was measured in vain, because an operation failed: what, and how it failed.
    pub void: Vec<String>,
    /// Criterion's index page, relative to the report.
    pub criterion_index: Option<String>,
}

/// How a speed compares with what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trend {
    /// Slower, beyond noise.
    Slower,
    /// Faster, beyond noise.
    Faster,
    /// It cannot be told from noise.
    Noise,
}

/// One speed beside that of a baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What it was.
    pub before: BenchRow,
    /// What it is.
    pub after: BenchRow,
    /// How many times as fast it is now, the machine's own change taken off.
    pub speed: f64,
    /// What that means.
    pub trend: Trend,
}

/// Our speeds beside those of a baseline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Each speed that both have, the slowest first.
    pub changes: Vec<Change>,
    /// How many times as fast the other engines, which did not change, ran this time: what the machine did.
    pub machine: f64,
}

/// What two medians must differ by, beside their ranges being apart, to be called a change: a machine is never the same twice.
pub const NOISE: f64 = 0.05;

/// So many rows of others tell what the machine did; with fewer, it is taken for unchanged.
const ENOUGH: usize = 5;

impl BenchRow {
    /// Whether less is better, more is better, or neither is known.
    fn speed_over(&self, before: &BenchRow) -> Option<f64> {
        match self.unit.as_str() {
            "ns" if self.median > 0.0 => Some(before.median / self.median),
            "/s" if before.median > 0.0 => Some(self.median / before.median),
            _ => None,
        }
    }

    fn is_same_as(&self, other: &BenchRow) -> bool {
        let key = |row: &BenchRow| (row.group.clone(), row.operation.clone(), row.size_bytes, row.engine.clone(), row.unit.clone());
        key(self) == key(other)
    }

    /// In words: "get hit, 128 B"; for a mix its circumstances.
    #[must_use]
    pub fn title(&self) -> String {
        let what = if self.operation == "all" { &self.group } else { &self.operation };
        if self.size_bytes == 0 { what.clone() } else { format!("{what}, {}", bytes(self.size_bytes)) }
    }
}

impl Fact {
    /// Whether it is what it is to be; nothing when nothing was set.
    #[must_use]
    pub fn is_met(&self) -> Option<bool> {
        self.bar.map(|bar| if self.at_most { self.value <= bar } else { self.value >= bar })
    }
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let last = figures.len().checked_sub(1)?;
    Some(f64::midpoint(figures[last / 2], figures[figures.len() / 2]))
}

impl BenchReport {
    /// The engine that ratios are of.
    #[must_use]
    pub fn ours(&self) -> &str {
        if self.ours.is_empty() { OURS } else { &self.ours }
    }

    /// All engines: ours, then the others as they come.
    #[must_use]
    pub fn engines(&self) -> Vec<&str> {
        let mut engines = vec![self.ours()];
        let all = self.rows.iter().map(|row| row.engine.as_str()).chain(self.latencies.iter().map(|row| row.engine.as_str()));
        for engine in all {
            if !engines.contains(&engine) {
                engines.push(engine);
            }
        }
        engines
    }

    /// How our speeds compare with a baseline. What only one of them has is left out.
    ///
    /// The other engines tell what the machine did meanwhile: their median change is taken off. Then a speed changed when the ranges (10th to
    /// 90th percentile) are apart and the medians differ by more than [`NOISE`].
    #[must_use]
    pub fn against(&self, baseline: &BenchReport) -> Changes {
        let pairs = |ours: bool| {
            let matching = move |row: &&BenchRow| (row.engine == self.ours()) == ours;
            let with_old = |row| Some((baseline.rows.iter().find(|old| old.is_same_as(row))?, row));
            self.rows.iter().filter(matching).filter_map(with_old).collect::<Vec<_>>()
        };
        let others: Vec<f64> = pairs(false).into_iter().filter_map(|(old, row)| row.speed_over(old)).filter(|it| it.is_finite()).collect();
        let machine = if others.len() < ENOUGH { 1.0 } else { median(others).unwrap_or(1.0) };
        let change = |(before, after): (&BenchRow, &BenchRow)| {
            let speed = after.speed_over(before)? / machine;
            // On a machine that is twice as fast, times are half and rates are double.
            let scale = if after.unit == "ns" { machine } else { 1.0 / machine };
            let apart = before.high < after.low * scale || after.high * scale < before.low;
            let trend = match speed {
                speed if apart && speed < 1.0 - NOISE => Trend::Slower,
                speed if apart && speed > 1.0 + NOISE => Trend::Faster,
                _ => Trend::Noise,
            };
            Some(Change { before: before.clone(), after: after.clone(), speed, trend })
        };
        let mut changes: Vec<Change> = pairs(true).into_iter().filter_map(change).collect();
        changes.sort_by(|a, b| a.speed.total_cmp(&b.speed));
        Changes { changes, machine }
    }
}

impl Changes {
    /// How many changed so.
    #[must_use]
    pub fn count(&self, trend: Trend) -> usize {
        self.changes.iter().filter(|change| change.trend == trend).count()
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
