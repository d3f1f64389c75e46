//! What is tried, in which order: first what makes each later run short, then what makes the plan easy to read.

use super::{Shrinker, ddmin, first};
use crate::daemon::host_names;
use crate::scenario::{Action, Blow, Event, Scenario};
use crate::script::{self, Step};

/// After the failure showed, so much is left of the run's time, in seconds.
const REST: f64 = 0.3;
/// Sizes of values and times to live have nothing to do with most failures.
const SMALL: u64 = 40;

impl Shrinker<'_> {
    /// Everything, until nothing more can be left out or the time is over.
    pub(super) fn all(&mut self) {
        self.shorten();
        let scripted = self.script();
        self.shorten();
        if !scripted {
            self.mix();
        }
        loop {
            let before = self.best.clone();
            self.subject();
            self.processes();
            self.faults();
            self.steps();
            self.values();
            self.hurry();
            self.shorten();
            if self.best.workload.script.is_empty() {
                self.script();
            }
            if self.best == before || self.late {
                break;
            }
        }
    }

    /// Ends the run where the failure showed, without what comes later; else after half of the time, as long as that is enough.
    fn shorten(&mut self) {
        let shown = self.shown_ms() as f64 / 1e3 + REST;
        if shown < self.best.seconds - 0.1 {
            self.end_after(shown);
        }
        while self.best.seconds > 1.0 && self.end_after(self.best.seconds / 2.0) {}
        let script = &self.best.workload.script;
        let busy = script.iter().map(|step| step.at_ms).chain(self.best.events.iter().map(|event| event.at_ms)).max().unwrap_or(0);
        let busy = busy as f64 / 1e3 + REST;
        if !script.is_empty() && busy < self.best.seconds - 0.1 {
            self.end_after(busy);
        }
    }

    fn end_after(&mut self, seconds: f64) -> bool {
        self.attempt("less time", |it| {
            it.seconds = (seconds * 10.0).ceil() / 10.0;
            let end = (it.seconds * 1e3) as u64;
            it.workload.script.retain(|step| step.at_ms < end);
            it.events.retain(|event| event.at_ms < end);
        })
    }

    /// Makes a script of what the processes did, and single events of repeated ones.
    fn script(&mut self) -> bool {
        let steps = script::of_history(&self.run.calls, self.run.began_us);
        let events = singles(&self.best);
        let uncertain = self.goal.tries > 1;
        let mut change = |what: &str| {
            self.attempt(what, |it| {
                it.events.clone_from(&events);
                it.workload.script.clone_from(&steps);
            })
        };
        // Everything else rests on it: where runs do not repeat, it is worth more tries.
        change("single operations") || (uncertain && change("single operations, again"))
    }

    /// Where a script does not show it: fewer kinds of operations and fewer keys.
    fn mix(&mut self) {
        let mix: Vec<(String, u64)> = self.best.workload.mix.clone().into_iter().filter(|(_, weight)| *weight > 0).collect();
        ddmin(&mix, |part| {
            !part.is_empty() && self.attempt("fewer kinds of operations", |it| it.workload.mix = part.iter().cloned().collect())
        });
        while self.best.workload.keys > 1 && self.attempt("fewer keys", |it| it.workload.keys /= 2) {}
        while self.best.procs > 1 && self.attempt("fewer processes", |it| it.procs -= 1) {}
    }

    /// Only what concerns the key that it showed on.
    fn subject(&mut self) {
        let Some(subject) = first(&self.run, self.wrong).map(|violation| violation.subject.clone()) else { return };
        if !subject.is_empty() && !self.best.workload.script.is_empty() {
            self.attempt("one key", |it| it.workload.script.retain(|step| step.op.subject() == Some(&subject)));
        }
    }

    /// Fewer processes and hosts.
    fn processes(&mut self) {
        let seats: Vec<(String, usize)> = host_names(self.best.hosts)
            .into_iter()
            .flat_map(|host| (0..self.best.procs).map(move |number| (host.clone(), number)))
            .collect();
        if !self.best.workload.script.is_empty() && seats.len() > 1 {
            let script = self.best.workload.script.clone();
            let part_of = |seats: &[(String, usize)]| -> Vec<Step> {
                script
                    .iter()
                    .filter(|step| seats.iter().any(|(host, number)| *host == step.host && *number == step.process))
                    .cloned()
                    .collect()
            };
            ddmin(&seats, |part| self.attempt("fewer processes", |it| it.workload.script = part_of(part)));
        }
        while self.best.hosts > 1 && self.attempt("fewer hosts", without_last_host) {}
        let needed = self.best.workload.script.iter().map(|step| step.process + 1).max();
        if let Some(needed) = needed.filter(|needed| *needed < self.best.procs) {
            self.attempt("fewer processes", |it| it.procs = needed);
        }
    }

    /// Fewer faults and events, each as short as it gets.
    fn faults(&mut self) {
        let events = self.best.events.clone();
        ddmin(&events, |part| self.attempt("fewer events", |it| it.events = part.to_vec()));
        let faults = self.best.faults.clone();
        ddmin(&faults, |part| self.attempt("fewer faults", |it| it.faults = part.to_vec()));
        let locks = self.best.local_locks.clone();
        ddmin(&locks, |part| self.attempt("fewer faults", |it| it.local_locks = part.to_vec()));
        for at in 0..self.best.faults.len() {
            self.narrow(at);
        }
    }

    /// One fault, only when it met something last before the failure; once, if that is enough.
    fn narrow(&mut self, at: usize) {
        let fault = self.best.faults[at].clone();
        if fault.at_ms.is_some() || (fault.count == 1 && fault.probability >= 1.0) {
            return;
        }
        let (began, shown) = (self.run.began_us, self.shown_ms());
        let mut fired: Vec<u64> = self.run.faults.iter().filter(|it| it.id == fault.name && it.plan.is_some()).map(|it| it.at_us).collect();
        fired.dedup();
        let fired: Vec<u64> = fired.into_iter().map(|us| us.saturating_sub(began) / 1000).filter(|ms| *ms <= shown).collect();
        for from in fired.iter().rev().take(4) {
            let once = |it: &mut Scenario| {
                let fault = &mut it.faults[at];
                (fault.count, fault.probability, fault.from_ms) = (1, 1.0, *from);
            };
            if self.attempt("a fault once", once) {
                return;
            }
        }
        if let (Some(first), Some(last)) = (fired.first(), fired.last()) {
            let (from, until) = (*first, *last + 1);
            if from > fault.from_ms || until < fault.until_ms {
                self.attempt("a fault for a shorter time", |it| (it.faults[at].from_ms, it.faults[at].until_ms) = (from, until));
            }
        }
    }

    /// Fewer operations.
    fn steps(&mut self) {
        let script = self.best.workload.script.clone();
        if script.len() > 1 {
            ddmin(&script, |part| self.attempt("fewer operations", |it| it.workload.script = part.to_vec()));
        }
    }

    /// Small values that live for ever.
    fn values(&mut self) {
        self.attempt("small values", |it| it.workload.script.iter_mut().for_each(small));
        if !self.best.workload.script.is_empty() {
            self.attempt("no other kinds of operations", |it| {
                let named = |name: &str| it.workload.script.iter().any(|step| step.op.name() == name);
                let mix: Vec<String> = it.workload.mix.keys().filter(|name| named(name)).cloned().collect();
                it.workload.mix.retain(|name, _| mix.contains(name));
            });
        }
    }

    /// The first operation at once.
    fn hurry(&mut self) {
        let first = self.best.workload.script.iter().map(|step| step.at_ms).chain(self.best.events.iter().map(|event| event.at_ms)).min();
        let Some(first) = first.filter(|first| *first > 20 && !self.best.workload.script.is_empty()) else { return };
        self.attempt("an earlier beginning", |it| {
            it.workload.script.iter_mut().for_each(|step| step.at_ms -= first);
            it.events.iter_mut().for_each(|event| event.at_ms -= first);
            for fault in &mut it.faults {
                fault.from_ms = fault.from_ms.saturating_sub(first);
                fault.until_ms = fault.until_ms.saturating_sub(first);
                fault.at_ms = fault.at_ms.map(|at| at.saturating_sub(first));
            }
            it.seconds = (it.seconds - first as f64 / 1e3).max(REST);
        });
    }
}

