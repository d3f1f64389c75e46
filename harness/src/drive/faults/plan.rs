//! A fault as a plan's file gives it.
//!
//! What is wrong with a fault is said when the file is read, with the line that it stands on: an unknown field, fault, errno
//! or kind of request, a phase at which the fault does not happen, a time for what needs a request.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::drive::catalogue::{self, Entry, Phase};
use crate::drive::errno::Errno;
use crate::drive::rpc::Kind;

/// Later than any run lasts, in milliseconds.
const FOR_EVER: u64 = u64::MAX / 2_000_000;

/// When the server carries out a request whose answer is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Apply {
    /// As the fault's phase says: what fails at P1 or P2 was not carried out, what fails later was.
    #[default]
    Phase,
    /// Not at all.
    Never,
    /// Before the host is told of the error.
    Before,
    /// Some time after (`delay_ms`).
    Later,
}

/// One fault of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, default)]
pub struct Fault {
    /// Which: its number (`N9`) or its name (`soft-timeout`). May also be written as `id`.
    #[serde(alias = "id")]
    pub name: String,
    /// Only this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Only these requests, one or a list; empty for those on which the fault makes sense.
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub op: Vec<Kind>,
    /// Only paths that match; `*` stays within a folder, `**` does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// At which phase of the request; without, where the fault usually happens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
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
    /// Happens at this time, whatever is requested then: for faults of the server, the network or a host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// And again every so often after `at_ms`, as `count` allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
    /// For errors: whether the request takes effect. Overrules what the phase says.
    pub apply: Apply,
    /// How long it takes or lasts; 0 for what is usual.
    pub delay_ms: u64,
    /// And up to so much more.
    pub jitter_ms: u64,
    /// The error, where the fault leaves a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// U8: bytes a second, both ways; 0 for no limit.
    pub bandwidth: u64,
    /// N19: length of the parts of a write.
    pub bytes: u64,
    /// N24, Y9: by how much a clock is off, milliseconds.
    pub offset_ms: i64,
    /// N24: by how much it drifts, millionths.
    pub drift_ppm: i64,
    /// N11, N12, N13: what the restart loses of what is not stable: `nothing`, `some` or `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<String>,
    /// A run in which it never became observable is not worth anything: it fails.
    pub required: bool,
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Fault, D::Error> {
        let mut fault = Fault::deserialize(from)?;
        let entry = fault.check().map_err(D::Error::custom)?;
        entry.id.clone_into(&mut fault.name);
        Ok(fault)
    }
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Fault::serialize(self, to)
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Kind>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Ops {
        One(String),
        Many(Vec<String>),
    }
    let names = match Ops::deserialize(from)? {
        Ops::One(name) => vec![name],
        Ops::Many(names) => names,
    };
    names.iter().map(|name| Kind::named(name).ok_or_else(|| D::Error::custom(unknown_kind(name)))).collect()
}

fn unknown_kind(name: &str) -> String {
    let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    format!("there is no request {name:?}; there are {}", known.join(", "))
}

impl Default for Fault {
    fn default() -> Fault {
        Fault {
            name: String::new(),
            host: None,
            op: Vec::new(),
            path: None,
            phase: None,
            skip: 0,
            count: 1,
            probability: 1.0,
            from_ms: 0,
            until_ms: FOR_EVER,
            at_ms: None,
            every_ms: None,
            apply: Apply::Phase,
            delay_ms: 0,
            jitter_ms: 0,
            errno: None,
            bandwidth: 0,
            bytes: 0,
            offset_ms: 0,
            drift_ppm: 0,
            loss: None,
            required: false,
        }
    }
}

impl Fault {
    /// A fault of a number or name, once, on whatever it suits.
    #[must_use]
    pub fn named(name: &str) -> Fault {
        Fault { name: name.to_owned(), ..Fault::default() }
    }

