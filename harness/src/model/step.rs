//! The steps of a trace in words.

use std::fmt;

use super::commit::{Commit, OpName};
use super::config::Role;

/// Who did what.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub(super) who: Who,
    pub(super) what: What,
}

/// Who took a step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who {
    Process(Role),
    Network,
    Drive,
    Collector,
    Sweeper,
}

/// What was done.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Won { slot: u8, commit: Commit },
    FalselyWon { slot: u8, commit: Commit },
    Replaced { slot: u8, commit: Commit },
    Lost { slot: u8, commit: Commit, other: Commit },
    FoundOwn { slot: u8, commit: Commit },
    TimedOut { slot: u8, commit: Commit },
    StageGone { slot: u8, commit: Commit },
    Restaged { slot: u8, commit: Commit },
    Filled { slot: u8 },
    Moot { commit: Commit },
    NotDone { op: u8 },
    Unknown { commit: Commit },
    AnchorThere { slot: u8 },
    AnchorGone { slot: u8 },
    TookBack { slot: u8 },
    Rang { length: u8 },
    Acknowledged { op: u8 },
    Beaten { op: u8 },
    Decided { slot: u8, commit: Commit },
    Looked { bell: u8 },
    Opened { slot: u8, commit: Commit },
    Missing { slot: u8 },
    Misread { slot: u8 },
    Passed { slot: u8 },
    Judged { slot: u8, at: u8 },
    Damaged { slot: u8, commit: Commit },
    Answered,
    Fetched { slot: u8 },
    ValueGone { slot: u8 },
    SegmentGone,
    StartedAgain { slot: u8 },
    WroteSegment { covers: u8 },
    WroteCheckpoint { slot: u8 },
    Crashed,
    LandedFirst { slot: u8, commit: Commit },
    LandedLate { slot: u8, commit: Commit },
    LandedRefused { slot: u8, commit: Commit },
    Collected { slot: u8 },
    SweptGhost { slot: u8 },
    SweptStage { commit: Commit },
    SweptSegment { tidier: u8 },
    SweptCheckpoint { tidier: u8 },
}

impl What {
    /// Returns the name of the variant: the key under which the search counts it.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Won { .. } => "won",
            Self::FalselyWon { .. } => "falsely won",
            Self::Replaced { .. } => "replaced",
            Self::Lost { .. } => "lost",
            Self::FoundOwn { .. } => "found own",
            Self::TimedOut { .. } => "timed out",
            Self::StageGone { .. } => "stage gone",
            Self::Restaged { .. } => "restaged",
            Self::Filled { .. } => "filled",
            Self::Moot { .. } => "moot",
            Self::NotDone { .. } => "not done",
            Self::Unknown { .. } => "unknown",
            Self::AnchorThere { .. } => "anchor there",
            Self::AnchorGone { .. } => "anchor gone",
            Self::TookBack { .. } => "took back",
            Self::Rang { .. } => "rang",
            Self::Acknowledged { .. } => "acknowledged",
            Self::Beaten { .. } => "beaten",
            Self::Decided { .. } => "decided",
            Self::Looked { .. } => "looked",
            Self::Opened { .. } => "opened",
            Self::Missing { .. } => "missing",
            Self::Misread { .. } => "misread",
            Self::Passed { .. } => "passed",
            Self::Judged { .. } => "judged",
            Self::Damaged { .. } => "damaged",
            Self::Answered => "answered",
            Self::Fetched { .. } => "fetched",
            Self::ValueGone { .. } => "value gone",
            Self::SegmentGone => "segment gone",
            Self::StartedAgain { .. } => "started again",
            Self::WroteSegment { .. } => "wrote segment",
            Self::WroteCheckpoint { .. } => "wrote checkpoint",
            Self::Crashed => "crashed",
            Self::LandedFirst { .. } => "landed first",
            Self::LandedLate { .. } => "landed on a collected name",
            Self::LandedRefused { .. } => "landed and was refused",
            Self::Collected { .. } => "collected",
            Self::SweptGhost { .. } => "swept a false name",
            Self::SweptStage { .. } => "swept a staged file",
            Self::SweptSegment { .. } => "swept a segment",
            Self::SweptCheckpoint { .. } => "swept a checkpoint",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.who {
            Who::Process(role) => write!(f, "{role}: ")?,
            Who::Network => write!(f, "network: ")?,
            Who::Drive => write!(f, "drive: ")?,
            Who::Collector => write!(f, "collector: ")?,
            Who::Sweeper => write!(f, "sweeper: ")?,
        }
        write!(f, "{}", self.what)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Won { slot, commit } => write!(f, "links {commit} as log/{slot}: won"),
            Self::FalselyWon { slot, commit } => {
                write!(f, "links {commit} as log/{slot}: won, but only because that name was collected")
            }
            Self::Replaced { slot, commit } => write!(f, "renames {commit} over log/{slot}"),
            Self::Lost { slot, commit, other } => {
                write!(f, "links {commit} as log/{slot}: exists; it is {other}, replays it")
            }
            Self::FoundOwn { slot, commit } => write!(f, "links {commit} as log/{slot}: exists; it is {commit} itself"),
            Self::TimedOut { slot, commit } => write!(f, "links {commit} as log/{slot}: no answer"),
            Self::StageGone { slot, commit } => {
                write!(f, "links {commit} as log/{slot}: no staged file, and no such name")
            }
            Self::Restaged { slot, commit } => {
                write!(f, "finds its staged file gone at log/{slot}; writes another, {commit}")
            }
            Self::Filled { slot } => write!(f, "writes the rest of log/{slot}"),
            Self::Moot { commit } => write!(f, "drops {commit}: another did the same"),
            Self::NotDone { op } => write!(f, "deadline before a try: reports {} as not done", OpName(op.into())),
            Self::Unknown { commit } => write!(f, "deadline: reports {commit} as unknown"),
            Self::AnchorThere { slot } => write!(f, "finds its anchor log/{slot} in place"),
            Self::AnchorGone { slot } => write!(f, "finds its anchor log/{slot} gone"),
            Self::TookBack { slot } => write!(f, "finds its anchor gone, unlinks log/{slot} again"),
            Self::Rang { length } => write!(f, "makes the bell {length} long"),
            Self::Acknowledged { op } => write!(f, "acknowledges {}", OpName(op.into())),
            Self::Beaten { op } => write!(f, "reports {} as not done: it was beaten", OpName(op.into())),
            other => other.of_reading(f),
        }
    }
}