fn small(step: &mut Step) {
    use crate::history::Op;
    match &mut step.op {
        Op::Set { size, ttl_ms, .. } | Op::Add { size, ttl_ms, .. } => (*size, *ttl_ms) = (SMALL, None),
        Op::Push { size, .. } | Op::Batch { size, .. } => *size = SMALL,
        _ => {}
    }
}

/// The events of a scenario, each as often as it happens.
fn singles(scenario: &Scenario) -> Vec<Event> {
    let end = (scenario.seconds * 1e3) as u64;
    let mut all = Vec::new();
    for event in &scenario.events {
        let mut at_ms = event.at_ms;
        while at_ms < end {
            all.push(Event { at_ms, every_ms: None, action: event.action.clone() });
            match event.every_ms {
                Some(every) if every > 0 => at_ms += every,
                _ => break,
            }
        }
    }
    all.sort_by_key(|event| event.at_ms);
    all
}

fn without_last_host(scenario: &mut Scenario) {
    let Some(last) = host_names(scenario.hosts).pop() else { return };
    scenario.hosts -= 1;
    scenario.workload.script.retain(|step| step.host != last);
    scenario.local_locks.retain(|host| *host != last);
    scenario.faults.retain(|fault| fault.host.as_ref() != Some(&last));
    scenario.events.retain(|event| host_of(&event.action).as_ref() != Some(&last));
}

/// Whom an action is for.
fn host_of(action: &Action) -> Option<String> {
    match action {
        Action::Blow(Blow::Kill { host }) => host.clone(),
        Action::Blow(Blow::Pause { host, .. } | Blow::PowerCut { host } | Blow::PowerCutAll { host, .. }) => Some(host.clone()),
        Action::Blow(Blow::KillOne | Blow::PauseOne { .. }) => None,
        Action::Drive(command) => {
            let value = serde_json::to_value(command).ok()?;
            value.get("host").and_then(|host| host.as_str()).map(str::to_owned)
        }
    }
}
