//! The outbox through the writer's transactions and a reader, as the bridge uses it.

#![allow(clippy::unwrap_used)]
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::*;
use crate::clock::now_ms;
use crate::config::Synchronous;
use crate::reading::{Marks, Reading, Sample, Weather};
use crate::store::transaction::Database;
use crate::store::{Content, Delivery, Entry, Incoming, Job, Origin, Reader};

const SETTINGS: OutboxSettings = OutboxSettings { bytes_max: 1 << 30, age_max: None, maybe_sent: 0 };

/// A database with its outbox.
struct Setup {
    dir: tempfile::TempDir,
    database: Database,
    outbox: Arc<Outbox>,
}

impl Setup {
    fn new(settings: OutboxSettings) -> Setup {
        let dir = tempfile::tempdir().unwrap();
        let (database, outbox) = open(dir.path(), settings);
        Setup { dir, database, outbox }
    }

    /// Starts anew, as the hub does.
    fn reopen(&mut self, settings: OutboxSettings) {
        (self.database, self.outbox) = open(self.dir.path(), settings);
    }

    fn connection(&self) -> Connection {
        Connection::open(self.dir.path().join("a.db")).unwrap()
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.dir.path().join("a.db")).unwrap()
    }

    /// Adds messages in one transaction.
    fn add(&mut self, payloads: std::ops::Range<usize>) {
        let batch: Vec<Job> = payloads.map(|number| passing(&number.to_string())).collect();
        self.database.store(&batch).unwrap();
        self.check();
    }

    fn change(&mut self, changes: Vec<OutboxChange>) {
        self.database.store(&[Job { content: Content::Outbox(changes), ticket: None }]).unwrap();
        self.check();
    }

    fn claim(&self, lane: Lane, after: i64, rows: usize) -> Vec<Waiting> {
        self.reader().outbox(&self.outbox, lane, after, rows, usize::MAX).unwrap()
    }

    /// Reads all rows without claiming any.
    fn all(&self) -> Vec<Waiting> {
        self.reader().outbox(&Outbox::new(SETTINGS), Lane::Backlog, 0, usize::MAX, usize::MAX).unwrap()
    }

    /// Checks that the totals are what the rows say, in the figures and in the file, and that each gap was counted.
    fn check(&self) {
        let pair = |sql| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            self.connection().query_row(sql, [], read).unwrap_or((0_i64, 0_i64))
        };
        let rows = pair(
            "SELECT count(*), coalesce(sum(128 + octet_length(topic || payload || coalesce(properties, '')
               || coalesce(lost, ''))), 0) FROM outbox",
        );
        let figures = (self.outbox.messages() as i64, self.outbox.bytes() as i64);
        assert_eq!((figures, pair("SELECT messages, bytes FROM outbox_total")), (rows, rows));
    }

    /// Returns the messages that the gap markers tell of.
    fn lost(&self) -> u64 {
        self.all().iter().filter_map(|row| row.gap).map(|gap| gap.messages).sum()
    }
}

fn open(dir: &Path, settings: OutboxSettings) -> (Database, Arc<Outbox>) {
    let outbox = Arc::new(Outbox::new(settings));
    let path = dir.join("a.db");
    (Database::open(&path, Synchronous::Full, 1 << 20, Some(outbox.clone()), true, None, false).unwrap(), outbox)
}

fn job(entry: Entry, payload: &str, received_ms: i64, delivery: Option<Delivery>) -> Job {
    let origin = Origin { source: "a/b".into(), client: "esp32".into(), qos: 1, received_ms };
    let properties = Some(Box::new(Properties { content_type: Some("é".to_owned()), ..Properties::default() }));
    let forward = Some(Box::new(Forward { topic: "a/b/".into(), retain: true, properties }));
    let content = Content::Message(Incoming { origin, entry, payload: payload.as_bytes().into(), forward, delivery });
    Job { content, ticket: None }
}

fn passing(payload: &str) -> Job {
    job(Entry::Passing, payload, now_ms(), None)
}

