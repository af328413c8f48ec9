//! Stations that number their readings, so that one lost, or one stored twice, is seen.
//!
//! Owns the load of the end-to-end tests. A sensor keeps what was not acked and sends it again, marked DUP, with the
//! same packet id; it never sends a number under a second id, and it insists on acks in the order of its publishes.
//! In the database `rain_gauge_count` is the sensor's number and `anemometer_count` the reading's.

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::mqtt::{Client, Connect, Packet, publish};
use super::{holds_within, now_s, reader};

/// The topic of the hub's default routes that `sensor` publishes on.
pub fn weather_topic(sensor: u64) -> String {
    format!("test/station{sensor}/weathermeters/")
}

/// Returns a weather reading that carries both numbers.
pub fn weather(sensor: u64, number: u64) -> Vec<u8> {
    format!(
        r#"{{"utc":{},"sampleinterval":5000,"temperature":5.22,"humidity":61.5,"pressure":1004.94,"irradiance":0.83,"winddirectionsensor":96,"raingaugecount":{sensor},"anemometercount":{number}}}"#,
        now_s()
    )
    .into_bytes()
}

/// What a sensor does, and how fast.
#[derive(Clone, Copy)]
pub struct Load {
    pub sensors: u64,
    pub qos: u8,
    /// How many readings may wait for their ack.
    pub window: usize,
    /// The pause after each burst.
    pub pause: Duration,
}

impl Load {
    pub fn qos1(sensors: u64) -> Load {
        Load { sensors, qos: 1, window: 20, pause: Duration::from_millis(5) }
    }

    pub fn qos0(sensors: u64) -> Load {
        Load { sensors, qos: 0, window: 1, pause: Duration::from_millis(5) }
    }
}

/// One sensor: readings are numbered from 0, and the first `acked` of them are acked.
pub struct Sensor {
    pub number: u64,
    pub acked: u64,
    pub sent: u64,
    load: Load,
    unacked: VecDeque<(u16, Vec<u8>)>,
    last_id: u16,
}

struct Shared {
    address: Mutex<SocketAddr>,
    /// Publish nothing new; go on until everything is acked.
    finish: AtomicBool,
    /// End at once.
    halt: AtomicBool,
    acked: AtomicU64,
    sent: AtomicU64,
}

/// Sensors at work, each in a thread, each reconnecting whenever it must.
pub struct Fleet {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Sensor>>,
}

impl Fleet {
    /// Starts the sensors, numbered from `first`.
    pub fn start(address: SocketAddr, first: u64, load: Load) -> Fleet {
        let shared = Arc::new(Shared {
            address: Mutex::new(address),
            finish: AtomicBool::new(false),
            halt: AtomicBool::new(false),
            acked: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        });
        let threads = (first..first + load.sensors)
            .map(|number| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let mut sensor = Sensor::new(number, load);
                    sensor.work(&shared);
                    sensor
                })
            })
            .collect();
        Fleet { shared, threads }
    }

    pub fn move_to(&self, address: SocketAddr) {
        *self.shared.address.lock().unwrap() = address;
    }

    /// Returns how many readings are acked by now.
    pub fn acked(&self) -> u64 {
        self.shared.acked.load(SeqCst)
    }

    pub fn sent(&self) -> u64 {
        self.shared.sent.load(SeqCst)
    }

    /// Ends the publishing, waits until everything is acked (QoS 0: sent), and returns the sensors.
    pub fn finish(self, within: Duration) -> Vec<Sensor> {
        self.shared.finish.store(true, SeqCst);
        if !holds_within(within, || self.threads.iter().all(JoinHandle::is_finished)) {
            let (acked, sent) = (self.acked(), self.sent());
            self.shared.halt.store(true, SeqCst);
            panic!("after {within:?} only {acked} of {sent} readings are acked");
        }
        self.join()
    }

    /// Ends the sensors where they are, and returns them.
    pub fn halt(self) -> Vec<Sensor> {
        self.shared.halt.store(true, SeqCst);
        self.join()
    }

    fn join(mut self) -> Vec<Sensor> {
        let threads = std::mem::take(&mut self.threads);
        threads.into_iter().map(|thread| thread.join().expect("no sensor panics")).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shared.halt.store(true, SeqCst);
    }
}

impl Shared {
    /// Paces a sensor, unless its fleet is to halt.
    fn halts_within(&self, pause: Duration) {
        holds_within(pause, || self.halt.load(SeqCst));
    }
}

impl Sensor {
    fn new(number: u64, load: Load) -> Sensor {
        Sensor { number, acked: 0, sent: 0, load, unacked: VecDeque::new(), last_id: 0 }
    }

