//! Each check catches what it is for, and accepts what an ambiguous answer leaves open.

use super::*;
use crate::history::{KILLED, Read};

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
        let (host, process) = (host.into(), process.into());
        self.calls.push(Call { host, process, op, start, end, wall: (start, end), outcome, faults: Vec::new(), last: false });
        self
    }

    fn set(&mut self, process: &str, seq: u64) -> &mut Script {
        self.add(process, Op::Set { key: "k".into(), seq, size: 9, ttl_ms: None }, Outcome::Ok(Answer::Done(true)))
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
        self.wrongs_by(&Rules::default())
    }

    fn wrongs_by(&self, rules: &Rules) -> Vec<Wrong> {
        check(&self.calls, rules).into_iter().map(|violation| violation.wrong).collect()
    }

    /// Lets time pass before the next call.
    fn wait(&mut self, us: u64) -> &mut Script {
        self.now += us;
        self
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
        script.add("a1", Op::Set { key: "k".into(), seq: 1, size: 9, ttl_ms: None }, info());
        assert_eq!(script.get("b1", read).last().wrongs(), []);
    }
    let mut script = Script::new();
    script.add("a1", Op::Set { key: "k".into(), seq: 1, size: 9, ttl_ms: None }, info()).set("a2", 1);
    assert_eq!(script.get("b1", value("a1", 1)).last().wrongs(), [], "it landed late, over an acknowledged one");
    let mut script = Script::new();
    script.add("a1", Op::Set { key: "k".into(), seq: 1, size: 9, ttl_ms: None }, Outcome::Fail("refused".into()));
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
    let add = |seq| Op::Add { key: "o".into(), seq, size: 9, ttl_ms: None };
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
    let mut wrongs = script.wrongs();
    wrongs.sort();
    assert_eq!(wrongs, [Wrong::Hung, Wrong::Crashed, Wrong::Unreadable, Wrong::Malformed]);
}

#[test]
fn a_host_that_did_nothing_is_caught() {
    let mut script = Script::new();
    script.set("a1", 1);
    script.add("b1", Op::Open, Outcome::Ok(Answer::Done(true)));
    let hosts = ["host-a".to_owned(), "host-b".to_owned()];
    assert_eq!(script.wrongs_by(&Rules { hosts: hosts.into(), ..Rules::default() }), [Wrong::NoProgress]);
}

fn set_for(seq: u64, ttl_ms: u64) -> Op {
    Op::Set { key: "k".into(), seq, size: 9, ttl_ms: Some(ttl_ms) }
}

fn yes() -> Outcome {
    Outcome::Ok(Answer::Done(true))
}

fn no() -> Outcome {
    Outcome::Ok(Answer::Done(false))
}

#[test]
fn a_value_may_leave_only_within_its_window() {
    let skewed = Rules { skew_us: 5_000, ..Rules::default() };
    for (waited_ms, read, exact, with_skew) in [
        // It lives 100 ms, set at 1 ms, and read about 1 ms after what it waited.
        (10, Read::Miss, vec![Wrong::Stale], vec![Wrong::Stale]),
        (95, Read::Miss, vec![Wrong::Stale], vec![]),
        (100, Read::Miss, vec![], vec![]),
        (100, value("a1", 1), vec![], vec![]),
        (105, value("a1", 1), vec![Wrong::Expired], vec![]),
        (200, value("a1", 1), vec![Wrong::Expired], vec![Wrong::Expired]),
    ] {
        let mut script = Script::new();
        script.add("a1", set_for(1, 100), yes()).wait(waited_ms * 1000).get("b1", read.clone());
        // That it left too early, only the search sees.
        let seen = |wrongs: Vec<Wrong>| wrongs.into_iter().map(|it| if it == Wrong::Order { Wrong::Stale } else { it }).collect::<Vec<_>>();
        assert_eq!(seen(script.wrongs()), exact, "{read:?} after {waited_ms} ms");
        assert_eq!(seen(script.wrongs_by(&skewed)), with_skew, "{read:?} after {waited_ms} ms, clocks 5 ms apart");
    }
}

