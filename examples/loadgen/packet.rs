//! The few bytes of MQTT that stand-in brokers and clients say.

/// The first packet, when it is complete, and what follows.
pub(crate) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return bytes.split_at_checked(2 + index + length);
        }
    }
    None
}

pub(crate) fn kind(packet: &[u8]) -> u8 {
    packet.first().map_or(0, |byte| byte >> 4)
}

fn body(packet: &[u8]) -> &[u8] {
    let length = packet.iter().skip(1).position(|byte| byte & 0x80 == 0);
    packet.get(length.unwrap_or(0) + 2..).unwrap_or_default()
}

/// The answer to a CONNECT.
pub(crate) fn connack(packet: &[u8]) -> &'static [u8] {
    // Protocol name "MQTT", then the level.
    match body(packet).get(6) {
        Some(5) => &[0x20, 3, 0, 0, 0],
        _ => &[0x20, 2, 0, 0],
    }
}

/// Of an MQTT 3.1.1 CONNECT.
pub(crate) fn client_id(packet: &[u8]) -> &[u8] {
    // Name 6, level 1, flags 1, keep-alive 2, length 2.
    body(packet).get(12..).unwrap_or_default()
}

/// The answer to a PUBLISH; none is due for QoS 0.
pub(crate) fn puback(packet: &[u8]) -> Option<[u8; 4]> {
    let body = body(packet);
    let topic = match body {
        [high, low, ..] if packet[0] & 6 == 2 => usize::from(u16::from_be_bytes([*high, *low])),
        _ => return None,
    };
    let id = body.get(2 + topic..4 + topic)?;
    Some([0x40, 2, id[0], id[1]])
}

/// MQTT 3.1.1, clean. The keep-alive is in seconds, 0 = none.
pub(crate) fn connect(id: &str, keep_alive: u16) -> Vec<u8> {
    let mut packet = vec![0x10];
    length(&mut packet, 12 + id.len());
    packet.extend([0, 4, b'M', b'Q', b'T', b'T', 4, 2]);
    packet.extend(keep_alive.to_be_bytes());
    string(&mut packet, id);
    packet
}

/// A PUBLISH of so many payload bytes; with QoS 1 its identifier is 0 and stands at [`publish_id_at`].
pub(crate) fn publish(topic: &str, qos1: bool, payload: usize) -> Vec<u8> {
    let mut packet = vec![if qos1 { 0x32 } else { 0x30 }];
    let id = if qos1 { 2 } else { 0 };
    length(&mut packet, 2 + topic.len() + id + payload);
    string(&mut packet, topic);
    packet.resize(packet.len() + id, 0);
    packet.resize(packet.len() + payload, b'x');
    packet
}

/// Where the identifier is in a QoS 1 PUBLISH.
pub(crate) fn publish_id_at(packet: &[u8], topic: &str) -> usize {
    packet.len() - body(packet).len() + 2 + topic.len()
}

fn string(packet: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("short texts");
    packet.extend(length.to_be_bytes());
    packet.extend_from_slice(text.as_bytes());
}

/// The remaining length, MQTT 3.1.1 §2.2.3.
fn length(packet: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits");
        value >>= 7;
        packet.push(low | if value > 0 { 0x80 } else { 0 });
        if value == 0 {
            return;
        }
    }
}
