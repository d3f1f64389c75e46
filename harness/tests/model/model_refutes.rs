//! Each rule is needed: without it, a promise is broken.

use harness::model::{Collecting, Config, Mutation};

use crate::configs::{
    BOTH, FOLD, ONE, TRANSACT, damaging, far_ahead, fold_and_checkpoint, folder_and_reader, swept_stage, tidied, transactions, two_folders,
    two_records, writers_and_reader,
};
use crate::{holds, refuted};

#[test]
fn to_acknowledge_before_the_ring_is_refuted() {
    refuted(&writers_and_reader(), &[Mutation::LateRing], "misses what was acknowledged");
}

#[test]
fn to_believe_a_win_without_the_anchor_is_refuted() {
    let config = Config { readers: Vec::new(), ..writers_and_reader() };
    refuted(&config, &[Mutation::NoPred], "acknowledged commit is not in the log");
}

#[test]
fn to_ask_only_whether_some_file_has_the_name_before_is_refuted() {
    refuted(&far_ahead(), &[Mutation::PredByPresence], "acknowledged commit is not in the log");
}

#[test]
fn to_believe_a_loss_without_the_anchor_is_refuted() {
    refuted(&far_ahead(), &[Mutation::LossUnconfirmed], "took effect twice");
    let stale_stage = [Mutation::LossUnconfirmed, Mutation::StageOutlivesName];
    refuted(&far_ahead(), &stale_stage, "took effect twice");
}

#[test]
fn to_believe_what_was_opened_without_the_anchor_is_refuted() {
    refuted(&writers_and_reader(), &[Mutation::ReadUnconfirmed], "misses what was acknowledged");
    let decides = Config { max_log: 5, collecting: Collecting::Freely, ..Config::new(&[&[TRANSACT], &[ONE, ONE], &[ONE]], &[]) };
    refuted(&decides, &[Mutation::ReadUnconfirmed], "decided on a state that the log did not have");
}

#[test]
fn to_publish_elsewhere_before_settling_is_refuted() {
    refuted(&writers_and_reader(), &[Mutation::BlindRetry], "took effect twice");
}

#[test]
fn to_publish_by_a_rename_that_replaces_is_refuted() {
    refuted(&writers_and_reader(), &[Mutation::Replace], "acknowledged a1 was log/1");
}

#[test]
fn to_show_records_one_by_one_is_refuted() {
    refuted(&two_records(), &[Mutation::HalfCommit], "a part of a commit");
}

#[test]
fn to_collect_before_the_fold_is_published_is_refuted() {
    refuted(&folder_and_reader(), &[Mutation::FoldBeforePublishCollect], "live records are lost");
}

#[test]
fn a_checkpoint_that_claims_more_than_it_holds_is_refuted() {
    refuted(&folder_and_reader(), &[Mutation::CheckpointAhead], "a start as of log/");
}

#[test]
fn a_transaction_that_counts_anywhere_is_refuted() {
    refuted(&transactions(), &[Mutation::UnconditionalTransact], "others were overwritten");
}

#[test]
fn results_instead_of_operations_are_refuted() {
    let config = Config::new(&[&[ONE], &[ONE]], &[]);
    holds("operations", &config, &["lost", "acknowledged"]);
    refuted(&config, &[Mutation::ResultsNotOperations], "others were overwritten");
}

#[test]
fn to_collect_out_of_order_is_refuted() {
    let config = Config { readers: Vec::new(), ..writers_and_reader() };
    refuted(&config, &[Mutation::CollectNewestFirst], "acknowledged commit is not in the log");
    refuted(&config, &[Mutation::KeepMarker], "acknowledged commit is not in the log");
}

#[test]
fn to_collect_a_name_before_its_staged_file_is_refuted() {
    refuted(&writers_and_reader(), &[Mutation::StageOutlivesName], "a state that the log never had");
}

#[test]
fn to_collect_before_the_bell_tells_of_the_fold_is_refuted() {
    refuted(&two_folders(), &[Mutation::CollectUnrung], "out of reach of a reader who goes by the bell");
}

#[test]
fn to_collect_the_anchor_of_a_checkpoint_is_refuted() {
    refuted(&fold_and_checkpoint(), &[Mutation::CollectAnchor], "live records are lost");
}

#[test]
fn to_take_back_a_name_in_doubt_is_refuted() {
    refuted(&folder_and_reader(), &[Mutation::UnlinkInDoubt], "live records are lost");
}

#[test]
fn to_stage_again_without_settling_is_refuted() {
    refuted(&swept_stage(), &[Mutation::RestageUnsettled], "took effect twice");
}

#[test]
fn to_sweep_segments_that_nobody_named_yet_is_refuted() {
    refuted(&two_folders(), &[Mutation::SweepUnpublished], "live records are lost");
}

#[test]
fn to_sweep_segments_that_replace_an_unknown_one_is_refuted() {
    let config = tidied(&[&[ONE, ONE]], &[], 0, &[BOTH, FOLD], 6);
    holds("two folds in a row", &config, &["swept a segment", "collected"]);
    refuted(&config, &[Mutation::SweepUnknown], "live records are lost");
}

#[test]
fn to_fetch_a_value_by_name_alone_is_refuted() {
    let config = tidied(&[&[ONE], &[ONE]], &[2], 0, &[BOTH], 5);
    refuted(&config, &[Mutation::FetchByName], "the value of another commit");
}

#[test]
fn to_pass_a_commit_without_a_word_in_the_log_is_refuted() {
    refuted(&damaging(), &[Mutation::PassAlone], "a state that the log never had");
}

#[test]
fn to_take_a_commit_for_damaged_after_one_read_is_refuted() {
    refuted(&Config { damage: false, ..damaging() }, &[Mutation::BelieveOneRead], "misses what was acknowledged");
}

#[test]
fn to_keep_a_commit_that_the_log_took_back_is_refuted() {
    refuted(&damaging(), &[Mutation::IgnoreVerdict], "a state that the log never had");
}