#[test]
fn a_touch_gives_a_value_another_time_to_live() {
    let touch = |ttl_ms| Op::Touch { key: "k".into(), ttl_ms };
    let mut kept = Script::new();
    kept.add("a1", set_for(1, 100), yes()).add("b1", touch(None), yes()).wait(500_000).get("b1", value("a1", 1));
    assert_eq!(kept.wrongs(), []);
    let mut gone = Script::new();
    gone.add("a1", set_for(1, 100), yes()).add("b1", touch(None), yes()).wait(500_000).get("b1", Read::Miss);
    assert_eq!(gone.wrongs(), [Wrong::Order], "it was made to stay");
    let mut nothing = Script::new();
    nothing.set("a1", 1).add("b1", touch(Some(5)), no());
    assert_eq!(nothing.wrongs(), [Wrong::Order], "there was a value to touch");
}

#[test]
fn open_writes_with_and_without_a_time_to_live_are_two_things() {
    // Two sets without an answer: the one that lives for ever explains a late read, the other explains that it is gone.
    let mut script = Script::new();
    script.add("a1", set_for(1, 10), info()).add("a1", Op::Set { key: "k".into(), seq: 2, size: 9, ttl_ms: None }, info());
    script.wait(900_000).get("b1", value("a1", 2)).get("b2", value("a1", 1)).wait(100_000).get("b1", value("a1", 1));
    assert_eq!(script.wrongs(), [], "the short-lived one may have landed just then");
}

#[test]
fn a_key_that_is_free_again_can_be_added_again_but_not_before() {
    let add = |seq| Op::Add { key: "k".into(), seq, size: 9, ttl_ms: None };
    let mut script = Script::new();
    script.add("a1", add(1), yes()).add("b1", Op::Delete { key: "k".into() }, yes()).add("b1", add(1), yes());
    assert_eq!(script.wrongs(), []);
    let mut twice = Script::new();
    twice.add("a1", add(1), yes()).add("b1", add(1), yes()).add("b1", Op::Delete { key: "k".into() }, yes());
    assert_eq!(twice.wrongs(), [Wrong::Order]);
    let mut denied = Script::new();
    denied.set("a1", 1).add("b1", Op::Delete { key: "k".into() }, no());
    assert_eq!(denied.wrongs(), [Wrong::Order], "there was something to delete");
}

#[test]
fn two_hosts_must_see_two_writes_in_the_same_order() {
    // Each read alone could be excused by when the writes ended; together they cannot.
    let mut script = Script::new();
    script.set("a1", 1).set("a2", 1).overlapping();
    script.get("b1", value("a1", 1)).get("b1", value("a2", 1)).get("b1", value("a1", 1));
    assert_eq!(script.wrongs(), [Wrong::Order]);
}

#[test]
fn a_counter_that_went_back_is_caught_though_its_sums_are_right() {
    let mut script = Script::new();
    script.add("a1", incr(1), number(2)).add("b1", incr(1), number(1)).add("a9", counter(), number(2)).last();
    assert_eq!(script.wrongs(), [Wrong::Order], "the first was told the second's sum");
    let mut lost_reply = Script::new();
    lost_reply.add("a1", incr(3), info()).add("b1", incr(1), number(4)).add("a9", counter(), number(4)).last();
    assert_eq!(lost_reply.wrongs(), []);
    let mut twice = Script::new();
    twice.add("a1", incr(3), info()).add("b1", incr(1), number(7)).add("a9", counter(), number(7)).last();
    assert_ne!(twice.wrongs(), [], "an increment without an answer took effect twice");
}

