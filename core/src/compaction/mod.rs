//! Folds: immutable files that hold what still lives of a part of the log.

pub(crate) mod fold;

pub(crate) use fold::FoldFiles;
