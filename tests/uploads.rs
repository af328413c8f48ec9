//! Uploads to weather networks: each slot of time once and in order, whatever network, sensor and hub do.
//!
//! Owns what networks hear. What their formats are is held by the tests beside each format.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use support::mqtt::Connect;
use support::networks::{Heard, Network};
use support::{Hub, PATIENTLY, SOON, Site, now_s, wait_for};

const TOPIC: &str = "garden/weathermeters";
const SECRET: &str = "hush-hush-7";
/// Seconds of a slot in most tests: the least time in which a pause of half of it is a second.
const INTERVAL_S: i64 = 2;

fn station() -> String {
    "[station]\nname = \"farm\"\nlatitude = 49.05833\nlongitude = -72.02917\naltitude_m = 0\n".to_owned()
}

fn wunderground(network: &Network, interval_s: i64) -> String {
    format!(
        "[[upload]]\nnetwork = \"wunderground\"\nstation = \"KXYZ1\"\npassword = \"{SECRET}\"\n\
         interval_s = {interval_s}\nurl = \"http://{}/update.php\"\n",
        network.address
    )
}

/// A sensor that sends without pause until it is dropped.
struct Sensor {
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sensor {
    fn start(hub: &Hub) -> Sensor {
        let stops = Arc::new(AtomicBool::new(false));
        let (stopped, address) = (stops.clone(), hub.mqtt);
        let thread = thread::spawn(move || {
            let mut client = Connect::new(4, "sensor").open(address);
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                count += 1;
                client.publish_through(TOPIC, reading(count).as_bytes(), 1);
                thread::sleep(Duration::from_millis(200));
            }
        });
        Sensor { stops, thread: Some(thread) }
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Relaxed);
        // Where the hub was killed, it has ended by a panic.
        self.thread.take().unwrap().join().ok();
    }
}

fn reading(count: u64) -> String {
    format!(
        "{{\"utc\":{},\"sampleinterval\":200,\"temperature\":20,\"humidity\":50,\"pressure\":1013.3,\"irradiance\":321,\
         \"raingaugecount\":170,\"anemometercount\":{count}}}",
        now_s()
    )
}

fn slots(heard: &[Heard]) -> Vec<i64> {
    heard.iter().map(Heard::slot_s).collect()
}

/// Sees that slots follow each other without a gap, each of them once.
fn assert_whole(slots: &[i64], interval_s: i64) {
    let is_whole = slots.windows(2).all(|pair| pair[1] - pair[0] == interval_s);
    assert!(is_whole, "each once, in order, none left out: {slots:?}");
}

