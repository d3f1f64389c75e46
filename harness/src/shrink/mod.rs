//! Makes a failing run smaller while it stays as wrong: fewer hosts, processes, operations and faults.
//!
//! The run's own operations become a script and its repeated events single ones, so that each can be left out by itself; [`ddmin`] does
//! that. A candidate counts as failing when it shows the same kind of wrong in one of some tries: one where runs repeat (in process), several
//! where they do not (on mounts). What was found last is always a plan that failed as it stands.

mod ddmin;
mod steps;

use std::time::Instant;

use reports::PlanSize;

use crate::check::{Violation, Wrong};
use crate::describe;
use crate::runner::Run;
use crate::scenario::Scenario;

pub use ddmin::ddmin;

/// What is to be kept, and how hard to try.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// The kind of wrong that must stay; without, the gravest that the first run shows.
    pub wrong: Option<Wrong>,
    /// Runs of a candidate before it counts as sound.
    pub tries: u32,
    /// No candidate is begun after this.
    pub until: Instant,
}

/// The smallest that was found.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The plan.
    pub scenario: Scenario,
    /// A run of it that failed.
    pub run: Run,
    /// What is wrong in it.
    pub wrong: Wrong,
    /// How big it was.
    pub before: PlanSize,
    /// How big it is.
    pub after: PlanSize,
    /// Candidates that were tried.
    pub candidates: u64,
    /// Whether the time was over before there was nothing left to try.
    pub unfinished: bool,
}

/// What a shrinker says on its way: the candidate's number, what it tries, and how big the smallest is.
pub type Tell<'t> = &'t dyn Fn(u64, &str, PlanSize);

struct Shrinker<'t> {
    play: &'t mut dyn FnMut(&Scenario) -> Result<Run, String>,
    tell: Tell<'t>,
    goal: Goal,
    wrong: Wrong,
    best: Scenario,
    run: Run,
    candidates: u64,
    late: bool,
}

/// The first violation of a kind.
#[must_use]
pub fn first(run: &Run, wrong: Wrong) -> Option<&Violation> {
    run.violations.iter().find(|violation| violation.wrong == wrong)
}

/// The gravest kind in a run: data first, then what keeps a program from going on. What is not decided is not wrong.
#[must_use]
pub fn gravest(run: &Run) -> Option<Wrong> {
    run.violations.iter().map(|violation| violation.wrong).filter(|wrong| *wrong != Wrong::Unknown).min()
}

/// Makes a scenario smaller. `play` runs one; `seen` is a run of it that failed, if there is one at hand.
///
/// # Errors
/// It could not be run, or nothing is wrong in any of the tries.
pub fn shrink(
    scenario: &Scenario,
    seen: Option<Run>,
    goal: Goal,
    play: &mut dyn FnMut(&Scenario) -> Result<Run, String>,
    tell: Tell<'_>,
) -> Result<Shrunk, String> {
    let shows = |run: &Run| goal.wrong.or_else(|| gravest(run)).filter(|wrong| first(run, *wrong).is_some());
    let mut found = seen.and_then(|run| shows(&run).map(|wrong| (run, wrong)));
    for _ in 0..goal.tries.max(1) * 2 {
        if found.is_some() {
            break;
        }
        let run = play(scenario)?;
        found = shows(&run).map(|wrong| (run, wrong));
    }
    let Some((run, wrong)) = found else {
        let what = goal.wrong.map_or("nothing is wrong", Wrong::title);
        let tries = goal.tries.max(1) * 2;
        return Err(match goal.wrong {
            Some(_) => format!("not seen in {tries} runs: {what}"),
            None => format!("{what} in {tries} runs"),
        });
    };
    let before = describe::size(scenario, &run.calls);
    let mut shrinker = Shrinker { play, tell, goal, wrong, best: scenario.clone(), run, candidates: 0, late: false };
    shrinker.all();
    let after = shrinker.size();
    Ok(Shrunk {
        scenario: shrinker.best,
        run: shrinker.run,
        wrong,
        before,
        after,
        candidates: shrinker.candidates,
        unfinished: shrinker.late,
    })
}

impl Shrinker<'_> {
    fn size(&self) -> PlanSize {
        describe::size(&self.best, &self.run.calls)
    }

    /// Whether a candidate still fails; then it is the best.
    fn fails(&mut self, what: &str, candidate: &Scenario) -> bool {
        if *candidate == self.best {
            return false;
        }
        // Without any step it would be no script, and the mix would be played.
        let emptied = candidate.workload.script.is_empty() && !self.best.workload.script.is_empty();
        if emptied || candidate.validate().is_err() {
            return false;
        }
        self.candidates += 1;
        for _ in 0..self.goal.tries.max(1) {
            if Instant::now() >= self.goal.until {
                self.late = true;
                return false;
            }
            (self.tell)(self.candidates, what, self.size());
            // A plan that cannot be run shows nothing.
            let Ok(run) = (self.play)(candidate) else { return false };
            if first(&run, self.wrong).is_some() {
                (self.best, self.run) = (candidate.clone(), run);
                return true;
            }
        }
        false
    }

    /// Tries a change to the best.
    fn attempt(&mut self, what: &str, change: impl FnOnce(&mut Scenario)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        self.fails(what, &candidate)
    }

    /// When the failure showed, in milliseconds after the workers began.
    fn shown_ms(&self) -> u64 {
        let at = first(&self.run, self.wrong).map_or(u64::MAX, |violation| violation.at);
        at.saturating_sub(self.run.began_us) / 1000
    }
}

#[cfg(test)]
mod tests;
