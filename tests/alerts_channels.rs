//! Alerts by mail, on the hub's own broker, by a program, and over HTTP as the examples in the documentation have it.
//!
//! Owns the ways of one message. What is told when is `alerts_webhook.rs`'s.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::let_underscore_must_use)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use support::mqtt::{Client, Connect};
use support::tls::Authority;
use support::webhook::{Mood, Webhook};
use support::{Hub, PATIENTLY, SOON, Site, program, skip, wait_for};

const TOPIC: &str = "garden/weathermeters";

fn site(channel: &str) -> Site {
    Site::with_config(&format!(
        "[station]\nname = \"farm\"\n[alerts]\ngroup_s = 0\n[[alerts.channel]]\nname = \"it\"\n{channel}\n\
         [[alerts.rule]]\nname = \"frost\"\nwhen = \"temperature < 0\"\n"
    ))
}

fn sensor(hub: &Hub) -> Client {
    Connect::new(4, "sensor").open(hub.mqtt)
}

fn says(sensor: &mut Client, temperature: f64) {
    sensor.publish_through(TOPIC, format!("{{\"temperature\":{temperature}}}").as_bytes(), 1);
}

/// A mail server that is not ours, and the mails that it took.
struct Post {
    python: Child,
    port: String,
    mails: Arc<Mutex<Vec<serde_json::Value>>>,
}

impl Drop for Post {
    fn drop(&mut self) {
        let _ = self.python.kill();
        let _ = self.python.wait();
    }
}

