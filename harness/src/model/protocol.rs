//! The storage protocol as a model for the search.

use super::config::Config;
use super::explore::Model;
use super::moves::Moves;
use super::promises;
use super::state::State;
use super::step::Step;

/// The protocol under one configuration.
#[derive(Debug)]
pub struct Protocol {
    config: Config,
}

impl Protocol {
    /// Returns the model of `config`; the error says which bound `config` exceeds.
    pub fn new(config: Config) -> Result<Self, &'static str> {
        config.validate()?;
        Ok(Self { config })
    }
}

impl Model for Protocol {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        State::start(&self.config)
    }

    fn steps(&self, state: &State, out: &mut Vec<(Step, State)>) {
        Moves { config: &self.config, state, out }.all();
    }

    fn kind(&self, step: &Step) -> &'static str {
        step.what.kind()
    }

    fn violation(&self, state: &State) -> Option<String> {
        promises::violation(&self.config, state)
    }

    fn draw(&self, state: &State) -> String {
        promises::draw(state)
    }
}
