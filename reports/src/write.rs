//! Reports to files and back.

use std::fmt::Write as _;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bench::{BENCH_VERSION, BenchReport, Changes, Trend};
use crate::mounts::{MOUNTS_VERSION, MountReport};
use crate::page::{Link, bench, failure, harness, mounts};
use crate::{Report, VERSION, Verdict, junit};

/// What a file of results is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The harness: [`Report`].
    Results,
    /// Real mounts: [`MountReport`].
    Mounts,
    /// Speed: [`BenchReport`].
    Bench,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Results, Kind::Mounts, Kind::Bench];

    /// Its name: what stands in the field `kind`, and what the command line calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Results => "results",
            Kind::Mounts => "mounts",
            Kind::Bench => "bench",
        }
    }

    fn version(self) -> u32 {
        match self {
            Kind::Results => VERSION,
            Kind::Mounts => MOUNTS_VERSION,
            Kind::Bench => BENCH_VERSION,
        }
    }

    /// What a file says that it is. The harness's own says nothing.
    fn of(value: &serde_json::Value) -> Option<Kind> {
        match value.get("kind").and_then(serde_json::Value::as_str) {
            None => Some(Kind::Results),
            Some(name) => Kind::ALL.into_iter().find(|kind| kind.name() == name),
        }
    }
}

/// The JSON schema of a kind of results.
#[must_use]
pub fn schema(kind: Kind) -> String {
    let schema = match kind {
        Kind::Results => schemars::schema_for!(Report),
        Kind::Mounts => schemars::schema_for!(MountReport),
        Kind::Bench => schemars::schema_for!(BenchReport),
    };
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

fn put(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|err| Error::new(err.kind(), format!("cannot write {}: {err}", path.display())))
}

fn data<T: Serialize>(dir: &Path, kind: Kind, report: &T) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|err| Error::new(err.kind(), format!("cannot make {}: {err}", dir.display())))?;
    put(&dir.join("results.json"), &serde_json::to_string_pretty(report)?)?;
    put(&dir.join("results.schema.json"), &schema(kind))
}

/// The reports beside this one that are there already. The harness's is above the others.
fn links(dir: &Path, kind: Kind) -> Vec<Link> {
    let all = [("index.html", "Simulated drive"), ("mounts/index.html", "Real mounts"), ("bench/index.html", "Speed")];
    let up = if kind == Kind::Results { "" } else { "../" };
    let own = if kind == Kind::Results { "index.html".to_owned() } else { format!("{}/index.html", kind.name()) };
    let other = |(path, title): (&str, &str)| {
        let href = format!("{up}{path}");
        (path != own && dir.join(&href).is_file()).then(|| Link::new(&href, title))
    };
    all.into_iter().filter_map(other).collect()
}

impl Report {
    /// Writes `index.html`, a page for each failure, `results.json` with its schema, and `junit.xml` into a folder.
    ///
    /// Pages of failures that an earlier report left in it are removed.
    ///
    /// # Errors
    /// They cannot be written; the error says which.
    pub fn save(&self, dir: &Path) -> Result<()> {
        data(dir, Kind::Results, self)?;
        let failures = dir.join("failures");
        match std::fs::remove_dir_all(&failures) {
            Err(err) if err.kind() != ErrorKind::NotFound => return Err(err),
            _ => std::fs::create_dir_all(&failures)?,
        }
        for run in self.runs.iter().filter(|run| run.verdict != Verdict::Sound) {
            put(&dir.join(failure::path(run)), &failure::page(self, run))?;
        }
        put(&dir.join("junit.xml"), &junit::results(self)?)?;
        put(&dir.join("index.html"), &harness::page(self, &links(dir, Kind::Results)))
    }
}

impl MountReport {
    /// Writes `index.html`, `results.json` with its schema, and `junit.xml` into a folder.
    ///
    /// # Errors
    /// They cannot be written; the error says which.
    pub fn save(&self, dir: &Path) -> Result<()> {
        data(dir, Kind::Mounts, self)?;
        put(&dir.join("junit.xml"), &junit::mounts(self)?)?;
        put(&dir.join("index.html"), &mounts::page(self, &links(dir, Kind::Mounts)))
    }
}

