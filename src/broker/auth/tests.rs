//! Tests of logins, and of what happens to clients when users and rights are replaced.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::*;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A directory with files of users and rules.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn users(&self, users: &[(&str, &str)]) {
        let mut file = Users::default();
        for (name, password) in users {
            file.set(name, passwords::Hash::make(password.as_bytes()).unwrap());
        }
        fs::write(self.path("users"), file.text()).unwrap();
    }

    fn load(&self) -> Result<Auth, AuthErrors> {
        let flags = config::Flags { config: Some(self.path("hub.toml")), ..config::Flags::default() };
        let mut hub = String::from("[broker]\n");
        for key in ["users", "password_file", "acl_file"] {
            if self.path(key).exists() {
                hub += &format!("{key} = \"{key}\"\n");
            }
        }
        fs::write(self.path("hub.toml"), hub).unwrap();
        Auth::load(&config::Config::load(&flags, Vec::new()).unwrap().broker)
    }
}

fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(30)
}

async fn admit(access: &Access, name: &str, password: &str) -> Result<Option<Arc<str>>, Refusal> {
    let login = Login { name: Some(name), password: Some(password.as_bytes()) };
    access.admit(login, PEER, soon()).await
}

#[tokio::test]
async fn a_user_who_is_taken_out_may_do_nothing_any_more_though_connected() {
    let files = Files::new();
    files.users(&[("a", "1"), ("b", "2")]);
    let access = Access::new(files.load().unwrap());
    let user = admit(&access, "a", "1").await.unwrap();
    let rights = Rights::new(access.clone(), user, "c");
    assert!(rights.may_write("x") && rights.are_open());

    fs::write(files.path("acl_file"), "user a\ntopic read y\n").unwrap();
    access.replace(files.load().unwrap());
    assert!(!rights.may_write("x") && rights.may_read("y") && rights.may_subscribe("#"));

    fs::remove_file(files.path("acl_file")).unwrap();
    files.users(&[("b", "2")]);
    access.replace(files.load().unwrap());
    assert!(!rights.may_write("x") && !rights.may_read("y") && !rights.may_subscribe("#"));
    assert_eq!(admit(&access, "a", "1").await, Err(Refusal::Unknown), "what was verified once is not any more");
    assert!(admit(&access, "b", "2").await.is_ok());

    let stranger = Rights::new(access.clone(), None, "c");
    assert!(!stranger.may_read("x"), "a client from before there were users");
}

#[tokio::test]
async fn a_name_that_nobody_has_takes_as_long_as_a_wrong_password() {
    let files = Files::new();
    files.users(&[("a", "1")]);
    let access = Access::new(files.load().unwrap());
    let (_, auth) = access.current();
    let mut times = [Duration::MAX; 2];
    // The fastest of a few: others use the machine too.
    for _ in 0..5 {
        for (time, name) in times.iter_mut().zip(["a", "nobody"]) {
            let began = Instant::now();
            assert_eq!(access.verify(&auth, name, b"wrong", soon()).await, Ok(None));
            *time = (*time).min(began.elapsed());
        }
    }
    assert!(times[1] > times[0] / 2 && times[0] > times[1] / 2, "{times:?}");
}

#[tokio::test]
async fn a_login_that_was_verified_is_not_verified_again() {
    let files = Files::new();
    files.users(&[("a", "1")]);
    let access = Access::new(files.load().unwrap());
    assert!(admit(&access, "a", "1").await.is_ok());
    // With no worker left, only what is remembered gets in.
    let _workers = access.workers.clone().acquire_many_owned(VERIFIED_AT_A_TIME as u32).await.unwrap();
    assert!(admit(&access, "a", "1").await.is_ok());
    let late = tokio::time::Instant::now() + Duration::from_millis(20);
    let wrong = Login { name: Some("a"), password: Some(b"2") };
    assert_eq!(access.admit(wrong, PEER, late).await, Err(Refusal::Busy));
}

#[tokio::test]
async fn those_who_wait_to_be_verified_are_bounded() {
    let files = Files::new();
    files.users(&[("a", "1")]);
    let access = Access::new(files.load().unwrap());
    let places: Vec<_> = (0..WAITING_MAX).map(|_| Waiting::enter(&access.waiting).unwrap()).collect();
    assert_eq!(admit(&access, "a", "1").await, Err(Refusal::Busy));
    drop(places);
    assert!(admit(&access, "a", "1").await.is_ok());
}

#[test]
fn everything_that_is_wrong_is_told_at_once_without_a_hash() {
    let files = Files::new();
    files.users(&[("twice", "1"), ("a", "1")]);
    let own = fs::read_to_string(files.path("users")).unwrap();
    fs::write(files.path("password_file"), own.replace("a:", "b:")).unwrap();
    fs::write(files.path("acl_file"), "topic a/#/b\n").unwrap();
    let text = files.load().unwrap_err().to_string().replace(&format!("{}/", files.0.path().display()), "");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "acl_file:1: broker.acl_file: \"a/#/b\" is not a topic filter",
            "users: broker.users: user \"twice\" stands in broker.password_file too; take it out of one of them",
        ]
    );
    let foreign = "a:$7$101$ULcXBP+ouir9XZ7A$aQoVrXEcEcd3AFAWqL7rbKegEIZwaTTzKJTH2qqGPBq5JyuFhZwzknU0RvwMKpD9v4oBDcITcchpgYLTTRbt9g==\n";
    fs::write(files.path("users"), format!("# users\n{foreign}")).unwrap();
    let text = files.load().unwrap_err().to_string();
    assert!(text.contains("users:2: broker.users: the hash is Mosquitto's") && !text.contains("$7$"), "{text}");
}

#[test]
fn a_debug_print_of_users_shows_no_hash() {
    let files = Files::new();
    files.users(&[("a", "1")]);
    let access = Access::new(files.load().unwrap());
    let shown = format!("{access:?}");
    assert!(shown.contains("argon2id ***") && !shown.contains("$argon2id"), "{shown}");
}