fn reading() -> Entry {
    let sample = Sample::Weather(Weather { timestamp: 7, ..Weather::default() });
    Entry::Reading(Box::new(Reading { sample, marks: Marks::default() }))
}

fn payloads(rows: &[Waiting]) -> Vec<&str> {
    rows.iter().map(|row| if row.gap.is_some() { "gap" } else { std::str::from_utf8(&row.payload).unwrap() }).collect()
}

/// A limit that so many of these tests' messages fill.
fn limit(messages: u64) -> OutboxSettings {
    let bytes = 128 + "a/b/".len() + r#"{"content_type":"é"}"#.len() + 2;
    OutboxSettings { bytes_max: messages * bytes as u64 + 512, ..SETTINGS }
}

#[test]
fn whatever_is_forwarded_waits_in_its_order_and_as_it_was_published() {
    let mut setup = Setup::new(SETTINGS);
    let rejected = Entry::Rejected { reason: "not JSON", detail: String::new() };
    let batch =
        [job(reading(), "reading", 1, None), job(rejected, "rejected", 2, None), job(Entry::Passing, "other", 3, None)];
    let outcome = setup.database.store(&batch).unwrap();
    assert_eq!((outcome.readings, outcome.quarantined, outcome.forwarded), (1, 1, 3));
    setup.check();
    let rows = setup.all();
    assert_eq!(payloads(&rows), ["reading", "rejected", "other"]);
    assert_eq!((&*rows[0].topic, rows[0].retain, rows[0].received_ms), ("a/b/", true, 1));
    assert_eq!(rows[0].properties.as_ref().unwrap().content_type.as_deref(), Some("é"));
    assert!(rows.windows(2).all(|pair| pair[1].id == pair[0].id + 1), "{rows:?}");
    assert_eq!((setup.outbox.newest(), setup.outbox.added()), (rows[2].id, 3));
}

#[test]
fn a_redelivered_message_waits_once_be_it_a_reading_or_not() {
    let mut setup = Setup::new(SETTINGS);
    for (number, entry) in [reading as fn() -> Entry, || Entry::Passing].into_iter().enumerate() {
        let sent = |dup| Some(Delivery { id: 1 + number as u16, digest: 7, dup });
        setup.database.store(&[job(entry(), "x", 1, sent(false))]).unwrap();
        let again = setup.database.store(&[job(entry(), "x", 1, sent(true))]).unwrap();
        assert_eq!((again.duplicates, again.forwarded), (1, 0));
        assert_eq!(setup.all().len(), number + 1);
    }
}

#[test]
fn the_totals_are_exact_through_sending_setting_aside_failing_and_a_restart() {
    let mut setup = Setup::new(SETTINGS);
    setup.add(0..10);
    let first = setup.all()[0].id;
    setup.change(vec![OutboxChange::Sent { lane_after: 0, through: first + 3 }]);
    let detail = "quota".to_owned();
    setup.change(vec![OutboxChange::SetAside { id: first + 4, reason: "refused by the upstream", detail }]);
    assert_eq!(payloads(&setup.all()), ["5", "6", "7", "8", "9"]);
    let quarantined = setup.reader().quarantine(10).unwrap();
    assert_eq!((quarantined[0].topic.as_str(), quarantined[0].payload.as_deref()), ("a/b/", Some("4")));

    setup.connection().execute_batch("ALTER TABLE delivery RENAME TO elsewhere").unwrap();
    let batch = [
        job(Entry::Passing, "10", 1, Some(Delivery { id: 1, digest: 2, dup: false })),
        Job { content: Content::Outbox(vec![OutboxChange::Sent { lane_after: 0, through: first + 9 }]), ticket: None },
    ];
    setup.database.store(&batch).unwrap_err();
    setup.check();
    setup.connection().execute_batch("ALTER TABLE elsewhere RENAME TO delivery").unwrap();
    setup.add(11..12);
    setup.change(vec![OutboxChange::Sent { lane_after: first + 9, through: first + 10 }]);
    assert_eq!(setup.outbox.added(), 11);

    setup.reopen(SETTINGS);
    setup.check();
    assert_eq!(setup.outbox.messages(), 5);
    let newest = setup.outbox.newest();
    assert!(newest > first + 10, "after a start numbers go on above the time");
    setup.database.store(&batch).unwrap();
    setup.check();
    assert_eq!(setup.all()[0].id, newest + 1, "a number is never given out twice");
}

