//! The protocol keeps its promises in every state that it can reach.

use harness::model::{Collecting, Config, Mutation};

use crate::configs::{
    BOTH, CHECKPOINT, FOLD, HELD, ONE, TRANSACT, damaging, far_ahead, fold_and_checkpoint, folder_and_reader, graceful, swept_stage,
    tidied, transactions, two_folders, two_records, writers_and_reader,
};
use crate::{holds, holds_within, refuted};

/// States that a wider search may have.
const BOUND_WIDER: usize = 30_000_000;

#[test]
fn acknowledged_writes_stay_and_reads_show_them_at_any_staleness() {
    let explored = ["falsely won", "landed on a collected name", "anchor gone", "missing", "started again", "found own"];
    holds("two writers and a reader", &writers_and_reader(), &explored);
    holds("one far ahead", &far_ahead(), &["falsely won", "landed on a collected name", "stage gone"]);
}

#[test]
fn three_writers_race_without_loss() {
    let config = Config { late: 1, collecting: Collecting::Freely, ..Config::new(&[&[ONE], &[ONE], &[ONE]], &[]) };
    holds("three writers", &config, &["lost", "falsely won", "anchor gone"]);
    let config = Config { late: 2, collecting: Collecting::Freely, ..Config::new(&[&[ONE, ONE], &[ONE]], &[]) };
    holds("two late requests at once", &config, &["landed on a collected name", "landed and was refused"]);
}

#[test]
fn a_deadline_that_ends_a_call_leaves_no_lie() {
    let config = Config { deadlines: true, ..writers_and_reader() };
    holds("deadlines", &config, &["not done", "unknown", "landed first", "landed on a collected name"]);
}

#[test]
fn a_staged_file_may_be_swept_at_any_age() {
    holds("swept stage", &swept_stage(), &["swept a staged file", "restaged", "stage gone", "anchor gone"]);
}

#[test]
fn a_commit_of_two_records_is_seen_whole_or_not_at_all() {
    holds("two records", &two_records(), &["lost", "opened", "answered"]);
}

#[test]
fn a_transaction_counts_only_on_the_state_it_was_decided_on() {
    holds("transactions", &transactions(), &["beaten", "decided", "acknowledged", "falsely won", "anchor gone"]);
    let config =
        Config { late: 1, max_log: 6, deadlines: true, collecting: Collecting::Freely, ..Config::new(&[&[HELD], &[ONE, ONE]], &[]) };
    holds("a hold that runs out", &config, &["beaten", "not done", "unknown", "landed on a collected name"]);
}

#[test]
fn a_transaction_under_a_hold_that_is_honoured_is_never_beaten() {
    let config = Config { late: 1, max_log: 7, holds_honoured: true, ..Config::new(&[&[HELD, HELD], &[ONE, ONE]], &[]) };
    let report = holds("honoured holds", &config, &["acknowledged", "lost", "landed and was refused"]);
    assert!(!report.kinds.contains_key("beaten"), "a transaction was beaten under its own hold");
    let ignored = Config { holds_honoured: false, ..config };
    holds("holds that run out", &ignored, &["beaten"]);
}

#[test]
fn folds_and_checkpoints_lose_nothing_and_change_nothing() {
    let explored = ["collected", "falsely won", "fetched", "value gone", "started again"];
    holds("a folder and a reader", &folder_and_reader(), &explored);
    let newcomer = tidied(&[&[ONE], &[ONE]], &[], 1, &[BOTH], 5);
    holds("a folder and a newcomer", &newcomer, &explored);
    holds("a fold and a checkpoint", &fold_and_checkpoint(), &["collected", "wrote segment", "wrote checkpoint"]);
    let late = Config { late: 1, ..tidied(&[&[ONE]], &[1], 0, &[BOTH], 5) };
    holds("a folder and late requests", &late, &["stage gone", "found own", "collected", "timed out"]);
}

#[test]
fn of_two_who_fold_at_once_the_first_counts_and_the_other_does_no_harm() {
    holds("two folders", &two_folders(), &["moot", "swept a segment", "collected", "falsely won"]);
    let newcomer = tidied(&[&[ONE]], &[], 1, &[BOTH, BOTH], 6);
    holds("two folders and a newcomer", &newcomer, &["moot", "swept a segment", "value gone", "answered"]);
    let checkpoints = tidied(&[&[ONE]], &[], 1, &[BOTH, CHECKPOINT], 6);
    holds("two checkpoints and a newcomer", &checkpoints, &["swept a checkpoint", "started again", "answered"]);
}

#[test]
fn within_the_grace_no_question_needs_to_be_asked() {
    let report = holds("grace", &graceful(), &["crashed", "collected", "landed and was refused"]);
    assert!(!report.kinds.contains_key("falsely won"), "a name was collected under a process that was alive");
    holds("grace, nothing checked", &graceful().with(Mutation::SkipChecks), &["crashed", "collected"]);
    let no_grace = Config { collecting: Collecting::Freely, ..graceful() };
    refuted(&no_grace, &[Mutation::SkipChecks], "");
}

#[test]
fn who_could_read_a_commit_and_who_could_not_answer_from_one_log() {
    holds("a damaged commit", &damaging(), &["damaged", "misread", "passed", "judged", "lost", "answered"]);
    let readers = Config { late: 0, damage: true, max_log: 5, ..Config::new(&[&[ONE, ONE]], &[2, 1]) };
    holds("a damaged commit and two readers", &readers, &["damaged", "passed", "judged", "answered"]);
}

/// Wider searches: half a minute. Run with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "four million states; run by hand when the protocol changes"]
fn wider_searches_hold_too() {
    let four = Config { late: 1, collecting: Collecting::Freely, ..Config::new(&[&[ONE, ONE], &[ONE, ONE]], &[1]) };
    holds_within(BOUND_WIDER, "two by two and a reader", &four, &["falsely won", "anchor gone"]);
    let late = Config { late: 2, ..swept_stage() };
    holds_within(BOUND_WIDER, "two late requests, swept stage", &late, &["restaged", "landed on a collected name"]);
    let transacts = Config { late: 1, max_log: 6, collecting: Collecting::Freely, ..Config::new(&[&[TRANSACT, HELD], &[ONE]], &[1]) };
    holds_within(BOUND_WIDER, "transactions and a reader", &transacts, &["beaten", "anchor gone"]);
    let tidied = tidied(&[&[ONE, ONE]], &[], 1, &[BOTH, FOLD], 7);
    holds_within(BOUND_WIDER, "two folders, two writes, a newcomer", &tidied, &["segment gone", "moot"]);
    let late = Config { late: 1, ..folder_and_reader() };
    holds_within(BOUND_WIDER, "a folder, a reader and late requests", &late, &["landed on a collected name"]);
}
