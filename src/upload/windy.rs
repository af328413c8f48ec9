//! The protocol of Windy for weather stations, version 2 of January 2026.
//!
//! Owns its fields and what its answers mean. Source: "Stations API reference", stations.windy.com/api-reference: one
//! observation for each GET of `/api/v2/observation/update`, the station's password as a bearer token (the version before,
//! `/pws/update/KEY`, ends with 2026). Its directions are whole numbers, its rain is that of the past hour. Pure.

use axum::http::StatusCode;

use super::error::Fault;
use super::text::{direction, number, query, time};
use crate::almanac::Bulletin;
use crate::web::Answer;

/// Where it is.
pub(super) const URL: &str = "https://stations.windy.com/api/v2/observation/update";

/// Returns the query of a bulletin; what is not known is left out.
pub(super) fn fields(station: &str, bulletin: &Bulletin) -> String {
    let value = |name, value: Option<f64>, digits| value.map(|value| (name, number(value, digits)));
    let known = [
        value("temp", bulletin.temperature, 1),
        value("dewpoint", bulletin.dew_point, 1),
        value("humidity", bulletin.humidity, 0),
        value("wind", bulletin.wind, 1),
        value("gust", bulletin.gust, 1),
        bulletin.direction.map(|degrees| ("winddir", direction(degrees))),
        // Pascal.
        value("pressure", bulletin.pressure.map(|hpa| hpa * 100.0), 0),
        value("precip", bulletin.rain_hour, 1),
        value("solarradiation", bulletin.irradiance, 0),
    ];
    let mut all = vec![("id", station.to_owned()), ("time", time(bulletin.at_s, "%Y-%m-%dT%H:%M:%SZ"))];
    all.extend(known.into_iter().flatten());
    all.push(("softwaretype", "stationhub".to_owned()));
    query(&all)
}

/// Says what an answer means. One that the observation is there already is good: an earlier answer did not arrive.
pub(super) fn judge(answer: &Answer) -> Result<(), Fault> {
    match answer.status {
        status if status.is_success() => Ok(()),
        StatusCode::CONFLICT => Ok(()),
        _ => Err(Fault::of_status(answer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upload::error::tests::answer;

    #[test]
    fn every_field_has_its_name_and_unit() {
        let bulletin = Bulletin {
            at_s: 1_767_225_600,
            temperature: Some(-3.04),
            humidity: Some(81.4),
            dew_point: Some(-5.8),
            pressure: Some(1_013.254),
            wind: Some(4.13),
            gust: Some(8.0),
            direction: Some(359.7),
            rain_hour: Some(0.28),
            rain_day: Some(9.0),
            rain_today: Some(8.0),
            irradiance: Some(102.4),
        };
        assert_eq!(
            fields("f07f453a", &bulletin),
            "id=f07f453a&time=2026-01-01T00%3A00%3A00Z&temp=-3&dewpoint=-5.8&humidity=81&wind=4.1&gust=8&winddir=360\
             &pressure=101325&precip=0.3&solarradiation=102&softwaretype=stationhub"
        );
        assert_eq!(fields("f", &Bulletin::default()), "id=f&time=1970-01-01T00%3A00%3A00Z&softwaretype=stationhub");
    }

    #[test]
    fn what_was_there_already_was_taken() {
        assert_eq!([200, 204, 409].map(|status| judge(&answer(status, ""))), [Ok(()), Ok(()), Ok(())]);
        assert_eq!(judge(&answer(401, "")), Err(Fault::Login));
        assert_eq!(judge(&answer(400, "winddir")), Err(Fault::Rejected));
    }
}
