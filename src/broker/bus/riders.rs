//! The sinks that ride on one trunk, and which of its messages each gets.
//!
//! Owns the seats, what each sink is subscribed to, and what is known of who wants which topic. A message that several
//! filters match comes by the trunk several times and is handed over once. It never talks to the router.

use std::collections::HashMap;
use std::sync::Arc;

use bytestring::ByteString;

use super::gate::Numbered;
use super::names::OWN_BYTES_MAX;
use super::seen::Seen;
use super::sink::Sink;

/// Topics of which it is remembered who wants them.
const ROUTES_MAX: usize = 1024;
/// Room for messages that a seat keeps between two hand-overs.
const ROOM_KEPT: usize = 16;

/// The riders of a trunk.
#[derive(Default)]
pub(super) struct Riders {
    seats: Vec<Option<Rider>>,
    free: Vec<usize>,
    /// Who wants a topic, by seats.
    routes: HashMap<ByteString, Arc<[usize]>>,
    seen: Seen,
    /// The seats that the messages at hand are for.
    touched: Vec<usize>,
}

struct Rider {
    sink: Arc<dyn Sink>,
    /// The names that it is subscribed to, as often as it is.
    names: Vec<String>,
    messages: Vec<Numbered>,
}

impl Riders {
    /// Takes a sink on; returns its seat.
    pub(super) fn board(&mut self, sink: Arc<dyn Sink>) -> usize {
        self.routes.clear();
        let rider = Some(Rider { sink, names: Vec::new(), messages: Vec::new() });
        if let Some(seat) = self.free.pop()
            && let Some(place) = self.seats.get_mut(seat)
        {
            *place = rider;
            return seat;
        }
        self.seats.push(rider);
        self.seats.len() - 1
    }

    /// Lets a sink go; returns the names that it was subscribed to.
    pub(super) fn leave(&mut self, seat: usize) -> Vec<String> {
        self.routes.clear();
        let Some(rider) = self.seats.get_mut(seat).and_then(Option::take) else { return Vec::new() };
        self.free.push(seat);
        rider.names
    }

    /// Notes that a sink is subscribed to names.
    pub(super) fn add(&mut self, seat: usize, names: &[String]) {
        self.routes.clear();
        if let Some(rider) = self.seats.get_mut(seat).and_then(Option::as_mut) {
            rider.names.extend_from_slice(names);
        }
    }

    /// Notes that a sink is subscribed to names no more.
    pub(super) fn remove(&mut self, seat: usize, names: &[String]) {
        self.routes.clear();
        let Some(rider) = self.seats.get_mut(seat).and_then(Option::as_mut) else { return };
        for name in names {
            if let Some(place) = rider.names.iter().position(|known| known == name) {
                rider.names.swap_remove(place);
            }
        }
    }

    /// Hands messages to those who want them, in their order, each once.
    pub(super) fn hand_over(&mut self, messages: &mut Vec<Numbered>) {
        for message in messages.drain(..) {
            if self.seen.is_repeated(message.number) {
                continue;
            }
            for &seat in self.route(&message.message.topic).iter() {
                let Some(rider) = self.seats.get_mut(seat).and_then(Option::as_mut) else { continue };
                if rider.messages.is_empty() {
                    self.touched.push(seat);
                }
                rider.messages.push(message.clone());
            }
        }
        for seat in self.touched.drain(..) {
            let Some(rider) = self.seats.get_mut(seat).and_then(Option::as_mut) else { continue };
            rider.sink.take(&mut rider.messages);
            rider.messages.clear();
            rider.messages.shrink_to(ROOM_KEPT);
        }
    }

    fn route(&mut self, topic: &ByteString) -> Arc<[usize]> {
        if let Some(known) = self.routes.get(topic) {
            return known.clone();
        }
        if self.routes.len() >= ROUTES_MAX {
            self.routes.clear();
        }
        let wants = |rider: &Option<Rider>| rider.as_ref().is_some_and(|rider| rider.sink.wants(topic));
        let seats = self.seats.iter().enumerate().filter(|(_, rider)| wants(rider)).map(|(seat, _)| seat).collect();
        if topic.len() > OWN_BYTES_MAX {
            return seats;
        }
        self.routes.entry(topic.clone()).or_insert(seats).clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::broker::message::Message;
    use crate::broker::wire::QoS;
    use std::sync::Mutex;

    struct Only(&'static str, Mutex<Vec<u64>>);

    impl Sink for Only {
        fn wants(&self, topic: &str) -> bool {
            topic == self.0
        }

        fn take(&self, messages: &mut Vec<Numbered>) {
            self.1.lock().unwrap().extend(messages.drain(..).map(|message| message.number));
        }
    }

    fn only(topic: &'static str) -> Arc<Only> {
        Arc::new(Only(topic, Mutex::default()))
    }

    fn message(number: u64, topic: &'static str) -> Numbered {
        let message = Message {
            topic: topic.into(),
            payload: bytes::Bytes::new(),
            qos: QoS::AtMostOnce,
            retain: false,
            publisher: "p".into(),
            properties: None,
            expires: None,
        };
        Numbered { number, message: Arc::new(message) }
    }

    #[test]
    fn each_gets_what_it_wants_once_and_in_order() {
        let mut riders = Riders::default();
        let (first, second) = (only("a"), only("b"));
        riders.board(first.clone());
        riders.board(second.clone());
        let topics = ["a", "b", "a", "c", "a"];
        let by_filters =
            topics.iter().zip(0..).flat_map(|(topic, number)| [message(number, topic), message(number, topic)]);
        riders.hand_over(&mut by_filters.collect());
        assert_eq!(*first.1.lock().unwrap(), [0, 2, 4]);
        assert_eq!(*second.1.lock().unwrap(), [1]);
    }

    #[test]
    fn a_seat_that_was_left_is_another_riders_with_nothing_of_the_last() {
        let mut riders = Riders::default();
        let (first, second) = (only("a"), only("a"));
        let seat = riders.board(first.clone());
        riders.add(seat, &["m/a".to_owned(), "m/#".to_owned(), "m/#".to_owned()]);
        riders.remove(seat, &["m/#".to_owned()]);
        riders.hand_over(&mut vec![message(0, "a")]);
        assert_eq!(riders.leave(seat), ["m/a", "m/#"]);
        riders.hand_over(&mut vec![message(1, "a")]);
        assert_eq!(riders.board(second.clone()), seat);
        riders.hand_over(&mut vec![message(2, "a")]);
        assert_eq!((&*first.1.lock().unwrap(), &*second.1.lock().unwrap()), (&vec![0], &vec![2]));
        assert!(riders.leave(seat).is_empty() && riders.leave(seat).is_empty());
    }
}
