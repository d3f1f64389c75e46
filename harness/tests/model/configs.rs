//! The configurations that several tests search.

use harness::model::{Collecting, Config, Op, Tidying};

pub(crate) const ONE: Op = Op::ONE;
pub(crate) const TWO: Op = Op::TWO;
pub(crate) const TRANSACT: Op = Op::Transact { hold: false };
pub(crate) const HELD: Op = Op::Transact { hold: true };

pub(crate) const FOLD: Tidying = Tidying { fold: true, checkpoint: false };
pub(crate) const CHECKPOINT: Tidying = Tidying { fold: false, checkpoint: true };
pub(crate) const BOTH: Tidying = Tidying { fold: true, checkpoint: true };

/// Two writers and a reader; one request may be late; names are collected at any moment.
pub(crate) fn writers_and_reader() -> Config {
    Config { late: 1, collecting: Collecting::Freely, ..Config::new(&[&[ONE, ONE], &[ONE]], &[1]) }
}

/// One writer who goes far ahead of another.
pub(crate) fn far_ahead() -> Config {
    Config { late: 1, collecting: Collecting::Freely, ..Config::new(&[&[ONE, ONE, ONE], &[ONE]], &[]) }
}

/// Two writers and a reader; staged files are swept at any age.
pub(crate) fn swept_stage() -> Config {
    Config { late: 1, sweep_stage: true, collecting: Collecting::Freely, ..Config::new(&[&[ONE], &[ONE]], &[1]) }
}

/// Commits of two records, seen by another writer and by a reader.
pub(crate) fn two_records() -> Config {
    Config::new(&[&[TWO], &[ONE]], &[2])
}

/// A transaction, one under a hold, and a plain writer.
pub(crate) fn transactions() -> Config {
    Config { max_log: 5, collecting: Collecting::Freely, ..Config::new(&[&[TRANSACT], &[ONE], &[HELD]], &[]) }
}

/// Real segments and checkpoints, collected without any grace.
pub(crate) fn tidied(writers: &[&[Op]], readers: &[u8], newcomers: usize, tidiers: &[Tidying], max_log: usize) -> Config {
    Config { newcomers, tidiers: tidiers.to_vec(), max_log, collecting: Collecting::Folded, ..Config::new(writers, readers) }
}

/// Two hosts that fold at once.
pub(crate) fn two_folders() -> Config {
    tidied(&[&[ONE], &[ONE]], &[], 0, &[BOTH, FOLD], 6)
}

/// One host that folds and another that makes a checkpoint, in either order.
pub(crate) fn fold_and_checkpoint() -> Config {
    tidied(&[&[ONE]], &[], 0, &[FOLD, CHECKPOINT], 5)
}

/// One host that folds and makes checkpoints while a reader reads.
pub(crate) fn folder_and_reader() -> Config {
    tidied(&[&[ONE], &[ONE]], &[1], 0, &[BOTH], 5)
}

/// Processes that may die; names are collected only after the grace.
pub(crate) fn graceful() -> Config {
    Config { late: 1, collecting: Collecting::AfterGrace, crashes: true, ..Config::new(&[&[ONE, ONE], &[ONE]], &[1]) }
}

/// Two writers and two readers on a drive that damages one commit.
pub(crate) fn damaging() -> Config {
    Config { late: 1, damage: true, misreads: true, max_log: 6, ..Config::new(&[&[ONE, ONE], &[ONE]], &[2]) }
}