#[test]
fn beyond_its_limit_the_outbox_drops_its_oldest_and_one_marker_tells_of_each_gap() {
    let mut setup = Setup::new(limit(20));
    let mut first = 0;
    for round in 0..10 {
        setup.add(round * 10..round * 10 + 10);
        first = if round == 0 { setup.all()[0].id } else { first };
        assert!(setup.outbox.bytes() <= setup.outbox.bytes_max());
        assert_eq!(setup.lost(), setup.outbox.dropped(), "round {round}");
    }
    let rows = setup.all();
    let gap = rows[0].gap.unwrap();
    let kept = payloads(&rows[1..]);
    assert!(kept.len() >= 17 && *kept.last().unwrap() == "99", "{kept:?}");
    assert_eq!((gap.messages, gap.first_id, gap.last_id), (100 - kept.len() as u64, first, rows[0].id));
    assert_eq!(gap.last_id + 1, rows[1].id);
    assert!(setup.outbox.dropped_ms() > 0);
    setup.change(vec![OutboxChange::SetAside { id: rows[0].id, reason: "r", detail: String::new() }]);
    assert!(setup.reader().quarantine(1).unwrap().is_empty(), "a marker is no message");
    assert_eq!(setup.lost(), 0);
}

#[test]
fn what_the_bridge_has_read_is_never_dropped_and_what_it_gives_up_may_be() {
    let mut setup = Setup::new(limit(20));
    setup.add(0..15);
    let claimed = setup.claim(Lane::Backlog, 0, 5);
    setup.add(15..60);
    let rows = setup.all();
    assert_eq!(payloads(&rows)[..6], ["0", "1", "2", "3", "4", "gap"]);
    assert_eq!(rows[5].gap.unwrap().first_id, claimed[4].id + 1);
    setup.outbox.release(Lane::Backlog, claimed[1].id);
    setup.add(60..70);
    let rows = setup.all();
    assert_eq!(payloads(&rows)[..4], ["0", "1", "gap", payloads(&rows)[3]], "the two gaps have become one");
    assert_eq!(rows.iter().filter(|row| row.gap.is_some()).count(), 1);
    assert_eq!(rows[2].gap.unwrap().first_id, claimed[2].id);
    assert_eq!(setup.lost(), setup.outbox.dropped());
}

#[test]
fn what_an_earlier_hub_may_have_sent_is_never_dropped() {
    let mut setup = Setup::new(limit(20));
    setup.add(0..15);
    setup.reopen(OutboxSettings { maybe_sent: 3, ..limit(20) });
    setup.outbox.release(Lane::Backlog, 0);
    setup.add(15..60);
    assert_eq!(payloads(&setup.all())[..4], ["0", "1", "2", "gap"]);
    assert_eq!(setup.lost(), setup.outbox.dropped());
}

#[test]
fn the_live_lane_is_above_the_boundary_and_the_backlog_below() {
    let mut setup = Setup::new(limit(20));
    setup.add(0..10);
    setup.outbox.set_boundary(setup.outbox.newest());
    assert!(setup.claim(Lane::Live, 0, 100).is_empty());
    setup.add(10..14);
    let live = setup.claim(Lane::Live, 0, 100);
    assert_eq!(payloads(&live), ["10", "11", "12", "13"]);
    let backlog = setup.claim(Lane::Backlog, 0, 2);
    assert_eq!(payloads(&backlog), ["0", "1"]);
    assert_eq!(payloads(&setup.claim(Lane::Backlog, backlog[1].id, 1)), ["2"]);
    setup.add(14..60);
    let rows = setup.all();
    assert_eq!(payloads(&rows)[..9], ["0", "1", "2", "gap", "10", "11", "12", "13", "gap"]);
    assert_eq!(setup.lost(), setup.outbox.dropped());
    setup.change(vec![OutboxChange::Sent { lane_after: live[0].id - 1, through: live[3].id }]);
    assert_eq!(payloads(&setup.all())[..5], ["0", "1", "2", "gap", "gap"]);
}