    /// Its entry in the catalogue, or what is wrong with it.
    ///
    /// # Errors
    /// Says which field names something unknown, or does not suit the fault.
    pub fn check(&self) -> Result<&'static Entry, String> {
        let entry = catalogue::find(&self.name)
            .ok_or_else(|| format!("there is no fault {:?}; `harness faults` lists them by number and name", self.name))?;
        if let Some(name) = &self.errno
            && Errno::from_name(name).is_none()
        {
            return Err(format!("unknown errno {name:?} of {}", entry.id));
        }
        if let Some(phase) = self.phase
            && !entry.phases.contains(&phase)
        {
            return Err(format!("{} ({}) does not happen at {phase:?}, but at {:?}", entry.id, entry.name, entry.phases));
        }
        if self.at_ms.is_some() && !entry.is_event() {
            return Err(format!(
                "{} ({}) meets a request: it cannot happen at a time (at_ms); from_ms and until_ms bound it",
                entry.id, entry.name
            ));
        }
        if self.every_ms == Some(0) || self.every_ms.is_some() && self.at_ms.is_none() {
            return Err("every_ms is a time after at_ms, and not 0".to_owned());
        }
        if !(0.0..=1.0).contains(&self.probability) {
            return Err(format!("a probability is from 0 to 1, not {}", self.probability));
        }
        if let Some(loss) = &self.loss
            && !["nothing", "some", "all"].contains(&loss.as_str())
        {
            return Err(format!("a restart loses nothing, some or all, not {loss:?}"));
        }
        Ok(entry)
    }

    /// The phase at which it happens.
    #[must_use]
    pub fn phase_of(&self, entry: &Entry) -> Phase {
        self.phase.unwrap_or(entry.phases[0])
    }

    /// Whether a request that it answers with an error takes effect.
    #[must_use]
    pub fn applies(&self, entry: &Entry) -> Apply {
        match (self.apply, self.phase_of(entry)) {
            (Apply::Phase, Phase::P1 | Phase::P2) => Apply::Never,
            (Apply::Phase, _) if entry.phases == catalogue::REFUSED => Apply::Never,
            (Apply::Phase, _) => Apply::Before,
            (given, _) => given,
        }
    }

    /// Whether it meets requests of a kind.
    #[must_use]
    pub fn suits(&self, entry: &Entry, kind: Kind) -> bool {
        if self.op.is_empty() { entry.ops.is_empty() || entry.ops.contains(&kind) } else { self.op.contains(&kind) }
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

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// Says what is wrong, and on which line.
    pub fn parse(text: &str) -> Result<Plan, String> {
        read(text)
    }
}

/// Reads a TOML file that has `[[fault]]` tables. An error names the line, also where it is in how a fault's fields fit together.
///
/// # Errors
/// Says what is wrong, and on which line.
pub fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Tables {
        #[serde(default, alias = "nature")]
        fault: Vec<toml::Spanned<toml::Table>>,
    }
    let whole = match toml::from_str(text) {
        Ok(read) => return Ok(read),
        Err(err) => err,
    };
    let at = whole.span().map_or(0, |span| span.start);
    let tables = toml::from_str(text).map_or_else(|_| Vec::new(), |tables: Tables| tables.fault);
    for table in tables {
        let start = table.span().start;
        // An error of a field has its place. That of a whole table is said to be at the first of them.
        if let Err(err) = <Fault as Deserialize>::deserialize(table.into_inner())
            && at < start
        {
            let line = text[..start].matches('\n').count() + 1;
            return Err(format!("TOML parse error at line {line}\n{}", err.message()));
        }
    }
    Err(whole.to_string().trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_takes_numbers_and_names_one_request_or_many() {
        let plan = Plan::parse(
            "[[fault]]\nid = \"N9\"\nop = \"WRITE\"\nphase = \"P3\"\n[[fault]]\nname = \"repeated-request\"\nop = [\"LINK\", \"REMOVE\"]\ncount = 0\n",
        )
        .unwrap();
        let [first, second] = plan.faults.as_slice() else { panic!("{plan:?}") };
        assert_eq!((first.name.as_str(), first.op.as_slice(), first.phase), ("N9", [Kind::Write].as_slice(), Some(Phase::P3)));
        assert_eq!((second.name.as_str(), second.op.len(), second.count), ("N7", 2, 0));
        let again = Plan::parse(&toml::to_string(&plan).unwrap()).unwrap();
        assert_eq!(again, plan, "a plan is written as it is read");
    }

    #[test]
    fn what_is_wrong_with_a_plan_is_said_with_its_line() {
        let good = "[[fault]]\nid = \"U5\"\n\n[[fault]]\nid = \"N7\"\n";
        assert!(Plan::parse(good).is_ok());
        for (wrong, line, word) in [
            ("hots = \"a\"", "line 6", "unknown field"),
            ("op = \"WIRTE\"", "line 6", "no request \"WIRTE\""),
            ("phase = \"P7\"", "line 6", "P7"),
            ("phase = \"P1\"", "line 4", "does not happen at P1, but at [P5]"),
            ("errno = \"EWHAT\"", "line 4", "unknown errno"),
            ("at_ms = 5", "line 4", "meets a request"),
            ("probability = 2.0", "line 4", "from 0 to 1"),
            ("loss = \"much\"", "line 4", "nothing, some or all"),
        ] {
            let said = Plan::parse(&format!("{good}{wrong}\n")).unwrap_err();
            assert!(said.contains(line) && said.contains(word), "{wrong}: {said}");
        }
        let said = Plan::parse("[[fault]]\nid = \"N99\"\n").unwrap_err();
        assert!(said.contains("line 1") && said.contains("harness faults"), "{said}");
    }
}
