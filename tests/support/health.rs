//! Looks at a hub's health in every place where it is told: log, `/healthz`, `/metrics`, `status`, alerts.
//!
//! Owns what "told" and "over" mean. It never makes anything ill.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::{Hub, SOON, Site, holds_within, wait_for};

/// An owner who wants to be told of whatever is wrong, at once.
pub const ALERTS: &str = "[alerts]\ngroup_s = 0\n[[alerts.channel]]\nname = \"log\"\nkind = \"log\"\n";

/// Makes the site of a hub that says every `interval_s` what is wrong, and tells its owner; `more` goes on in `[health]`.
pub fn telling(interval_s: u32, more: &str) -> Site {
    Site::with_config(&format!("[health]\ninterval_s = {interval_s}\n{more}{ALERTS}"))
}

/// Makes the site of a hub that looks at itself every second.
pub fn often(more: &str) -> Site {
    telling(1, more)
}

/// Returns how many alerts about a check are in this list of them, `firing` or `ended`.
fn alerts(hub: &Hub, list: &str, id: &str) -> usize {
    let listing: serde_json::Value = serde_json::from_str(&get(hub, "/api/v1/alerts").1).unwrap();
    // Of the silence of sources, each is told by itself.
    let is_about = |subject: &str| subject.split('/').next() == Some(id);
    listing[list].as_array().unwrap().iter().filter(|alert| is_about(alert["subject"].as_str().unwrap())).count()
}

/// Gets a path over HTTP; returns the status code and the body.
pub fn get(hub: &Hub, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(hub.ready["http"].as_str().unwrap()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, body.to_owned())
}

/// Returns the code of `/healthz`, its status, and the text of the issue with this id.
pub fn healthz(hub: &Hub, id: &str) -> (u16, String, Option<String>) {
    let (code, body) = get(hub, "/healthz");
    let report: serde_json::Value = serde_json::from_str(&body).unwrap();
    let issue = report["issues"].as_array().unwrap().iter().find(|issue| issue["id"] == id);
    let text = issue.map(|issue| issue["text"].as_str().unwrap().to_owned());
    (code, report["status"].as_str().unwrap().to_owned(), text)
}

/// Waits until an issue is told everywhere; `words` are those of its text. Returns the text.
pub fn wait_told(site: &Site, hub: &Hub, mark: usize, id: &str, words: &[&str], within: Duration) -> String {
    let mut line = vec![" warn ", "health check issues:"];
    line.extend(words);
    hub.wait_said(mark, &line, within);
    let mut text = None;
    wait_for("the issue in /healthz", SOON, || {
        text = healthz(hub, id).2;
        text.is_some()
    });
    let gauge = format!("stationhub_check_failing{{check=\"{id}\"}} 1");
    assert!(get(hub, "/metrics").1.lines().any(|line| line == gauge), "no {gauge}");
    let output = site.refused(site.command("status"), SOON);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let status = String::from_utf8_lossy(&output.stdout);
    assert!(status.contains(id) && !status.contains('\x1b'), "{status}");
    hub.wait_said(mark, &["alert: ", " firing (", id], SOON);
    assert_eq!(alerts(hub, "firing", id), 1);
    text.unwrap()
}

/// Waits until an issue is over everywhere.
pub fn wait_over(hub: &Hub, mark: usize, id: &str, within: Duration) {
    assert!(holds_within(within, || healthz(hub, id).2.is_none()), "{id} is not over: {:?}", healthz(hub, id));
    hub.wait_said(mark, &[" info ", "health check: all is well again"], within);
    let gauge = format!("stationhub_check_failing{{check=\"{id}\"}} 0");
    assert!(get(hub, "/metrics").1.lines().any(|line| line == gauge), "no {gauge}");
    hub.wait_said(mark, &["alert: ", " resolved (", id], SOON);
    assert_eq!((alerts(hub, "firing", id), alerts(hub, "ended", id) > 0), (0, true));
}
