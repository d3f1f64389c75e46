//! The plan at work: which fault meets which request, the counts, and the log.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::glob::glob;
use super::plan::Fault;
use crate::drive::catalogue::{Act, Entry, Phase};
use crate::drive::rng::Rng;
use crate::drive::rpc::Kind;

/// How much of the log is kept: the newest so many lines.
const LOG_LINES: usize = 1 << 16;
/// How often one and the same thing that the drive does by nature is written there.
const NOTES: u64 = 1000;

/// What became of one fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultCount {
    /// How many faults of the number are planned.
    pub planned: u64,
    /// Requests that it could have met.
    pub matched: u64,
    /// Requests that it met.
    pub fired: u64,
    /// Of these, those where a client could see it.
    pub observable: u64,
}

/// How far a fault has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// It is in the plan.
    Planned,
    /// It met a request, or its time came.
    Fired,
    /// A client could see it.
    Observable,
}

/// A line of the log of faults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// Microseconds since the drive began.
    pub at_us: u64,
    /// How far it came.
    pub stage: Stage,
    /// The fault's number in the catalogue.
    pub id: String,
    /// Its place in the plan, from 0; none for what the kind of drive does by nature.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan: Option<usize>,
    /// On which host.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub host: String,
    /// On which request.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub op: Option<Kind>,
    /// On which path.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub path: String,
}

/// Where a fault is asked for: a request of a host, or what would be one.
#[derive(Clone, Copy, Debug)]
pub(in crate::drive) struct Meeting<'m> {
    pub(in crate::drive) now_ns: u64,
    pub(in crate::drive) host: &'m str,
    pub(in crate::drive) kind: Kind,
    pub(in crate::drive) path: &'m str,
}

#[derive(Clone, Debug)]
struct Planned {
    fault: Arc<Fault>,
    entry: &'static Entry,
    act: Act,
    matched: u64,
    fired: u64,
    observable: u64,
    armed: bool,
    /// The kind of request that it struck last: what is seen of it then is counted there.
    struck: Option<Kind>,
    /// By nature of the drive: stays when faults are healed.
    natural: bool,
    due_ns: Option<u64>,
}

/// A fault that fired.
#[derive(Clone, Debug)]
pub(in crate::drive) struct Fired {
    /// Its place in the plan.
    pub(in crate::drive) plan: usize,
    pub(in crate::drive) entry: &'static Entry,
    pub(in crate::drive) fault: Arc<Fault>,
    pub(in crate::drive) phase: Phase,
    pub(in crate::drive) delay_ns: u64,
}

impl Fired {
    /// The request had not been carried out when it happened.
    pub(in crate::drive) fn is_before(&self) -> bool {
        self.phase <= Phase::P2
    }
}

/// The plan at work.
#[derive(Clone, Debug)]
pub(in crate::drive) struct Injector {
    planned: Vec<Planned>,
    counts: BTreeMap<String, FaultCount>,
    by_op: BTreeMap<(&'static str, Kind), FaultCount>,
    log: VecDeque<Happened>,
    rng: Rng,
    /// How many are armed, so that a drive without faults asks nothing.
    armed: usize,
    now_ns: u64,
    /// What the requests of the present call met.
    met: Vec<&'static str>,
}

impl Injector {
    pub(in crate::drive) fn new(rng: Rng) -> Injector {
        Injector {
            planned: Vec::new(),
            counts: BTreeMap::new(),
            by_op: BTreeMap::new(),
            log: VecDeque::new(),
            rng,
            armed: 0,
            now_ns: 0,
            met: Vec::new(),
        }
    }

    /// Adds a fault; the answer is its place in the plan.
    pub(in crate::drive) fn add(&mut self, fault: Fault, natural: bool) -> Result<usize, String> {
        let entry = fault.check()?;
        self.counts.entry(entry.id.to_owned()).or_default().planned += 1;
        let due_ns = fault.at_ms.map(|ms| ms * 1_000_000);
        let plan = self.planned.len();
        self.armed += 1;
        self.write(Stage::Planned, entry.id, Some(plan), None);
        let act = entry.act_at(fault.phase_of(entry));
        self.planned.push(Planned {
            fault: Arc::new(fault),
            entry,
            act,
            matched: 0,
            fired: 0,
            observable: 0,
            armed: true,
            struck: None,
            natural,
            due_ns,
        });
        Ok(plan)
    }

