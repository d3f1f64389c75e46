//! Fault plans: what goes wrong, for whom, on which request, how often; and the log of what did.
//!
//! A fault meets one request between a host and the server. Its name says what happens (N7 is a lost reply whose request
//! was carried out again, N9 an error after a soft time-out, ...; [`Fault::effect`] is the whole list). Three numbers are
//! kept for each: how often it *matched*, how often it *fired*, and how often that was *observable*, meaning that the host
//! was told something other than it would have been.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::errno::Errno;
use super::rng::Rng;
use super::rpc::Kind;

/// When the server carries out a request whose answer is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Apply {
    /// Not at all.
    #[default]
    Never,
    /// Before the host is told of the error.
    Before,
    /// Some time after (`delay_ms`).
    Later,
}

/// One fault of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    /// N5, N6, N7, N8, N9, N10, N14, N15, N16, N26, U1, U8, U10.
    pub name: String,
    /// Only this host.
    pub host: Option<String>,
    /// Only these requests; empty for those on which the fault makes sense.
    pub op: Vec<Kind>,
    /// Only paths that match; `*` stays within a folder, `**` does not.
    pub path: Option<String>,
    /// Lets so many matches pass first.
    pub skip: u64,
    /// Fires at most so often; 0 for ever.
    pub count: u64,
    /// Fires with this probability.
    pub probability: f64,
    /// Not before, in milliseconds of the drive's time.
    pub from_ms: u64,
    /// Not after.
    pub until_ms: u64,
    /// For errors: whether the request takes effect.
    pub apply: Apply,
    /// How long it takes.
    pub delay_ms: u64,
    /// And up to so much more.
    pub jitter_ms: u64,
    /// The error, where the name leaves a choice.
    pub errno: Option<String>,
}

impl Default for Fault {
    fn default() -> Fault {
        Fault {
            name: String::new(),
            host: None,
            op: Vec::new(),
            path: None,
            skip: 0,
            count: 1,
            probability: 1.0,
            from_ms: 0,
            until_ms: u64::MAX / 2_000_000,
            apply: Apply::Never,
            delay_ms: 0,
            jitter_ms: 0,
            errno: None,
        }
    }
}

/// What a fault does to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The request is lost and sent again, or the reply is, and the server answers from its replay cache.
    Delay,
    /// The reply is lost and the server carries the request out a second time.
    Redo,
    /// A copy of the request is carried out again later.
    Duplicate,
    /// The host is told an error.
    Fail(Errno, Apply),
    /// Every descriptor that the host has on the file is dead from now on.
    Stale,
    /// One bit of the answer is flipped.
    Flip,
}

impl Fault {
    /// What it does, or why it cannot be.
    ///
    /// # Errors
    /// The name or the errno is not known.
    pub fn effect(&self) -> Result<Effect, String> {
        let errno = |default: Errno| match &self.errno {
            None => Ok(default),
            Some(name) => Errno::from_name(name).ok_or_else(|| format!("unknown errno {name}")),
        };
        Ok(match self.name.as_str() {
            "N5" | "N6" | "N10" | "N26" | "U8" => Effect::Delay,
            "N7" => Effect::Redo,
            "N8" => Effect::Duplicate,
            "N9" => Effect::Fail(errno(Errno::EIO)?, self.apply),
            "N14" => Effect::Fail(errno(Errno::EIO)?, Apply::Never),
            "N15" => Effect::Fail(errno(Errno::ENOSPC)?, Apply::Never),
            "U10" => Effect::Fail(errno(Errno::EROFS)?, Apply::Never),
            "N16" => Effect::Stale,
            "U1" => Effect::Flip,
            other => return Err(format!("the drive has no fault named {other:?} that meets a request")),
        })
    }

    /// Whether it makes sense on a kind of request, when the plan does not say which.
    fn suits(&self, kind: Kind) -> bool {
        if !self.op.is_empty() {
            return self.op.contains(&kind);
        }
        match self.name.as_str() {
            "N7" => matches!(kind, Kind::Link | Kind::Remove | Kind::Rename | Kind::Create),
            "N8" => matches!(kind, Kind::Write | Kind::Setattr),
            "N14" => matches!(kind, Kind::Write | Kind::Commit),
            "N15" => matches!(kind, Kind::Write | Kind::Create | Kind::Link | Kind::Allocate),
            "N16" => matches!(kind, Kind::Read | Kind::Write | Kind::Getattr | Kind::Commit | Kind::Lock),
            "U1" => kind == Kind::Read,
            "U10" => matches!(kind, Kind::Write | Kind::Create | Kind::Link | Kind::Rename | Kind::Remove),
            _ => true,
        }
    }
}

/// A whole plan, as a TOML file gives it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// Faults that meet requests.
    #[serde(rename = "fault")]
    pub faults: Vec<Fault>,
}

/// What became of one fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultCount {
    /// How many faults of the name are planned.
    pub planned: u64,
    /// Requests that it could have met.
    pub matched: u64,
    /// Requests that it met.
    pub fired: u64,
    /// Of these, those where the host was told something else than without it.
    pub observable: u64,
}

#[derive(Clone, Debug)]
struct Armed {
    fault: Fault,
    effect: Effect,
    matched: u64,
    fired: u64,
}

