//! Seeded operations: what each process does, one operation after the other.
//!
//! Kinds of keys do not mix: plain keys take set, get, touch, delete, pop and some adds; each counter, once-key, queue and batch has names
//! of its own. So what belongs together is known by its name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::drive::rng::Rng;
use crate::engine::Engine;
use crate::history::Op;
use crate::script::Step;

/// A mix of operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// Weight of each operation: `set`, `get`, `touch`, `delete`, `pop`, `add`, `incr`, `push`, `pull`, `batch`, `get_batch`.
    pub mix: BTreeMap<String, u64>,
    /// Plain keys.
    pub keys: u64,
    /// Counters.
    pub counters: u64,
    /// Queues.
    pub queues: u64,
    /// Groups of keys that are only ever set together.
    pub batches: u64,
    /// Keys in such a group.
    pub batch_keys: u64,
    /// Lengths of values, taken at random.
    pub sizes: Vec<u64>,
    /// Times to live of values, taken at random; 0 for ever. Empty: all for ever.
    pub ttl_ms: Vec<u64>,
    /// How much some keys are preferred: 0 not at all, 3 very much.
    pub skew: u32,
    /// Rest between two operations of a process, in milliseconds.
    pub pause_ms: u64,
    /// These operations and no others, each by its process and at its time. Empty: drawn from the mix.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub script: Vec<Step>,
}

impl Default for Workload {
    fn default() -> Workload {
        let mix = [
            ("set", 30),
            ("get", 30),
            ("delete", 4),
            ("pop", 2),
            ("add", 4),
            ("incr", 12),
            ("push", 5),
            ("pull", 4),
            ("batch", 4),
            ("get_batch", 4),
        ];
        Workload {
            mix: mix.into_iter().map(|(name, weight)| (name.to_owned(), weight)).collect(),
            keys: 60,
            counters: 3,
            queues: 2,
            batches: 2,
            batch_keys: 4,
            sizes: vec![40, 128, 128, 128, 1000, 5000],
            ttl_ms: Vec::new(),
            skew: 0,
            pause_ms: 0,
            script: Vec::new(),
        }
    }
}

impl Workload {
    /// The names of plain keys.
    #[must_use]
    pub fn plain_keys(&self) -> Vec<String> {
        (0..self.keys).map(|number| format!("key/{number}")).collect()
    }

    /// The names of counters.
    #[must_use]
    pub fn counter_keys(&self) -> Vec<String> {
        (0..self.counters).map(|number| format!("count/{number}")).collect()
    }

    /// The names of queues.
    #[must_use]
    pub fn queue_names(&self) -> Vec<String> {
        (0..self.queues).map(|number| format!("queue{number}")).collect()
    }

    /// The keys of each batch.
    #[must_use]
    pub fn batch_groups(&self) -> Vec<Vec<String>> {
        (0..self.batches).map(|batch| (0..self.batch_keys).map(|number| format!("batch/{batch}/{number}")).collect()).collect()
    }

    /// Whether the processes of a host have anything to do.
    #[must_use]
    pub fn employs(&self, host: &str) -> bool {
        self.script.is_empty() || self.script.iter().any(|step| step.host == host)
    }

    /// What is left of it for an engine that cannot do everything.
    #[must_use]
    pub fn for_engine(&self, engine: &Engine) -> Workload {
        let mut left = self.clone();
        left.mix.retain(|name, _| engine.can(name));
        left.script.retain(|step| engine.can(step.op.name()));
        for (operation, count) in [("incr", &mut left.counters), ("pull", &mut left.queues), ("get_batch", &mut left.batches)] {
            if !engine.can(operation) {
                *count = 0;
            }
        }
        left
    }

    /// Says what is wrong with it, if something is.
    ///
    /// # Errors
    /// An operation is not known, or nothing can be done.
    pub fn validate(&self) -> Result<(), String> {
        const KNOWN: [&str; 11] = ["set", "get", "touch", "delete", "pop", "add", "incr", "push", "pull", "batch", "get_batch"];
        if let Some(unknown) = self.mix.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            return Err(format!("the workload has no operation {unknown:?}; there are {}", KNOWN.join(", ")));
        }
        if self.mix.values().sum::<u64>() == 0 || self.sizes.is_empty() || self.keys == 0 {
            return Err("the workload does nothing: it needs weights, sizes and keys".to_owned());
        }
        Ok(())
    }
}

