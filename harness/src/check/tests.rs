//! Each check catches what it is for, and accepts what an ambiguous answer leaves open.

use super::*;

struct Script {
    now: u64,
    calls: Vec<Call>,
}

impl Script {
    fn new() -> Script {
        Script { now: 1000, calls: Vec::new() }
    }

    /// A call that takes a while, after everything before it.
    fn add(&mut self, process: &str, op: Op, outcome: Outcome) -> &mut Script {
        let (start, end) = (self.now, self.now + 500);
        self.now += 1000;
        let host = if process.starts_with('b') { "host-b" } else { "host-a" };
        self.calls.push(Call { host: host.into(), process: process.into(), op, start, end, outcome, last: false });
        self
    }

    fn set(&mut self, process: &str, seq: u64) -> &mut Script {
        self.add(process, Op::Set { key: "k".into(), seq, size: 9 }, Outcome::Ok(Answer::Done(true)))
    }

    fn get(&mut self, process: &str, read: Read) -> &mut Script {
        self.add(process, Op::Get { key: "k".into() }, Outcome::Ok(Answer::Read(read)))
    }

    /// The call just made belongs to the reading back.
    fn last(&mut self) -> &mut Script {
        if let Some(call) = self.calls.last_mut() {
            call.last = true;
        }
        self
    }

    /// The call just made overlapped the one before it.
    fn overlapping(&mut self) -> &mut Script {
        let at = self.calls.len();
        self.calls[at - 1].start = self.calls[at - 2].start + 1;
        self
    }

    fn wrongs(&self) -> Vec<Wrong> {
        check(&self.calls, &[]).into_iter().map(|violation| violation.wrong).collect()
    }
}

fn value(writer: &str, seq: u64) -> Read {
    Read::Value { writer: writer.into(), seq }
}

fn number(n: i64) -> Outcome {
    Outcome::Ok(Answer::Number(Some(n)))
}

fn info() -> Outcome {
    Outcome::Info("EIO".into())
}

fn incr(delta: i64) -> Op {
    Op::Incr { key: "c".into(), delta }
}

fn counter() -> Op {
    Op::ReadCounter { key: "c".into() }
}

fn push(seq: u64) -> Op {
    Op::Push { queue: "q".into(), seq, size: 9 }
}

fn pull() -> Op {
    Op::Pull { queue: "q".into() }
}

fn pulled(read: Read) -> Outcome {
    Outcome::Ok(Answer::Read(read))
}

#[test]
fn a_sound_history_is_sound() {
    let mut script = Script::new();
    script.get("b1", Read::Miss).set("a1", 1).get("b1", value("a1", 1)).set("a1", 2).get("b1", value("a1", 2));
    script.add("a1", Op::Delete { key: "k".into() }, Outcome::Ok(Answer::Done(true))).get("b1", Read::Miss).last();
    assert_eq!(script.wrongs(), []);
}

#[test]
fn an_acknowledged_write_that_is_gone_is_lost() {
    assert_eq!(Script::new().set("a1", 1).get("b1", Read::Miss).last().wrongs(), [Wrong::Lost]);
    assert_eq!(Script::new().set("a1", 1).set("a1", 2).get("b1", value("a1", 1)).last().wrongs(), [Wrong::Lost]);
}

#[test]
fn an_old_value_read_while_the_work_goes_on_is_stale() {
    assert_eq!(Script::new().set("a1", 1).set("a1", 2).get("b1", value("a1", 1)).wrongs(), [Wrong::Stale]);
    let mut script = Script::new();
    script.set("a1", 1).set("a1", 2).get("b1", value("a1", 1)).overlapping();
    assert_eq!(script.wrongs(), [], "a read that overlaps the write may see either");
}

#[test]
fn a_deleted_value_that_comes_back_is_caught() {
    let mut script = Script::new();
    script.set("a1", 1).add("a1", Op::Delete { key: "k".into() }, Outcome::Ok(Answer::Done(true)));
    assert_eq!(script.get("b1", value("a1", 1)).last().wrongs(), [Wrong::Lost]);
}

#[test]
fn bytes_that_nobody_wrote_are_torn() {
    assert_eq!(Script::new().set("a1", 1).get("b1", Read::Damage("half".into())).wrongs(), [Wrong::Torn]);
    assert_eq!(Script::new().set("a1", 1).get("b1", value("a1", 7)).wrongs(), [Wrong::Torn]);
}

#[test]
fn an_ambiguous_write_may_come_or_not_at_any_later_time() {
    for read in [Read::Miss, value("a1", 1)] {
        let mut script = Script::new();
        script.add("a1", Op::Set { key: "k".into(), seq: 1, size: 9 }, info());
        assert_eq!(script.get("b1", read).last().wrongs(), []);
    }
    let mut script = Script::new();
    script.add("a1", Op::Set { key: "k".into(), seq: 1, size: 9 }, info()).set("a2", 1);
    assert_eq!(script.get("b1", value("a1", 1)).last().wrongs(), [], "it landed late, over an acknowledged one");
    let mut script = Script::new();
    script.add("a1", Op::Set { key: "k".into(), seq: 1, size: 9 }, Outcome::Fail("refused".into()));
    assert_eq!(script.get("b1", value("a1", 1)).wrongs(), [Wrong::Torn], "what surely was not done must not show");
}

