//! What a run leaves in its folder, so that it can be explained later without being played again: `history.ndjson` (the calls),
//! `plan.toml` (what was played, and how to play it again), `run.json` (what was found) and `workers.log`.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::check::Violation;
use crate::control::Stats;
use crate::drive::Happened;
use crate::history::{self, Call};
use crate::replay::Replay;
use crate::runner::Run;

/// The file of the calls.
pub const HISTORY: &str = "history.ndjson";
/// The file of the plan.
pub const PLAN: &str = "plan.toml";
const FOUND: &str = "run.json";

/// Everything of a run but its calls.
#[derive(Serialize, Deserialize)]
struct Found {
    violations: Vec<Violation>,
    unobserved: Vec<String>,
    stats: Stats,
    marks: Option<(u64, u64, u64)>,
    seconds: f64,
    leftovers: u64,
    began_us: u64,
    faults: Vec<Happened>,
}

fn put(path: &Path, text: &[u8]) -> Result<(), String> {
    std::fs::write(path, text).map_err(|err| format!("cannot write {}: {err}", path.display()))
}

/// Writes a run's calls into its folder; returns the file.
///
/// # Errors
/// It cannot be written.
pub fn save_calls(dir: &Path, calls: &[Call]) -> Result<PathBuf, String> {
    let path = dir.join(HISTORY);
    let mut text = Vec::new();
    std::fs::create_dir_all(dir).map_err(|err| format!("cannot make {}: {err}", dir.display()))?;
    history::write(calls, &mut text).map_err(|err| format!("cannot write {}: {err}", path.display()))?;
    put(&path, &text)?;
    Ok(path)
}

/// Writes everything about a run into its folder; returns the file of its calls.
///
/// # Errors
/// It cannot be written.
pub fn save(dir: &Path, plan: &Replay, run: &Run) -> Result<PathBuf, String> {
    let path = save_calls(dir, &run.calls)?;
    plan.save(&dir.join(PLAN))?;
    let found = Found {
        violations: run.violations.clone(),
        unobserved: run.unobserved.clone(),
        stats: run.stats.clone(),
        marks: run.marks,
        seconds: run.seconds,
        leftovers: run.leftovers,
        began_us: run.began_us,
        faults: run.faults.clone(),
    };
    put(&dir.join(FOUND), &serde_json::to_vec(&found).map_err(|err| err.to_string())?)?;
    Ok(path)
}

/// Whether a folder has what a run leaves.
#[must_use]
pub fn is_there(dir: &Path) -> bool {
    [HISTORY, PLAN, FOUND].iter().all(|name| dir.join(name).is_file())
}

/// Reads a run from its folder.
///
/// # Errors
/// Says which file is not there, or is none of a run.
pub fn load(dir: &Path) -> Result<(Replay, Run), String> {
    let plan = Replay::load(&dir.join(PLAN))?;
    let open = |name: &str| {
        let path = dir.join(name);
        File::open(&path).map(BufReader::new).map_err(|err| format!("cannot read {}: {err}", path.display()))
    };
    let calls = history::read(open(HISTORY)?).map_err(|err| format!("{}: {err}", dir.join(HISTORY).display()))?;
    let found: Found = serde_json::from_reader(open(FOUND)?).map_err(|err| format!("{}: {err}", dir.join(FOUND).display()))?;
    let run = Run {
        calls,
        violations: found.violations,
        unobserved: found.unobserved,
        stats: found.stats,
        marks: found.marks,
        seconds: found.seconds,
        leftovers: found.leftovers,
        began_us: found.began_us,
        faults: found.faults,
    };
    Ok((plan, run))
}
