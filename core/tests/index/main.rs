//! Tests of the index through its public face: against a model, and with damaged files.

mod common;
mod damage;
mod model;
mod speed;