/// A fault that fired on the present request.
#[derive(Clone, Debug)]
pub(super) struct Fired {
    pub(super) name: String,
    pub(super) effect: Effect,
    pub(super) delay_ns: u64,
}

/// The plan at work.
#[derive(Clone, Debug)]
pub(super) struct Injector {
    armed: Vec<Armed>,
    counts: BTreeMap<String, FaultCount>,
    rng: Rng,
}

impl Injector {
    pub(super) fn new(rng: Rng) -> Injector {
        Injector { armed: Vec::new(), counts: BTreeMap::new(), rng }
    }

    pub(super) fn add(&mut self, fault: Fault) -> Result<(), String> {
        let effect = fault.effect()?;
        self.counts.entry(fault.name.clone()).or_default().planned += 1;
        self.armed.push(Armed { fault, effect, matched: 0, fired: 0 });
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.armed.clear();
    }

    pub(super) fn counts(&self) -> BTreeMap<String, FaultCount> {
        self.counts.clone()
    }

    /// Notes an event that is not of one request (a restart, a lock granted falsely).
    pub(super) fn note(&mut self, name: &str, observable: bool) {
        let count = self.counts.entry(name.to_owned()).or_default();
        count.planned = count.planned.max(1);
        count.matched += 1;
        count.fired += 1;
        count.observable += u64::from(observable);
    }

    pub(super) fn observed(&mut self, name: &str) {
        self.counts.entry(name.to_owned()).or_default().observable += 1;
    }

    /// The first planned fault that meets this request.
    pub(super) fn meet(&mut self, now_ns: u64, host: &str, kind: Kind, path: &str) -> Option<Fired> {
        let now_ms = now_ns / 1_000_000;
        for armed in &mut self.armed {
            let fault = &armed.fault;
            let eligible = (fault.count == 0 || armed.fired < fault.count)
                && now_ms >= fault.from_ms
                && now_ms < fault.until_ms
                && fault.suits(kind)
                && fault.host.as_deref().is_none_or(|wanted| wanted == host)
                && fault.path.as_deref().is_none_or(|pattern| glob(pattern, path));
            if !eligible {
                continue;
            }
            armed.matched += 1;
            let count = self.counts.entry(fault.name.clone()).or_default();
            count.matched += 1;
            if armed.matched <= fault.skip || !self.rng.chance(fault.probability) {
                continue;
            }
            armed.fired += 1;
            count.fired += 1;
            let delay_ms = fault.delay_ms + self.rng.below(fault.jitter_ms + 1);
            return Some(Fired { name: fault.name.clone(), effect: armed.effect, delay_ns: delay_ms * 1_000_000 });
        }
        None
    }
}

/// Whether a path matches a pattern: `?` is one character and `*` any number of them within a folder; `**` crosses folders.
#[must_use]
pub fn glob(pattern: &str, path: &str) -> bool {
    fn matches(pattern: &[u8], path: &[u8]) -> bool {
        match pattern {
            [] => path.is_empty(),
            [b'*', b'*', rest @ ..] => {
                let rest = rest.strip_prefix(b"/").filter(|_| path.is_empty() || !path.starts_with(b"/")).unwrap_or(rest);
                (0..=path.len()).any(|skip| matches(rest, &path[skip..]))
            }
            [b'*', rest @ ..] => {
                let within = path.iter().position(|&byte| byte == b'/').unwrap_or(path.len());
                (0..=within).any(|skip| matches(rest, &path[skip..]))
            }
            [b'?', rest @ ..] => path.first().is_some_and(|&byte| byte != b'/') && matches(rest, &path[1..]),
            [byte, rest @ ..] => path.first() == Some(byte) && matches(rest, &path[1..]),
        }
    }
    matches(pattern.as_bytes(), path.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_stay_within_folders_unless_doubled() {
        assert!(glob("*/cache.db*", "dc/cache.db-wal"));
        assert!(!glob("*.db", "dc/cache.db"));
        assert!(glob("**/log/*", "dc/log/17"));
        assert!(glob("**/log/*", "log/17"));
        assert!(glob("**", "a/b/c"));
        assert!(!glob("log/?", "log/17"));
    }

    #[test]
    fn skip_count_and_window_bound_a_fault() {
        let mut injector = Injector::new(Rng::new(1));
        let fault = Fault { name: "N9".into(), skip: 1, count: 2, from_ms: 10, until_ms: 20, ..Fault::default() };
        injector.add(fault).unwrap();
        let mut meet = |ms: u64| injector.meet(ms * 1_000_000, "host-a", Kind::Write, "x").is_some();
        assert_eq!([9, 10, 11, 12, 13, 20].map(&mut meet), [false, false, true, true, false, false]);
        let counts = injector.counts();
        assert_eq!((counts["N9"].planned, counts["N9"].matched, counts["N9"].fired), (1, 3, 2));
    }

    #[test]
    fn an_unknown_fault_is_refused() {
        let mut injector = Injector::new(Rng::new(1));
        assert!(injector.add(Fault { name: "N99".into(), ..Fault::default() }).is_err());
        assert!(injector.add(Fault { name: "N9".into(), errno: Some("EWHAT".into()), ..Fault::default() }).is_err());
    }
}