impl What {
    /// Writes the steps of those who read and tidy.
    fn of_reading(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decided { slot, commit } => {
                write!(f, "decides {commit} on the state after log/{slot}")
            }
            Self::Looked { bell } => write!(f, "begins a read, the bell is {bell} long"),
            Self::Opened { slot, commit } => write!(f, "opens log/{slot}, replays {commit}"),
            Self::Missing { slot } => write!(f, "opens log/{slot}: no such name"),
            Self::Misread { slot } => write!(f, "reads wrong bytes of log/{slot}, and reads again"),
            Self::Passed { slot } => write!(f, "cannot read log/{slot}, passes it"),
            Self::Judged { slot, at } => write!(f, "publishes as log/{at} that log/{slot} replays as nothing, and rings"),
            Self::Damaged { slot, commit } => write!(f, "damages log/{slot}, {commit}"),
            Self::Answered => write!(f, "answers the read"),
            Self::Fetched { slot } => write!(f, "fetches a value of log/{slot}"),
            Self::ValueGone { slot } => write!(f, "finds the value of log/{slot} gone"),
            Self::SegmentGone => write!(f, "finds its segment gone"),
            Self::StartedAgain { slot } => write!(f, "starts from the state as of log/{slot}"),
            Self::WroteSegment { covers } => {
                write!(f, "writes a segment of all before log/{covers}")
            }
            Self::WroteCheckpoint { slot } => write!(f, "writes a checkpoint as of log/{slot}"),
            other => other.of_the_rest(f),
        }
    }

    /// Writes the steps of nobody in particular.
    fn of_the_rest(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crashed => write!(f, "dies"),
            Self::LandedFirst { slot, commit } => {
                write!(f, "the late link of {commit} lands: it is log/{slot} now")
            }
            Self::LandedLate { slot, commit } => {
                write!(f, "the late link of {commit} lands on log/{slot}, which was collected")
            }
            Self::LandedRefused { slot, commit } => {
                write!(f, "the late link of {commit} to log/{slot} is refused")
            }
            Self::Collected { slot } => write!(f, "unlinks log/{slot}"),
            Self::SweptGhost { slot } => write!(f, "unlinks log/{slot}, which is none of the log"),
            Self::SweptStage { commit } => write!(f, "unlinks the staged file of {commit}"),
            Self::SweptSegment { tidier } => write!(f, "unlinks the segment of tidier {tidier}"),
            Self::SweptCheckpoint { tidier } => {
                write!(f, "unlinks the checkpoint of tidier {tidier}")
            }
            other => f.write_str(other.kind()),
        }
    }
}
