//! Packets gone wrong: good ones of every type, and what chance makes of them.
//!
//! Owns the seeds and the mutations of the tests on hostile bytes. All that it does follows from the dice it is given.
//! Its topics and client ids begin with `hostile`, so that what it does to others it does by breaking something.

use super::Dice;
use super::mqtt::{Connect, packet, publish, text};

/// The topic of readings among them; it is routed, so that hostile bytes reach the store, too.
const READINGS: &str = "hostile/weathermeters";

/// Returns a CONNECT as a good client sends it, its id one of a few, so that sessions are taken over and resumed.
pub fn connect(version: u8, dice: &mut Dice) -> Vec<u8> {
    let mut connect = Connect::new(version, &format!("hostile-{}", dice.below(300)));
    if dice.below(4) == 0 {
        connect = connect.persistent();
    }
    if dice.below(3) == 0 {
        connect = connect.will("hostile/will", b"gone", dice.below(3) as u8);
    }
    connect.bytes()
}

/// Good packets, the material of everything else.
pub struct Seeds {
    /// Those that a connection survives.
    lasting: Vec<Vec<u8>>,
    /// All, those too that end a connection, or that only a broker sends.
    all: Vec<Vec<u8>>,
}

impl Seeds {
    /// Makes seeds of every packet type.
    pub fn new(version: u8) -> Seeds {
        let mut lasting = publishes(version);
        lasting.extend(subscriptions(version));
        lasting.extend(acks(version));
        lasting.push(packet(0xC0, &[]));
        let mut all = lasting.clone();
        all.push(packet(0xE0, &[]));
        if version == 5 {
            all.push(packet(0xE0, &[4, 5, 0x11, 0, 0, 0, 9]));
            all.push(packet(0xF0, &[0x18, 9, 0x15, 0, 1, b'm', 0x16, 0, 2, 1, 2]));
            // A topic alias, and its use.
            all.push(packet(0x30, &[&text("hostile/alias")[..], &[3, 0x23, 0, 1], b"x"].concat()));
            all.push(packet(0x30, &[&text("")[..], &[3, 0x23, 0, 1], b"y"].concat()));
        }
        all.push(Connect::new(version, "hostile-again").bytes());
        // CONNACK, SUBACK, UNSUBACK, PINGRESP.
        all.extend([vec![0x20, 2, 0, 0], vec![0x90, 3, 0, 1, 1], vec![0xB0, 2, 0, 1], vec![0xD0, 0]]);
        Seeds { lasting, all }
    }

    /// Returns any of them.
    pub fn any(&self, dice: &mut Dice) -> &[u8] {
        &self.all[below(dice, self.all.len())]
    }

    /// Returns all of them.
    pub fn all(&self) -> &[Vec<u8>] {
        &self.all
    }
}

fn acks(version: u8) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (first, reason) in [(0x40, 0x10), (0x50, 0x97), (0x62, 0x92), (0x70, 0x92)] {
        seeds.extend((1..4).map(|id| packet(first, &[0, id])));
        if version == 5 {
            seeds.push(packet(first, &[0, 2, reason]));
            seeds.push(packet(
                first,
                &[&[0, 3, 0, 14, 0x1F][..], &text("why"), &[0x26], &text("a"), &text("b")].concat(),
            ));
        }
    }
    seeds
}

fn publishes(version: u8) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (topic, payload) in [
        ("hostile/a", &b"0123456789"[..]),
        ("hostile/a/b/c/d", &[0x55; 300]),
        ("hostile/\u{e9}t\u{e9}", b""),
        ("$hostile/a", b"x"),
    ] {
        for qos in 0..=2 {
            seeds.push(publish(version, topic.as_bytes(), payload, qos, 1 + u16::from(qos), false));
        }
    }
    let reading = br#"{"utc":1759479845,"temperature":5.22,"humidity":61.5,"pressure":1004.94}"#;
    seeds.push(publish(version, READINGS.as_bytes(), reading, 1, 7, true));
    let mut retained = publish(version, b"hostile/kept", b"for later", 1, 8, false);
    retained[0] |= 1;
    seeds.push(retained);
    if version == 5 {
        let properties = [
            &[1, 1, 2, 0, 0, 0, 9, 3][..],
            &text("text/plain"),
            &[8],
            &text("hostile/answer"),
            &[9],
            &text("42"),
            &[0x26],
            &text("unit"),
            &text("hPa"),
        ]
        .concat();
        let parts = |id: &[u8]| [&text("hostile/p")[..], id, &[properties.len() as u8], &properties, b"1004"].concat();
        seeds.push(packet(0x30, &parts(&[])));
        seeds.push(packet(0x34, &parts(&[0, 9])));
    }
    seeds
}