impl Post {
    /// Starts the server with a certificate for `localhost` by an authority that is written beside it; `None` where it is
    /// not installed.
    fn start(way: &str, dir: &std::path::Path) -> Option<Post> {
        let mut probe = program("python3")?;
        if !probe.args(["-c", "import aiosmtpd"]).output().unwrap().status.success() {
            skip("python3 has no aiosmtpd", true);
            return None;
        }
        let authority = Authority::new("mail");
        let identity = authority.issue("localhost");
        fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
        fs::write(dir.join("mail.pem"), identity.certificate).unwrap();
        fs::write(dir.join("mail.key"), identity.key).unwrap();
        let mut python = program("python3")?
            .current_dir(dir)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/smtp_server.py"))
            .args([way, "mail.pem", "mail.key", "refuse"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(python.stdout.take().unwrap()).lines();
        let port = lines.next().unwrap().unwrap();
        let mails: Arc<Mutex<Vec<serde_json::Value>>> = Arc::default();
        let taken = mails.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                taken.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Some(Post { python, port, mails })
    }

    fn wait_mails(&self, count: usize) -> Vec<serde_json::Value> {
        wait_for(&format!("{count} mails"), PATIENTLY, || self.mails.lock().unwrap().len() >= count);
        self.mails.lock().unwrap().clone()
    }
}

fn mail_channel(post: &Post, tls: &str) -> String {
    let login = "username = \"hub\"\npassword_file = \"password\"\nca = \"ca.pem\"\n";
    format!(
        "kind = \"mail\"\nhost = \"localhost\"\nport = {}\ntls = \"{tls}\"\nfrom = \"Hub <hub@farm.example>\"\n\
         to = [\"ann@farm.example\", \"Bob <bob@farm.example>\"]\n{}",
        post.port,
        if tls == "none" { "" } else { login }
    )
}

fn mail_goes_out(tls: &str) {
    let site = Site::new();
    let Some(post) = Post::start(tls, site.dir()) else { return };
    let mut text = fs::read_to_string(self::site(&mail_channel(&post, tls)).file("hub.toml")).unwrap();
    text += "[log]\nlevel = \"trace\"\n";
    fs::write(site.file("hub.toml"), text).unwrap();
    fs::write(site.file("password"), "secret word\n").unwrap();
    fs::write(site.file("refuse"), "").unwrap();
    let hub = site.start();
    let mark = hub.log_end();
    let mut sensor = sensor(&hub);
    says(&mut sensor, -4.5);
    hub.wait_said(mark, &["not delivered", "451", "the box is full"], SOON);
    fs::remove_file(site.file("refuse")).unwrap();
    let mails = post.wait_mails(2);
    let to: Vec<&str> = mails.iter().map(|mail| mail["to"][0].as_str().unwrap()).collect();
    assert_eq!(to, ["ann@farm.example", "bob@farm.example"]);
    assert_eq!(mails[0]["id"], mails[1]["id"]);
    let mail = &mails[0];
    assert_eq!(mail["from"], "hub@farm.example");
    assert_eq!(mail["subject"], "[farm] frost firing");
    assert!(mail["text"].as_str().unwrap().contains("temperature is -4.5 on garden/weathermeters"), "{mail}");
    assert_eq!((mail["tls"].as_bool(), mail["login"].as_bool()), (Some(tls != "none"), Some(tls != "none")));
    says(&mut sensor, 4.5);
    let mails = post.wait_mails(4);
    assert_eq!(mails[2]["subject"], "[farm] frost resolved");
    assert_ne!(mails[0]["id"], mails[2]["id"]);
    assert!(hub.stop().success());
    let output = fs::read_to_string(site.file("output")).unwrap() + &fs::read_to_string(site.file("hub.log")).unwrap();
    assert!(!output.contains("secret word") && !output.contains("c2VjcmV0IHdvcmQ"), "the password is in the log");
}

#[test]
fn a_mail_goes_out_after_starttls_with_a_login() {
    mail_goes_out("starttls");
}

#[test]
fn a_mail_goes_out_over_tls_with_a_login() {
    mail_goes_out("tls");
}

#[test]
fn a_mail_goes_out_to_a_server_without_tls_where_that_is_asked_for() {
    mail_goes_out("none");
}

#[test]
fn no_mail_and_no_password_goes_to_a_server_without_the_tls_that_is_asked_for() {
    let site = Site::new();
    let Some(post) = Post::start("none", site.dir()) else { return };
    let Some(stranger) = Post::start("starttls", tempfile::tempdir().unwrap().keep().as_path()) else { return };
    fs::write(site.file("password"), "secret word\n").unwrap();
    for (server, words) in [(&post, "STARTTLS"), (&stranger, "certificate")] {
        let text = fs::read_to_string(self::site(&mail_channel(server, "starttls")).file("hub.toml")).unwrap();
        fs::write(site.file("hub.toml"), text).unwrap();
        let hub = site.start();
        let output = site.command("alert").args(["test", "it"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains(words), "{said}");
        assert!(hub.stop().success());
    }
    assert!(post.mails.lock().unwrap().is_empty() && stranger.mails.lock().unwrap().is_empty());
}

#[test]
fn a_recipient_that_the_server_does_not_know_keeps_mail_from_nobody_else() {
    let site = Site::new();
    let Some(post) = Post::start("none", site.dir()) else { return };
    let channel = mail_channel(&post, "none").replace("\"ann@farm.example\"", "\"gone@farm.example\"");
    fs::copy(self::site(&channel).file("hub.toml"), site.file("hub.toml")).unwrap();
    let hub = site.start();
    let mut sensor = sensor(&hub);
    says(&mut sensor, -4.5);
    hub.wait_said(0, &[" warn ", "other recipients", "550", "gone@farm.example"], SOON);
    says(&mut sensor, 4.5);
    let subjects: Vec<_> = post.wait_mails(2).iter().map(|mail| mail["subject"].clone()).collect();
    assert_eq!(subjects, ["[farm] frost firing", "[farm] frost resolved"]);
}

#[test]
fn the_state_of_a_rule_is_a_retained_message() {
    let site = site("kind = \"mqtt\"");
    let hub = site.start();
    let mut watcher = Connect::new(4, "watcher").open(hub.mqtt);
    watcher.subscribe("stationhub/alert/#", 1);
    let mut sensor = sensor(&hub);
    says(&mut sensor, -1.0);
    let told = watcher.receive();
    assert_eq!(told.topic, "stationhub/alert/frost/garden:weathermeters");
    let json: serde_json::Value = serde_json::from_slice(&told.payload).unwrap();
    assert_eq!((&json["state"], &json["severity"]), (&"firing".into(), &"warning".into()));
    // Whoever comes later, also after a crash, finds the state.
    wait_for("the mark", SOON, || site.number("SELECT count(*) FROM alert_notice WHERE outcome = 'sent'") == 1);
    wait_for("the retained message", SOON, || site.number("SELECT count(*) FROM retained") == 1);
    hub.kill_9();
    let hub = site.start();
    let mut late = Connect::new(4, "late").open(hub.mqtt);
    late.subscribe("stationhub/alert/#", 1);
    let kept = late.receive();
    assert_eq!(kept.payload, told.payload);
    says(&mut Connect::new(4, "sensor").open(hub.mqtt), 1.0);
    let over: serde_json::Value = serde_json::from_slice(&late.receive().payload).unwrap();
    assert_eq!(over["state"], "resolved");
    late.assert_silent_for(Duration::from_millis(300));
    // Its topic names a source of readings, and is none.
    assert_eq!(site.number("SELECT count(*) FROM source"), 1);
}

#[test]
fn a_program_gets_the_message_as_arguments_and_as_input_and_its_failure_is_told() {
    let site =
        site("kind = \"command\"\nprogram = \"/bin/sh\"\narguments = [\"script\", \"{state}\", \"$(id); {title}\"]\n");
    fs::write(
        site.file("script"),
        "[ -e ready ] || { echo not yet >&2; exit 3; }\ncat > \"$1\"; echo \"$2\" >> \"$1\"\n",
    )
    .unwrap();
    let hub = site.start();
    let mark = hub.log_end();
    let mut sensor = sensor(&hub);
    says(&mut sensor, -1.0);
    hub.wait_said(mark, &["not delivered", "/bin/sh ended with exit status: 3: not yet"], SOON);
    fs::write(site.file("ready"), "").unwrap();
    says(&mut sensor, 1.0);
    let read = |name: &str| fs::read_to_string(site.file(name)).unwrap_or_default();
    wait_for("the end to be told", PATIENTLY, || read("resolved").contains("$(id)"));
    // What was tried is tried again as it was, and the end is told after it.
    let told = read("firing");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!((lines[0], lines[2]), ("[farm] frost firing", "$(id); [farm] frost firing"), "{told}");
    assert!(lines[1].contains("frost firing") && lines[1].contains("temperature is -1 on garden"), "{told}");
    assert!(read("resolved").lines().nth(1).is_some_and(|line| line.contains("frost resolved")));
}

#[test]
fn a_program_that_hangs_is_killed_with_all_that_it_has_started() {
    let site = site("kind = \"command\"\nprogram = \"/bin/sh\"\narguments = [\"script\"]\ntimeout_s = 1\n");
    fs::write(site.file("script"), "sleep 300 & echo $! > child; wait\n").unwrap();
    let _hub = site.start();
    let output = site.command("alert").args(["test", "it"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no answer within 1 s"), "{said}");
    let child = fs::read_to_string(site.file("child")).unwrap();
    let state = format!("/proc/{}/stat", child.trim());
    // Where nobody collects it, it stays as a zombie.
    let is_gone = || fs::read_to_string(&state).map_or(true, |stat| stat.contains(") Z "));
    wait_for("the end of what it started", SOON, is_gone);
}

#[test]
fn a_webhook_over_tls_trusts_the_authority_that_is_named_alone() {
    let (site, authority) = (Site::new(), Authority::new("hooks"));
    let hook = Webhook::start_tls(&authority.issue("localhost"));
    let url = format!("https://localhost:{}/hook?token=t0ken", hook.address.port());
    for (known, code) in [(&authority, Some(0)), (&Authority::new("others"), Some(1))] {
        fs::write(site.file("ca.pem"), known.pem()).unwrap();
        let channel = format!("kind = \"webhook\"\nurl = \"{url}\"\nca = \"ca.pem\"\n");
        fs::write(site.file("hub.toml"), fs::read_to_string(self::site(&channel).file("hub.toml")).unwrap()).unwrap();
        let hub = site.start();
        let output = site.command("alert").args(["test", "it"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), code, "{said}");
        assert!(!said.contains("t0ken"), "{said}");
        assert!(hub.stop().success());
    }
    assert_eq!(hook.taken().len(), 1);
    let shown = site.command("check").output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("https://localhost") && !shown.contains("t0ken"), "{shown}");
}

/// Returns the examples of the documentation that hold this word.
fn example(word: &str) -> String {
    let docs = include_str!("../docs/alerts.md");
    let found = docs.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    found.filter(|example| example.contains(word)).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_examples_in_the_documentation_work_as_written() {
    for (word, server, expected) in [
        ("ntfy", "https://ntfy.sh", "frost firing (warning"),
        ("slack", "https://hooks.slack.com", "*[farm] frost firing*"),
        ("discord", "https://discord.com", "**[farm] frost firing**"),
        ("sms", "https://sms.example", "text=%5Bfarm%5D%20frost%20firing"),
    ] {
        let hook = Webhook::start(Mood::Takes);
        let example = example(word);
        assert!(example.contains(server), "{word}: {example}");
        let example = example.replace(server, &format!("http://{}", hook.address));
        let site = Site::with_config(&format!(
            "[station]\nname = \"farm\"\n[alerts]\ngroup_s = 0\n{example}\n[[alerts.rule]]\nname = \"frost\"\n\
             when = \"temperature < 0\"\n"
        ));
        let hub = site.start();
        says(&mut sensor(&hub), -1.0);
        wait_for(word, SOON, || !hook.taken().is_empty());
        let request = &hook.taken()[0];
        assert!(request.body.contains(expected), "{word}: {request:?}");
        let is_json = request.headers.iter().any(|header| header == "content-type: application/json");
        assert_eq!(is_json, serde_json::from_str::<serde_json::Value>(&request.body).is_ok(), "{word}: {request:?}");
        if word == "ntfy" {
            assert!(request.headers.iter().any(|header| header == "title: [farm] frost firing"), "{request:?}");
        }
    }
}