#[test]
fn each_network_gets_the_weather_in_its_own_format_and_the_password_is_seen_nowhere_else() {
    let (wu, windy, cwop) = (Network::http(200, "success\n"), Network::http(200, ""), Network::aprs());
    let site = Site::with_config(&format!(
        "{}{}[[upload]]\nnetwork = \"windy\"\nstation = \"f07f453a\"\npassword = \"{SECRET}\"\ninterval_s = 1\n\
         url = \"http://{}/api/v2/observation/update\"\n\
         [[upload]]\nname = \"aprs\"\nnetwork = \"cwop\"\nstation = \"cw0007\"\ninterval_s = 1\nserver = \"{}\"\n",
        station(),
        wunderground(&wu, 1),
        windy.address,
        cwop.address,
    ));
    let hub = site.start();
    let _sensor = Sensor::start(&hub);
    for network in [&wu, &windy, &cwop] {
        network.wait_taken(2, PATIENTLY);
    }
    let last = wu.taken().pop().unwrap();
    assert!(last.lines[0].starts_with("GET /update.php?ID=KXYZ1&PASSWORD=hush-hush-7&dateutc="), "{last:?}");
    assert!(last.lines[0].ends_with("&softwaretype=stationhub&action=updateraw HTTP/1.1"), "{last:?}");
    let fields = ["tempf", "humidity", "baromin", "dewptf", "solarradiation", "rainin", "dailyrainin", "winddir"];
    let found = fields.map(|name| last.field(name));
    let [tempf, humidity, baromin, dewptf, solar, rainin, daily, winddir] = &found;
    assert_eq!([tempf, humidity, baromin], [&Some("68".into()), &Some("50".into()), &Some("29.923".into())]);
    assert_eq!([dewptf, solar, rainin, daily].map(Option::is_some), [true; 4], "{found:?}");
    assert_eq!(*winddir, None, "it is not measured");

    let last = windy.taken().pop().unwrap();
    assert!(last.lines[0].starts_with("GET /api/v2/observation/update?id=f07f453a&time="), "{last:?}");
    assert!(last.lines.iter().any(|line| line.to_lowercase() == format!("authorization: bearer {SECRET}")), "{last:?}");
    assert_eq!([last.field("temp"), last.field("pressure")], [Some("20".into()), Some("101330".into())]);

    let last = cwop.taken().pop().unwrap();
    let [login, packet] = &last.lines[..] else { panic!("{last:?}") };
    assert!(login.starts_with("user CW0007 pass -1 vers stationhub "), "{login}");
    assert!(packet.starts_with("CW0007>APRS,TCPIP*:@") && packet.contains("z4903.50N/07201.75W_.../"), "{packet}");
    assert!(packet.contains("t068r000p000P000h50b10133L321"), "{packet}");

    let status = site.status();
    let uploads = status["uploads"].as_array().unwrap();
    assert_eq!(uploads.iter().map(|upload| &upload["name"]).collect::<Vec<_>>(), ["wunderground", "windy", "aprs"]);
    assert!(uploads.iter().all(|upload| upload["sent"].as_u64() >= Some(2) && upload["error"].is_null()), "{status}");
    let output = site.refused(site.command("check"), SOON);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("network = \"windy\"") && printed.contains("password = \"***\""), "{printed}");
    assert!(!printed.contains(SECRET) && !status.to_string().contains(SECRET) && !hub.log().contains(SECRET));
    assert!(hub.stop().success());
}

#[test]
fn what_a_network_missed_while_it_was_down_arrives_in_order_at_a_gentle_pace_and_none_of_it_twice() {
    let network = Network::http(200, "success");
    let site = Site::with_config(&(station() + &wunderground(&network, INTERVAL_S)));
    let hub = site.start();
    let mark = hub.log_end();
    let _sensor = Sensor::start(&hub);
    network.wait_taken(1, PATIENTLY);
    network.answers(503, "busy");
    let down_s = now_s();
    wait_for("three slots to pass", SOON, || now_s() > down_s + 3 * INTERVAL_S + 1);
    hub.wait_said(mark, &[" warn ", "does not take the weather", "503", "busy"], SOON);
    assert!(site.status()["uploads"][0]["waiting"].as_u64() >= Some(3), "{}", site.status()["uploads"]);
    network.answers(200, "success");
    let before = network.taken().len();
    hub.wait_said(mark, &["takes the weather again"], PATIENTLY);
    network.wait_taken(before + 5, PATIENTLY);
    let taken = network.taken();
    assert_whole(&slots(&taken), INTERVAL_S);
    let pauses: Vec<Duration> = taken.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(pauses.iter().all(|pause| *pause >= Duration::from_millis(950)), "{pauses:?}");
    assert_eq!(hub.said_since(mark, &["does not take the weather"]).len(), 1, "the log is not flooded");
    assert!(hub.stop().success());
}

#[test]
fn slots_that_waited_when_the_hub_was_killed_go_after_the_next_start_and_none_goes_twice() {
    let network = Network::http(200, "success");
    let site = Site::with_config(&(station() + &wunderground(&network, INTERVAL_S)));
    let hub = site.start();
    let sensor = Sensor::start(&hub);
    network.wait_taken(2, PATIENTLY);
    network.answers(503, "");
    let tried = network.heard().len();
    network.wait_heard(tried + 2, PATIENTLY);
    let down_s = now_s();
    wait_for("two more slots to pass", SOON, || now_s() > down_s + 2 * INTERVAL_S);
    let noted = "SELECT sent_s FROM upload WHERE name = 'wunderground'";
    assert_eq!(site.number(noted), network.taken().last().unwrap().slot_s());
    hub.kill_9();
    drop(sensor);

    network.answers(200, "success");
    let before = network.taken().len();
    let hub = site.start();
    let _sensor = Sensor::start(&hub);
    network.wait_taken(before + 4, PATIENTLY);
    let found = slots(&network.taken());
    assert_whole(&found[..before + 2], INTERVAL_S);
    assert!(found.is_sorted_by(|one, other| one < other), "none twice: {found:?}");
    assert!(hub.stop().success());
    // A stop in order is no reason to send anything again.
    let sent = network.taken().len();
    let hub = site.start();
    let _sensor = Sensor::start(&hub);
    network.wait_taken(sent + 2, PATIENTLY);
    let found = slots(&network.taken());
    assert!(found.is_sorted_by(|one, other| one < other), "none twice: {found:?}");
}

