//! The few MQTT 3.1.1 packets that the generator sends, as bytes. Knows no sockets, and nothing of what comes back but
//! a PUBACK's length.

/// Both numbers that change from reading to reading have ten digits for the next two centuries of them.
const DIGITS: usize = 10;
/// The station's reading, its numbers as long as a 32-bit sensor prints them; both runs of zeros are patched.
const PAYLOAD: &str = concat!(
    r#"{"utc":0000000000,"sampleinterval":5000,"temperature":5.21999979019165,"humidity":61.5018310546875,"#,
    r#""pressure":1004.9400024414062,"irradiance":0.8299999833106995,"winddirectionsensor":96,"raingaugecount":170,"#,
    r#""anemometercount":0000000000}"#
);

pub(crate) const PUBACK_LEN: usize = 4;
pub(crate) const DISCONNECT: [u8; 2] = [0xe0, 0];

/// A QoS 1 PUBLISH of one client, and where its changing parts are.
pub(crate) struct Template {
    packet: Vec<u8>,
    id_at: usize,
    utc_at: usize,
    count_at: usize,
}

impl Template {
    /// Returns the packet for `topic`.
    pub(crate) fn new(topic: &str) -> Self {
        let mut body = Vec::new();
        put_string(&mut body, topic);
        let id_in_body = body.len();
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(PAYLOAD.as_bytes());
        // The length is 128 to 16,383: two bytes of seven bits each, the low ones first.
        let mut packet = vec![0x32, (body.len() % 128) as u8 | 0x80, (body.len() / 128) as u8];
        let id_at = packet.len() + id_in_body;
        packet.append(&mut body);
        let payload_at = packet.len() - PAYLOAD.len();
        let utc_at = payload_at + r#"{"utc":"#.len();
        let count_at = packet.len() - DIGITS - 1;
        Self { packet, id_at, utc_at, count_at }
    }

    /// Returns how many bytes a packet has.
    pub(crate) fn len(&self) -> usize {
        self.packet.len()
    }

    /// Sets the time of all packets to come, in Unix seconds.
    pub(crate) fn tell_time(&mut self, utc_s: u64) {
        write_digits(&mut self.packet[self.utc_at..][..DIGITS], utc_s);
    }

    /// Appends a packet with this id and count.
    pub(crate) fn append_to(&self, outbox: &mut Vec<u8>, id: u16, count: u64) {
        let start = outbox.len();
        outbox.extend_from_slice(&self.packet);
        let packet = &mut outbox[start..];
        packet[self.id_at..][..2].copy_from_slice(&id.to_be_bytes());
        write_digits(&mut packet[self.count_at..][..DIGITS], count);
    }
}

/// CONNECT of MQTT 3.1.1: a clean session, 60 s keep-alive, neither will nor login.
pub(crate) fn connect_packet(client_id: &str) -> Vec<u8> {
    let mut body = Vec::new();
    put_string(&mut body, "MQTT");
    body.extend_from_slice(&[4, 2, 0, 60]);
    put_string(&mut body, client_id);
    let mut packet = vec![0x10, body.len() as u8];
    packet.append(&mut body);
    packet
}

fn put_string(packet: &mut Vec<u8>, text: &str) {
    packet.extend_from_slice(&(text.len() as u16).to_be_bytes());
    packet.extend_from_slice(text.as_bytes());
}

/// Returns the packet id that follows: they run from 1 to 65,535 and round again, as real clients' do.
pub(crate) fn id_after(id: u16) -> u16 {
    id.checked_add(1).unwrap_or(1)
}

fn write_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}
