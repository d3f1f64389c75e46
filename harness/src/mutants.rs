//! The engine broken on purpose, each time in one way: a check that does not notice is worth nothing.
//!
//! The ways are in the engine (`diskcache_core::mutants`), where the cargo feature `mutants` brings them in; without it there are none.
//! [`hunt`] plays scenarios in process until one of them catches the broken engine. Each is played with the sound engine first, with the
//! same seed: only where that is found sound does a finding say anything.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use diskcache_core::mutants::{ALL, Mutant};
use reports::MutantRow;

use crate::check::{Violation, Wrong};
use crate::scenario::{Front, Scenario};
use crate::sim;

/// One run that caught a broken engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catch {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// The first finding.
    pub finding: Violation,
    /// Findings in all.
    pub findings: usize,
}

/// What came of the hunt for one broken engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hunted {
    /// Its name.
    pub name: &'static str,
    /// What it does wrong.
    pub title: &'static str,
    /// Who caught it, if anybody did.
    pub catch: Option<Catch>,
    /// Runs of the broken engine; as many of the sound one were found sound.
    pub runs: usize,
}

impl Hunted {
    /// The command that shows it again.
    #[must_use]
    pub fn replay(&self) -> String {
        format!("cargo run -p harness --features mutants -- mutants --only {}", self.name)
    }
}

impl From<&Hunted> for MutantRow {
    fn from(hunted: &Hunted) -> MutantRow {
        let scenario = |catch: &Catch| format!("{} (seed {}): {}", catch.scenario, catch.seed, catch.finding.wrong.title());
        MutantRow {
            name: hunted.name.to_owned(),
            title: hunted.title.to_owned(),
            caught_by: hunted.catch.iter().map(scenario).collect(),
            replay: hunted.replay(),
        }
    }
}

/// What a way to be broken does wrong, and the scenarios in which that matters most; all others come after them.
fn about(mutant: Mutant) -> (&'static str, &'static [&'static str]) {
    match mutant {
        Mutant::SkipFsync => ("acknowledges a commit whose file was closed and never synced", &["smb-server-power"]),
        Mutant::IgnoreCloseError => ("does not look at what close says", &["close-errors"]),
        Mutant::SkipChecksum => ("believes the bytes of values as they come", &["flipped-reads"]),
        Mutant::AckBeforeRing => ("acknowledges before the bell is rung", &["two-hosts"]),
        Mutant::SkipPredecessor => ("does not ask whether the commit before its own is still there", &["asleep-at-publish"]),
        Mutant::RetryBeforeSettling => ("tries again elsewhere before it is settled what came of the first try", &["late-links"]),
        Mutant::PublishByRename => ("names a commit by a rename, which replaces", &["two-hosts"]),
        Mutant::CollectWithoutGrace => ("removes what a fold made needless at once", &["nap-at-publish"]),
        Mutant::RetryFailedFsync => ("syncs again after an fsync failed, and believes it then", &["late-write-error"]),
    }
}

/// The names of all ways to be broken.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|mutant| mutant.name())
}

/// Whether this program can be broken at all.
#[must_use]
pub const fn is_built() -> bool {
    cfg!(feature = "mutants")
}

fn named(name: &str) -> Result<Mutant, String> {
    let known = || names().collect::<Vec<_>>().join(", ");
    ALL.into_iter().find(|mutant| mutant.name() == name).ok_or_else(|| format!("there is no broken engine {name:?}; there are {}", known()))
}

/// One engine at a time may be broken, and none may run meanwhile that is meant to be sound.
static TURN: Mutex<()> = Mutex::new(());

