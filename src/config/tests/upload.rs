//! Tests of sections `[[upload]]`.

use std::fs;
use std::time::Duration;

use super::{Case, EXAMPLE, same};
use crate::config::upload::{Network, Place, Upload};

const STATION: &str = "[station]\nlatitude = 48.1\nlongitude = -11.5\naltitude_m = 520\n";
const WINDY: &str = "[[upload]]\nnetwork = \"windy\"\nstation = \"f07f453a\"\npassword = \"t0ken\"\n";
const CWOP: &str = "[[upload]]\nnetwork = \"cwop\"\nstation = \"cw1234\"\n";

/// Returns the only section of these keys.
fn only(text: &str) -> Upload {
    let mut list = Case::new(&format!("{STATION}{text}")).config().uploads.list;
    assert_eq!(list.len(), 1, "{list:?}");
    list.remove(0)
}

/// Returns the errors of a section with these keys, without where they stand.
fn errors(keys: &str) -> Vec<String> {
    let errors = Case::new(&format!("{STATION}[[upload]]\n{keys}")).errors();
    errors.into_iter().map(|line| line.replace("hub.toml: upload[0]", "")).collect()
}

#[test]
fn each_network_has_its_own_rules() {
    assert!(Case::new("").config().uploads.list.is_empty());
    let windy = only(WINDY);
    assert_eq!((windy.name.as_str(), windy.network, windy.place.clone()), ("windy", Network::Windy, Place::Official));
    let seconds = |upload: &Upload| [upload.interval, upload.age_max, upload.pause_min].map(|time| time.as_secs());
    assert_eq!(seconds(&windy), [300, 0, 300]);
    let cwop = only(CWOP);
    assert_eq!((cwop.station.as_str(), cwop.position), ("CW1234", Some((48.1, -11.5))));
    assert_eq!(seconds(&cwop), [600, 0, 300]);
    let wunderground = only("[[upload]]\nnetwork = \"wunderground\"\nstation = \"IBY1\"\npassword = \"p\"\n");
    assert_eq!(seconds(&wunderground), [60, 86_400, 2]);
    let here = only(&format!("{WINDY}interval_s = 1\nurl = \"http://127.0.0.1:1/x\"\n"));
    assert_eq!((here.interval, here.pause_min), (Duration::from_secs(1), Duration::from_millis(500)));
}

#[test]
fn what_is_wrong_is_told_with_its_key_and_without_a_secret() {
    let of_windy = "network = \"windy\"\nstation = \"f1\"\n";
    let cases = [
        (
            "network = \"ogimet\"\nstation = \"f1\"\n",
            vec![".network: must be \"wunderground\", \"windy\" or \"cwop\", is \"ogimet\""],
        ),
        (of_windy, vec![".password: is missing: set password_file or password as the network shows it"]),
        (
            "network = \"cwop\"\nstation = \"CW/1\"\n",
            vec![".station: must be the station's id, such as \"CW1234\", or an amateur's call sign, is \"CW/1\""],
        ),
        (
            "network = \"cwop\"\nstation = \"CW1\"\npassword = \"t0ken\"\n",
            vec![".password: must be a passcode of APRS-IS, a whole number; leave it out where there is none"],
        ),
        (
            "network = \"cwop\"\nstation = \"CW1\"\nage_s_max = 60\n",
            vec![".age_s_max: must be a whole number between 0 and 0, is 60"],
        ),
        (
            "network = \"cwop\"\nstation = \"CW1\"\nserver = \"a\"\n",
            vec![".server: must be a server of APRS-IS as HOST:PORT, such as \"cwop.aprs.net:14580\", is \"a\""],
        ),
    ];
    for (keys, expected) in cases {
        assert_eq!(errors(keys), expected, "{keys}");
    }
    let with = |line: &str| errors(&format!("{of_windy}password = \"t0ken\"\n{line}\n"));
    assert_eq!(with("interval_s = 299"), [".interval_s: must be a whole number between 300 and 3600, is 299"]);
    assert_eq!(with("server = \"a:1\""), [".server: unknown key"]);
    for url in
        ["http://windy.example/x", "https://u:t0ken@windy.example/x", "https://windy.example/x?y", "ftp://127.0.0.1/"]
    {
        let errors = with(&format!("url = {url:?}"));
        assert!(errors.len() == 1 && errors[0].starts_with(".url: must be \"https://HOST/PATH\""), "{errors:?}");
        assert!(!errors[0].contains("t0ken"), "{errors:?}");
    }
    let both = Case::new(&format!("{STATION}{WINDY}password_file = \"missing\"\n")).errors();
    assert!(both.iter().any(|error| error.contains("must not stand beside")), "{both:?}");
    let twins = Case::new(&format!("{STATION}{WINDY}{WINDY}")).errors();
    assert_eq!(
        twins,
        ["hub.toml: upload[1].name: \"windy\" is the name of another one, too; give each a name of its own"]
    );
    let nowhere = Case::new(&format!("[station]\nlatitude = 1\n{CWOP}")).errors();
    assert_eq!(nowhere, ["hub.toml: station.longitude: is missing: upload[0] sends it, as CWOP asks of every station"]);
}

#[test]
fn what_is_printed_can_be_read_again_and_shows_no_password() {
    let everything = r#"
        [station]
        latitude = 48.1
        longitude = 11.5
        [[upload]]
        name = "mirror"
        network = "wunderground"
        station = "IBY1"
        password_file = "wu.pw"
        interval_s = 120
        age_s_max = 3600
        url = "https://mirror.example:8443/update"
        ca = "ca.pem"
        [[upload]]
        network = "cwop"
        station = "DL1ABC-13"
        server = "[::1]:14580"
    "#;
    let case = Case::new(everything);
    fs::write(case.path("wu.pw"), "t0ken\n").unwrap();
    fs::write(case.path("ca.pem"), super::tls::certificate().0).unwrap();
    let config = case.config();
    let printed = config.effective();
    same(&config, &Case::new(&printed).config());
    for key in everything.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key.trim()) {
        assert!(printed.contains(&format!("\n{key} = ")), "{key}");
        assert!(EXAMPLE.contains(&format!("{key} = ")), "{key} is not in deploy/hub.toml");
    }
    assert!(config.warnings().any(|warning| warning.contains("altitude_m")));
    let secret = Case::new(&format!("{STATION}{WINDY}")).config();
    let printed = secret.effective();
    assert!(printed.contains("# password = \"***\"") && !printed.contains("t0ken"), "{printed}");
    assert!(!format!("{secret:?}").contains("t0ken"));
    let changed = Case::new(&format!("{STATION}{}", WINDY.replace("t0ken", "other"))).config();
    // Each case has a directory of its own, and so a database.
    assert_eq!(secret.changes(&changed), ["store.path", "upload.password"]);
}