#[test]
fn a_batch_is_bounded_in_rows_and_bytes_but_never_empty() {
    let mut setup = Setup::new(SETTINGS);
    setup.database.store(&[passing(&"x".repeat(5000)), passing("1"), passing("2")]).unwrap();
    let reader = setup.reader();
    let read = |after, rows, bytes| reader.outbox(&setup.outbox, Lane::Backlog, after, rows, bytes).unwrap();
    let first = read(0, 10, 1000);
    assert_eq!(first.len(), 1);
    assert_eq!(payloads(&read(first[0].id, 10, 1000)), ["1", "2"]);
    assert_eq!(payloads(&read(first[0].id, 1, 1000)), ["1"]);
}

#[test]
fn what_is_too_old_is_dropped_unless_the_clock_was_not_set() {
    let aged = OutboxSettings { age_max: Some(Duration::from_secs(3600)), ..SETTINGS };
    let old = now_ms() - 3_700_000;
    let mut setup = Setup::new(aged);
    let batch = [job(Entry::Passing, "1", old, None), job(Entry::Passing, "2", old, None), passing("3")];
    setup.database.store(&batch).unwrap();
    setup.check();
    assert_eq!(payloads(&setup.all()), ["gap", "3"]);
    assert_eq!((setup.lost(), setup.outbox.dropped()), (2, 2));

    let mut unset = Setup::new(aged);
    unset.database.store(&[job(Entry::Passing, "1", 1000, None), passing("2")]).unwrap();
    assert_eq!(payloads(&unset.all()), ["1", "2"]);
}

#[test]
fn a_limit_that_was_lowered_is_reached_in_steps_that_do_not_take_long() {
    let mut setup = Setup::new(SETTINGS);
    setup.add(0..40_000);
    setup.reopen(limit(20));
    setup.add(0..1);
    assert!((16_384..20_000).contains(&setup.outbox.dropped()), "{}", setup.outbox.dropped());
    for _ in 0..2 {
        setup.add(0..1);
    }
    assert!(setup.outbox.bytes() <= setup.outbox.bytes_max());
    assert_eq!((setup.lost(), setup.all()[0].gap.is_some()), (setup.outbox.dropped(), true));
    assert_eq!(setup.all().iter().filter(|row| row.gap.is_some()).count(), 1);
}

#[test]
fn an_outbox_whose_total_is_gone_is_counted() {
    let mut setup = Setup::new(SETTINGS);
    setup.add(0..3);
    setup.connection().execute_batch("DELETE FROM outbox_total").unwrap();
    setup.reopen(SETTINGS);
    assert_eq!(setup.outbox.messages(), 3);
    setup.add(3..4);
}

#[tokio::test]
async fn the_bridge_is_woken_by_what_was_added_before_it_waits() {
    let mut setup = Setup::new(SETTINGS);
    setup.outbox.changed().await;
    setup.add(0..1);
    setup.outbox.changed().await;
    setup.change(vec![OutboxChange::Sent { lane_after: 0, through: i64::MAX }]);
    let woken = tokio::time::timeout(Duration::from_millis(1), setup.outbox.changed()).await;
    assert!(woken.is_err(), "sending adds nothing");
}

#[test]
fn a_copy_that_was_put_back_gives_out_no_number_twice() {
    let mut setup = Setup::new(SETTINGS);
    setup.add(0..3);
    let used = setup.outbox.newest();
    // As in a copy that was made before anything was sent.
    setup
        .connection()
        .execute_batch("DELETE FROM outbox; UPDATE sqlite_sequence SET seq = 7 WHERE name = 'outbox'")
        .unwrap();
    setup.connection().execute_batch("UPDATE outbox_total SET messages = 0, bytes = 0").unwrap();
    std::thread::sleep(Duration::from_millis(5));
    setup.reopen(SETTINGS);
    setup.add(3..4);
    assert!(setup.all()[0].id > used, "{} was given out before", setup.all()[0].id);
}
