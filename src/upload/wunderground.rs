//! The protocol of Weather Underground for personal weather stations.
//!
//! Owns its fields and what its answers mean. Source: "PWS Upload Protocol", Weather Underground's support pages
//! (support.weather.com). Many other networks take the same. Pure.

use axum::http::StatusCode;

use super::error::Fault;
use super::text::{direction, imperial, number, query, time};
use crate::almanac::Bulletin;
use crate::weather::units::Dimension;
use crate::web::Answer;

/// Where it is.
pub(super) const URL: &str = "https://weatherstation.wunderground.com/weatherstation/updateweatherstation.php";

/// Returns the query of a bulletin; what is not known is left out.
pub(super) fn fields(station: &str, password: &str, bulletin: &Bulletin) -> String {
    let value = |name, value: Option<f64>, dimension, digits| {
        value.map(|value| (name, number(imperial(dimension, value), digits)))
    };
    let known = [
        bulletin.direction.map(|degrees| ("winddir", direction(degrees))),
        value("windspeedmph", bulletin.wind, Dimension::Speed, 1),
        value("windgustmph", bulletin.gust, Dimension::Speed, 1),
        value("tempf", bulletin.temperature, Dimension::Temperature, 1),
        value("rainin", bulletin.rain_hour, Dimension::Depth, 3),
        value("dailyrainin", bulletin.rain_today, Dimension::Depth, 3),
        value("baromin", bulletin.pressure, Dimension::Pressure, 3),
        value("dewptf", bulletin.dew_point, Dimension::Temperature, 1),
        value("humidity", bulletin.humidity, Dimension::Share, 0),
        value("solarradiation", bulletin.irradiance, Dimension::Irradiance, 1),
    ];
    let mut all = vec![
        ("ID", station.to_owned()),
        ("PASSWORD", password.to_owned()),
        ("dateutc", time(bulletin.at_s, "%Y-%m-%d %H:%M:%S")),
    ];
    all.extend(known.into_iter().flatten());
    all.push(("softwaretype", "stationhub".to_owned()));
    all.push(("action", "updateraw".to_owned()));
    query(&all)
}

/// Says what an answer means: "success" is the only one that is good.
pub(super) fn judge(answer: &Answer) -> Result<(), Fault> {
    let said = answer.body.trim().to_ascii_lowercase();
    if answer.status.is_success() && said.starts_with("success") {
        return Ok(());
    }
    if said.contains("invalidpasswordid") {
        return Err(Fault::Login);
    }
    match answer.status {
        StatusCode::OK => Err(Fault::Later(None)),
        _ => Err(Fault::of_status(answer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upload::error::tests::answer;

    /// The example of "PWS Upload Protocol", but for what the hub does not measure and its own name.
    #[test]
    fn the_documented_example_comes_out() {
        let bulletin = Bulletin {
            at_s: 946_722_755,
            direction: Some(230.0),
            wind: Some(12.0 * 0.447_04),
            gust: Some(12.0 * 0.447_04),
            temperature: Some((70.0 - 32.0) / 1.8),
            rain_hour: Some(0.0),
            pressure: Some(29.1 * 33.863_89),
            dew_point: Some((68.2 - 32.0) / 1.8),
            humidity: Some(90.0),
            ..Bulletin::default()
        };
        assert_eq!(
            fields("KCASANFR5", "XXXXXX", &bulletin),
            "ID=KCASANFR5&PASSWORD=XXXXXX&dateutc=2000-01-01+10%3A32%3A35&winddir=230&windspeedmph=12&windgustmph=12\
             &tempf=70&rainin=0&baromin=29.1&dewptf=68.2&humidity=90&softwaretype=stationhub&action=updateraw"
        );
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let bulletin = Bulletin { irradiance: Some(612.34), rain_today: Some(2.794), ..Bulletin::default() };
        assert_eq!(
            fields("K", "p&w", &bulletin),
            "ID=K&PASSWORD=p%26w&dateutc=1970-01-01+00%3A00%3A00&dailyrainin=0.11&solarradiation=612.3\
             &softwaretype=stationhub&action=updateraw"
        );
    }

    #[test]
    fn only_success_is_a_success() {
        assert_eq!(judge(&answer(200, "success\n")), Ok(()));
        let wrong = "INVALIDPASSWORDID|Password or key and/or id are incorrect";
        assert_eq!([200, 401].map(|status| judge(&answer(status, wrong))), [Err(Fault::Login), Err(Fault::Login)]);
        assert_eq!(judge(&answer(200, "<html>Welcome to the hotel")), Err(Fault::Later(None)));
        assert_eq!(judge(&answer(400, "bad dateutc")), Err(Fault::Rejected));
        assert_eq!(judge(&answer(503, "")), Err(Fault::Later(None)));
    }
}