/// Does something with the engine broken in a way, or sound. The way is the whole program's: one at a time.
///
/// # Errors
/// There is no such way, or this program was built without them.
pub fn with<T>(name: Option<&str>, act: impl FnOnce() -> T) -> Result<T, String> {
    let Some(name) = name else { return Ok(act()) };
    let mutant = named(name)?;
    if !is_built() {
        return Err(format!("this program has no broken engines, so none called {name}: build it with --features mutants"));
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _sound_again = Broken::new(mutant);
    Ok(act())
}

/// As long as it lives, the engine is broken.
struct Broken;

impl Broken {
    fn new(mutant: Mutant) -> Broken {
        #[cfg(feature = "mutants")]
        diskcache_core::mutants::choose(Some(mutant));
        let _ = mutant;
        Broken
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        #[cfg(feature = "mutants")]
        diskcache_core::mutants::choose(None);
    }
}

/// Hunts broken engines: those of some names, or all. `tell` hears of each as soon as it is decided.
///
/// # Errors
/// A name is unknown, a scenario cannot be played, this program was built without broken engines, or the *sound* engine is found
/// unsound: then nothing is known about the others.
pub fn hunt(only: &[String], scenarios: &[Scenario], seeds: u64, mut tell: impl FnMut(&Hunted)) -> Result<Vec<Hunted>, String> {
    let chosen = if only.is_empty() { ALL.to_vec() } else { only.iter().map(|name| named(name)).collect::<Result<_, _>>()? };
    let mut controls = Controls::default();
    let mut all = Vec::new();
    for mutant in chosen {
        let hunted = hunt_one(mutant, scenarios, seeds, &mut controls)?;
        tell(&hunted);
        all.push(hunted);
    }
    Ok(all)
}

fn hunt_one(mutant: Mutant, scenarios: &[Scenario], seeds: u64, controls: &mut Controls) -> Result<Hunted, String> {
    let (title, first) = about(mutant);
    let playable: Vec<&Scenario> = scenarios.iter().filter(|scenario| scenario.fronts.contains(&Front::Sim)).collect();
    let is_first = |scenario: &&&Scenario| first.contains(&scenario.name.as_str());
    let order: Vec<&Scenario> =
        playable.iter().filter(is_first).chain(playable.iter().filter(|scenario| !is_first(scenario))).copied().collect();
    let mut hunted = Hunted { name: mutant.name(), title, catch: None, runs: 0 };
    for scenario in order {
        for seed in 1..=seeds {
            controls.check(scenario, seed)?;
            let done = with(Some(mutant.name()), || sim::play(scenario, seed))??;
            hunted.runs += 1;
            let mut findings = done.violations.iter().filter(|violation| violation.wrong != Wrong::Unknown);
            if let Some(finding) = findings.next() {
                let (scenario, finding, findings) = (scenario.name.clone(), finding.clone(), 1 + findings.count());
                hunted.catch = Some(Catch { scenario, seed, finding, findings });
                return Ok(hunted);
            }
        }
    }
    Ok(hunted)
}

/// The runs of the sound engine so far.
#[derive(Debug, Default)]
struct Controls(BTreeSet<(String, u64)>);

impl Controls {
    /// Plays the sound engine, unless that was done.
    fn check(&mut self, scenario: &Scenario, seed: u64) -> Result<(), String> {
        let place = (scenario.name.clone(), seed);
        if self.0.contains(&place) {
            return Ok(());
        }
        let done = sim::play(scenario, seed)?;
        if let Some(first) = done.violations.first() {
            let (wrong, detail) = (first.wrong.title(), &first.detail);
            return Err(format!("the sound engine is found unsound in {} with seed {seed} ({wrong}: {detail})", scenario.name));
        }
        if !done.unobserved.is_empty() {
            return Err(format!("nobody could notice {} in {} with seed {seed}", done.unobserved.join(", "), scenario.name));
        }
        self.0.insert(place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_be_broken_has_a_scenario_of_its_own_that_exists() {
        let built_in = Scenario::built_in().unwrap();
        for mutant in ALL {
            let (title, first) = about(mutant);
            assert!(!title.is_empty() && named(mutant.name()) == Ok(mutant));
            for name in first {
                assert!(built_in.iter().any(|scenario| scenario.name == *name), "{}: there is no scenario {name}", mutant.name());
            }
        }
    }

    #[test]
    fn an_engine_is_not_broken_by_a_name_that_does_not_exist_or_where_none_was_built() {
        assert!(with(Some("skip-lunch"), || ()).unwrap_err().contains("skip-fsync"));
        assert_eq!(with(None, || 7), Ok(7));
        assert_eq!(with(Some("skip-fsync"), || ()).is_ok(), is_built());
    }
}