#[test]
fn counters_must_add_up_within_what_is_ambiguous() {
    for (found, wrong) in [(4, true), (5, false), (7, false), (8, true)] {
        let mut script = Script::new();
        script.add("a1", incr(2), number(2)).add("b1", incr(3), number(5)).add("b1", incr(2), info());
        script.add("a9", counter(), number(found)).last();
        let expected: &[Wrong] = if wrong { &[Wrong::Counter] } else { &[] };
        assert_eq!(script.wrongs(), expected, "found {found}");
    }
}

#[test]
fn two_increments_told_the_same_number_are_caught() {
    let mut script = Script::new();
    script.add("a1", incr(1), number(1)).add("b1", incr(1), number(1)).add("a9", counter(), number(2)).last();
    assert_eq!(script.wrongs(), [Wrong::Counter]);
}

#[test]
fn of_two_adds_only_one_may_win() {
    let add = |seq| Op::Add { key: "o".into(), seq, size: 9 };
    let mut script = Script::new();
    script.add("a1", add(1), Outcome::Ok(Answer::Done(true))).add("b1", add(1), Outcome::Ok(Answer::Done(false)));
    assert_eq!(script.wrongs(), []);
    script.add("b2", add(1), Outcome::Ok(Answer::Done(true)));
    assert_eq!(script.wrongs(), [Wrong::Twice]);
}

#[test]
fn a_queued_item_is_pulled_once_and_does_not_vanish() {
    let done = || Outcome::Ok(Answer::Done(true));
    let mut sound = Script::new();
    sound.add("a1", push(1), done()).add("b1", pull(), pulled(value("a1", 1))).add("a9", pull(), pulled(Read::Miss)).last();
    assert_eq!(sound.wrongs(), []);
    let mut twice = Script::new();
    twice.add("a1", push(1), done()).add("b1", pull(), pulled(value("a1", 1))).add("a2", pull(), pulled(value("a1", 1)));
    assert_eq!(twice.wrongs(), [Wrong::Twice]);
    let mut lost = Script::new();
    lost.add("a1", push(1), done()).add("a9", pull(), pulled(Read::Miss)).last();
    assert_eq!(lost.wrongs(), [Wrong::Lost]);
    let mut excused = Script::new();
    excused.add("a1", push(1), done()).add("b1", pull(), info()).add("a9", pull(), pulled(Read::Miss)).last();
    assert_eq!(excused.wrongs(), [], "the ambiguous pull may have taken it");
    let mut foreign = Script::new();
    foreign.add("b1", pull(), pulled(value("a1", 1)));
    assert_eq!(foreign.wrongs(), [Wrong::Torn]);
}

#[test]
fn a_batch_seen_in_part_is_caught() {
    let keys = || vec!["k".to_owned(), "l".to_owned()];
    let mut script = Script::new();
    script.add("a1", Op::Batch { keys: keys(), seq: 1, size: 9 }, Outcome::Ok(Answer::Done(true)));
    script.add("b1", Op::GetBatch { keys: keys() }, Outcome::Ok(Answer::Reads(vec![value("a1", 1), value("a1", 1)])));
    assert_eq!(script.wrongs(), []);
    script.add("a2", Op::Batch { keys: keys(), seq: 1, size: 9 }, info());
    script.add("b1", Op::GetBatch { keys: keys() }, Outcome::Ok(Answer::Reads(vec![value("a1", 1), value("a2", 1)])));
    assert_eq!(script.wrongs(), [Wrong::Half]);
}

#[test]
fn hangs_crashes_errors_at_the_end_and_findings_are_caught() {
    let get = || Op::Get { key: "k".into() };
    let mut script = Script::new();
    script.add("a1", get(), Outcome::Hung).add("a2", get(), Outcome::Crashed("killed by SIGBUS".into()));
    script.add("a3", get(), info()).add("a4", get(), info()).last();
    let findings = vec!["unknown file: x".to_owned(), "row 3 missing from index".to_owned()];
    script.add("a5", Op::Check, Outcome::Ok(Answer::Findings(findings))).last();
    assert_eq!(script.wrongs(), [Wrong::Hung, Wrong::Crashed, Wrong::Unreadable, Wrong::Malformed]);
}

#[test]
fn a_host_that_did_nothing_is_caught() {
    let mut script = Script::new();
    script.set("a1", 1);
    script.add("b1", Op::Open, Outcome::Ok(Answer::Done(true)));
    let hosts = ["host-a".to_owned(), "host-b".to_owned()];
    let wrongs: Vec<Wrong> = check(&script.calls, &hosts).into_iter().map(|violation| violation.wrong).collect();
    assert_eq!(wrongs, [Wrong::NoProgress]);
}