#[test]
fn a_queue_gives_its_items_in_the_order_in_which_they_came() {
    let mut sound = Script::new();
    sound.add("a1", push(1), yes()).add("a1", push(2), yes()).add("b1", pull(), pulled(value("a1", 1)));
    sound.add("b1", pull(), pulled(value("a1", 2))).add("a9", pull(), pulled(Read::Miss)).last();
    assert_eq!(sound.wrongs(), []);
    let mut jumped = Script::new();
    jumped.add("a1", push(1), yes()).add("a1", push(2), yes()).add("b1", pull(), pulled(value("a1", 2)));
    jumped.add("b1", pull(), pulled(value("a1", 1))).add("a9", pull(), pulled(Read::Miss)).last();
    assert_eq!(jumped.wrongs(), [Wrong::Order]);
    let mut hidden = Script::new();
    hidden.add("a1", push(1), yes()).add("b1", pull(), pulled(Read::Miss)).add("b1", pull(), pulled(value("a1", 1)));
    assert_eq!(hidden.wrongs(), [Wrong::Order], "it was there all the time");
    let mut unseen = Script::new();
    unseen.add("b1", pull(), info()).add("a1", push(1), yes()).add("a1", push(2), yes());
    unseen.add("b2", pull(), pulled(value("a1", 2))).add("a9", pull(), pulled(Read::Miss)).last();
    assert_eq!(unseen.wrongs(), [], "the pull without an answer landed late and took the first");
}

#[test]
fn a_queue_with_many_pushes_at_once_is_decided() {
    // Four processes push at once, again and again: the order shows only when all is pulled.
    let mut script = Script::new();
    for round in 0..40 {
        for process in ["a1", "a2", "b1", "b2"] {
            script.add(process, push(round), yes());
            let call = script.calls.last_mut().unwrap();
            (call.start, call.end) = (10_000 * (round + 1), 10_000 * (round + 1) + 5_000);
        }
    }
    script.now = 1_000_000;
    for round in 0..40 {
        for process in ["b2", "a1", "b1", "a2"] {
            script.add("a9", pull(), pulled(value(process, round)));
        }
    }
    script.add("a9", pull(), pulled(Read::Miss)).last();
    assert_eq!(script.wrongs(), []);
}

#[test]
fn a_queue_with_a_long_backlog_behind_a_push_that_was_cut_off_is_decided() {
    // The item of the one that was cut off was there: those behind it came out after it, two at a time, much later.
    let mut script = Script::new();
    for round in 0..40 {
        for process in ["a1", "a2", "b1", "b2"] {
            let cut_off = process == "a1" && round == 2;
            script.add(process, push(round), if cut_off { info() } else { yes() });
            let call = script.calls.last_mut().unwrap();
            (call.start, call.end) = (10_000 * (round + 1), 10_000 * (round + 1) + 5_000);
        }
    }
    script.now = 1_000_000;
    for round in 0..40 {
        for (at, process) in ["b2", "a1", "b1", "a2"].into_iter().enumerate() {
            script.add(if at % 2 == 0 { "a8" } else { "b8" }, pull(), pulled(value(process, round)));
            if at % 2 == 1 {
                script.overlapping();
            }
        }
    }
    script.add("a9", pull(), pulled(Read::Miss)).last();
    assert_eq!(script.wrongs_by(&Rules { states_max: 2_000, ..Rules::default() }), []);
}

#[test]
fn an_item_that_overtook_others_is_found_without_trying_every_order_of_those() {
    let mut script = Script::new();
    for round in 0..20 {
        for process in ["a1", "a2", "b1", "b2"] {
            script.add(process, push(round), yes());
            let call = script.calls.last_mut().unwrap();
            (call.start, call.end) = (10_000 * (round + 1), 10_000 * (round + 1) + 5_000);
        }
    }
    script.now = 1_000_000;
    let mut items: Vec<(&str, u64)> = (0..20).flat_map(|round| ["b2", "a1", "b1", "a2"].map(|process| (process, round))).collect();
    items.swap(60, 76);
    for (process, seq) in items {
        script.add("a9", pull(), pulled(value(process, seq)));
    }
    script.add("a9", pull(), pulled(Read::Miss)).last();
    assert_eq!(script.wrongs_by(&Rules { states_max: 20_000, ..Rules::default() }), [Wrong::Order]);
}

