//! The statistics line: what came, what was stored, what was lost, in one interval.
//!
//! Owns the figures and their words. Pure.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

/// What was counted since the start, and what is there now.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Figures {
    /// Readings stored.
    pub readings: u64,
    /// Messages put into quarantine.
    pub quarantined: u64,
    /// Redeliveries that made no second row.
    pub duplicates: u64,
    /// Samples that were sent again as new messages and made no second row.
    pub repeats: u64,
    /// Readings at QoS 0 that found no room.
    pub lost: u64,
    /// Readings without a time of their own.
    pub time_missing: u64,
    /// Readings with a time far from the hub's.
    pub time_skewed: u64,
    /// Transactions committed.
    pub commits: u64,
    /// Time spent in them, microseconds.
    pub commit_us: u64,
    /// Transactions that failed.
    pub write_failures: u64,
    /// When the last one committed, Unix milliseconds; 0 before the first.
    pub last_commit_ms: i64,
    /// Readings that wait for the database now.
    pub queue_jobs: u64,
    /// Their bytes.
    pub queue_bytes: u64,
    /// The most bytes that ever waited.
    pub queue_bytes_peak: u64,
    /// Clients connected now.
    pub clients: u64,
    /// Sessions kept now.
    pub sessions: u64,
    /// Sockets accepted.
    pub connections: u64,
    /// Sockets that never became a client.
    pub connections_refused: u64,
    /// Connections ended for breaking the protocol.
    pub violations: u64,
    /// Logins refused.
    pub logins_refused: u64,
    /// Publishes, subscriptions and wills that the access rules denied.
    pub denied: u64,
    /// Publishes received.
    pub received: u64,
    /// Messages delivered to subscribers.
    pub delivered: u64,
    /// Messages to subscribers that could not keep up.
    pub dropped: u64,
    /// Messages that the router dropped before a subscriber's link had read them.
    pub router_lost: u64,
    /// Bytes that wait for clients now.
    pub queued_bytes: u64,
    /// Messages that the upstream acknowledged.
    pub forwarded: u64,
    /// Messages that were sent to it again.
    pub forwarded_again: u64,
    /// Messages that it does not take.
    pub refused_upstream: u64,
    /// Messages that came from it.
    pub from_upstream: u64,
    /// Messages from it that the access rules denied.
    pub from_upstream_denied: u64,
    /// Messages that went upstream, came round, and did not go again.
    pub came_round: u64,
    /// Messages that were too large to go upstream.
    pub too_large_to_forward: u64,
    /// Messages that were dropped for the limits of what waits for it.
    pub outbox_lost: u64,
    /// Messages that wait for it now.
    pub outbox_messages: u64,
    /// Bytes written to the disk.
    pub disk_written_bytes: u64,
}

impl Figures {
    /// Returns the figures in one short line; `last` were those of `interval` ago.
    pub fn in_brief(&self, last: &Figures, interval: Duration) -> String {
        let per_second = per_second(self.readings.saturating_sub(last.readings), interval);
        let mut line =
            format!("{per_second:.1} readings/s, {} clients, {} waiting to be stored", self.clients, self.queue_jobs);
        if self.outbox_messages > 0 {
            write!(line, ", {} waiting for the upstream", self.outbox_messages).unwrap_or_default();
        }
        if self.write_failures > last.write_failures {
            line.push_str(", the database CANNOT BE WRITTEN");
        }
        line
    }
}

#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
fn per_second(count: u64, interval: Duration) -> f64 {
    count as f64 / interval.as_secs_f64().max(0.001)
}

/// Remembers the figures of the last line.
#[derive(Debug)]
pub struct Statistics {
    last: Figures,
}

impl Statistics {
    /// Begins at these figures.
    pub fn begin(figures: Figures) -> Statistics {
        Statistics { last: figures }
    }