    /// Ends what was planned, but not what the drive does by nature.
    pub(in crate::drive) fn clear(&mut self) {
        for planned in &mut self.planned {
            planned.armed &= planned.natural;
        }
        self.armed = self.planned.iter().filter(|planned| planned.armed).count();
    }

    pub(in crate::drive) fn counts(&self) -> BTreeMap<String, FaultCount> {
        self.counts.clone()
    }

    /// What became of the faults by the kind of request that they met. Planned are those that could meet one of the kind.
    pub(in crate::drive) fn counts_by_op(&self) -> Vec<(&'static str, Kind, FaultCount)> {
        let could = |id: &str, kind| self.planned.iter().filter(|it| it.entry.id == id && it.fault.suits(it.entry, kind)).count() as u64;
        self.by_op.iter().map(|(&(id, kind), count)| (id, kind, FaultCount { planned: could(id, kind), ..count.clone() })).collect()
    }

    /// Each fault of the plan and what became of it.
    pub(in crate::drive) fn planned(&self) -> Vec<(Fault, FaultCount)> {
        let count = |it: &Planned| FaultCount { planned: 1, matched: it.matched, fired: it.fired, observable: it.observable };
        self.planned.iter().map(|it| ((*it.fault).clone(), count(it))).collect()
    }

    /// The log so far, oldest line first.
    pub(in crate::drive) fn log(&self) -> Vec<Happened> {
        self.log.iter().cloned().collect()
    }

    pub(in crate::drive) fn set_now(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    fn write(&mut self, stage: Stage, id: &str, plan: Option<usize>, meeting: Option<&Meeting<'_>>) {
        if self.log.len() == LOG_LINES {
            self.log.pop_front();
        }
        self.log.push_back(Happened {
            at_us: self.now_ns / 1000,
            stage,
            id: id.to_owned(),
            plan,
            host: meeting.map(|it| it.host.to_owned()).unwrap_or_default(),
            op: meeting.map(|it| it.kind),
            path: meeting.map(|it| it.path.to_owned()).unwrap_or_default(),
        });
    }

    /// The present call met a fault.
    pub(in crate::drive) fn meet(&mut self, id: &'static str) {
        self.met.push(id);
    }

    /// What the present call met since this was last asked.
    pub(in crate::drive) fn take_met(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.met)
    }

    /// Notes what the drive did by nature or on command: a restart, a stale answer, a lock granted falsely.
    pub(in crate::drive) fn note(&mut self, id: &str, observable: bool) {
        let count = self.counts.entry(id.to_owned()).or_default();
        count.planned = count.planned.max(1);
        count.matched += 1;
        count.fired += 1;
        count.observable += u64::from(observable);
        if count.fired > NOTES {
            return;
        }
        self.write(if observable { Stage::Observable } else { Stage::Fired }, id, None, None);
    }

    /// A fault that fired was seen, or could have been. Counts once for each time that it fired.
    pub(in crate::drive) fn observed(&mut self, plan: usize) {
        let Some(planned) = self.planned.get_mut(plan) else { return };
        if planned.observable >= planned.fired {
            return;
        }
        planned.observable += 1;
        let id = planned.entry.id;
        if let Some(kind) = planned.struck {
            self.by_op.entry((id, kind)).or_default().observable += 1;
        }
        self.counts.entry(id.to_owned()).or_default().observable += 1;
        self.write(Stage::Observable, id, Some(plan), None);
    }

    /// Whether any fault can meet a request at all.
    pub(in crate::drive) fn is_armed(&self) -> bool {
        self.armed > 0
    }

    /// Whether any fault is armed whose way of working is among some.
    pub(in crate::drive) fn any(&self, acts: impl Fn(Act) -> bool) -> bool {
        self.armed > 0 && self.planned.iter().any(|planned| planned.armed && acts(planned.act))
    }