#[test]
fn a_wrong_password_is_told_once_with_what_to_do_and_not_tried_all_the_time() {
    let network = Network::http(200, &format!("INVALIDPASSWORDID|Password {SECRET} and/or id are incorrect"));
    let site = Site::with_config(&(station() + &wunderground(&network, 1)));
    let hub = site.start();
    let mark = hub.log_end();
    let _sensor = Sensor::start(&hub);
    hub.wait_said(mark, &[" warn ", "does not let the station in", "INVALIDPASSWORDID", "hub.toml"], PATIENTLY);
    let told_s = now_s();
    wait_for("five slots to pass", SOON, || now_s() > told_s + 5);
    assert_eq!(network.heard().len(), 1, "a network that says no is left alone");
    assert_eq!(hub.said_since(mark, &["does not let the station in"]).len(), 1);
    assert!(!hub.log().contains(SECRET), "what the server echoes is a secret all the same");
    let status = site.status();
    let issues = status["issues"].as_array().unwrap();
    assert!(issues.iter().any(|issue| issue["id"] == "upload" && issue["severity"] == "degraded"), "{status}");
    assert!(hub.stop().success());
}

#[test]
fn slots_without_readings_are_passed_over_without_a_word_to_the_network() {
    let network = Network::http(200, "success");
    let site = Site::with_config(&(station() + &wunderground(&network, 1)));
    let hub = site.start();
    let mut client = Connect::new(4, "sensor").open(hub.mqtt);
    client.publish_through(TOPIC, reading(1).as_bytes(), 1);
    network.wait_taken(1, PATIENTLY);
    let silent_s = now_s();
    wait_for("five slots to pass", SOON, || now_s() > silent_s + 5);
    client.publish_through("garden/magneticfluxsensor", b"{\"x\":1,\"y\":2,\"z\":3}", 1);
    client.publish_through(TOPIC, reading(2).as_bytes(), 1);
    network.wait_taken(2, PATIENTLY);
    assert_eq!(network.heard().len(), 2, "one for each slot with a reading: {:?}", slots(&network.heard()));
    assert!(hub.stop().success());
}

#[test]
fn rain_is_that_of_the_hour_and_of_the_day_before() {
    let network = Network::aprs();
    let site = Site::with_config(&format!(
        "{}[[upload]]\nnetwork = \"cwop\"\nstation = \"CW0007\"\ninterval_s = 2\nserver = \"{}\"\n",
        station(),
        network.address
    ));
    let hub = site.start();
    let mut client = Connect::new(4, "sensor").open(hub.mqtt);
    let said = |ago_s: i64, count: i64| {
        let at_s = now_s() - ago_s;
        format!("{{\"utc\":{at_s},\"sampleinterval\":60000,\"temperature\":20,\"raingaugecount\":{count}}}")
    };
    // A tip of the gauge, 0.011 in, in each of the last 120 minutes.
    for minute in 1..=120 {
        client.publish_through(TOPIC, said((121 - minute) * 60, minute).as_bytes(), 1);
    }
    wait_for("a packet of now", PATIENTLY, || {
        client.publish_through(TOPIC, said(0, 121).as_bytes(), 1);
        thread::sleep(Duration::from_millis(200));
        !network.taken().is_empty()
    });
    let packet = network.taken().pop().unwrap().lines.pop().unwrap();
    let number = |letter: char| -> f64 {
        let (_, rest) = packet.split_once("t068").unwrap();
        rest[rest.find(letter).unwrap() + 1..][..3].parse().unwrap()
    };
    assert!((number('r') - 66.0).abs() <= 2.0 && (number('p') - 132.0).abs() <= 2.0, "{packet}");
}