    /// Returns the line for what came since the last one, `interval` ago. What is zero and should be is left out.
    pub fn line(&mut self, now: Figures, interval: Duration) -> String {
        let last = std::mem::replace(&mut self.last, now);
        let readings = now.readings.saturating_sub(last.readings);
        let commits = now.commits.saturating_sub(last.commits);
        let commit_us = now.commit_us.saturating_sub(last.commit_us);
        let per_second = per_second(readings, interval);
        let mut line = format!(
            "{readings} readings stored ({per_second:.1}/s) in {commits} commits of {:.1} ms, {} messages received, \
             {} clients",
            millis(commit_us.checked_div(commits).unwrap_or(0)),
            now.received.saturating_sub(last.received),
            now.clients,
        );
        for (count, before, words) in [
            (now.quarantined, last.quarantined, "quarantined"),
            (now.duplicates, last.duplicates, "redeliveries"),
            (now.repeats, last.repeats, "samples sent again"),
            (now.lost, last.lost, "LOST for want of room"),
            (now.time_missing, last.time_missing, "without a time of their own"),
            (now.time_skewed, last.time_skewed, "with a time far from the hub's"),
            (now.write_failures, last.write_failures, "write failures"),
            (now.delivered, last.delivered, "delivered to subscribers"),
            (now.dropped, last.dropped, "dropped for slow subscribers"),
            (now.router_lost, last.router_lost, "LOST in the message router"),
            (now.connections_refused, last.connections_refused, "connections refused"),
            (now.violations, last.violations, "protocol violations"),
            (now.logins_refused, last.logins_refused, "logins refused"),
            (now.denied, last.denied, "DENIED by the access rules"),
            (now.forwarded, last.forwarded, "forwarded upstream"),
            (now.forwarded_again, last.forwarded_again, "sent upstream again"),
            (now.refused_upstream, last.refused_upstream, "REFUSED by the upstream"),
            (now.from_upstream, last.from_upstream, "came from the upstream"),
            (now.from_upstream_denied, last.from_upstream_denied, "from the upstream DENIED by the access rules"),
            (now.came_round, last.came_round, "not forwarded again that came round"),
            (now.too_large_to_forward, last.too_large_to_forward, "TOO LARGE to forward"),
            (now.outbox_lost, last.outbox_lost, "LOST for the limits of the outbox"),
        ] {
            let count = count.saturating_sub(before);
            if count > 0 {
                // Writing to a string cannot fail.
                write!(line, ", {count} {words}").unwrap_or_default();
            }
        }
        let written = now.disk_written_bytes.saturating_sub(last.disk_written_bytes);
        if written > 0 {
            write!(line, ", {:.1} MB written to disk", megabytes(written)).unwrap_or_default();
        }
        if now.queue_jobs > 0 {
            write!(line, ", {} waiting to be stored", now.queue_jobs).unwrap_or_default();
        }
        if now.outbox_messages > 0 {
            write!(line, ", {} waiting for the upstream", now.outbox_messages).unwrap_or_default();
        }
        line
    }
}

#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
fn millis(us: u64) -> f64 {
    us as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_came_since_the_last() {
        let mut statistics = Statistics::begin(Figures { readings: 100, commits: 10, ..Figures::default() });
        let now = Figures {
            readings: 220,
            commits: 12,
            commit_us: 5_000,
            received: 130,
            clients: 2,
            lost: 3,
            queue_jobs: 4,
            forwarded: 5,
            outbox_lost: 6,
            outbox_messages: 7,
            disk_written_bytes: 1_250_000,
            ..Figures::default()
        };
        assert_eq!(
            statistics.line(now, Duration::from_secs(60)),
            "120 readings stored (2.0/s) in 2 commits of 2.5 ms, 130 messages received, 2 clients, \
             3 LOST for want of room, 5 forwarded upstream, 6 LOST for the limits of the outbox, 1.2 MB written to disk, \
             4 waiting to be stored, 7 waiting for the upstream"
        );
        assert_eq!(
            statistics.line(Figures { queue_jobs: 0, outbox_messages: 0, ..now }, Duration::from_secs(60)),
            "0 readings stored (0.0/s) in 0 commits of 0.0 ms, 0 messages received, 2 clients"
        );
    }
}