#[test]
fn what_takes_too_many_states_is_not_passed() {
    let mut script = Script::new();
    for process in ["a1", "a2", "a3", "b1", "b2", "b3"] {
        script.add(process, incr(1), info());
    }
    script.add("a9", counter(), number(3)).add("a9", counter(), number(5));
    assert_eq!(script.wrongs_by(&Rules { states_max: 3, ..Rules::default() }), [Wrong::Unknown]);
    assert_eq!(script.wrongs(), []);
}

#[test]
fn a_read_may_be_old_only_where_the_drive_does_not_show_what_others_wrote() {
    let lazy = Rules { stale_us: 10_000, ..Rules::default() };
    let mut script = Script::new();
    script.set("a1", 1).set("a1", 2).wait(5_000).get("b1", value("a1", 1));
    assert_eq!(script.wrongs(), [Wrong::Stale]);
    assert_eq!(script.wrongs_by(&lazy), [], "within what the drive allows");
    let mut older = Script::new();
    older.set("a1", 1).set("a1", 2).wait(50_000).get("b1", value("a1", 1));
    assert_eq!(older.wrongs_by(&lazy), [Wrong::Stale], "longer ago than that");
    let mut own = Script::new();
    own.set("a1", 1).set("a1", 2).get("a1", value("a1", 1));
    assert_eq!(own.wrongs_by(&lazy), [Wrong::Order], "a process sees what it wrote itself");
}

#[test]
fn on_a_drive_that_loses_data_a_loss_must_be_noticed() {
    let forgetful = Rules { keeps: false, ..Rules::default() };
    let mut silent = Script::new();
    silent.set("a1", 1).get("b1", Read::Miss).last();
    assert_eq!(silent.wrongs_by(&forgetful), [Wrong::Silent]);
    silent.add("b1", Op::Check, Outcome::Ok(Answer::Findings(vec!["damaged: log/7".into()]))).last();
    assert_eq!(silent.wrongs_by(&forgetful), []);
    let mut torn = Script::new();
    torn.set("a1", 1).get("b1", Read::Damage("half".into()));
    assert_eq!(torn.wrongs_by(&forgetful), [Wrong::Torn], "no drive excuses that");
}

#[test]
fn an_error_with_nothing_wrong_is_groundless() {
    let quiet = Rules { quiet: true, ..Rules::default() };
    let mut script = Script::new();
    script.set("a1", 1).add("b1", Op::Get { key: "k".into() }, Outcome::Fail("no space".into()));
    assert_eq!(script.wrongs(), [], "under faults it may be");
    assert_eq!(script.wrongs_by(&quiet), [Wrong::Groundless]);
    let mut waited = Script::new();
    waited.add("b1", Op::Get { key: "k".into() }, Outcome::Fail("Timeout: others were faster".into()));
    assert_eq!(waited.wrongs_by(&quiet), []);
    assert_eq!(waited.wrongs_by(&Rules { may_time_out: false, ..quiet }), [Wrong::Groundless]);
}

#[test]
fn a_call_that_outlasts_its_deadline_hung_even_if_it_was_answered() {
    let strict = Rules { longest_us: 400, healed_us: 600, ..Rules::default() };
    assert_eq!(Script::new().set("a1", 1).wrongs_by(&strict), [Wrong::Hung]);
    assert_eq!(Script::new().set("a1", 1).last().wrongs_by(&strict), [], "another limit once nothing is wrong");
    let mut killed = Script::new();
    killed.add("a1", incr(1), Outcome::Info(KILLED.into()));
    assert_eq!(killed.wrongs_by(&strict), []);
}

#[test]
fn batches_are_one_write_each() {
    let keys = || vec!["k".to_owned(), "l".to_owned()];
    let batch = |seq| Op::Batch { keys: keys(), seq, size: 9 };
    let both = |read: Read| Outcome::Ok(Answer::Reads(vec![read.clone(), read]));
    let mut script = Script::new();
    script.add("a1", batch(1), yes()).add("a2", batch(1), yes()).overlapping();
    for (process, read) in [("b1", value("a2", 1)), ("b1", value("a1", 1)), ("b1", value("a2", 1))] {
        script.add(process, Op::GetBatch { keys: keys() }, both(read));
    }
    assert_eq!(script.wrongs(), [Wrong::Order]);
}