    /// The faults that might meet a request, in the order of the plan; each is asked to [`Injector::fire`] then.
    pub(in crate::drive) fn candidates(&self, at: &Meeting<'_>, acts: impl Fn(Act) -> bool) -> Vec<(usize, &'static Entry)> {
        if self.armed == 0 {
            return Vec::new();
        }
        let now_ms = at.now_ns / 1_000_000;
        let meets = |planned: &Planned| {
            let fault = &planned.fault;
            planned.armed
                && planned.due_ns.is_none()
                && acts(planned.act)
                && (fault.count == 0 || planned.fired < fault.count)
                && now_ms >= fault.from_ms
                && now_ms < fault.until_ms
                && fault.suits(planned.entry, at.kind)
                && fault.host.as_deref().is_none_or(|wanted| wanted == at.host)
                && fault.path.as_deref().is_none_or(|pattern| glob(pattern, at.path))
        };
        self.planned.iter().enumerate().filter(|(_, it)| meets(it)).map(|(plan, it)| (plan, it.entry)).collect()
    }

    /// Whether a fault lets requests pass and has met none so far.
    pub(in crate::drive) fn is_new(&self, plan: usize) -> bool {
        self.planned.get(plan).is_some_and(|planned| planned.matched == 0 && planned.fault.skip > 0)
    }

    /// A fault that a request meets, and whose condition holds: does it strike this time?
    pub(in crate::drive) fn fire(&mut self, plan: usize, at: &Meeting<'_>) -> Option<Fired> {
        let planned = self.planned.get_mut(plan)?;
        planned.matched += 1;
        let (skipped, probability, id) = (planned.matched <= planned.fault.skip, planned.fault.probability, planned.entry.id);
        self.counts.entry(id.to_owned()).or_default().matched += 1;
        self.by_op.entry((id, at.kind)).or_default().matched += 1;
        if skipped || !self.rng.chance(probability) {
            return None;
        }
        self.now_ns = at.now_ns;
        Some(self.strike(plan, Some(at)))
    }

    fn strike(&mut self, plan: usize, at: Option<&Meeting<'_>>) -> Fired {
        let planned = &mut self.planned[plan];
        planned.fired += 1;
        planned.struck = at.map(|at| at.kind);
        let (entry, fault) = (planned.entry, Arc::clone(&planned.fault));
        self.counts.entry(entry.id.to_owned()).or_default().fired += 1;
        if let Some(at) = at {
            self.met.push(entry.id);
            self.by_op.entry((entry.id, at.kind)).or_default().fired += 1;
        }
        self.write(Stage::Fired, entry.id, Some(plan), at);
        let jitter = self.rng.below(fault.jitter_ms + 1);
        let delay_ms = if fault.delay_ms == 0 { entry.usual_ms() } else { fault.delay_ms } + jitter;
        Fired { plan, entry, phase: fault.phase_of(entry), delay_ns: delay_ms.saturating_mul(1_000_000), fault }
    }