/// The operations of one process, through one of its lives.
#[derive(Clone, Debug)]
pub struct Generator {
    workload: Workload,
    rng: Rng,
    seq: u64,
    /// What is left of its script, the next one last.
    script: Option<Vec<Step>>,
}

impl Generator {
    /// Operations of a seed, without end.
    #[must_use]
    pub fn new(workload: &Workload, rng: Rng) -> Generator {
        Generator { workload: workload.clone(), rng, seq: 0, script: None }
    }

    /// Those of a process, by its host and its number there; where there is a script, those of its script without the first `taken`,
    /// which its earlier lives have done.
    #[must_use]
    pub fn of_process(workload: &Workload, rng: Rng, host: &str, number: usize, taken: usize) -> Generator {
        if workload.script.is_empty() {
            return Generator::new(workload, rng);
        }
        let own = workload.script.iter().filter(|step| step.host == host && step.process == number);
        let mut script: Vec<Step> = own.skip(taken).cloned().collect();
        script.reverse();
        Generator { script: Some(script), workload: Workload { script: Vec::new(), ..workload.clone() }, rng, seq: 0 }
    }

    /// The next operation, and when it is due: milliseconds after the workers began, 0 where it is due at once. Nothing after a
    /// script's end.
    pub fn next_turn(&mut self) -> Option<(Op, u64)> {
        match &mut self.script {
            None => Some((self.next_op(), 0)),
            Some(script) => script.pop().map(|step| (step.op, step.at_ms)),
        }
    }

    /// How long to rest before the next operation.
    #[must_use]
    pub fn pause_ms(&self) -> u64 {
        if self.script.is_some() { 0 } else { self.workload.pause_ms }
    }

    fn one_of(&mut self, limit: u64) -> u64 {
        self.rng.below(limit.max(1))
    }

    /// A key's number: the low ones more often, as the skew says.
    fn some_key(&mut self) -> u64 {
        let draws = (0..=self.workload.skew).map(|_| self.rng.below(self.workload.keys));
        draws.min().unwrap_or(0)
    }

    fn some_ttl(&mut self) -> Option<u64> {
        if self.workload.ttl_ms.is_empty() {
            return None;
        }
        let at = self.one_of(self.workload.ttl_ms.len() as u64) as usize;
        Some(self.workload.ttl_ms[at]).filter(|ms| *ms > 0)
    }

    /// The next operation of the mix.
    pub fn next_op(&mut self) -> Op {
        let total: u64 = self.workload.mix.values().sum();
        let mut left = self.rng.below(total);
        let mut name = String::from("get");
        for (candidate, weight) in &self.workload.mix {
            if left < *weight {
                name.clone_from(candidate);
                break;
            }
            left -= weight;
        }
        self.seq += 1;
        let seq = self.seq;
        let at = self.one_of(self.workload.sizes.len() as u64) as usize;
        let size = self.workload.sizes[at];
        let key = format!("key/{}", self.some_key());
        let ttl_ms = self.some_ttl();
        let queue = format!("queue{}", self.one_of(self.workload.queues));
        match name.as_str() {
            "set" => Op::Set { key, seq, size, ttl_ms },
            "touch" => Op::Touch { key, ttl_ms },
            "delete" => Op::Delete { key },
            "pop" => Op::Pop { key },
            // Plain keys become free again. Each of the others is added by several and never deleted: at most one may win.
            "add" if self.one_of(4) == 0 => Op::Add { key, seq, size, ttl_ms },
            "add" => Op::Add { key: format!("once/{}", self.seq / 8), seq, size, ttl_ms: None },
            "incr" => {
                let delta = 1 + self.one_of(3) as i64;
                Op::Incr { key: format!("count/{}", self.one_of(self.workload.counters)), delta }
            }
            "push" => Op::Push { queue, seq, size },
            "pull" => Op::Pull { queue },
            "batch" | "get_batch" => {
                let group = self.one_of(self.workload.batches) as usize;
                let keys = self.workload.batch_groups().swap_remove(group);
                if name == "batch" { Op::Batch { keys, seq, size } } else { Op::GetBatch { keys } }
            }
            _ => Op::Get { key },
        }
    }
}
