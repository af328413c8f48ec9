//! Who takes messages off the bus: sessions, the groups of shared subscriptions, the canary.
//!
//! Owns what the bus asks of them. It never knows who they are.

use super::gate::Numbered;

/// Takes messages off the bus; never waits.
pub trait Sink: Send + Sync + 'static {
    /// Tells whether messages on a topic are wanted. The answer may be remembered until the sink's link subscribes or
    /// unsubscribes.
    fn wants(&self, topic: &str) -> bool;

    /// Takes messages, each once, and what comes together in the order of publishing: what one filter brings is never out
    /// of order, and what several bring only where they are too far behind to be read in one go. There may be some among
    /// them that are not wanted.
    fn take(&self, messages: &mut Vec<Numbered>);
}
