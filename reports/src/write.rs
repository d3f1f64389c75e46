//! Reports to files and back.

use std::fmt::Write as _;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bench::{BENCH_VERSION, BenchReport, Trend};
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
        put(&dir.join("index.html"), &bench::page(self, baseline, &links(dir, Kind::Bench)))
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

/// Makes the pages of files of results, all of one kind. Files about mounts are merged; of the other kinds one is taken.
///
/// # Errors
/// A file cannot be read, is of another kind or of a newer version, or the pages cannot be written.
pub fn render(files: &[PathBuf], out: &Path, against: Option<&Path>) -> Result<Kind> {
    let bad = |why: &str| Error::new(ErrorKind::InvalidInput, why);
    let (first, rest) = files.split_first().ok_or_else(|| bad("no file of results was given"))?;
    let kind = Kind::of(&value(first)?).ok_or_else(|| bad("the file is of a kind that is not known here"))?;
    if kind != Kind::Mounts && !rest.is_empty() {
        return Err(bad("only results about mounts can be merged"));
    }
    if kind != Kind::Bench && against.is_some() {
        return Err(bad("only results about speed have a baseline"));
    }
    match kind {
        Kind::Results => read::<Report>(first, kind)?.save(out)?,
        Kind::Mounts => {
            let mut report: MountReport = read(first, kind)?;
            for file in rest {
                report.merge(read(file, kind)?);
            }
            report.save(out)?;
        }
        Kind::Bench => {
            let baseline: Option<BenchReport> = against.map(|path| read(path, kind)).transpose()?;
            let name = against.and_then(Path::file_stem).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            read::<BenchReport>(first, kind)?.save(out, baseline.as_ref().map(|report| (name.as_str(), report)))?;
        }
    }
    Ok(kind)
}

/// Compares speeds with a baseline: what is slower or faster beyond noise, a line each, and how many are slower.
///
/// # Errors
/// A file cannot be read, or nothing in the two can be compared.
pub fn compare(baseline: &Path, new: &Path) -> Result<(String, usize)> {
    let (old, new): (BenchReport, BenchReport) = (read(baseline, Kind::Bench)?, read(new, Kind::Bench)?);
    let mut changes = new.against(&old);
    if changes.is_empty() {
        return Err(Error::new(ErrorKind::InvalidData, "the two have nothing in common that could be compared"));
    }
    changes.sort_by(|a, b| a.speed.total_cmp(&b.speed));
    let mut text = String::new();
    for change in changes.iter().filter(|change| change.trend != Trend::Noise) {
        let word = if change.trend == Trend::Regression { "SLOWER" } else { "faster" };
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{word}  {:.2}x  {} {}, {}: {:.3} to {:.3} {} (medians)",
            change.speed,
            change.engine,
            change.id.group,
            change.id.title(),
            change.before.value,
            change.after.value,
            change.unit
        );
    }
    let slower = changes.iter().filter(|change| change.trend == Trend::Regression).count();
    let noise = changes.iter().filter(|change| change.trend == Trend::Noise).count();
    let _ = writeln!(text, "{slower} slower, {} faster, {noise} within noise", changes.len() - slower - noise);
    Ok((text, slower))
}