impl BenchReport {
    /// Writes `index.html` and `results.json` with its schema into a folder; beside a baseline, if there is one (its name and the report).
    ///
    /// # Errors
    /// They cannot be written; the error says which.
    pub fn save(&self, dir: &Path, baseline: Option<(&str, &BenchReport)>) -> Result<()> {
        data(dir, Kind::Bench, self)?;
        let changes = baseline.map(|(name, report)| (name, self.against(report)));
        let changes = changes.as_ref().map(|(name, changes)| (*name, changes));
        put(&dir.join("index.html"), &bench::page(self, changes, &links(dir, Kind::Bench)))
    }
}

fn value(path: &Path) -> Result<serde_json::Value> {
    let text = std::fs::read_to_string(path).map_err(|err| Error::new(err.kind(), format!("cannot read {}: {err}", path.display())))?;
    serde_json::from_str(&text).map_err(|err| Error::new(ErrorKind::InvalidData, format!("{}: {err}", path.display())))
}

/// Reads results of a kind. A version that is newer than this program is refused: it may mean something else.
fn read<T: DeserializeOwned>(path: &Path, kind: Kind) -> Result<T> {
    let value = value(path)?;
    let wrong = |why: String| Error::new(ErrorKind::InvalidData, format!("{}: {why}", path.display()));
    if Kind::of(&value) != Some(kind) {
        return Err(wrong(format!("these are no results of kind {:?}", kind.name())));
    }
    let version = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if version == 0 || version > kind.version().into() {
        return Err(wrong(format!("version {version} of {} is not known here (up to {})", kind.name(), kind.version())));
    }
    serde_json::from_value(value).map_err(|err| wrong(err.to_string()))
}

/// Makes the pages of what the harness found.
///
/// # Errors
/// The file cannot be read, is of another kind or of a newer version, or the pages cannot be written.
pub fn render_results(file: &Path, out: &Path) -> Result<()> {
    read::<Report>(file, Kind::Results)?.save(out)
}

/// Makes one page of what several mounts did, each of which may have written a file of its own.
///
/// # Errors
/// A file cannot be read, is of another kind or of a newer version, or the page cannot be written.
pub fn render_mounts(files: &[PathBuf], out: &Path) -> Result<()> {
    let (first, rest) = files.split_first().ok_or_else(|| Error::new(ErrorKind::InvalidInput, "no file of results was given"))?;
    let mut report: MountReport = read(first, Kind::Mounts)?;
    for file in rest {
        report.merge(read(file, Kind::Mounts)?);
    }
    report.save(out)
}

/// Makes the page of speeds, beside a baseline if there is one: then also says what changed, a line each, and how much became slower.
///
/// # Errors
/// A file cannot be read, is of another kind or of a newer version; the two have nothing in common; the page cannot be written.
pub fn render_bench(file: &Path, against: Option<&Path>, out: &Path) -> Result<(String, usize)> {
    let report: BenchReport = read(file, Kind::Bench)?;
    let Some(path) = against else {
        report.save(out, None)?;
        return Ok((String::new(), 0));
    };
    let baseline: BenchReport = read(path, Kind::Bench)?;
    let changes = report.against(&baseline);
    if changes.changes.is_empty() {
        let why = format!("{} and {} have no speed of {} in common", file.display(), path.display(), report.ours());
        return Err(Error::new(ErrorKind::InvalidData, why));
    }
    let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    report.save(out, Some((&name, &baseline)))?;
    Ok((told(&changes), changes.count(Trend::Slower)))
}

fn told(changes: &Changes) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    for change in changes.changes.iter().filter(|change| change.trend != Trend::Noise) {
        let word = if change.trend == Trend::Slower { "SLOWER" } else { "faster" };
        let (before, after) = (&change.before, &change.after);
        let _ = writeln!(
            text,
            "{word} {:.2}x  {} ({}): {} then, {} now, {}",
            change.speed,
            after.title(),
            after.group,
            before.median,
            after.median,
            after.unit
        );
    }
    let _ = writeln!(
        text,
        "{} slower, {} faster, {} within noise (the other engines ran {:.2} times as fast as then, which is taken off)",
        changes.count(Trend::Slower),
        changes.count(Trend::Faster),
        changes.count(Trend::Noise),
        changes.machine
    );
    text
}