    /// The next fault whose time has come, without a request.
    pub(in crate::drive) fn due(&mut self, now_ns: u64) -> Option<Fired> {
        if self.armed == 0 {
            return None;
        }
        let plan = self.planned.iter().position(|it| {
            it.armed
                && it.due_ns.is_some_and(|due| due <= now_ns)
                && (it.fault.count == 0 || it.fired < it.fault.count || it.fault.every_ms.is_none())
        })?;
        self.now_ns = now_ns;
        let planned = &mut self.planned[plan];
        planned.matched += 1;
        match planned.fault.every_ms {
            Some(every) if planned.fault.count != 1 => planned.due_ns = planned.due_ns.map(|due| due + every * 1_000_000),
            _ => {
                planned.armed = false;
                self.armed -= 1;
            }
        }
        self.counts.entry(self.planned[plan].entry.id.to_owned()).or_default().matched += 1;
        Some(self.strike(plan, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Meeting<'static> {
        Meeting { now_ns: ms * 1_000_000, host: "host-a", kind: Kind::Write, path: "x" }
    }

    fn meet(injector: &mut Injector, ms: u64) -> bool {
        let found = injector.candidates(&at(ms), |_| true);
        found.first().is_some_and(|&(plan, _)| injector.fire(plan, &at(ms)).is_some())
    }

    #[test]
    fn skip_count_and_window_bound_a_fault() {
        let mut injector = Injector::new(Rng::new(1));
        let fault = Fault { skip: 1, count: 2, from_ms: 10, until_ms: 20, ..Fault::named("N9") };
        injector.add(fault, false).unwrap();
        assert_eq!([9, 10, 11, 12, 13, 20].map(|ms| meet(&mut injector, ms)), [false, false, true, true, false, false]);
        let counts = injector.counts();
        assert_eq!((counts["N9"].planned, counts["N9"].matched, counts["N9"].fired), (1, 3, 2));
    }

    #[test]
    fn an_unknown_fault_is_refused() {
        let mut injector = Injector::new(Rng::new(1));
        assert!(injector.add(Fault::named("N99"), false).is_err());
        assert!(injector.add(Fault { errno: Some("EWHAT".into()), ..Fault::named("N9") }, false).is_err());
    }

    #[test]
    fn a_fault_with_a_time_happens_then_and_again_as_often_as_planned() {
        let mut injector = Injector::new(Rng::new(1));
        injector.add(Fault { at_ms: Some(10), every_ms: Some(5), count: 3, ..Fault::named("N11") }, false).unwrap();
        injector.add(Fault { at_ms: Some(12), ..Fault::named("N20") }, false).unwrap();
        let mut times = Vec::new();
        for ms in 0..40 {
            while let Some(fired) = injector.due(ms * 1_000_000) {
                times.push((ms, fired.entry.id));
            }
        }
        assert_eq!(times, [(10, "N11"), (12, "N20"), (15, "N11"), (20, "N11")]);
        assert!(!meet(&mut injector, 15), "it meets no request besides");
    }

    #[test]
    fn a_fault_is_observable_at_most_as_often_as_it_fired() {
        let mut injector = Injector::new(Rng::new(1));
        let plan = injector.add(Fault { count: 0, ..Fault::named("U3") }, false).unwrap();
        injector.observed(plan);
        assert!(meet(&mut injector, 1));
        (0..3).for_each(|_| injector.observed(plan));
        assert_eq!(injector.counts()["U3"].observable, 1);
        let stages: Vec<Stage> = injector.log().iter().map(|line| line.stage).collect();
        assert_eq!(stages, [Stage::Planned, Stage::Fired, Stage::Observable]);
    }

    #[test]
    fn what_became_of_a_fault_is_told_by_kind_of_request() {
        let mut injector = Injector::new(Rng::new(1));
        let plan = injector.add(Fault { skip: 1, count: 2, op: vec![Kind::Write, Kind::Link], ..Fault::named("N9") }, false).unwrap();
        for kind in [Kind::Write, Kind::Write, Kind::Link, Kind::Getattr] {
            let at = Meeting { kind, ..at(1) };
            if injector.candidates(&at, |_| true).first().is_some_and(|&(plan, _)| injector.fire(plan, &at).is_some()) && kind == Kind::Link
            {
                injector.observed(plan);
            }
        }
        let found: Vec<_> = injector
            .counts_by_op()
            .into_iter()
            .map(|(id, kind, it)| (id, kind, [it.planned, it.matched, it.fired, it.observable]))
            .collect();
        assert_eq!(found, [("N9", Kind::Link, [1, 1, 1, 1]), ("N9", Kind::Write, [1, 2, 1, 0])]);
    }

    #[test]
    fn healing_leaves_what_the_drive_does_by_nature() {
        let mut injector = Injector::new(Rng::new(1));
        injector.add(Fault { count: 0, ..Fault::named("N9") }, false).unwrap();
        injector.add(Fault { count: 0, ..Fault::named("F3") }, true).unwrap();
        injector.clear();
        let left: Vec<Act> = injector.candidates(&at(1), |_| true).into_iter().map(|(_, entry)| entry.act).collect();
        assert_eq!(left, [Act::FalseStable]);
    }
}