fn subscriptions(version: u8) -> Vec<Vec<u8>> {
    let body = |properties: &[u8], parts: &[&[u8]]| {
        let section = [&[properties.len() as u8], properties].concat();
        [&[0, 10][..], if version == 5 { &section } else { &[] }, &parts.concat()].concat()
    };
    let all = ["hostile/#", "hostile/+/b", "$share/hostile/hostile/a", "$SYS/#", "hostile/\u{e9}/+"];
    let mut seeds = Vec::new();
    for (place, filter) in all.iter().enumerate() {
        seeds.push(packet(0x82, &body(&[], &[&text(filter), &[(place % 3) as u8]])));
        seeds.push(packet(0xA2, &body(&[], &[&text(filter)])));
    }
    let many: Vec<u8> = all.iter().flat_map(|filter| [text(filter), vec![1]].concat()).collect();
    seeds.push(packet(0x82, &body(&[], &[&many])));
    seeds.push(packet(0xA2, &body(&[], &[&text("hostile/#"), &text("hostile/never")])));
    if version == 5 {
        seeds.push(packet(0x82, &body(&[0x0B, 0x85, 0x01], &[&text("hostile/id"), &[0x2D]])));
        seeds.push(packet(0x82, &body(&[0x26, 0, 1, b'a', 0, 1, b'b'], &[&text("hostile/user"), &[0x19]])));
    }
    seeds
}

/// Breaks a packet in one way, or in two.
pub fn mutate(dice: &mut Dice, seeds: &Seeds, good: &[u8]) -> Vec<u8> {
    let once = mutate_once(dice, seeds, good);
    if dice.below(4) == 0 { mutate_once(dice, seeds, &once) } else { once }
}

fn mutate_once(dice: &mut Dice, seeds: &Seeds, good: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    if bytes.len() < 2 {
        return bytes;
    }
    let place = below(dice, bytes.len());
    match dice.below(20) {
        // What texts and numbers bear: the packet often stays one, and says something else.
        0..=8 => {
            let place = place.max(4.min(bytes.len() - 1));
            bytes[place] ^= 1 << dice.below(4);
        }
        9 => (0..1 + dice.below(3)).for_each(|_| {
            let place = below(dice, bytes.len());
            bytes[place] ^= 1 << dice.below(8);
        }),
        10 => bytes[place] = [0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF][below(dice, 7)],
        11 => bytes.truncate(place.max(1)),
        12 => with_body(&mut bytes, |body| body.truncate(place.min(body.len()))),
        13 => change_length(dice, &mut bytes),
        14 => {
            let other = seeds.any(dice);
            bytes.truncate(place);
            bytes.extend(&other[below(dice, other.len())..]);
        }
        15 => {
            let other = seeds.any(dice);
            let from = below(dice, other.len());
            with_body(&mut bytes, |body| {
                body.truncate(place.min(body.len()));
                body.extend(&other[from..]);
            });
        }
        16 => bytes = bytes.repeat(2 + below(dice, 3)),
        17 => bytes.rotate_left(place),
        18 => {
            let inserted: Vec<u8> = (0..1 + dice.below(8)).map(|_| dice.below(256) as u8).collect();
            with_body(&mut bytes, |body| {
                let place = place.min(body.len());
                body.splice(place..place, inserted);
            });
        }
        _ => {
            let length = below(dice, 9);
            with_body(&mut bytes, |body| {
                let place = place.min(body.len());
                body.drain(place..(place + length).min(body.len()));
            });
        }
    }
    bytes
}

/// Changes the body of a packet and puts the length right again.
fn with_body(bytes: &mut Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) {
    let start = 1 + length_bytes(bytes);
    let mut body = bytes.get(start..).unwrap_or_default().to_vec();
    change(&mut body);
    *bytes = packet(bytes[0], &body);
}

/// Makes the length say something else than it is.
fn change_length(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let old = 1..1 + length_bytes(bytes).min(bytes.len() - 1);
    let length = bytes.len() - old.end;
    let wrong = match dice.below(6) {
        0 => length + 1,
        1 => length.saturating_sub(1),
        2 => length * 2 + 1,
        3 => 0,
        4 => below(dice, 1 << 28),
        _ => {
            bytes.splice(old, [0xFF, 0xFF, 0xFF, 0xFF, 0x01]);
            return;
        }
    };
    let digit = |place: usize| (wrong >> (7 * place) & 0x7F) as u8;
    let digits = (1..4).rev().find(|place| digit(*place) > 0).unwrap_or(0);
    bytes.splice(old, (0..=digits).map(|place| digit(place) | u8::from(place < digits) << 7));
}

fn length_bytes(bytes: &[u8]) -> usize {
    1 + bytes.iter().skip(1).take(3).take_while(|byte| **byte & 0x80 != 0).count()
}

fn below(dice: &mut Dice, limit: usize) -> usize {
    dice.below(limit as u64) as usize
}

/// Returns a stream: packets that are wrong, a few of them or most, in any order, each with a PINGREQ behind it; and which
/// of them are wrong.
pub fn stream(dice: &mut Dice, seeds: &Seeds, packets: usize) -> (Vec<u8>, Vec<bool>) {
    let mut bytes = Vec::new();
    let good_of_10 = dice.below(10);
    let wrong = (0..packets)
        .map(|_| {
            let is_wrong = dice.below(10) >= good_of_10;
            if is_wrong {
                let good = seeds.any(dice);
                bytes.extend(mutate(dice, seeds, good));
            } else {
                bytes.extend(&seeds.lasting[below(dice, seeds.lasting.len())]);
            }
            bytes.extend([0xC0, 0]);
            is_wrong
        })
        .collect();
    (bytes, wrong)
}