    fn work(&mut self, shared: &Shared) {
        let connect = Connect::new(4, &format!("sensor-{}", self.number)).persistent();
        while !shared.halt.load(SeqCst) && !self.is_done(shared) {
            let address = *shared.address.lock().unwrap();
            match connect.try_open(address) {
                Ok(client) => self.serve(client, shared),
                Err(_) => shared.halts_within(Duration::from_millis(10)),
            }
        }
    }

    fn is_done(&self, shared: &Shared) -> bool {
        shared.finish.load(SeqCst) && self.unacked.is_empty()
    }

    /// Publishes and takes acks until the connection breaks or the work is over.
    fn serve(&mut self, mut client: Client, shared: &Shared) {
        let again: Vec<u8> = self.unacked.iter().flat_map(|(id, reading)| self.bytes(*id, reading, true)).collect();
        if client.send(&again).is_err() {
            return;
        }
        while !shared.halt.load(SeqCst) {
            if self.is_done(shared) {
                client.disconnect();
                return;
            }
            if !shared.finish.load(SeqCst) && client.send(&self.burst(shared)).is_err() {
                return;
            }
            if self.take_acks(&mut client, shared).is_err() {
                return;
            }
            shared.halts_within(self.load.pause);
        }
    }

    fn burst(&mut self, shared: &Shared) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in self.unacked.len()..self.load.window {
            let reading = weather(self.number, self.sent);
            let id = self.fresh_id();
            bytes.extend(self.bytes(id, &reading, false));
            self.sent += 1;
            shared.sent.fetch_add(1, SeqCst);
            if self.load.qos > 0 {
                self.unacked.push_back((id, reading));
            }
        }
        bytes
    }

    fn take_acks(&mut self, client: &mut Client, shared: &Shared) -> std::io::Result<()> {
        let mut patience = Duration::from_millis(10);
        while !self.unacked.is_empty() {
            match client.read(patience) {
                Ok(Packet::PubAck { id, .. }) => {
                    let expected = self.unacked.pop_front().map(|(id, _)| id);
                    assert_eq!(Some(id), expected, "acks come in the order of the publishes");
                    self.acked += 1;
                    shared.acked.fetch_add(1, SeqCst);
                }
                Ok(other) => panic!("a sensor got {other:?}"),
                Err(error) if error.kind() == ErrorKind::TimedOut => break,
                Err(error) => return Err(error),
            }
            patience = Duration::from_millis(1);
        }
        Ok(())
    }

    fn fresh_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id % u16::MAX + 1;
            if self.unacked.iter().all(|(id, _)| *id != self.last_id) {
                return self.last_id;
            }
        }
    }

    fn bytes(&self, id: u16, reading: &[u8], dup: bool) -> Vec<u8> {
        publish(4, weather_topic(self.number).as_bytes(), reading, self.load.qos, id, dup)
    }
}

/// Returns how often each reading of each sensor is stored.
pub fn stored(db: &Path) -> HashMap<(u64, u64), u64> {
    let connection = reader(db);
    let mut statement = connection.prepare("SELECT rain_gauge_count, anemometer_count FROM weather_data").unwrap();
    let mut counts = HashMap::new();
    let mut found = statement.query([]).unwrap();
    while let Some(row) = found.next().unwrap() {
        let key = (row.get::<_, i64>(0).unwrap() as u64, row.get::<_, i64>(1).unwrap() as u64);
        *counts.entry(key).or_insert(0) += 1;
    }
    counts
}

/// Asserts that the first `acked` readings of each sensor are stored, and that none is stored twice.
pub fn assert_acked_are_stored_once(db: &Path, sensors: &[Sensor]) {
    let counts = stored(db);
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).take(10).collect();
    assert!(twice.is_empty(), "(sensor, reading) stored more than once: {twice:?}");
    for sensor in sensors {
        let missing = |number: &u64| !counts.contains_key(&(sensor.number, *number));
        let missing: Vec<u64> = (0..sensor.acked).filter(missing).collect();
        let (first, number) = (missing.iter().take(10).collect::<Vec<_>>(), sensor.number);
        assert!(missing.is_empty(), "{} acked of sensor {number} lost: {first:?}", missing.len());
    }
}

/// Asserts that everything the sensors sent is stored, once, and nothing else.
pub fn assert_all_sent_are_stored_once(db: &Path, sensors: &[Sensor]) {
    let counts = stored(db);
    for sensor in sensors {
        let wrong = |number: &u64| counts.get(&(sensor.number, *number)) != Some(&1);
        let wrong: Vec<u64> = (0..sensor.sent).filter(wrong).take(10).collect();
        assert!(wrong.is_empty(), "of sensor {}, not stored once: {wrong:?}", sensor.number);
    }
    let sent: u64 = sensors.iter().map(|sensor| sensor.sent).sum();
    assert_eq!(counts.len() as u64, sent, "readings that nobody sent");
}
