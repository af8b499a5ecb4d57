//! Writing a CONNECT: for the health probe, and to show that decoding loses nothing.

use super::connect::{BRIDGE_BIT, Connect, Version, flag};
use super::property::{Property, Value};

/// Appends the packet to `out`. Strings and binary data over 65535 bytes are cut, since the format has no room for them;
/// decoding never gives such.
pub fn encode_connect(connect: &Connect<'_>, out: &mut Vec<u8>) {
    let v5 = connect.version == Version::V5;
    let mut body = Vec::new();
    binary(
        &mut body,
        if connect.version == Version::V31 {
            b"MQIsdp"
        } else {
            b"MQTT"
        },
    );
    body.push(connect.version.level() | if connect.bridge { BRIDGE_BIT } else { 0 });
    body.push(flags(connect));
    body.extend(connect.keep_alive.to_be_bytes());
    if v5 {
        properties(&mut body, &connect.properties);
    }
    binary(&mut body, connect.client_id.as_bytes());
    if let Some(will) = &connect.will {
        if v5 {
            properties(&mut body, &will.properties);
        }
        binary(&mut body, will.topic.as_bytes());
        binary(&mut body, will.payload);
    }
    if let Some(username) = connect.username {
        binary(&mut body, username.as_bytes());
    }
    if let Some(password) = connect.password {
        binary(&mut body, password);
    }
    out.push(0x10);
    variable(out, body.len());
    out.extend(body);
}

fn flags(connect: &Connect<'_>) -> u8 {
    let mut flags = 0;
    if connect.clean_start {
        flags |= flag::CLEAN_START;
    }
    if let Some(will) = &connect.will {
        flags |= flag::WILL | (will.qos << flag::WILL_QOS_SHIFT);
        if will.retain {
            flags |= flag::WILL_RETAIN;
        }
    }
    if connect.username.is_some() {
        flags |= flag::USERNAME;
    }
    if connect.password.is_some() {
        flags |= flag::PASSWORD;
    }
    flags
}

fn properties(out: &mut Vec<u8>, properties: &[Property<'_>]) {
    let mut block = Vec::new();
    for property in properties {
        block.push(property.id);
        match property.value {
            Value::Byte(byte) => block.push(byte),
            Value::Two(number) => block.extend(number.to_be_bytes()),
            Value::Four(number) => block.extend(number.to_be_bytes()),
            Value::Text(text) => binary(&mut block, text.as_bytes()),
            Value::Binary(bytes) => binary(&mut block, bytes),
            Value::Pair(name, value) => {
                binary(&mut block, name.as_bytes());
                binary(&mut block, value.as_bytes());
            }
        }
    }
    variable(out, block.len());
    out.extend(block);
}

fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend(bytes.iter().take(usize::from(length)));
}

/// MQTT 5.0 §1.5.5.
fn variable(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}
