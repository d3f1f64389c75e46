//! A simulated network drive, and the checks of what engines lose on it.

pub mod check;
pub mod cli;
pub mod control;
pub mod daemon;
pub mod describe;
pub mod doctor;
pub mod drive;
pub mod engine;
pub mod evidence;
pub mod explain;
pub mod fuse;
pub mod history;
pub mod likeness;
pub mod matrix;
pub mod model;
pub mod mutants;
pub mod replay;
pub mod runner;
pub mod scenario;
pub mod script;
pub mod shrink;
pub mod sim;
pub mod trips;
pub mod validate;
pub mod workload;
